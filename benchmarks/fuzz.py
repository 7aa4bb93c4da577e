"""Hostile input for MINUTES a target, each in a process of its own: `make fuzz MINUTES=10`.

A target's process may take so much memory and so many seconds for an example, or the kernel ends
it. What it was at lies in a folder meanwhile; of a finding that folder is kept, and reads again
with `python -m benchmarks.fuzz --target NAME --again FOLDER`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.measure import ROOT, machine
from tests.fuzzing import targets
from tests.fuzzing.targets import TARGETS, Files

MAX_MEMORY_BYTES = 2**30  # of address space, beside what is there before: decode.max_memory_bytes
EXAMPLE_TIMEOUT_S = 10.0
ROUND = 200  # examples of one seed
MAX_DEATHS = 20  # of one target's process, each of which is a finding


@dataclass
class Result:
    """The result of one target."""

    examples: int = 0
    seconds: float = 0.0
    crashes: int = 0
    saved: list[str] = field(default_factory=list)


def main() -> None:
    """Prints one JSON object; ends with 1 if there are findings."""
    asked = _asked()
    if asked.again:
        return targets.run(TARGETS[asked.target[0]], Path(asked.again))
    folder = Path(asked.folder or ROOT / ".bench" / "fuzz")
    if asked.seconds:
        return _attack(asked.target[0], asked.seconds, asked.seed, folder)
    names = asked.target or list(TARGETS)
    with ThreadPoolExecutor(asked.jobs) as threads:
        result = list(
            threads.map(lambda name: _watched(name, asked.minutes * 60, asked.seed, folder), names)
        )
    crashes = sum(one.crashes for one in result)
    summary = {
        "crashes": crashes,
        "minutes": asked.minutes,
        "targets": dict(zip(names, map(asdict, result), strict=True)),
    }
    print(json.dumps({**summary, **machine()}))
    sys.exit(int(crashes > 0))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target")
    parser.add_argument(
        "--target", action="append", choices=list(TARGETS), help="this one; several are allowed"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="targets at the same time"
    )
    parser.add_argument(
        "--seed", type=int, default=int(time.time()), help="another one tries other examples"
    )
    parser.add_argument("--folder", help="for findings; default .bench/fuzz")
    parser.add_argument("--again", help="reads one kept example")
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)  # for the processes
    return parser.parse_args()


def _watched(
    name: str,
    seconds: float,
    first_seed: int,
    folder: Path,
    program: tuple[str, ...] = (sys.executable, "-m", "benchmarks.fuzz"),
) -> Result:
    """Runs a target's process, and again where it died of an example, until the time is over."""
    result = Result()
    deaths = 0
    started = time.monotonic()
    target_folder = folder / name
    shutil.rmtree(target_folder, ignore_errors=True)
    while (left := seconds - (time.monotonic() - started)) > 0 and deaths < MAX_DEATHS:
        words = ["--target", name, "--seed", str(first_seed + deaths * 10_000)]
        words += ["--seconds", str(left), "--folder", str(target_folder)]
        # else each thread reserves 64 MB of address space
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
        done = subprocess.run(
            [*program, *words],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        result.examples += _count(target_folder)
        if done.returncode == 0:
            break
        deaths += 1
        why = (
            signal.Signals(-done.returncode).name
            if done.returncode < 0
            else f"exit code {done.returncode}"
        )
        _keep(target_folder, f"death-{deaths}", f"{why}\n{done.stderr[-4000:]}")
    result.seconds = round(time.monotonic() - started, 1)
    kept = sorted(path for path in (target_folder / "findings").glob("*") if path.is_dir())
    result.crashes = len(kept)
    result.saved = [os.path.relpath(path, ROOT) for path in kept]
    for path in kept:
        why = (path.parent / f"{path.name}.txt").read_text()
        print(f"fuzz: {name}: {path}: {why[:300]}", file=sys.stderr)
    return result


def _attack(name: str, seconds: float, first_seed: int, work_folder: Path) -> None:
    """In the target's process: examples until the time is over, seed by seed."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for module in TARGETS[name].loads:
        importlib.import_module(module)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MAX_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a handler would wait for the C call to return
    attack = _Attack(name, work_folder, time.monotonic() + seconds)
    with contextlib.suppress(_OverError):
        while True:
            attack.round(first_seed)
            first_seed += 1


class _OverError(BaseException):
    """The time is over; no finding, so hypothesis must let it through."""


class _Attack:
    """The examples of one process, and what is kept of them: one of each kind of finding."""

    def __init__(self, name: str, work_folder: Path, ends: float) -> None:
        self._target = TARGETS[name]
        self._folder = work_folder
        self._ends = ends
        self._examples = 0
        self._known: set[str] = set()

    def round(self, number: int) -> None:
        """`ROUND` examples of one seed."""

        @seed(number)
        @settings(
            max_examples=ROUND,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(self._target.files)
        def attack(files: Files) -> None:
            if time.monotonic() > self._ends:
                raise _OverError
            self._try(files)

        attack()

    def _try(self, files: Files) -> None:
        current = self._folder / "current"
        shutil.rmtree(current, ignore_errors=True)
        current.mkdir(parents=True)
        targets.write(files, current)
        self._examples += 1
        (self._folder / "examples").write_text(str(self._examples))
        signal.setitimer(signal.ITIMER_REAL, EXAMPLE_TIMEOUT_S)
        try:
            targets.run(self._target, current)
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            kind = _kind(error)
            if kind not in self._known:
                self._known.add(kind)
                finding = f"{type(error).__name__}-{len(self._known)}"
                _keep(self._folder, finding, traceback.format_exc())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _kind(error: Exception) -> str:
    """The key of equal findings: the error's type, and our last line in its stack."""
    ours = [one for one in traceback.extract_tb(error.__traceback__) if str(ROOT) in one.filename]
    return f"{type(error).__name__} {ours[-1].filename}:{ours[-1].lineno}"


def _keep(work_folder: Path, name: str, why: str) -> None:
    """Keeps what the process was at, beside the reason."""
    kept = work_folder / "findings" / name
    shutil.rmtree(kept, ignore_errors=True)
    if (work_folder / "current").exists():
        shutil.copytree(work_folder / "current", kept)
    kept.mkdir(parents=True, exist_ok=True)
    (work_folder / "findings" / f"{name}.txt").write_text(why)


def _count(work_folder: Path) -> int:
    try:
        return int((work_folder / "examples").read_text())
    except (OSError, ValueError):
        return 0


if __name__ == "__main__":
    main()

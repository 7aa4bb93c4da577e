"""Runs a command while watching the memory of its processes, and says on what machine that was."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("TOILETSPARK_SHARED", ROOT.parent / "shared"))
# where a benchmark's stores are put for the time being; the system's own place if not said
TemporaryIn = Annotated[str | None, typer.Option("--folder", help="for temporary stores")]
_POLL_S = 0.1
_POLLS_PER_PSS = 10  # the kernel walks the page tables for it: some 10 ms for a JVM


def command(
    *words: str, env: dict[str, str] | None = None
) -> tuple[dict[str, Any], dict[str, float]]:
    """Runs `toiletspark ... --json`; returns its summary, and its figures.

    wall_s: seconds with Spark's start. worker_peak_mb, decoder_peak_mb, driver_peak_mb,
    driver_python_peak_mb: the kernel's own high-water marks (VmHWM) of the largest Python worker,
    of the largest process that decodes, of the JVM, and of the driver's Python, read ten times a
    second, so a process that lives shorter than that may be missed. tree_peak_mb: the largest
    `tree_pss_mb` of what was read once a second. cpu_s: seconds of computing of all of them, less
    than wall_s x cores where they waited or others had the machine.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "toiletspark.jobs.cli", *words, "--json"],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    of = ("worker", "decoder", "driver", "driver_python", "tree")
    peaks = {**{f"{name}_peak_mb": 0.0 for name in of}, "cpu_s": 0.0}
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
    watcher.start()
    output, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    figures = {"wall_s": round(time.monotonic() - started, 1), **peaks}
    return json.loads(output.splitlines()[-1]), figures


def machine() -> dict[str, Any]:
    """The machine, the time, and the versions of those packages that are there."""
    there = {one.name for one in metadata.distributions()}
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    names = ("toiletspark", "pyspark", "torch", "torchvision", "pyarrow", "Pillow", "numpy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names if name in there},
    }


def lost_tasks(event_logs: Path) -> int:
    """Tasks that did not end in success, over all of Spark's event logs in a folder."""
    texts = (log.read_text() for log in event_logs.iterdir())
    lines = itertools.chain.from_iterable(text.splitlines() for text in texts)
    events = (json.loads(line) for line in lines if '"SparkListenerTaskEnd"' in line)
    return sum(event["Task End Reason"]["Reason"] != "Success" for event in events)


def tree_pss_mb(root_pid: int) -> float:
    """Memory of a process and all its descendants now, in MB: the sum of their PSS.

    PSS (proportional set size) counts a page that n processes share as 1/n in each, so that forked
    workers and mapped libraries are counted once, where the sum of their RSS would count them n
    times.
    """
    return round(sum(_pss_kb(pid) for pid in _tree(root_pid)) / 1024, 1)


def _watch(root_pid: int, peaks: dict[str, float], ended: threading.Event) -> None:
    polls = 0
    cpu_s: dict[int, float] = {}
    while not ended.wait(_POLL_S):
        for pid in _tree(root_pid):
            kind, peak = _kind_and_peak(pid, root_pid)
            if kind:
                peaks[kind] = max(peaks[kind], peak)
            cpu_s[pid] = max(cpu_s.get(pid, 0.0), _cpu_s(pid))
        peaks["cpu_s"] = round(sum(cpu_s.values()), 1)
        if polls % _POLLS_PER_PSS == 0:
            peaks["tree_peak_mb"] = max(peaks["tree_peak_mb"], tree_pss_mb(root_pid))
        polls += 1


def _tree(root_pid: int) -> Iterator[int]:
    """The process and its descendants, as far as they still run."""
    import psutil

    try:
        root = psutil.Process(root_pid)
        yield from (process.pid for process in [root, *root.children(recursive=True)])
    except psutil.NoSuchProcess:
        return


def _pss_kb(pid: int) -> int:
    try:
        found = re.search(
            r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), flags=re.MULTILINE
        )
    except OSError:
        return 0  # it has just ended
    return int(found.group(1)) if found else 0


def _cpu_s(pid: int) -> float:
    try:
        # utime and stime
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _kind_and_peak(pid: int, root_pid: int) -> tuple[str, float]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return "", 0.0  # it has just ended
    kinds = {"driver_python_peak_mb": pid == root_pid, "worker_peak_mb": b"pyspark.daemon" in words}
    kinds["decoder_peak_mb"] = b"toiletspark.images.sandbox" in words
    kinds["driver_peak_mb"] = b"java" in words.partition(b"\0")[0]
    kind = next((kind for kind, is_it in kinds.items() if is_it), "")
    return kind, round(int(found.group(1)) / 1024, 1) if found else 0.0

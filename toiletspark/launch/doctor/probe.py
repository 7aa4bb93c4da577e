"""What an executor's Python tells of itself. The standard library alone, because nothing else may be there.

Its functions travel to the executors by value, so that they also run where toiletspark is missing.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

MOST_S = 90.0  # torch and torchvision load in 3 s, and in 30 s from a slow disk beside others
_ATTEMPT_S = 0.2

# Imports each package and prints what came of it. A process of its own: a library that was built for another CPU ends
# the process that loads it, and torch would stay in the worker's memory. argv: JSON list of [import name, package name]
_IMPORTS = """
import importlib, json, os, sys
from importlib import metadata
answers = os.dup(1)
os.dup2(2, 1)
for name, package in json.loads(sys.argv[1]):
    try:
        version, error = metadata.version(package), ""
    except Exception:
        version, error = "", ""
    os.write(answers, (json.dumps([name, version, "ended the process that imported it"]) + "\\n").encode())
    try:
        module = importlib.import_module(name)
        version = str(getattr(module, "__version__", "") or version)
    except BaseException as failure:
        error = (type(failure).__name__ + ": " + str(failure)).splitlines()[0][:200]
    os.write(answers, (json.dumps([name, version, error]) + "\\n").encode())
"""


def look(round_name: str, packages: list[tuple[str, str]]) -> dict[str, Any] | None:
    """What this Python sees; None where another task of this executor has already told it.

    Args:
        round_name: names one round of asking; in each, an executor answers once.
        packages: (name to import, name of the package).
    """
    if not claimed(round_name):
        return None
    jvm_pid, words = executor_process()
    return {
        **itself(packages),
        "jvm_pid": jvm_pid,
        "executor_id": option(words, "--executor-id") or "driver",
        "cores": int(option(words, "--cores") or 0),
    }


def itself(packages: list[tuple[str, str]]) -> dict[str, Any]:
    """What any Python sees, also the driver's: of its machine, its packages, its clock."""
    dirs = [path for path in os.environ.get("SPARK_LOCAL_DIRS", "").split(",") if path] or [
        tempfile.gettempdir()
    ]
    return {
        "host": host(),
        "python": sys.executable,
        "python_version": ".".join(map(str, sys.version_info[:3])),
        "cpus": cpus(),
        "cpu_flags": cpu_flags(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "memory_bytes": memory_bytes(),
        "free_bytes": {
            path: shutil.disk_usage(path).free for path in dirs if os.access(path, os.F_OK)
        },
        "gpus": sum(path.name[6:].isdigit() for path in pathlib.Path("/dev").glob("nvidia*")),
        "packages": imported(packages),
        "clock_s": time.time(),
    }


def claimed(round_name: str) -> bool:
    """Whether this task is the first of its executor in this round; if not, it waits a moment, for others' sake."""
    folder = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or tempfile.gettempdir()
    jvm_pid, _ = executor_process()
    try:
        os.close(
            os.open(
                os.path.join(folder, f"toiletspark-{round_name}-{jvm_pid}"), os.O_CREAT | os.O_EXCL
            )
        )
    except FileExistsError:
        time.sleep(
            _ATTEMPT_S
        )  # or this executor would take all tasks before the others have come to any
        return False
    return True


def host() -> str:
    """This machine's name for itself."""
    return os.uname().nodename


def executor_process() -> tuple[int, list[str]]:
    """The JVM above this Python: its process id and its command line; (0, []) where /proc does not tell."""
    pid = os.getppid()
    for _ in range(4):  # the worker, the daemon that forked it, and perhaps a shell in between
        try:
            words = _read(f"/proc/{pid}/cmdline").split("\0")
            if words[0].rpartition("/")[2] == "java":
                return pid, words
            pid = int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return 0, []


def option(words: list[str], name: str) -> str:
    """What stands behind an option on a command line; "" where it does not."""
    return words[words.index(name) + 1] if name in words[:-1] else ""


def imported(packages: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Of each package its version, "" where it is missing, and why it does not load, "" where it does."""
    found: dict[str, list[str]] = {}
    waiting = list(packages)
    while waiting:
        found.update(_imported_at_once(waiting))
        rest = [(name, package) for name, package in waiting if name not in found]
        if len(rest) == len(waiting):  # not even the first was told of
            return {
                **{name: ["", "Python did not start a process of its own"] for name, _ in rest},
                **found,
            }
        waiting = rest
    return found


def _imported_at_once(packages: list[tuple[str, str]]) -> dict[str, list[str]]:
    """As `imported`, as far as one process comes."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", _IMPORTS, json.dumps(packages)]
    try:
        done = subprocess.run(  # noqa: S603 - this Python, on the text above
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=MOST_S,
            check=False,
        )
        text = done.stdout
    except subprocess.TimeoutExpired as late:
        text = late.stdout or b""
    except OSError:
        text = b""
    return {
        name: [version, error]
        for name, version, error in map(json.loads, text.decode().splitlines())
    }


def cpus() -> int:
    """CPUs that this process may use: those it is pinned to, and no more than its container's quota."""
    count = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    try:
        quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return count


def cpu_flags() -> list[str]:
    """What the CPU can do that matters to networks, by the kernel's names."""
    wanted = {
        "avx2",
        "avx512f",
        "avx512_bf16",
        "avx512_vnni",
        "avx_vnni",
        "amx_tile",
        "amx_bf16",
        "amx_int8",
    }
    return sorted(wanted & set(next(_values("/proc/cpuinfo", "flags"), "").split()))


def memory_bytes() -> int:
    """Memory of the machine, or of the container if that is less; 0 where it is not told."""
    total = int(next(_values("/proc/meminfo", "MemTotal"), "0 kB").split()[0]) * 1024
    try:
        return min(total, int(_read("/sys/fs/cgroup/memory.max")))
    except (OSError, ValueError):
        return total


def _values(path: str, key: str) -> Iterator[str]:
    """The values of lines like "key : value"."""
    try:
        lines = _read(path).splitlines()
    except OSError:
        return
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and name.strip() == key:
            yield value.strip()


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - without pathlib's start
        return file.read()

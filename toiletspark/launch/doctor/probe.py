"""Describes an executor from its own Python, with the standard library alone.

Its functions travel to the executors by value, so that they also run where toiletspark is missing.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

Answer = dict[str, Any]
KeyedAnswer = tuple[tuple[str, str], Answer]
_ENDED = "ended the process that imported it"
_IMPORT_TIMEOUT_S = 90.0  # torch and torchvision load in 3 s, from a slow and busy disk in 30 s
_CPU_FLAGS = {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni"}
_CPU_FLAGS |= {"amx_tile", "amx_bf16", "amx_int8"}
# Imports each package and prints the result. A process of its own: a library built for another CPU
# ends the process that loads it, and torch would stay in the worker's memory.
_IMPORTS = """
import importlib, json, os, sys
from importlib import metadata
results = os.dup(1)
os.dup2(2, 1)
def report(*result):
    os.write(results, (json.dumps(result) + "\\n").encode())
for name, package in json.loads(sys.argv[1]).items():
    try:
        version, error = metadata.version(package), ""
    except Exception:
        version, error = "", ""
    report(name, version, sys.argv[2])
    try:
        module = importlib.import_module(name)
        version = str(getattr(module, "__version__", "") or version)
    except BaseException as failure:
        error = (type(failure).__name__ + ": " + str(failure)).splitlines()[0][:200]
    report(name, version, error)
"""


def answer(question: Callable[[], Answer], in_barrier: bool, _: object) -> Iterator[KeyedAnswer]:
    """Answers in a task, with the executor's host and id; in a barrier stage once an executor."""
    if in_barrier:
        from pyspark import BarrierTaskContext

        task = BarrierTaskContext.get()
        addresses = [info.address for info in task.getTaskInfos()]  # of the executors, by partition
        if addresses.index(addresses[task.partitionId()]) < task.partitionId():
            return
    yield (host(), _option(_java_command(), "--executor-id")), question()


def describe(packages: dict[str, str]) -> Answer:
    """Describes an executor, or the driver: its Python, its machine, its packages, its clock.

    `packages` has the name to install, by the name to import.
    """
    command = _java_command()
    executor_id = _option(command, "--executor-id")
    threads = os.environ.get("OMP_NUM_THREADS", "")
    local_dirs = os.environ.get("SPARK_LOCAL_DIRS") or tempfile.gettempdir()
    folders = [path for path in local_dirs.split(",") if os.access(path, os.F_OK)]
    return {
        "name": f"executor {executor_id}" if executor_id else "driver",
        "host": host(),
        "python": sys.executable,
        "python_version": ".".join(map(str, sys.version_info[:3])),
        "cpus": _cpus(),
        "cpu_flags": sorted(_CPU_FLAGS & set(_value("/proc/cpuinfo", "flags").split())),
        "cores": int(_option(command, "--cores") or 0),
        "threads": int(threads) if threads.isdigit() else None,
        "memory_bytes": _memory_bytes(),
        "free_bytes": {path: shutil.disk_usage(path).free for path in folders},
        "gpus": sum(path.name[6:].isdigit() for path in pathlib.Path("/dev").glob("nvidia*")),
        "packages": import_packages(packages),
        "clock_s": time.time(),
    }


def host() -> str:
    """This machine's own name."""
    return os.uname().nodename


def _java_command() -> list[str]:
    """The command line of the JVM above this Python; [] without /proc."""
    pid = os.getppid()
    for _ in range(4):  # the worker, the daemon that forked it, and perhaps a shell in between
        try:
            words = _read(f"/proc/{pid}/cmdline").split("\0")
            if words[0].rpartition("/")[2] == "java":
                return words
            pid = int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return []


def _option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1] if name in words[:-1] else ""


def import_packages(packages: dict[str, str]) -> dict[str, list[str]]:
    """Imports packages in other processes; returns [version, error] for each.

    The version is "" if the package is missing, the error is "" if it loads.
    """
    results: dict[str, list[str]] = {}
    while rest := {name: packages[name] for name in packages if name not in results}:
        error = "Python did not start a process of its own"
        results.update(_import_in_process(rest) or {name: ["", error] for name in rest})
    return results


def _import_in_process(packages: dict[str, str]) -> dict[str, list[str]]:
    """Imports packages in one process, which the last package of the result may have ended."""
    path = os.pathsep.join(folder for folder in sys.path if folder)
    try:
        text = subprocess.run(  # noqa: S603
            [sys.executable, "-c", _IMPORTS, json.dumps(packages), _ENDED],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_IMPORT_TIMEOUT_S,
            check=False,
        ).stdout.decode()
    except subprocess.TimeoutExpired as late:
        partial = (late.stdout or b"").decode()
        text = partial.replace(_ENDED, f"did not load within {_IMPORT_TIMEOUT_S:.0f} s")
    except OSError:
        text = ""
    lines = map(json.loads, text.splitlines())
    return {name: [version, error] for name, version, error in lines}


def _cpus() -> int:
    """CPUs that this process may use, by its affinity and by its container's quota."""
    has_affinity = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):
        return count


def _memory_bytes() -> int:
    """Memory of the machine, or of the container if that is less; 0 if it is not known."""
    total = int(_value("/proc/meminfo", "MemTotal").partition(" ")[0] or 0) * 1024
    try:
        return min(total, int(_read("/sys/fs/cgroup/memory.max")))
    except (OSError, ValueError):
        return total


def _value(path: str, key: str) -> str:
    """The value of the first line "key : value" of a file; "" if there is none."""
    try:
        line = re.search(rf"^{key}\s*:\s*(.*)$", _read(path), re.MULTILINE)
    except OSError:
        return ""
    return line[1] if line else ""


def _read(path: str) -> str:
    return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")

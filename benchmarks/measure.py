"""Runs a command while watching its Python workers, and says on what machine that was."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("TOILETSPARK_SHARED", ROOT.parent / "shared"))
_POLL_S = 0.1


def command(*words: str, env: dict[str, str] | None = None) -> tuple[dict[str, Any], dict[str, float]]:
    """Runs `toiletspark ... --json`; returns its summary, and wall_s, worker_peak_mb and driver_peak_mb.

    Peaks are the kernel's own high-water marks (VmHWM) of the largest Python worker and of the JVM, read ten
    times a second, so a process that lives shorter than that may be missed.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "toiletspark.cli", *words, "--json"],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
    )
    peaks: dict[str, float] = {"worker_peak_mb": 0.0, "driver_peak_mb": 0.0}
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, ended))
    watcher.start()
    output, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return json.loads(output.splitlines()[-1]), {"wall_s": round(time.monotonic() - started, 1), **peaks}


def machine() -> dict[str, Any]:
    """What the figures were measured on, and when."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    names = ("toiletspark", "pyspark", "torch", "torchvision", "pyarrow", "Pillow", "numpy")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "cpu": cpu.group(1) if cpu else platform.machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in names},
    }


def lost_tasks(event_logs: Path) -> int:
    """Tasks that did not end in success, over all of Spark's event logs in a folder."""
    lines = (line for log in event_logs.iterdir() for line in log.read_text().splitlines())
    events = (json.loads(line) for line in lines if '"SparkListenerTaskEnd"' in line)
    return sum(event["Task End Reason"]["Reason"] != "Success" for event in events)


def _watch(root_pid: int, peaks: dict[str, float], ended: threading.Event) -> None:
    import psutil

    while not ended.wait(_POLL_S):
        try:
            children = psutil.Process(root_pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        for child in children:
            kind, peak = _kind_and_peak(child.pid)
            if kind:
                peaks[kind] = max(peaks[kind], peak)


def _kind_and_peak(pid: int) -> tuple[str, float]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return "", 0.0  # it has just ended
    kind = "worker_peak_mb" if b"pyspark.daemon" in words else "driver_peak_mb" if b"java" in words else ""
    return kind, round(int(found.group(1)) / 1024, 1) if found else 0.0

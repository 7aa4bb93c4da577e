"""Runs a program and watches the memory of all the processes that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.measure import ROOT

_POLL_S = 2.0  # the kernel walks the page tables for each reading, on the cores that are raced on
_TOLD_CHARS = 3000


@dataclass
class Peaks:
    """The most memory that was seen, in MB.

    Attributes:
        tree_mb: sum of the PSS (shared pages divided among those that share them) of all processes
            at one moment.
        worker_mb: resident high-water mark of the largest Python process below the one that was
            started, or of that one where it does the work itself.
    """

    tree_mb: float = 0.0
    worker_mb: float = 0.0
    _root_mb: float = field(default=0.0, repr=False)

    def told(self) -> dict[str, float]:
        """Both figures, rounded."""
        return {"tree_mb": round(self.tree_mb), "worker_mb": round(self.worker_mb or self._root_mb)}


class FailedError(Exception):
    """A program that failed or did not end in time; carries the end of its output."""


def run(
    program: list[str], env: Mapping[str, str], timeout_s: float
) -> tuple[dict[str, Any], Peaks]:
    """Runs a program to its end.

    Args:
        program: the command line.
        env: on top of this process's own environment.
        timeout_s: then it and all that it started are killed.

    Returns:
        The JSON object on the last line of its stdout, and the memory of it and all that it
        started, read every two seconds (a process that lives shorter may be missed).

    Raises:
        FailedError: it failed.
    """
    process = subprocess.Popen(
        program,
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    peaks = Peaks()
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peaks, ended), daemon=True)
    watcher.start()
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
    finally:
        ended.set()
        watcher.join()
    if process.returncode:
        raise FailedError(
            f"{' '.join(program)} ended with {process.returncode}\n"
            f"{(output + errors)[-_TOLD_CHARS:]}"
        )
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]), peaks


def _watch(root_pid: int, peaks: Peaks, ended: threading.Event) -> None:
    while not ended.wait(_POLL_S):
        try:
            root = psutil.Process(root_pid)
            processes = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        peaks.tree_mb = max(peaks.tree_mb, sum(_pss_mb(process) for process in processes))
        for process in processes:
            high = _high_water_mb(process)
            if process.pid == root_pid:
                peaks._root_mb = max(peaks._root_mb, high)
            else:
                peaks.worker_mb = max(peaks.worker_mb, high)


def _pss_mb(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss) / 2**20
    except psutil.Error:
        return 0.0  # it has just ended


def _high_water_mb(process: psutil.Process) -> float:
    """VmHWM where the process is Python (Spark's workers, Ray's actors, Daft's), else 0."""
    try:
        if not Path(process.exe()).name.startswith("python"):
            return 0.0
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except (psutil.Error, OSError):
        return 0.0
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)

"""Progress of a long step: a bar in a terminal, a line every few seconds in a log."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

if TYPE_CHECKING:  # the trainer shows progress too, and has no Spark
    from pyspark.sql import SparkSession

_POLL_S = 0.5
_groups = itertools.count()


@contextmanager
def watch(
    spark: SparkSession, doing: str, total: int, *, unit: str = "images", line_every_s: float = 10.0
) -> Iterator[None]:
    """Shows the progress of the Spark jobs that the body starts.

    The share of finished tasks, as Spark counts them, stands for the share of `total`, the rows
    that the body works on: exact at the end, and off by a task's rows before. 0 shows nothing.
    """
    if not total:
        yield
        return
    group = f"toiletspark-{next(_groups)}"
    spark.sparkContext.setJobGroup(group, doing)
    shown = Progress(doing, total, unit, line_every_s)
    ended = threading.Event()
    watcher = threading.Thread(target=_poll, args=(spark, group, shown, ended), daemon=True)
    watcher.start()
    try:
        yield
        shown.at(total)
    finally:
        ended.set()
        watcher.join()
        shown.close()
        spark.sparkContext._jsc.clearJobGroup()


class Progress:
    """One line of progress, as in "embedding": tqdm's bar on a terminal, plain lines elsewhere."""

    def __init__(
        self, doing: str, total: int, unit: str, line_every_s: float, stream: TextIO = sys.stderr
    ) -> None:
        self._doing, self.total, self._unit, self._stream = doing, total, unit, stream
        self._every_s, self._started, self._last = line_every_s, time.monotonic(), time.monotonic()
        self._bar = None
        if stream.isatty():
            # a terminal without a size, as in containers, would show nothing
            has_size = os.get_terminal_size(stream.fileno()).columns
            size = {} if has_size else {"ncols": 80, "nrows": 24}
            self._bar = tqdm(total=total, desc=doing, unit=unit, file=stream, leave=False, **size)

    def at(self, done: int, remark: str = "") -> None:
        """Shows that `done` units are done, unless the last line is too recent."""
        if self._bar is not None and remark:
            self._bar.set_postfix_str(remark, refresh=False)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif done >= self.total or time.monotonic() - self._last >= self._every_s:
            self._last = time.monotonic()
            print(f"{self._line(done)} {remark}".rstrip(), file=self._stream, flush=True)

    def close(self) -> None:
        """Ends the display."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, done: int) -> str:
        elapsed_s = time.monotonic() - self._started
        rate = done / elapsed_s if elapsed_s else 0.0
        left = f", {(self.total - done) / rate:.0f} s left" if rate and done < self.total else ""
        unit = self._unit
        return f"{self._doing}: {done:,} of {self.total:,} {unit}, {rate:,.1f} {unit}/s{left}"


def _poll(spark: SparkSession, group: str, shown: Progress, ended: threading.Event) -> None:
    while not ended.wait(_POLL_S):
        share = _share_done(spark, group)
        if share is not None and share < 1:
            shown.at(int(shown.total * share))


def _share_done(spark: SparkSession, group: str) -> float | None:
    """The share of finished tasks in the largest running stage of this job group, or None."""
    tracker = spark.sparkContext.statusTracker()
    jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
    stages = [tracker.getStageInfo(stage) for job in jobs if job for stage in job.stageIds]
    running = [stage for stage in stages if stage and stage.numActiveTasks]
    if not running:
        return None
    largest = max(running, key=lambda stage: stage.numTasks)
    return largest.numCompletedTasks / largest.numTasks

"""Python workers that log what they do, by a sitecustomize: another PYTHONPATH starts new ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import SparkSession

_SITECUSTOMIZE = """
import os
from toiletspark.embedding import pipeline, tasks
from toiletspark.images import sandbox

def note(what, number):
    with open({log!r}, "a") as file:
        file.write(f"{{what}} {{number}} {{os.getpid()}}\\n")

class Backbone(tasks.Backbone):
    def __init__(self, *args):
        note("build", 1)
        super().__init__(*args)

    def embed(self, pixels):
        note("embed", len(pixels))
        return super().embed(pixels)

def watched_decode(contents, *args):
    contents = list(contents)
    note("decode", len(contents))
    return decode(contents, *args)

def watched_rows(batches, pipeline):
    def watched():
        for batch in batches:
            batch = list(batch)
            note("arrow", len(batch))
            yield batch
    return attempt_rows(watched(), pipeline)

decode, attempt_rows = sandbox.decode, pipeline.attempt_rows
tasks.Backbone, sandbox.decode, pipeline.attempt_rows = Backbone, watched_decode, watched_rows
"""


class WorkerLog:
    """The workers' work: backbones built, and the pictures or rows of each call."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def clear(self) -> None:
        self._path.write_text("")

    def of(self, what: str) -> list[int]:
        """The numbers of one type of call: build, arrow (rows), decode or embed (pictures)."""
        return [int(number) for kind, number, _ in self._lines() if kind == what]

    def processes(self, what: str) -> list[str]:
        """The process of each call of a kind."""
        return [process for kind, _, process in self._lines() if kind == what]

    def _lines(self) -> list[list[str]]:
        return [line.split() for line in self._path.read_text().splitlines()]


def counted_in(folder: Path) -> WorkerLog:
    """Makes `folder` a PYTHONPATH whose workers write down what they do."""
    log = folder / "log"
    log.write_text("")
    (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(log=str(log)))
    return WorkerLog(log)


@contextlib.contextmanager
def counting_workers(spark: SparkSession, folder: Path) -> Iterator[WorkerLog]:
    """Workers that count, for as long as the body runs."""
    log = counted_in(folder)
    spark.sparkContext.environment["PYTHONPATH"] = str(folder)
    try:
        yield log
    finally:
        del spark.sparkContext.environment["PYTHONPATH"]

"""Readers of the published list that poll while others publish and die (`benchmarks/chaos.py`)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from benchmarks import readers
from toiletspark.publishing.versions import log as versions

_PAUSE_S = 0.2  # of a reader


class Readers:
    """The reader of docs/readers.md and the package's own, each in a thread, until stopped."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.reads = 0
        self.errors: list[str] = []
        self.seen: dict[frozenset[str], int] = {}
        self._ended = threading.Event()
        code = readers.code("pandas", root)

        def by_pandas() -> pd.DataFrame:
            names: dict[str, Any] = {}
            exec(code, names)
            return pd.DataFrame(names["excluded"])

        self._threads = [
            threading.Thread(target=self._poll, args=(read,))
            for read in (by_pandas, self._by_package)
        ]
        for thread in self._threads:
            thread.start()

    def _by_package(self) -> pd.DataFrame:
        run = versions.current(self.root)
        files = [f"{run.folder}/{file.name}" for file in run.files]
        return pd.concat([pq.ParquetFile(file).read().to_pandas() for file in files])

    def _poll(self, read: Callable[[], pd.DataFrame]) -> None:
        while not self._ended.wait(_PAUSE_S):
            try:
                found = frozenset(read()["image_id"])
                self.seen[found] = self.seen.get(found, 0) + 1
            except Exception as error:  # noqa: BLE001 - whatever a reader meets is what is counted here
                self.errors.append(repr(error)[:300])
            self.reads += 1

    def stop(self, *right: frozenset[str]) -> dict[str, Any]:
        """Counts the reads, and those that gave something else than one of the `right` lists."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        wrong = sum(count for found, count in self.seen.items() if found not in right)
        return {
            "reads": self.reads,
            "bad_reads": wrong + len(self.errors),
            "first_bad": self.errors[:3],
        }

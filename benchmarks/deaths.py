"""Kills at shares of what is done, read from what is written: used by `benchmarks/chaos.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store


def images_done(store: Store) -> int:
    """Rows that are kept: in the ledger, or by ended tasks of the commit that is being made."""
    ledger = store.runs(tables.IMAGE_LEDGER)
    kept = {f"{run.inputs.run}-{run.inputs.commit}" for run in ledger}
    done = sum(run.rows for run in ledger)
    work = Path(store.root) / "_work"
    for run in work.glob("*"):
        for folder in run.glob(f"{run.name}-*"):
            if folder.name.rpartition("-")[0] not in kept:
                ended = [*folder.glob("*.parquet"), *folder.glob("_temporary/0/task_*/*.parquet")]
                done += sum(map(_rows, ended))
    return done


def _rows(file: Path) -> int:
    try:
        return int(pq.read_metadata(file).num_rows)
    except (OSError, ValueError):
        return 0  # it is being moved


@dataclass
class Deaths:
    """Kills once a share of the new images is done; called while tasks are at work."""

    store: Store
    base: int
    total: int
    planned: list[tuple[float, str, Callable[[], bool]]]
    told: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, _: str) -> None:
        if not self.planned or not self.lock.acquire(blocking=False):
            return
        try:
            share, name, kill = self.planned[0]
            done = (images_done(self.store) - self.base) / (self.total - self.base)
            if done >= share and kill():
                self.told.append({"what": name, "at": round(done, 3)})
                del self.planned[0]
        finally:
            self.lock.release()

"""Deduplication: which image contents already have an embedding, and which task embeds a new one.

A digest has 64 hexadecimal digits. The first 30 of them are kept, as two integers: 16 bytes a
content, and two contents are mistaken for each other once in 10^36.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

PART_DIGITS = 15  # hexadecimal: 60 bits, which a signed integer of Spark holds


@dataclass(frozen=True)
class KnownContents:
    """The contents that have an embedding; small enough to be broadcast (16 bytes each)."""

    high: NDArray[np.int64]  # (n,), ascending: the first 15 digits
    low: NDArray[np.int64]  # (n,): the next 15 digits of the same contents

    @classmethod
    def from_parts(cls, high: ArrayLike, low: ArrayLike) -> KnownContents:
        """Builds the set from both parts of each digest, in any order."""
        high, low = np.asarray(high, dtype=np.int64), np.asarray(low, dtype=np.int64)
        order = np.argsort(high, kind="stable")
        return cls(high[order], low[order])

    def union(self, other: KnownContents) -> KnownContents:
        """Returns the contents of both."""
        high = np.concatenate([self.high, other.high])
        return KnownContents.from_parts(high, np.concatenate([self.low, other.low]))

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str):
            return False
        high, low = int(digest[:PART_DIGITS], 16), int(digest[PART_DIGITS : 2 * PART_DIGITS], 16)
        row = int(np.searchsorted(self.high, high))
        return bool(row < len(self.high) and self.high[row] == high and self.low[row] == low)


class Claims:
    """Divides contents among the tasks of one machine: the first task to claim a content embeds it.

    A claim is a hard link named after the content, to a file that names the task. A link is made
    atomically, and costs no file of its own, for which a full disk may take a millisecond. The
    tasks share a folder, a new one for every commit. A retried task has the same name and gets its
    own claims again, so contents that a failed attempt had claimed are still embedded.
    """

    def __init__(self, folder: Path, task: str) -> None:
        self._folder, self._task = folder, task
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, self._task_file = tempfile.mkstemp(prefix=f"{task}-", dir=folder)
        with os.fdopen(handle, "w") as file:
            file.write(task)

    def claim(self, digest: str) -> bool:
        """Returns True if this task is to embed the content."""
        path = self._folder / digest
        try:
            self._link(path)
        except FileExistsError:
            return path.read_text() == self._task
        return True

    def _link(self, path: Path) -> None:
        try:
            os.link(self._task_file, path)
        except FileExistsError:
            raise
        except OSError:  # no hard links on this disk, or too many to one file (ext4: 65,000)
            with path.open("x") as file:
                file.write(self._task)

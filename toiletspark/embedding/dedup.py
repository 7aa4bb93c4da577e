"""Whose embedding is it? Which contents have one already, and which task makes the one of a content seen first.

A digest here is 64 hexadecimal digits. What is kept of it are its first 30 digits as two integers: 16 bytes a
content, and two contents are taken for one once in 10^36.
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
class Known:
    """The contents that have an embedding; small enough to be broadcast (16 bytes each).

    Attributes:
        high: int64, (n,), ascending: the first 15 digits.
        low: int64, (n,): the next 15 digits of the same contents.
    """

    high: NDArray[np.int64]
    low: NDArray[np.int64]

    @classmethod
    def of(cls, high: ArrayLike, low: ArrayLike) -> Known:
        """From both parts of each digest, in any order."""
        high, low = np.asarray(high, dtype=np.int64), np.asarray(low, dtype=np.int64)
        order = np.argsort(high, kind="stable")
        return cls(high[order], low[order])

    def with_more(self, other: Known) -> Known:
        """The contents of both."""
        return Known.of(
            np.concatenate([self.high, other.high]), np.concatenate([self.low, other.low])
        )

    def __contains__(self, digest: object) -> bool:
        if not isinstance(digest, str):
            return False
        high, low = int(digest[:PART_DIGITS], 16), int(digest[PART_DIGITS : 2 * PART_DIGITS], 16)
        place = int(np.searchsorted(self.high, high))
        return bool(place < len(self.high) and self.high[place] == high and self.low[place] == low)


class Claims:
    """Lets the tasks of one machine share the contents out: whoever asks first for a content is to embed it.

    A claim is one more name of a file that names its task: a name is given once, like a file, but costs no file, which
    a disk with many may take a millisecond to find room for. A task that is tried again finds its own claims and keeps
    them, so what a lost attempt claimed is still embedded.

    Args:
        folder: seen by the tasks that share; a new one for every commit.
        task: names the task, the same for each of its attempts.
    """

    def __init__(self, folder: Path, task: str) -> None:
        self._folder, self._task = folder, task
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, self._named = tempfile.mkstemp(prefix=f"{task}-", dir=folder)
        with os.fdopen(handle, "w") as file:
            file.write(task)

    def claim(self, digest: str) -> bool:
        """Whether this task is to embed the content."""
        path = self._folder / digest
        try:
            self._give(path)
        except FileExistsError:
            return path.read_text() == self._task
        return True

    def _give(self, path: Path) -> None:
        """Where a disk gives files one name only, or this one has as many as it may (ext4: 65,000), makes a file."""
        try:
            os.link(self._named, path)
        except FileExistsError:
            raise
        except OSError:
            with path.open("x") as file:
                file.write(self._task)

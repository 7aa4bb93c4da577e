"""Which images look alike, told by their embeddings. Numpy only.

Near-duplicates (one photo recompressed, resized, slightly cropped) share a group; and `chain` brings what looks alike
side by side, so that people label it in one stroke.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_ONCE = 4096  # of those that `near` compares with: 32 MB of cosines for a batch of 2,048
_BLOCK = 256  # rows compared at once; with 50,000 embeddings 50 MB of cosines
_DIRECTIONS = (
    64  # of 512: enough to tell all but 1 in 30,000 pairs of real photos from near-duplicates
)
_MOST_POSSIBLE = 200  # pairs to look at closer, on average for a row, before a block is rather compared as a whole
_ROUNDING = 1e-4  # of float32, in a length that was left over


def groups(embeddings: NDArray[np.float32], min_cosine: float) -> NDArray[np.int64]:
    """Groups of near-duplicates: the connected components of all pairs that are at least so alike.

    Args:
        embeddings: float32, (n, d). A row of zeros or with NaN is like nothing.
        min_cosine: (0, 1]; a pair is alike when its cosine is >= this.

    Returns:
        int64, (n,): the group of each row, numbered 0, 1, ... in the order of their first rows. Another order of the
        rows gives the same groups under other numbers.

    Cost: n * n * 65 / 2 products, in blocks, and d more for each pair that 64 directions cannot tell apart:
    50,000 x 512 take 3 s on two cores, and 0.2 GB.
    """
    unit = _unit(embeddings)
    bound = _bounding(unit)
    found = np.arange(len(unit))  # each row's group, named by its first row
    for start in range(0, len(unit), _BLOCK):
        for row, others in _pairs(unit, bound, start, min_cosine):
            joined = np.unique(found[[row, *others]])
            if len(joined) > 1:
                found[np.isin(found, joined)] = joined[0]
        if len(found) and found.max() == 0:
            break  # all are one group already
    numbered: NDArray[np.int64] = np.unique(found, return_inverse=True)[1]
    return numbered


def _pairs(
    unit: NDArray[np.float32], bound: NDArray[np.float32], start: int, min_cosine: float
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The rows of the block at `start` that are like later rows, and which: int64, (k,), k > 0."""
    possible = bound[start : start + _BLOCK] @ bound[start:].T >= np.float32(min_cosine - _ROUNDING)
    counts = np.count_nonzero(possible, axis=1)
    exact = bool(counts.sum() > _MOST_POSSIBLE * len(counts))
    if exact:  # the directions tell little apart: compare all at once
        possible = unit[start : start + _BLOCK] @ unit[start:].T >= np.float32(min_cosine)
        counts = np.count_nonzero(possible, axis=1)
    for row in np.flatnonzero(counts > 1):
        others = start + row + 1 + np.flatnonzero(possible[row, row + 1 :])
        if not exact:
            others = others[unit[others] @ unit[start + row] >= np.float32(min_cosine)]
        if len(others):
            yield int(start + row), others


def _bounding(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """Short rows whose products are never less than the cosines: float32, (n, 65).

    The coordinates along the 64 directions in which the rows are longest, and the length of what is left of each:
    by Cauchy and Schwarz, what two rows have in common there is at most the product of those lengths.
    """
    if unit.shape[1] <= _DIRECTIONS:
        return unit
    _, directions = np.linalg.eigh((unit.T @ unit).astype(np.float64))
    along = unit @ directions[:, -_DIRECTIONS:].astype(np.float32)
    left = np.maximum(0, np.einsum("nd,nd->n", unit, unit) - np.einsum("nd,nd->n", along, along))
    return np.hstack([along, np.sqrt(left)[:, None]])


def near(
    embeddings: NDArray[np.float32], of: NDArray[np.float32], min_cosine: float
) -> NDArray[np.bool_]:
    """Whether each picture looks like at least one of others.

    Args:
        embeddings: float32, (n, d).
        of: float32, (m, d), the others; m may be 0.
        min_cosine: (0, 1]; the same picture from here on.

    Returns:
        bool, (n,). A picture without any feature (all zero) looks like nothing.

    Cost: n x m x d products; 2,000 against 40,000 of 512 take about a second on a core.
    """
    found = np.zeros(len(embeddings), dtype=bool)
    ours = _unit(embeddings)
    for start in range(0, len(of), _ROWS_AT_ONCE):
        cosines = ours @ _unit(of[start : start + _ROWS_AT_ONCE]).T
        found |= cosines.max(axis=1, initial=-1.0) >= np.float32(min_cosine)
    return found


def first_alike(embeddings: NDArray[np.float32], min_cosine: float) -> NDArray[np.int64]:
    """Which earlier picture stands for each: collapses a short list from its top.

    Args:
        embeddings: float32, (n, d), the most wanted first.
        min_cosine: as in `near`.

    Returns:
        int64, (n,): the row of the first picture that is kept and looks like this one; its own row if it is kept.

    Cost: (n, n) cosines, 4 MB for 1,000.
    """
    unit = _unit(embeddings)
    stands_for = np.arange(len(embeddings))
    kept: list[int] = []
    for row in range(len(embeddings)):
        alike = unit[kept] @ unit[row] >= np.float32(min_cosine)
        if alike.any():
            stands_for[row] = kept[int(alike.argmax())]
        else:
            kept.append(row)
    return stands_for


def chain(embeddings: NDArray[np.float32], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """An order in which what looks alike stands side by side.

    Starts with the first row's group and goes on with the most similar group that is left (a greedy chain of nearest
    neighbours); the images of a group stay together, in the order of their rows. Where nothing tells them apart, the
    rows keep their order.

    Args:
        embeddings: float32, (n, d).
        group: int64, (n,), see `groups`; any whole numbers.

    Returns:
        int64, (n,): the rows in their new order.

    Cost: groups * groups * d products; 2,000 x 512 take 0.3 s.
    """
    _, first, member_of = np.unique(group, return_index=True, return_inverse=True)
    by_row = np.argsort(
        first
    )  # so that of equally similar groups the one with the first row comes first
    member_of, unit = np.argsort(by_row)[member_of], _unit(embeddings[first[by_row]])
    left, place, current = np.ones(len(first), dtype=bool), np.empty(len(first), dtype=np.int64), 0
    for step in range(len(first)):
        place[current], left[current] = step, False
        current = int(np.argmax(np.where(left, unit @ unit[current], -np.inf)))
    return np.argsort(place[member_of], kind="stable")


def _unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1, so that products are cosines; what has no direction becomes zeros."""
    length = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float32))[:, None]
    usable = np.isfinite(length) & (length > 0)
    unit: NDArray[np.float32] = np.divide(
        embeddings, length, out=np.zeros(embeddings.shape, np.float32), where=usable
    )
    return unit

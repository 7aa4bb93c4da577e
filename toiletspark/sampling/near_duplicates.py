"""Near-duplicates: one photo with another compression, size or slight crop. Numpy only."""

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]  # (n, d); a row of zeros or with NaN is near nothing
_ROWS_AT_ONCE = 4096  # of those that `near` compares with: 32 MB of cosines for a batch of 2,048
_BLOCK = 256  # rows of `groups` compared at once: 50 MB of cosines for 50,000 embeddings


def groups(embeddings: Embeddings, min_cosine: float) -> NDArray[np.int64]:
    """Groups near-duplicates: the connected components of all pairs with at least this cosine.

    Returns the group of each row, int64, (n,), numbered 0, 1, ... in the order of their first rows.
    Another order gives the same groups under other numbers. Cost: n * n * d / 2 products.
    """
    unit = _unit(embeddings)
    group = np.arange(len(unit))  # named by its first row
    for start in range(0, len(unit), _BLOCK):
        alike = unit[start : start + _BLOCK] @ unit[start:].T >= np.float32(min_cosine)
        for row in np.flatnonzero(np.count_nonzero(alike, axis=1) > 1):
            others = start + np.flatnonzero(alike[row])
            joined = np.unique(group[[start + row, *others]])
            if len(joined) > 1:
                group[np.isin(group, joined)] = joined[0]
        if group.max() == 0:
            break  # all are one group already
    numbered: NDArray[np.int64] = np.unique(group, return_inverse=True)[1]
    return numbered


def near(embeddings: Embeddings, others: Embeddings, min_cosine: float) -> NDArray[np.bool_]:
    """Returns for each embedding, (n,), whether one of the m others (or none) is a near-duplicate.

    Cost: n x m x d products; 2,000 against 40,000 of 512 take about a second on a core.
    """
    is_near = np.zeros(len(embeddings), dtype=bool)
    unit = _unit(embeddings)
    for start in range(0, len(others), _ROWS_AT_ONCE):
        cosines = unit @ _unit(others[start : start + _ROWS_AT_ONCE]).T
        is_near |= cosines.max(axis=1, initial=-1.0) >= np.float32(min_cosine)
    return is_near


def representatives(embeddings: Embeddings, min_cosine: float) -> NDArray[np.int64]:
    """Chooses which earlier row represents each: collapses a short list, the most wanted first.

    Returns the first kept row that each is a near-duplicate of, or its own, int64, (n,). Cost:
    (n, n) cosines, 4 MB for 1,000.
    """
    unit = _unit(embeddings)
    representative = np.arange(len(embeddings))
    kept: list[int] = []
    for row in range(len(embeddings)):
        alike = unit[kept] @ unit[row] >= np.float32(min_cosine)
        if alike.any():
            representative[row] = kept[int(alike.argmax())]
        else:
            kept.append(row)
    return representative


def similarity_order(embeddings: Embeddings, group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Orders rows so that similar ones are neighbours.

    Starts with the first row's group and continues with the most similar group that is left (a
    greedy chain of nearest neighbours); the rows of a group stay together in their order. Without
    any similarity the rows keep their order.

    Takes the result of `groups` too. Returns the rows in their new order, int64, (n,). Cost: groups
    * groups * d products; 2,000 x 512 take 0.3 s.
    """
    _, first, member_of = np.unique(group, return_index=True, return_inverse=True)
    by_row = np.argsort(first)  # ties between groups go to the one with the first row
    member_of, unit = np.argsort(by_row)[member_of], _unit(embeddings[first[by_row]])
    is_left = np.ones(len(first), dtype=bool)
    position = np.empty(len(first), dtype=np.int64)
    current = 0
    for step in range(len(first)):
        position[current], is_left[current] = step, False
        current = int(np.argmax(np.where(is_left, unit @ unit[current], -np.inf)))
    return np.argsort(position[member_of], kind="stable")


def _unit(embeddings: Embeddings) -> Embeddings:
    """Rows of length 1, so that products are cosines; without a finite length, zeros."""
    length = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings, dtype=np.float32))[:, None]
    unit = np.zeros(embeddings.shape, np.float32)
    np.divide(embeddings, length, out=unit, where=np.isfinite(length) & (length > 0))
    return unit

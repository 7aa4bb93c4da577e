"""From exclusion scores to decisions, and what the decisions are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toiletspark.model.head import excluded as excluded


@dataclass(frozen=True)
class Validation:
    """Figures of excluded against kept on held-out images; each share in [0, 1], None where nothing
    was to divide.

    Attributes:
        accuracy: share of all images that were decided as labelled.
        precision: share of the excluded that had to be.
        recall: share of those that had to be excluded that were.
        n: images.
        positives: images that had to be excluded.
    """

    accuracy: float | None
    precision: float | None
    recall: float | None
    n: int
    positives: int


def validate(decided: NDArray[np.bool_], labelled: NDArray[np.bool_]) -> Validation:
    """Compares decisions with labels, both bool, (n,), True = excluded.

    >>> import numpy as np
    >>> validate(np.array([True, True, False, False]), np.array([True, False, True, False]))
    Validation(accuracy=0.5, precision=0.5, recall=0.5, n=4, positives=2)
    """
    hits = int((decided & labelled).sum())
    return Validation(
        accuracy=_share(int((decided == labelled).sum()), len(labelled)),
        precision=_share(hits, int(decided.sum())),
        recall=_share(hits, int(labelled.sum())),
        n=len(labelled),
        positives=int(labelled.sum()),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

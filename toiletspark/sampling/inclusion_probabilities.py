"""With which probability each content is drawn for labelling: some by plain chance, more by uncertainty.

Probabilities are whole numbers of 2^-40, and sizes of 2^-30, so that sums are the same in any order and on any
cluster. Nothing here needs Spark.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CERTAIN_BITS = 40
CERTAIN = 1 << CERTAIN_BITS  # an inclusion probability of 1
SIZE_ONE = 1 << 30  # an uncertainty of 1


@dataclass(frozen=True)
class Chances:
    """What makes an inclusion probability of a size: min(CERTAIN, base + floor(factor x size)).

    Attributes:
        base: in units of 2^-40, [1, CERTAIN]; the part of plain chance, which everything has.
        factor: probability, in units of 2^-40, per unit of size.
    """

    base: int
    factor: float

    def of(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Inclusion probabilities, int64 in units of 2^-40, (n,), for sizes int64, (n,)."""
        grown = self.base + np.floor(
            np.minimum(self.factor * sizes.astype(np.float64), CERTAIN)
        ).astype(np.int64)
        capped: NDArray[np.int64] = np.minimum(grown, CERTAIN)
        return capped


def chances(
    largest: NDArray[np.int64], total: int, units: int, wanted: int, random_share: float
) -> Chances:
    """Shares `wanted` draws out: random_share of them evenly, the rest in proportion to size, none above certainty.

    Args:
        largest: int64, the min(units, wanted) largest sizes, falling; only these can be certain.
        total: sum of all sizes.
        units: how many there are to draw from.
        wanted: how many are to be drawn.
        random_share: (0, 1].

    Returns:
        Chances whose probabilities add up to `wanted` (but for rounding, below 2^-39 a unit), or certainty for all
        where there are no more units than that.

    Source: probability proportional to size with certainty units, Särndal, Swensson and Wretman, Model Assisted
    Survey Sampling (1992), 3.6.1; the even part keeps weights below units / (random_share x wanted).
    """
    if units <= wanted:
        return Chances(CERTAIN, 0.0)
    base = random_share * wanted / units
    before = np.concatenate([[0], np.cumsum(largest)]).astype(np.int64)
    for certain in range(len(largest) + 1):
        rest, left = total - int(before[certain]), wanted - certain - base * (units - certain)
        if rest <= 0:  # whatever has a size is certain; what is left over goes to all others alike
            return Chances(_whole((wanted - certain) / (units - certain)), float(CERTAIN))
        factor = left / rest
        if certain == len(largest) or base + factor * largest[certain] <= 1:
            break
    return Chances(_whole(base), factor * CERTAIN)


def _whole(probability: float) -> int:
    return max(1, round(probability * CERTAIN))

"""Inclusion probabilities of contents: an even part for all, and a part in proportion to size.

Probabilities are whole numbers in units of 2^-40, and sizes in units of 2^-30, so that sums are the
same in any order and on any cluster. Does not use Spark.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CERTAIN = 1 << 40  # an inclusion probability of 1
SIZE_ONE = 1 << 30  # an uncertainty of 1


@dataclass(frozen=True)
class Chances:
    """The inclusion probability of a size: min(CERTAIN, base + floor(factor x size))."""

    base: int  # the even part, in units of 2^-40, [1, CERTAIN]
    factor: float  # probability, in units of 2^-40, per unit of size

    def of(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Inclusion probabilities, int64 in units of 2^-40, (n,), for sizes int64, (n,)."""
        by_size = np.floor(np.minimum(self.factor * sizes.astype(np.float64), CERTAIN))
        capped: NDArray[np.int64] = np.minimum(self.base + by_size.astype(np.int64), CERTAIN)
        return capped


def chances(
    largest: NDArray[np.int64], total: int, units: int, wanted: int, random_share: float
) -> Chances:
    """Divides `wanted` draws: random_share, (0, 1], evenly, the rest in proportion to size.

    `largest` are the min(units, wanted) largest sizes, int64, falling; only these can become
    certain. `total` is the sum of the sizes of all units.

    Returns probabilities that add up to `wanted` (but for rounding, below 2^-39 a unit) and are at
    most 1; 1 for all if there are no more units than that.

    Source: probability proportional to size with certainty units, Särndal, Swensson and Wretman,
    Model Assisted Survey Sampling (1992), 3.6.1; the even part keeps weights below units /
    (random_share x wanted).
    """
    if units <= wanted:
        return Chances(CERTAIN, 0.0)
    base = random_share * wanted / units
    sums = np.concatenate([[0], np.cumsum(largest)]).astype(np.int64)
    for certain in range(len(largest) + 1):
        rest = total - int(sums[certain])
        left = wanted - certain - base * (units - certain)
        if rest <= 0:  # all contents with a size are certain; the others share the rest evenly
            return Chances(_whole((wanted - certain) / (units - certain)), float(CERTAIN))
        factor = left / rest
        if certain == len(largest) or base + factor * largest[certain] <= 1:
            break
    return Chances(_whole(base), factor * CERTAIN)


def _whole(probability: float) -> int:
    return max(1, round(probability * CERTAIN))

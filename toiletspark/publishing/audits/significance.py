"""Whether a share is out of bounds, or whether chance could have done it. Numpy only.

A share found among n images says that the true share is above a bound only if so large a share would be rare where the
true one lies at the bound. How rare is bounded by Chernoff: P(found or more) <= exp(-n KL(found, bound)), for any n and
any bound, also where a normal approximation fails (few images, rare events). Two shares are compared at the true
shares that are kindest to them, so the exponents of both add up.
Sources: Chernoff, A measure of asymptotic efficiency for tests of a hypothesis (1952); Hoeffding, Probability
inequalities for sums of bounded random variables (1963), theorem 1; of two samples, the likelihood ratio (Wilks 1938).

Images count as if they were independent. Those of one listing are not, so chance is a little larger than told; bounds
of a version are factors of two, and LEVEL is small, to leave room for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.001  # chance of one false alarm of a rule, over all strata that it looks at (Bonferroni)
_STEPS = 1001  # of the search for the kindest true share


@dataclass(frozen=True)
class Share:
    """`part` of `whole` images."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        """[0, 1]; 0 of nothing."""
        return self.part / self.whole if self.whole else 0.0


def above(found: Share, bound: float, looks: int = 1) -> bool:
    """Whether a true share is above `bound`.

    Args:
        found: what was counted.
        bound: [0, 1]; 0 means that the first one is too many.
        looks: how many such shares are looked at together.
    """
    if found.value <= bound:
        return False
    return found.whole * float(_divergence(found.value, np.array([bound]))[0]) > _limit(looks)


def moved_above(
    found: Share,
    before: Share,
    bound: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    looks: int = 1,
) -> bool:
    """Whether a true share is above what `bound` allows, given the true share before; both were only counted.

    Args:
        found: what was counted now.
        before: what was counted then.
        bound: the most that is allowed, of the share before; rises with it.
        looks: see `above`.

    Cost: some 0.1 ms.
    """
    low, high = before.value, 1.0
    if found.value <= float(bound(np.array([low]))[0]):
        return False
    for _ in range(60):  # the least share before that would make the found one right
        middle = (low + high) / 2
        low, high = (low, middle) if bound(np.array([middle]))[0] >= found.value else (middle, high)
    truths = np.linspace(before.value, high, _STEPS)
    surprise = found.whole * _divergence(found.value, np.minimum(bound(truths), 1.0))
    surprise += before.whole * _divergence(before.value, truths)
    return bool(surprise.min() > _limit(looks))


def chi_square(freedom: int, looks: int = 1) -> float:
    """What a chi-square of so many degrees of freedom exceeds with chance LEVEL / looks.

    Source: Wilson and Hilferty, The distribution of chi-square (1931); at most 3 % too much from 5 degrees on.
    """
    z, spread = NormalDist().inv_cdf(1 - LEVEL / looks), 2 / (9 * freedom)
    return float(freedom * (1 - spread + z * math.sqrt(spread)) ** 3)


def _limit(looks: int) -> float:
    return math.log(max(looks, 1) / LEVEL)


def _divergence(found: float, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kullback and Leibler's, in nats, of two coins: float64, as long as `truth`; infinite where it cannot be."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = found * np.log(found / truth) if found else np.zeros_like(truth)
        tails = (
            (1 - found) * np.log((1 - found) / (1 - truth)) if found < 1 else np.zeros_like(truth)
        )
    return np.asarray(heads + tails)

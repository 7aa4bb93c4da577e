"""Is a share out of bounds, or can chance explain it? Numpy only.

A share observed among n images says that the true share is above a bound only if so large a share
would be rare with the true one at the bound. Chernoff bounds how rare: P(observed or more) <=
exp(-n KL(observed, bound)), also for few images and rare events. Two shares are compared at the
true shares that are most favourable to them, so the exponents of both add up. Sources: Chernoff, A
measure of asymptotic efficiency for tests of a hypothesis (1952); Hoeffding, Probability
inequalities for sums of bounded random variables (1963), theorem 1; for two samples, the likelihood
ratio (Wilks 1938).

Images count as if they were independent. Those of one listing are not, so chance is a little larger
than computed. Bounds of a version are factors of two, and LEVEL is small, to leave room for that.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.001  # chance of a false alarm of a rule, over all its strata (Bonferroni)
_STEPS = 1001  # of the search for the most favourable true share
Bound = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Share:
    """`part` of `whole` images."""

    part: int
    whole: int

    @property
    def value(self) -> float:
        """[0, 1]; 0 of nothing."""
        return self.part / self.whole if self.whole else 0.0


def above(share: Share, bound: float, looks: int = 1) -> bool:
    """Returns True if a true share is above `bound`, [0, 1], among `looks` such shares.

    A bound of 0 means that the first one is too many.
    """
    if share.value <= bound:
        return False
    return share.whole * float(_divergence(share.value, np.array([bound]))[0]) > _limit(looks)


def moved_above(now: Share, before: Share, bound: Bound, looks: int = 1) -> bool:
    """Returns True if a true share is above a bound that depends on the true share before.

    `bound` gives the largest allowed share by the share before, and rises with it. `looks`: see
    `above`. Cost: some 0.1 ms.
    """
    low, high = before.value, 1.0
    if now.value <= float(bound(np.array([low]))[0]):
        return False
    for _ in range(60):  # the least share before that allows the share now
        middle = (low + high) / 2
        low, high = (low, middle) if bound(np.array([middle]))[0] >= now.value else (middle, high)
    truths = np.linspace(before.value, high, _STEPS)
    surprise = now.whole * _divergence(now.value, np.minimum(bound(truths), 1.0))
    surprise += before.whole * _divergence(before.value, truths)
    return bool(surprise.min() > _limit(looks))


def chi_square(freedom: int, looks: int = 1) -> float:
    """The value that a chi-square with this freedom exceeds with a probability of LEVEL / looks.

    Source: Wilson and Hilferty, The distribution of chi-square (1931); at most 3 % too much from 5
    degrees on.
    """
    z, spread = NormalDist().inv_cdf(1 - LEVEL / looks), 2 / (9 * freedom)
    return float(freedom * (1 - spread + z * math.sqrt(spread)) ** 3)


def _limit(looks: int) -> float:
    return math.log(max(looks, 1) / LEVEL)


def _divergence(share: float, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of two coins in nats, float64, (n,); may be infinite."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads = share * np.log(share / truth) if share else np.zeros_like(truth)
        others = 1 - share
        tails = others * np.log(others / (1 - truth)) if others else np.zeros_like(truth)
    return np.asarray(heads + tails)

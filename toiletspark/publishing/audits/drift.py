"""How far the exclusion scores of two versions lie apart, by their histograms. Numpy only.

Population stability index: the sum over bins of (a - b) ln(a / b), with a and b the bins' shares. Source: Siddiqi,
Credit Risk Scorecards (2006), who calls 0.1 small and 0.25 a major shift. It is the divergence of Jeffreys (1946).
Kolmogorov and Smirnov's distance: the largest difference of the two distribution functions. Source: Smirnov, Table for
estimating the goodness of fit of empirical distributions (1948).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toiletspark.publishing.audits import significance as chance

PSI_BINS = 10
MOST_TOLD = 20
_HALF = 0.5  # what an empty bin holds


@dataclass(frozen=True)
class Drift:
    """Of one stratum, or of all. images: scored ones, now and then."""

    psi: float
    ks: float
    images: int
    images_before: int

    def told(self) -> dict[str, float | int]:
        """As manifests hold it."""
        return {"psi": round(self.psi, 4), "ks": round(self.ks, 4), "images": self.images}


def between(now: NDArray[np.int64], before: NDArray[np.int64]) -> Drift | None:
    """Compares two histograms over [0, 1]; None where one of them is empty.

    Args:
        now: int64, (100,) or another multiple of `PSI_BINS`.
        before: the same.
    """
    if not now.sum() or not before.sum():
        return None
    return Drift(psi(now, before), ks(now, before), int(now.sum()), int(before.sum()))


def psi(now: NDArray[np.int64], before: NDArray[np.int64]) -> float:
    """Population stability index over ten equal bins, >= 0.

    Equal bins mean the same in all strata and runs; quantiles, which scorecards use, would leave two or three bins
    here, where most scores are near 0. An image more in a bin that was empty would make it infinite: each bin
    counts half an image more (Jeffreys' prior of shares), which is nothing to bins that hold many.
    """
    first, second = (_shares(histogram) for histogram in (now, before))
    return float(((first - second) * np.log(first / second)).sum())


def ks(now: NDArray[np.int64], before: NDArray[np.int64]) -> float:
    """The largest difference of the distribution functions at the edges of the bins, [0, 1].

    Never more than the exact one, which may lie inside a bin; less by at most what one bin holds.
    """
    first, second = (np.cumsum(histogram) / histogram.sum() for histogram in (now, before))
    return float(np.abs(first - second).max())


def is_shift(found: Drift, most: float, looks: int = 1) -> bool:
    """Whether a PSI is above `most` by more than chance makes of so many images.

    Without any drift, PSI is distributed as (1 / n + 1 / m) chi-square, with one degree of freedom less than bins.
    Source: Yurdakul and Naranjo, Statistical properties of the population stability index (2020).

    Args:
        found: the drift.
        most: what is allowed.
        looks: how many strata are looked at together.
    """
    noise = chance.chi_square(PSI_BINS - 1, looks) * (1 / found.images + 1 / found.images_before)
    return found.psi > most + noise


def by_stratum(
    now: Mapping[str, NDArray[np.int64]], before: Mapping[str, NDArray[np.int64]]
) -> dict[str, Drift]:
    """The drift of each stratum that both have scores of, the largest PSI first."""
    both = {
        name: between(histogram, before[name]) for name, histogram in now.items() if name in before
    }
    found = {name: drift for name, drift in both.items() if drift}
    return dict(sorted(found.items(), key=lambda pair: -pair[1].psi))


def overall(
    now: Mapping[str, NDArray[np.int64]], before: Mapping[str, NDArray[np.int64]]
) -> Drift | None:
    """The drift of all strata together, or None."""
    if not now or not before:
        return None
    return between(np.sum(list(now.values()), axis=0), np.sum(list(before.values()), axis=0))


def told(
    now: Mapping[str, NDArray[np.int64]], before: Mapping[str, NDArray[np.int64]]
) -> dict[str, dict[str, object]] | None:
    """As manifests hold it: overall, and the `MOST_TOLD` strata with the largest PSI; None without scores."""
    total = overall(now, before)
    if total is None:
        return None
    worst = list(by_stratum(now, before).items())[:MOST_TOLD]
    return {
        "overall": {"psi": round(total.psi, 4), "ks": round(total.ks, 4)},
        "strata": {name: one.told() for name, one in worst},
    }


def _shares(histogram: NDArray[np.int64]) -> NDArray[np.float64]:
    counts = histogram.reshape(PSI_BINS, -1).sum(axis=1) + _HALF
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares

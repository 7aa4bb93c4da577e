"""The distance between the exclusion scores of two versions, by their histograms. Numpy only.

Population stability index: the sum over bins of (a - b) ln(a / b), with a and b the bins' shares.
Source: Siddiqi, Credit Risk Scorecards (2006), who calls 0.1 small and 0.25 a major shift. It is
the divergence of Jeffreys (1946). Kolmogorov-Smirnov distance: the largest difference of the two
distribution functions (Smirnov, Table for estimating the goodness of fit, 1948).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.publishing.audits import significance

PSI_BINS = 10
MAX_STRATA = 20  # strata in a summary

Histogram = NDArray[np.int64]
Histograms = Mapping[str, Histogram]


@dataclass(frozen=True)
class Drift:
    """Drift of one stratum, or of all images. images: scored ones, now and before."""

    psi: float
    ks: float
    images: int
    images_before: int

    @property
    def fewest_images(self) -> int:
        """The scored images of the smaller side."""
        return min(self.images, self.images_before)


def between(now: Histogram, before: Histogram) -> Drift | None:
    """Compares two histograms over [0, 1], int64, (100,) each; None if one of them is empty."""
    if not now.sum() or not before.sum():
        return None
    return Drift(psi(now, before), ks(now, before), int(now.sum()), int(before.sum()))


def psi(now: Histogram, before: Histogram) -> float:
    """Population stability index over ten equal bins, >= 0.

    Equal bins mean the same in all strata and runs; quantiles, which scorecards use, would leave
    two or three bins, because most scores are near 0. Each bin counts half an image more (Jeffreys'
    prior of shares), or an image more in an empty bin would make the index infinite.
    """
    first, second = _shares(now), _shares(before)
    return float(((first - second) * np.log(first / second)).sum())


def ks(now: Histogram, before: Histogram) -> float:
    """The largest difference of the distribution functions at the edges of the bins, [0, 1].

    Never more than the exact one, which may lie inside a bin; less by at most one bin's share.
    """
    first, second = (np.cumsum(histogram) / histogram.sum() for histogram in (now, before))
    return float(np.abs(first - second).max())


def is_shift(drift: Drift, most: float, looks: int = 1) -> bool:
    """Returns True if a PSI is above `most` by more than chance explains, among `looks` strata.

    Without any drift, PSI is distributed as (1 / n + 1 / m) chi-square, with one degree of freedom
    less than bins. Source: Yurdakul and Naranjo, Statistical properties of the population stability
    index (2020).
    """
    chi_square = significance.chi_square(PSI_BINS - 1, looks)
    return drift.psi > most + chi_square * (1 / drift.images + 1 / drift.images_before)


def by_stratum(now: Histograms, before: Histograms) -> dict[str, Drift]:
    """The drift of each stratum that both have scores of, the largest PSI first."""
    drifts = {
        name: drift
        for name, histogram in now.items()
        if name in before and (drift := between(histogram, before[name]))
    }
    return dict(sorted(drifts.items(), key=lambda pair: -pair[1].psi))


def overall(now: Histograms, before: Histograms) -> Drift | None:
    """The drift of all strata together, or None."""
    if not now or not before:
        return None
    return between(np.sum(list(now.values()), axis=0), np.sum(list(before.values()), axis=0))


def summary(now: Histograms, before: Histograms) -> dict[str, Any] | None:
    """Overall drift, and the `MAX_STRATA` strata with the largest PSI; None without scores."""
    total = overall(now, before)
    if total is None:
        return None
    strata = {}
    for name, drift in list(by_stratum(now, before).items())[:MAX_STRATA]:
        strata[name] = {**_rounded(drift), "images": drift.images}
    return {"overall": _rounded(total), "strata": strata}


def _rounded(drift: Drift) -> dict[str, float]:
    return {"psi": round(drift.psi, 4), "ks": round(drift.ks, 4)}


def _shares(histogram: Histogram) -> NDArray[np.float64]:
    counts = histogram.reshape(PSI_BINS, -1).sum(axis=1) + 0.5
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares

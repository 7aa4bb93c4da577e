"""What a labelled sample says of the whole catalog: weighted shares, and between what bounds the truth lies.

Numpy only. Weights are design weights (1 / inclusion probability), so that totals over the sample estimate totals over
the catalog (Horvitz and Thompson, 1952). Photos of one listing look alike and are drawn together, so listings, not
images, are what chance has drawn, and what the bootstrap draws again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
_ROUNDING = 1e-15  # of a listing's share of a difference, far below that of one image
# An area near 1 hangs on a few images, and replicates of a sample that has missed them vary too little. Over 200 draws
# of 150 to 3,000 listings 95 % intervals held the truth in 87 to 96 % as they were, with this in 93 to 98 % (ROC AUC)
# and in 96 to 99.5 % (average precision).
_TRUST = 0.6
_AT_ONCE = 64  # replicates of all images in memory: 64 x 8,000 images x 8 bytes are 4 MB
_Z = 1.959963984540054  # standard normal quantile of (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Share:
    """An estimated share of the catalog, [0, 1], with the bounds of its 95 % interval.

    Attributes:
        value: the estimate; None where the sample holds nothing of what it is a share of.
        low: lower bound; 0 where nothing is known.
        high: upper bound; 1 where nothing is known.
        n: images of the sample that it is a share of, unweighted.
    """

    value: float | None
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """As people read it: 93.1 % (90.2 to 95.3)."""
        if self.value is None:
            return "unknown"
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True)
class Difference:
    """By how much one figure of the catalog is above another, with the bounds of its 95 % interval.

    Attributes:
        value: one less the other; None where one of them is unknown.
        low: lower bound; -1, as of shares, where nothing is known.
        high: upper bound; 1 where nothing is known.
    """

    value: float | None
    low: float
    high: float


Ratio = tuple[
    NDArray[Any], NDArray[np.bool_]
]  # of each image (n,): what is summed up, and over which images


class Bootstrap:
    """A stratified sample of listings, and what it might have been.

    Within each stratum of n listings, n - 1 are drawn with replacement and weigh n / (n - 1) each time they are drawn,
    which makes the variance of a total over the replicates the usual estimate for listings drawn with replacement.
    Strata from which a single listing came are taken together, since one listing shows no variance; a stratum that is
    the only such one is taken together with the smallest other.

    Source: Rao and Wu, Resampling inference with complex survey data, JASA 83 (1988), with m = n - 1.
    """

    def __init__(
        self,
        stratum: ArrayLike,
        listing: ArrayLike,
        weight: ArrayLike,
        *,
        replicates: int = 1000,
        seed: int = 0,
    ) -> None:
        """Draws the replicates, once for all shares.

        Args:
            stratum: (n,), of each image; whatever numpy can sort.
            listing: (n,), of each image; the same one in two strata is a listing in each, since a table may say so, and
                images that have ended stand under their own ids, which listings may have too.
            weight: (n,), > 0, of each image.
            replicates: how many; 1,000 settle the bounds to about a thirtieth of the interval's width.
            seed: the same seed gives the same bounds.

        Raises:
            ValueError: lengths differ, or a weight is not positive.

        Cost: replicates x listings x 8 bytes of memory.
        """
        self._weight = np.asarray(weight, dtype=np.float64)
        if not (len(np.asarray(stratum)) == len(np.asarray(listing)) == len(self._weight)):
            raise ValueError(
                "stratum, listing and weight tell of the same images, in the same order"
            )
        if not (self._weight > 0).all():
            raise ValueError("design weights are positive")
        names, of_image = np.unique(np.asarray(stratum), return_inverse=True)
        _, id_of_image = np.unique(np.asarray(listing), return_inverse=True)
        drawn = id_of_image * len(names) + of_image
        _, first, self._listing = np.unique(drawn, return_index=True, return_inverse=True)
        of_listing = of_image[first]
        self._times = _times_drawn(
            _with_singles_together(of_listing), replicates, np.random.default_rng(seed)
        )

    def share(self, part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> Share:
        """The share of `whole` that is also `part`, over the catalog.

        The bounds are Wilson's, for as many independent images as would have the variance of the replicates (the
        effective sample size; never more than there are images). Plain percentiles of the replicates are too narrow
        where positives are few: with 120 of them they held the truth in 89 % of 300 draws, Wilson's in 95.

        Args:
            part: bool, (n,); for precision, recall and accuracy: hits, hits, right decisions.
            whole: bool, (n,); excluded, to be excluded, all.

        Source: Korn and Graubard, Confidence intervals for proportions with small expected number of positive counts
        estimated from survey data, Survey Methodology 24 (1998), with Wilson's bounds for Clopper and Pearson's.
        """
        return self.shares(part[np.newaxis], whole[np.newaxis])[0]

    def shares(self, parts: NDArray[np.bool_], wholes: NDArray[np.bool_]) -> list[Share]:
        """`share` of many at once, both bool, (k, n).

        Cost: a product of (replicates, listings) and (listings, 2 k); listings of which no whole has an image cost
        nothing.
        """
        counted = np.stack([self._per_listing(one) for one in (*(parts & wholes), *wholes)], axis=1)
        there = counted.any(axis=1)
        few = 2 * there.sum() < len(
            there
        )  # else a copy of the replicates would cost more than it saves
        again = self._times[:, there] @ counted[there] if few else self._times @ counted
        k = len(parts)
        found = []
        for at, whole in enumerate(wholes):
            part_of, whole_of = counted[:, at], counted[:, k + at]
            drawn = again[:, k + at] > 0
            value = float(part_of.sum() / whole_of.sum()) if whole.any() else None
            ratios = again[drawn, at] / again[drawn, k + at]
            n = int(whole.sum())
            found.append(_bounded(value, ratios, whole_of, n, share=True))
        return found

    def figure(
        self, of: Callable[[NDArray[np.float64]], NDArray[np.float64]], whole: NDArray[np.bool_]
    ) -> Share:
        """Another figure in [0, 1] that the weights give, such as the area under a curve; bounds as `share` has them.

        Args:
            of: takes weights, float64, (replicates, n), some of them 0, and gives a figure of each: (replicates,), NaN
                where there is none.
            whole: bool, (n,); the images that it is a mean over; they count where no replicate differs from another.

        Cost: `of`, for a few replicates at a time.
        """
        value = float(of(self._weight[np.newaxis])[0])
        parts = [self._times[at : at + _AT_ONCE] for at in range(0, len(self._times), _AT_ONCE)]
        again = np.concatenate([of(times[:, self._listing] * self._weight) for times in parts])
        known = None if np.isnan(value) else value
        return _bounded(known, again[~np.isnan(again)], self._per_listing(whole), int(whole.sum()))

    def difference(self, one: Ratio, other: Ratio) -> Difference:
        """By how much a ratio of totals is above another one of the same images.

        Both are taken from the same replicates, so what is hard for both cancels out. The bounds are the replicates'
        deviation times Student's quantile, with as many degrees of freedom as there are listings that make the
        difference: four mistakes more on four listings are luck (the exact sign test agrees), whatever the number of
        images on which nothing differs. Where nothing differs at all, Wilson's upper bound for none of the listings.

        Args:
            one: of each image what is summed up (bool or float), and over which images (bool). For precision: hits,
                excluded; for a mean cost: costs, all.
            other: the same of what is compared with.

        Source: degrees of freedom: Satterthwaite, An approximate distribution of estimates of variance components,
        Biometrics 2 (1946), over the listings' shares of the difference.
        """
        from scipy.special import stdtrit  # of the extra [train]; who only publishes needs no SciPy

        sums = np.stack(
            [self._per_listing(np.asarray(sum_of)) for sum_of in (*one, *other)], axis=1
        )
        part, whole, part2, whole2 = sums.sum(axis=0)
        if not (whole > 0 and whole2 > 0):
            return Difference(None, -1.0, 1.0)
        value = float(part / whole - part2 / whole2)
        reach = max(
            1.0, *(float(np.max(sum_of)) for sum_of in (one[0], other[0]))
        )  # no mean is above its largest value
        shares = (sums[:, 0] - part / whole * sums[:, 1]) / whole - (
            sums[:, 2] - part2 / whole2 * sums[:, 3]
        ) / whole2
        if (np.abs(shares) > _ROUNDING).any():
            again = self._times @ sums
            again = again[(again[:, 1] > 0) & (again[:, 3] > 0)]
            deviation = float((again[:, 0] / again[:, 1] - again[:, 2] / again[:, 3]).std(ddof=1))
            freedom = float((shares**2).sum() ** 2 / (shares**4).sum())
            half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * deviation
        else:
            half = reach * _wilson(0.0, float(whole**2 / (sums[:, 1] ** 2).sum()))[1]
        return Difference(value, max(-reach, value - half), min(reach, value + half))

    def total(self, which: NDArray[np.bool_]) -> float:
        """How many images of the catalog the chosen ones stand for."""
        return float(self._weight[which].sum())

    def mean(self, values: NDArray[np.float32], which: NDArray[np.bool_]) -> float:
        """The weighted mean of a value, (n,), over the chosen images, of which there is at least one."""
        return float(np.average(values[which].astype(np.float64), weights=self._weight[which]))

    def _per_listing(self, which: NDArray[Any]) -> NDArray[np.float64]:
        """The weights of the chosen images, or weighted values, summed up by listing: float64, (listings,)."""
        sums = np.bincount(
            self._listing, weights=self._weight * which, minlength=self._times.shape[1]
        )
        return sums.astype(np.float64, copy=False)  # numpy's own types say integers


def half_width(got: int, images_got: int, images: float) -> float | None:
    """Half of the 95 % interval for a share inside a stratum, where it is widest (a share of one half).

    Units count, not images: photos of one home look alike. What is drawn whole is known.

    Args:
        got: units drawn.
        images_got: images drawn.
        images: images of the stratum; infinite where it is not known how many there are.

    Returns:
        [0, 1]; None where nothing was drawn.

    Source: Cochran, Sampling Techniques (1977), 3.3 (normal approximation, finite population correction).

    >>> round(half_width(30, 30, 100_000), 3), half_width(8, 8, 8), half_width(0, 0, 8)
    (0.179, 0.0, None)
    """
    if not got:
        return None
    return min(1.0, _Z * math.sqrt(0.25 / got * max(0.0, 1 - images_got / images)))


def _bounded(
    value: float | None,
    again: NDArray[np.float64],
    whole: NDArray[np.float64],
    n: int,
    share: bool = False,
) -> Share:
    """An estimate with its bounds.

    Args:
        value: None where there is none.
        again: what the replicates say, where they say something.
        whole: float64, (listings,), weights of what it is a share of.
        n: images that it is a share of.
        share: a share is no surer than its images are many; for what is not one, see `_TRUST`.
    """
    if value is None:
        return Share(None, 0.0, 1.0, n)
    variance = float(again.var(ddof=1)) if len(again) > 1 else 0.0
    if variance > 0 and 0 < value < 1:
        effective = value * (1 - value) / variance
        effective = min(float(n), effective) if share else _TRUST * effective
    else:  # no listing differs from another, and the replicates cannot either: what Kish's formula leaves of them
        effective = float(whole.sum() ** 2 / (whole**2).sum())
    return Share(value, *_wilson(value, effective), n)


def _with_singles_together(stratum: NDArray[np.intp]) -> NDArray[np.intp]:
    """Strata by listing, those of one listing made one; where only one is such, it is made one with the smallest other.

    Args:
        stratum: (listings,), numbered 0, 1, ... without a gap.
    """
    sizes = np.bincount(stratum)
    lonely = sizes == 1
    if lonely.sum() == 1 and len(sizes) > 1:
        lonely[np.where(lonely, len(stratum), sizes).argmin()] = True
    return np.where(lonely[stratum], len(sizes), stratum)


def _times_drawn(
    stratum: NDArray[np.intp], replicates: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How much each listing weighs in each replicate: float64, (replicates, listings), 1 on average."""
    times = np.ones((replicates, len(stratum)))
    for one in np.unique(stratum):
        rows = np.flatnonzero(stratum == one)
        n = len(rows)
        if n > 1:  # a single listing of all stays as it is
            times[:, rows] = rng.multinomial(n - 1, np.full(n, 1 / n), size=replicates) * (
                n / (n - 1)
            )
    return times


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's interval for a share among n independent images (JASA 22, 1927)."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))

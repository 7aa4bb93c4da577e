"""Estimates for the whole catalog from a labelled sample: weighted shares with 95 % intervals.

Weights are design weights (1 / inclusion probability), so totals over the sample estimate totals
over the catalog (Horvitz and Thompson, 1952). Photos of one listing look alike and are drawn
together, so the bootstrap resamples listings, not images.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
CONFIDENCE = 0.95
_ROUNDING = 1e-15  # of a listing's part of a difference, far below that of one image
# Areas near 1 depend on a few images, and replicates of a sample that has missed them vary too
# little. Over 200 draws of 150 to 3,000 listings 95 % intervals held the truth in 87 to 96 %
# without this factor, and with it in 93 to 98 % (ROC AUC) and in 96 to 99.5 % (average precision).
_TRUST = 0.6
_AT_ONCE = 64  # replicates of all images in memory: 64 x 8,000 images x 8 bytes are 4 MB
_Z = 1.959963984540054  # standard normal quantile of (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Share:
    """An estimated share of the catalog, [0, 1], with the bounds of its 95 % interval."""

    value: float | None  # None if the sample holds nothing of the whole
    low: float  # 0 if the value is unknown
    high: float  # 1 if the value is unknown
    n: int  # images of the sample that belong to the whole, unweighted

    def __str__(self) -> str:
        """For people: 93.1 % (90.2 to 95.3)."""
        if self.value is None:
            return "unknown"
        return f"{100 * self.value:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f})"


@dataclass(frozen=True)
class Difference:
    """The difference of two figures of the catalog, with the bounds of its 95 % interval."""

    value: float | None  # None if one of the figures is unknown
    low: float  # -1, the least of shares, if the value is unknown
    high: float  # 1 if the value is unknown


# The summed value of each image, (n,), bool or float, and the images of the whole. For precision:
# hits, excluded; for a mean cost: costs, all.
Ratio = tuple[NDArray[Any], Mask]


class Bootstrap:
    """Bootstrap of a stratified sample of listings.

    Within each stratum of n listings, n - 1 are drawn with replacement and weigh n / (n - 1) each
    time they are drawn: the variance of a total over the replicates is then the usual estimate for
    listings drawn with replacement. Strata with a single listing are joined, since one listing
    shows no variance; a stratum that is the only such one is joined with the smallest other.

    Source: Rao and Wu, Resampling inference with complex survey data, JASA 83 (1988), m = n - 1.
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
        """Draws the replicates, once for all figures; the same seed gives the same bounds.

        Stratum, listing (any types that numpy sorts) and weight (> 0) are those of each image,
        (n,). A listing that occurs in two strata counts as two: a table may contain that, and
        images without a listing stand under their own ids, which may equal one. With 1,000
        replicates the bounds vary by about a thirtieth of the interval's width.

        Raises ValueError if lengths differ or a weight is not positive. Cost: replicates x listings
        x 8 bytes of memory.
        """
        self._weight = np.asarray(weight, dtype=np.float64)
        strata, listings = np.asarray(stratum), np.asarray(listing)
        if not len(strata) == len(listings) == len(self._weight):
            raise ValueError(
                "stratum, listing and weight must describe the same images, in one order"
            )
        if not (self._weight > 0).all():
            raise ValueError("design weights must be positive")
        names, stratum_of_image = np.unique(strata, return_inverse=True)
        _, id_of_image = np.unique(listings, return_inverse=True)
        drawn = id_of_image * len(names) + stratum_of_image
        _, first, self._listing = np.unique(drawn, return_index=True, return_inverse=True)
        stratum_of_listing = _join_singles(stratum_of_image[first])
        self._times = _draw_replicates(stratum_of_listing, replicates, seed)

    def share(self, part: Mask, whole: Mask) -> Share:
        """The share of `whole` that is also `part`, both bool, (n,), over the catalog.

        The bounds are Wilson's, for the effective sample size: as many independent images as would
        have the variance of the replicates, never more than there are images. Plain percentiles of
        the replicates are too narrow if positives are few: with 120 of them they held the truth in
        89 % of 300 draws, Wilson's in 95.

        Source: Korn and Graubard, Confidence intervals for proportions with small expected number
        of positive counts estimated from survey data, Survey Methodology 24 (1998), with Wilson's
        bounds for Clopper and Pearson's.
        """
        return self.shares(part[np.newaxis], whole[np.newaxis])[0]

    def shares(self, parts: Mask, wholes: Mask) -> list[Share]:
        """`share` of many at once, both bool, (k, n).

        Cost: a product of (replicates, listings of the wholes) and (listings of the wholes, 2 k).
        """
        sums = np.stack([self._per_listing(mask) for mask in (*(parts & wholes), *wholes)], axis=1)
        is_used = sums.any(axis=1)
        if 2 * is_used.sum() < len(is_used):  # else copying the replicates costs more than it saves
            replicates = self._times[:, is_used] @ sums[is_used]
        else:
            replicates = self._times @ sums
        shares = []
        for number, whole in enumerate(wholes):
            part_sums, whole_sums = sums[:, number], sums[:, len(wholes) + number]
            value = float(part_sums.sum() / whole_sums.sum()) if whole.any() else None
            in_part, in_whole = replicates[:, number], replicates[:, len(wholes) + number]
            ratios = in_part[in_whole > 0] / in_whole[in_whole > 0]
            shares.append(_with_bounds(value, ratios, whole_sums, int(whole.sum()), is_share=True))
        return shares

    def figure(self, of: Callable[[Floats], Floats], whole: Mask) -> Share:
        """Another figure in [0, 1], such as the area under a curve; bounds as in `share`.

        `of` takes weights, float64, (replicates, n), some of them 0, and returns the figure of
        each: (replicates,), NaN if there is none. It is called for a few replicates at a time.
        `whole`, bool, (n,), is used if all replicates are equal: the images that it is a mean over.
        """
        value = float(of(self._weight[np.newaxis])[0])
        figures = []
        for start in range(0, len(self._times), _AT_ONCE):
            times = self._times[start : start + _AT_ONCE]
            figures.append(of(times[:, self._listing] * self._weight))
        replicates = np.concatenate(figures)
        replicates = replicates[~np.isnan(replicates)]
        known = None if np.isnan(value) else value
        return _with_bounds(known, replicates, self._per_listing(whole), int(whole.sum()))

    def difference(self, first: Ratio, second: Ratio) -> Difference:
        """The difference between two ratios of totals of the same images: first - second.

        Both are taken from the same replicates, so what is hard for both cancels out. The bounds
        are the replicates' deviation times Student's quantile, with as many degrees of freedom as
        there are listings that make the difference: four mistakes more on four listings are luck
        (the exact sign test agrees), whatever the number of images on which nothing differs. If
        nothing differs at all, Wilson's upper bound for none of the listings.

        Source: degrees of freedom: Satterthwaite, An approximate distribution of estimates of
        variance components, Biometrics 2 (1946), over the listings' parts of the difference.
        """
        from scipy.special import stdtrit  # of the extra [train]; publishing alone needs no SciPy

        columns = [self._per_listing(np.asarray(values)) for values in (*first, *second)]
        sums = np.stack(columns, axis=1)
        part, whole, part2, whole2 = sums.sum(axis=0)
        if not (whole > 0 and whole2 > 0):
            return Difference(None, -1.0, 1.0)
        ratio, ratio2 = part / whole, part2 / whole2
        value = float(ratio - ratio2)
        largest = max(1.0, float(np.max(first[0])), float(np.max(second[0])))  # bounds every mean
        parts = (sums[:, 0] - ratio * sums[:, 1]) / whole
        parts -= (sums[:, 2] - ratio2 * sums[:, 3]) / whole2
        if (np.abs(parts) > _ROUNDING).any():
            totals = self._times @ sums
            totals = totals[(totals[:, 1] > 0) & (totals[:, 3] > 0)]
            differences = totals[:, 0] / totals[:, 1] - totals[:, 2] / totals[:, 3]
            freedom = float((parts**2).sum() ** 2 / (parts**4).sum())
            quantile = float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
            half = quantile * float(differences.std(ddof=1))
        else:
            half = largest * _wilson(0.0, float(whole**2 / (sums[:, 1] ** 2).sum()))[1]
        return Difference(value, max(-largest, value - half), min(largest, value + half))

    def total(self, mask: Mask) -> float:
        """The images of the catalog that the chosen ones represent."""
        return float(self._weight[mask].sum())

    def mean(self, values: NDArray[np.float32], mask: Mask) -> float:
        """The weighted mean of a value, (n,), over the chosen images; at least one is chosen."""
        return float(np.average(values[mask].astype(np.float64), weights=self._weight[mask]))

    def _per_listing(self, values: NDArray[Any]) -> Floats:
        """Weighted sums by listing of values or of a mask, (n,): float64, (listings,)."""
        listings = self._times.shape[1]
        sums = np.bincount(self._listing, weights=self._weight * values, minlength=listings)
        return sums.astype(np.float64, copy=False)  # numpy's own types say integers


def half_width(units_drawn: int, images_drawn: int, images: float) -> float | None:
    """Half of the 95 % interval, [0, 1], for a share of one half inside a stratum, its widest.

    Units count, not images: photos of one home look alike. The share of a stratum drawn whole is
    known; None if nothing was drawn. `images` is infinite if the number of the stratum is unknown.

    Source: Cochran, Sampling Techniques (1977), 3.3: normal, with finite population correction.

    >>> round(half_width(30, 30, 100_000), 3), half_width(8, 8, 8), half_width(0, 0, 8)
    (0.179, 0.0, None)
    """
    if not units_drawn:
        return None
    return min(1.0, _Z * math.sqrt(0.25 / units_drawn * max(0.0, 1 - images_drawn / images)))


def _with_bounds(
    value: float | None, replicates: Floats, whole: Floats, n: int, is_share: bool = False
) -> Share:
    """An estimate with its bounds, from the replicates that have one.

    `whole` are the weights of the whole, float64, (listings,); `n` are its images, and the largest
    effective sample size of a share; for other figures see `_TRUST`.
    """
    if value is None:
        return Share(None, 0.0, 1.0, n)
    variance = float(replicates.var(ddof=1)) if len(replicates) > 1 else 0.0
    if variance > 0 and 0 < value < 1:
        effective = value * (1 - value) / variance
        effective = min(float(n), effective) if is_share else _TRUST * effective
    else:  # no listing differs from another, and the replicates cannot either: Kish's formula
        effective = float(whole.sum() ** 2 / (whole**2).sum())
    return Share(value, *_wilson(value, effective), n)


def _join_singles(stratum: NDArray[np.intp]) -> NDArray[np.intp]:
    """Joins strata of one listing; a single one is joined with the smallest other stratum."""
    sizes = np.bincount(stratum)
    is_joined = sizes == 1
    if is_joined.sum() == 1 and len(sizes) > 1:
        is_joined[np.where(is_joined, len(stratum), sizes).argmin()] = True
    return np.where(is_joined[stratum], len(sizes), stratum)


def _draw_replicates(stratum: NDArray[np.intp], replicates: int, seed: int) -> Floats:
    """The weights in each replicate: float64, (replicates, listings), 1 on average."""
    rng = np.random.default_rng(seed)
    times = np.ones((replicates, len(stratum)))
    for number in np.unique(stratum):
        rows = np.flatnonzero(stratum == number)
        n = len(rows)
        if n > 1:  # a sample of a single listing stays as it is
            counts = rng.multinomial(n - 1, np.full(n, 1 / n), size=replicates)
            times[:, rows] = counts * (n / (n - 1))
    return times


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's interval for a share among n independent images (JASA 22, 1927)."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))

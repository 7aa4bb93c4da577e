"""Weighted shares: the slow sum, the textbook's variance, and intervals that hold the truth as
often as they say.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import coverage
from toiletspark.sampling.estimates import Bootstrap, Share, half_width


def sample(
    seed: int, listings: int = 60
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Stratum, listing and weight of a few hundred images."""
    rng = np.random.default_rng(seed)
    listing = np.repeat(np.arange(listings), rng.integers(1, 8, listings))
    stratum = rng.integers(0, 5, listings)[listing]
    return stratum, listing, rng.uniform(1, 50, 5)[stratum]


def test_the_value_is_the_share_of_the_weights() -> None:
    stratum, listing, weight = sample(1)
    rng = np.random.default_rng(2)
    whole = rng.random(len(weight)) < 0.6
    part = whole & (rng.random(len(weight)) < 0.8)
    slow = sum(w for w, one in zip(weight, part, strict=True) if one) / sum(
        w for w, one in zip(weight, whole, strict=True) if one
    )
    share = Bootstrap(stratum, listing, weight).share(part, whole)
    assert share.value == pytest.approx(slow, rel=1e-12)
    assert 0 < share.low < slow < share.high < 1
    assert share.n == whole.sum()


def test_a_part_outside_of_its_whole_does_not_count() -> None:
    ones = np.ones(4, dtype=bool)
    whole = np.array([True, True, False, False])
    assert Bootstrap([1] * 4, [1, 2, 3, 4], np.ones(4)).share(ones, whole).value == 1.0


def test_the_order_of_the_rows_does_not_matter() -> None:
    stratum, listing, weight = sample(3)
    part = np.random.default_rng(4).random(len(weight)) < 0.7
    order = np.random.default_rng(5).permutation(len(weight))
    one = Bootstrap(stratum, listing, weight).share(part, np.ones_like(part))
    other = Bootstrap(stratum[order], listing[order], weight[order]).share(
        part[order], np.ones_like(part)
    )
    assert (other.low, other.high) == pytest.approx((one.low, one.high), rel=1e-9)


def test_copies_of_an_image_in_its_listing_prove_nothing() -> None:
    rng = np.random.default_rng(6)
    listing = np.arange(200)
    part = rng.random(200) < 0.8
    alone = Bootstrap(listing * 0, listing, np.ones(200)).share(part, np.ones(200, dtype=bool))
    ten_times = np.repeat(listing, 10)
    copied = Bootstrap(ten_times * 0, ten_times, np.ones(2000)).share(
        np.repeat(part, 10), np.ones(2000, dtype=bool)
    )
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=0.005)
    assert copied.n == 2000


def test_independent_images_have_wilsons_own_interval() -> None:
    part = np.arange(400) < 300
    share = Bootstrap(np.zeros(400), np.arange(400), np.ones(400), replicates=4000).share(
        part, np.ones(400, dtype=bool)
    )
    # Wilson's for 300 of 400
    assert (share.low, share.high) == pytest.approx((0.7054, 0.7899), abs=0.003)


def test_the_replicates_vary_as_the_textbook_says() -> None:
    """The variance of a stratified total, listings drawn with replacement: sum of n / (n - 1) x
    squared deviations.
    """
    stratum, listing, weight = sample(7)
    _, first = np.unique(listing, return_index=True)
    totals = np.bincount(listing, weights=weight)
    expected = 0.0
    for one in np.unique(stratum):
        within = totals[stratum[first] == one]
        expected += len(within) / (len(within) - 1) * ((within - within.mean()) ** 2).sum()
    replicates = Bootstrap(stratum, listing, weight, replicates=20_000)._times @ totals
    assert replicates.mean() == pytest.approx(totals.sum(), rel=0.005)
    assert replicates.var() == pytest.approx(expected, rel=0.04)


def test_strata_of_one_listing_show_variance_together() -> None:
    stratum, listing = np.arange(30), np.arange(30)
    part = np.arange(30) % 2 == 0
    share = Bootstrap(stratum, listing, np.ones(30)).share(part, np.ones(30, dtype=bool))
    together = Bootstrap(stratum * 0, listing, np.ones(30)).share(part, np.ones(30, dtype=bool))
    assert share == together
    assert share.high - share.low > 0.3


def test_a_stratum_that_is_the_only_one_of_one_listing_shows_variance_with_the_smallest_other() -> (
    None
):
    """Ten listings in each of two strata, four in a third, and one alone."""
    stratum = np.repeat([0, 1, 2, 3], [10, 10, 4, 1])
    listing = np.arange(25)
    weight = np.where(stratum == 3, 3.0, 1.0)
    part = listing % 2 == 0
    share = Bootstrap(stratum, listing, weight).share(part, np.ones(25, dtype=bool))
    joined = Bootstrap(np.minimum(stratum, 2), listing, weight).share(part, np.ones(25, dtype=bool))
    assert share == joined
    # one alone of all
    assert Bootstrap([1], [1], [1.0]).share(np.array([True]), np.array([True])).value == 1.0


def test_intervals_hold_the_truth_where_one_listing_stands_for_a_tenth() -> None:
    """A coin for each of 198 listings in nine tenths of the catalog, and for the one of the last
    tenth.
    """
    stratum = np.repeat([0, 1, 2, 3], [66, 66, 66, 1])
    listing = np.arange(199)
    rng = np.random.default_rng(3)
    weight = np.where(stratum == 3, 22.0, 1.0)
    everything = np.ones(199, dtype=bool)
    bootstrap = Bootstrap(stratum, listing, weight, replicates=400)
    shares = [bootstrap.share(rng.random(199) < 0.5, everything) for _ in range(400)]
    held = sum(share.low <= 0.5 <= share.high for share in shares) / len(shares)
    assert held >= 0.92, held  # 95 % less 3 standard errors


def test_an_id_that_two_strata_have_is_a_listing_in_each() -> None:
    """An image that has ended stands under its own id, and another stratum has a listing of that
    name.
    """
    stratum, listing = [0, 0, 1, 1, 0, 1], [17, 1, 17, 2, 3, 4]
    part = np.array([True, False, True, True, False, False])
    everything = np.ones(6, dtype=bool)
    share = Bootstrap(stratum, listing, np.ones(6)).share(part, everything)
    assert share == Bootstrap(stratum, [17, 1, 18, 2, 3, 4], np.ones(6)).share(part, everything)


@pytest.mark.parametrize("right", [True, False])
def test_without_a_mistake_the_listings_count_and_not_the_images(right: bool) -> None:
    def bounds(listings: int, images: int) -> Share:
        listing = np.repeat(np.arange(listings), images)
        part = np.full(len(listing), right)
        return Bootstrap(listing * 0, listing, np.ones(len(listing))).share(
            part, np.ones_like(part)
        )

    few, many, same = bounds(10, 5), bounds(100, 5), bounds(10, 50)
    assert few.value == float(right)
    assert few.high - few.low == pytest.approx(0.2775, abs=0.001)  # Wilson's for 10 of 10
    assert many.high - many.low < 0.05
    assert (same.low, same.high) == pytest.approx((few.low, few.high))


def test_nothing_to_divide_by_is_unknown() -> None:
    nothing = np.zeros(3, dtype=bool)
    share = Bootstrap([1, 1, 1], [1, 2, 3], [1.0, 1.0, 1.0]).share(nothing, nothing)
    assert share == Share(None, 0.0, 1.0, 0)
    assert str(share) == "unknown"
    assert str(Share(0.931, 0.902, 0.953, 200)) == "93.1 % (90.2 to 95.3)"


def test_half_widths_by_hand() -> None:
    assert half_width(30, 30, 10**9) == pytest.approx(0.18, abs=0.0012)
    assert half_width(100, 100, 400) == pytest.approx(1.96 * (0.25 / 100 * 0.75) ** 0.5, rel=1e-4)
    assert half_width(5, 20, 20) == 0
    assert half_width(1, 1, 1000) == pytest.approx(0.98, abs=0.001)
    assert half_width(0, 0, 10) is None


@pytest.mark.parametrize(
    ("stratum", "listing", "weight", "words"),
    [
        ([1, 1], [1, 2], [1.0], "same images"),
        ([1, 1], [1, 2], [1.0, 0.0], "positive"),
        ([1, 1], [1, 2], [1.0, float("nan")], "positive"),
    ],
)
def test_a_design_that_cannot_be_is_refused(
    stratum: list[int], listing: list[int], weight: list[float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Bootstrap(stratum, listing, weight)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = coverage.covered(
        coverage.make_catalog(seed=5, strata=12), listings=400, draws=150, replicates=300
    )
    # 95 % less 3 standard errors of 150 draws
    assert all(0.89 <= share <= 0.99 for share in held.values()), held


def test_labels_of_a_part_stand_for_what_was_drawn_only_with_raised_weights() -> None:
    """Strata with few toilets are labelled least: with plain weights they would count for less than
    they are.
    """
    catalog = coverage.make_catalog(seed=5, strata=12)
    truth = catalog.to_exclude.mean()
    result = {}
    for how in coverage.PARTLY:
        samples = [coverage.draw(catalog, 800, seed, how) for seed in range(40)]
        result[how] = np.mean(
            [np.average(sample.to_exclude, weights=weight) for sample, weight in samples]
        )
    assert result["raised"] == pytest.approx(truth, rel=0.02)
    assert result["plain"] > 1.1 * truth

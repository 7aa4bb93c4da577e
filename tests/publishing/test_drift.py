"""Drift by histograms, and what chance explains."""

import math

import numpy as np
import pytest
from scipy import stats

from toiletspark.publishing.audits import drift, significance
from toiletspark.publishing.audits.drift import Drift
from toiletspark.publishing.audits.significance import Share

BINS = 100


def histogram(scores: np.ndarray) -> np.ndarray:
    return np.histogram(scores, bins=BINS, range=(0, 1))[0].astype(np.int64)


def scores_of(seed: int, n: int, toilets: float = 0.05) -> np.ndarray:
    """Scores of a sure head: nearly all at the two ends."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < toilets, rng.beta(8, 1, n), rng.beta(1, 20, n))


def test_psi_is_the_sum_of_the_formula() -> None:
    now, before = (histogram(scores_of(seed, 3000)) for seed in (1, 2))
    slow = 0.0
    for place in range(10):
        a = (sum(now[10 * place : 10 * place + 10]) + 0.5) / (sum(now) + 5)
        b = (sum(before[10 * place : 10 * place + 10]) + 0.5) / (sum(before) + 5)
        slow += (a - b) * math.log(a / b)
    assert drift.psi(now, before) == pytest.approx(slow)
    assert drift.psi(now, before) == pytest.approx(drift.psi(before, now))
    assert drift.psi(now, now) == 0


def test_an_empty_bin_makes_it_large_and_not_infinite() -> None:
    low, high = (histogram(np.full(1000, value)) for value in (0.05, 0.95))
    assert 10 < drift.psi(low, high) < 20
    one_more = low.copy()
    one_more[50] += 1
    assert drift.psi(one_more, low) < 0.005


@pytest.mark.parametrize("seed", range(5))
def test_ks_is_never_more_than_the_exact_one_and_close_to_it(seed: int) -> None:
    now, before = scores_of(seed, 2000, 0.05), scores_of(seed + 50, 3000, 0.12)
    exact = stats.ks_2samp(now, before).statistic
    found = drift.ks(histogram(now), histogram(before))
    assert exact - 0.05 < found <= exact + 1e-12


def test_there_is_no_drift_from_nothing() -> None:
    some = histogram(scores_of(1, 100))
    none = np.zeros(BINS, np.int64)
    assert drift.between(some, none) is None
    assert drift.between(none, some) is None
    assert drift.overall({}, {"S": some}) is None
    assert drift.by_stratum({"S": some, "T": some}, {"T": some, "U": some}).keys() == {"T"}


@pytest.mark.parametrize("n", [200, 1000, 20_000])
def test_chance_alone_is_no_shift_even_where_none_is_allowed(n: int) -> None:
    base = histogram(scores_of(0, n))
    shifts = 0
    for seed in range(1, 400):
        found = drift.between(histogram(scores_of(seed, n)), base)
        assert found is not None
        shifts += drift.is_shift(found, 0.0)
    assert shifts <= 2  # 0.4 are expected at LEVEL


def test_a_major_shift_is_one_and_a_few_images_do_not_tell() -> None:
    assert drift.is_shift(Drift(0.26, 0.1, 100_000, 100_000), 0.25)
    assert not drift.is_shift(Drift(0.26, 0.1, 300, 300), 0.25)
    assert not drift.is_shift(Drift(0.24, 0.1, 100_000, 100_000), 0.25)
    changed = drift.between(histogram(scores_of(1, 5000, 0.5)), histogram(scores_of(2, 5000, 0.05)))
    assert changed is not None
    assert drift.is_shift(changed, 0.25, looks=20)


@pytest.mark.parametrize("looks", [1, 20])
@pytest.mark.parametrize("freedom", [5, 9, 30])
def test_the_quantile_of_chi_square(freedom: int, looks: int) -> None:
    exact = stats.chi2.isf(significance.LEVEL / looks, freedom)
    assert exact * 0.999 <= significance.chi_square(freedom, looks) <= exact * 1.03


# Shares


@pytest.mark.parametrize(("n", "bound"), [(200, 0.01), (200, 0.5), (1000, 0.02), (30, 0.3)])
def test_a_share_at_its_bound_is_called_above_it_no_more_often_than_told(
    n: int, bound: float
) -> None:
    called = [part for part in range(n + 1) if significance.above(Share(part, n), bound)]
    assert called, "so many are above any bound"
    assert called == list(range(called[0], n + 1))
    false_alarm = stats.binom.sf(called[0] - 1, n, bound)
    assert false_alarm <= significance.LEVEL
    assert false_alarm > significance.LEVEL / 100, "the bound would be too kind"


def test_a_bound_of_nothing_allows_nothing_and_a_bound_of_all_allows_all() -> None:
    assert significance.above(Share(1, 1000), 0.0)
    assert not significance.above(Share(0, 1000), 0.0)
    assert not significance.above(Share(1000, 1000), 1.0)
    assert not significance.above(Share(0, 0), 0.0)


@pytest.mark.parametrize(
    ("share", "n", "before"), [(0.05, 200, 200), (0.02, 1000, 5000), (0.0, 300, 300)]
)
def test_a_factor_of_two_is_called_more_no_more_often_than_told(
    share: float, n: int, before: int
) -> None:
    rng = np.random.default_rng(4)
    draws = 3000
    found = sum(
        significance.moved_above(
            Share(int(now), n), Share(int(then), before), lambda truth: truth * 2
        )
        for now, then in zip(
            rng.binomial(n, min(1.0, 2 * share), draws),
            rng.binomial(before, share, draws),
            strict=True,
        )
    )
    assert found <= 10  # 3 are expected at most


def test_of_many_that_are_looked_at_one_is_rare_by_chance() -> None:
    """40 of 1,000 are rare where 20 are expected, and not the rarest of a thousand such draws."""
    assert significance.above(Share(40, 1000), 0.02)
    assert not significance.above(Share(40, 1000), 0.02, looks=1000)
    assert significance.above(Share(60, 1000), 0.02, looks=1000)


def test_what_has_clearly_moved_is_told() -> None:
    def twice(truth: np.ndarray) -> np.ndarray:
        return truth * 2

    def two_more(truth: np.ndarray) -> np.ndarray:
        return truth + 0.02

    assert significance.moved_above(Share(600, 4000), Share(200, 4000), twice)
    assert significance.moved_above(Share(200, 4000), Share(0, 4000), twice)
    assert not significance.moved_above(Share(5, 400), Share(0, 400), twice)
    assert not significance.moved_above(Share(404, 4000), Share(200, 4000), twice)
    assert significance.moved_above(Share(300, 4000), Share(40, 4000), two_more)
    assert not significance.moved_above(Share(140, 4000), Share(40, 4000), two_more)
    assert not significance.moved_above(Share(20, 400), Share(4, 400), two_more)
    assert not significance.moved_above(Share(20, 400), Share(4, 400), two_more, looks=100)

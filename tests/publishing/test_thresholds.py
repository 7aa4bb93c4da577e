"""The operating threshold by policy: it keeps the promise, and no other keeps it better."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from toiletspark.publishing.thresholds import NOTHING_EXCLUDED, HeldOut, by_policy
from toiletspark.sampling.estimates import Bootstrap

Array = NDArray[np.float64]


def judged(seed: int, images: int = 300, toilets: float = 0.3) -> tuple[HeldOut, Array]:
    """Scores that overlap, weights that differ; and the weights."""
    rng = np.random.default_rng(seed)
    to_exclude = rng.random(images) < toilets
    scores = (
        1 / (1 + np.exp(-(np.where(to_exclude, 1.5, -1.5) + rng.normal(0, 1.2, images))))
    ).astype(np.float32)
    weight = rng.uniform(1, 20, images)
    bootstrap = Bootstrap(np.zeros(images), np.arange(images) // 2, weight, replicates=200)
    return HeldOut(scores, to_exclude, bootstrap), weight


def weighed(one: HeldOut, weight: Array, threshold: float) -> dict[str, float]:
    """The figures of a threshold, image by image."""
    sums = dict.fromkeys(itertools.product((True, False), repeat=2), 0.0)
    for score, label, each in zip(
        one.scores.tolist(), one.to_exclude.tolist(), weight.tolist(), strict=True
    ):
        sums[label, score >= threshold] += each
    hits, missed, lost, kept = (
        sums[True, True],
        sums[True, False],
        sums[False, True],
        sums[False, False],
    )
    precision = hits / (hits + lost) if hits + lost else float("nan")
    return {
        "recall": hits / (hits + missed),
        "precision": precision,
        "lost": lost / (lost + kept),
        "missed_weight": missed,
        "lost_weight": lost,
    }


def thresholds_of(one: HeldOut) -> list[float]:
    return sorted({*map(float, one.scores), NOTHING_EXCLUDED})


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("value", [0.5, 0.9, 0.97, 1.0])
def test_the_highest_threshold_that_has_the_recall(seed: int, value: float) -> None:
    one, weight = judged(seed)
    wanted = max(
        t for t in thresholds_of(one) if weighed(one, weight, t)["recall"] >= value - 1e-12
    )
    assert by_policy("min_recall", value, one, safe=False).operating_threshold == wanted


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("value", [0.0, 0.01, 0.05, 0.3])
def test_the_lowest_threshold_that_loses_no_more_good_images(seed: int, value: float) -> None:
    one, weight = judged(seed)
    wanted = min(t for t in thresholds_of(one) if weighed(one, weight, t)["lost"] <= value)
    assert (
        by_policy("max_share_of_good_images_lost", value, one, safe=False).operating_threshold
        == wanted
    )


def ranked(*runs: tuple[bool, int]) -> HeldOut:
    """Images by score, the highest first: runs of one label, each with its length."""
    to_exclude = np.repeat([label for label, _ in runs], [count for _, count in runs])
    count = len(to_exclude)
    scores = np.linspace(1, 0, count, dtype=np.float32)
    return HeldOut(
        scores,
        to_exclude,
        Bootstrap(np.zeros(count), np.arange(count), np.ones(count), replicates=200),
    )


def test_the_lowest_threshold_that_has_the_precision_of_all_that_it_excludes() -> None:
    one = ranked((True, 3), (False, 1), (True, 3), (False, 1))
    of_rank = one.scores.tolist()  # precisions from the top: 1, 1, 1, 3/4, 4/5, 5/6, 6/7, 6/8
    found = {
        value: by_policy("min_precision", value, one, safe=False).operating_threshold
        for value in (0.75, 0.85, 0.9)
    }
    assert found == {0.75: of_rank[7], 0.85: of_rank[6], 0.9: of_rank[2]}


def test_one_wrong_label_among_the_highest_scores_does_not_cost_the_recall() -> None:
    one = ranked((True, 3), (False, 1), (True, 196), (False, 800))
    found = by_policy("min_precision", 0.95, one, safe=False).operating_threshold
    assert one.recall(found).value == 1.0
    assert weighed(one, np.ones(1000), found)["precision"] >= 0.95


def test_a_gap_that_chance_explains_does_not_cost_the_recall_at_the_safe_end_either() -> None:
    one = ranked((True, 40), (False, 2), (True, 160), (False, 798))
    found = by_policy("min_precision", 0.9, one, safe=True).operating_threshold
    assert one.recall(found).value == 1.0
    assert one.precision(found).low >= 0.9


@pytest.mark.parametrize(
    ("name", "value", "lower"),
    [
        ("min_recall", 0.85, True),
        ("max_share_of_good_images_lost", 0.1, False),
        ("min_precision", 0.8, False),
    ],
)
def test_the_safe_end_is_on_the_safe_side(name: str, value: float, lower: bool) -> None:
    one, _ = judged(9)
    plain, safe = (
        by_policy(name, value, one, safe=safe).operating_threshold for safe in (False, True)
    )  # type: ignore[arg-type]
    assert safe < plain if lower else safe > plain
    kept = {
        "min_recall": one.recall(safe).low >= value,
        "min_precision": one.precision(safe).low >= value,
        "max_share_of_good_images_lost": one.good_images_lost(safe).high <= value,
    }
    assert kept[name]


def test_the_reason_says_what_it_is_worth() -> None:
    one, _ = judged(1)
    found = by_policy("min_recall", 0.9, one, safe=True)
    recall = one.recall(found.operating_threshold)
    assert found.reason.startswith("min_recall 0.9 at the far end of the interval; recall ")
    assert str(recall) in found.reason
    assert "good images lost" in found.reason


def test_a_promise_that_nothing_keeps_is_an_error() -> None:
    one, _ = judged(2, images=40)
    with pytest.raises(
        ValueError, match="no operating threshold has min_precision 1 at the safe end"
    ):
        by_policy("min_precision", 1.0, one, safe=True)


@pytest.mark.parametrize("label", [True, False])
def test_images_of_one_kind_settle_nothing(label: bool) -> None:
    one = HeldOut(
        np.linspace(0, 1, 5, dtype=np.float32),
        np.full(5, label),
        Bootstrap([0] * 5, range(5), np.ones(5)),
    )
    with pytest.raises(ValueError, match="images to exclude, and others to keep"):
        by_policy("min_recall", 0.5, one, safe=False)


def test_many_scores_are_thinned_and_the_promise_is_still_kept() -> None:
    one, weight = judged(3, images=3000)
    found = by_policy("min_recall", 0.9, one, safe=False).operating_threshold
    assert weighed(one, weight, found)["recall"] >= 0.9
    best = max(t for t in thresholds_of(one) if weighed(one, weight, t)["recall"] >= 0.9)
    assert abs((one.scores >= found).sum() - (one.scores >= best).sum()) <= 3000 / 400 + 1

"""Decisions from exclusion scores, and what they are worth."""

import numpy as np
import pytest

from toiletspark.model.head import excluded
from toiletspark.training.evaluation.evaluate import validate


def booleans(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text], dtype=bool)


def test_an_image_at_the_threshold_is_excluded() -> None:
    scores = np.array([0.0, 0.499, 0.5, 0.501, 1.0], dtype=np.float32)
    assert excluded(scores, 0.5).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.6, 0.7, 0.9])
def test_a_stored_score_meets_the_threshold_that_is_written_like_it(threshold: float) -> None:
    """float32(0.7) is below 0.7: as float64, a score of 0.7 would miss a threshold of 0.7."""
    assert excluded(np.array([threshold], dtype=np.float32), threshold).tolist() == [True]


def test_the_ends_of_the_threshold_exclude_all_and_only_the_sure() -> None:
    scores = np.array([0.0, 0.5, 1.0], dtype=np.float32)
    assert excluded(scores, 0.0).all()
    assert excluded(scores, 1.0).tolist() == [False, False, True]


def test_a_score_that_is_no_number_is_not_excluded() -> None:
    assert excluded(np.array([np.nan], dtype=np.float32), 0.0).tolist() == [False]


def test_whatever_a_threshold_excludes_a_lower_one_excludes_too() -> None:
    scores = np.random.default_rng(4).random(1_000).astype(np.float32)
    sets = [set(np.flatnonzero(excluded(scores, threshold))) for threshold in np.linspace(0, 1, 21)]
    assert all(higher <= lower for lower, higher in zip(sets, sets[1:], strict=False))  # noqa: RUF007 - plainer so


@pytest.mark.parametrize(
    ("decided", "labelled", "expected"),
    [
        ("xx..", "x.x.", (0.5, 0.5, 0.5, 0.5, 4, 2)),
        ("x...", "xx..", (0.75, 1.0, 0.5, 0.0, 4, 2)),
        ("xxx.", "x...", (0.5, 1 / 3, 1.0, 2 / 3, 4, 1)),
        ("....", "x...", (0.75, None, 0.0, 0.0, 4, 1)),
        ("x...", "....", (0.75, 0.0, None, 0.25, 4, 0)),
        ("....", "....", (1.0, None, None, 0.0, 4, 0)),
        ("x", "x", (1.0, 1.0, 1.0, None, 1, 1)),
        ("", "", (None, None, None, None, 0, 0)),
    ],
)
def test_figures_on_small_cases(decided: str, labelled: str, expected: tuple[object, ...]) -> None:
    assert tuple(validate(booleans(decided), booleans(labelled)).values()) == expected


def test_figures_equal_a_slow_count() -> None:
    rng = np.random.default_rng(9)
    decided, labelled = rng.random(500) < 0.3, rng.random(500) < 0.4
    pairs = list(zip(decided.tolist(), labelled.tolist(), strict=True))
    figures = validate(decided, labelled)
    assert figures["accuracy"] == sum(said == was for said, was in pairs) / 500
    assert figures["precision"] == pairs.count((True, True)) / sum(said for said, _ in pairs)
    assert figures["recall"] == pairs.count((True, True)) / sum(was for _, was in pairs)
    assert (figures["n"], figures["positives"]) == (500, sum(was for _, was in pairs))

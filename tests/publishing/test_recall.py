"""Rare toilets: the threshold by costs and prior, and a head that finds too few is never silent."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import literal_config
from toiletspark.config import Train
from toiletspark.publishing.audits import checks, recall
from toiletspark.publishing.audits.checks import Check
from toiletspark.publishing.thresholds import Labelled, by_cost
from toiletspark.sampling.evaluation_sample import Draw
from toiletspark.training.fit import fit

Floats = NDArray[np.float32]
NUMBERS = itertools.count()
SAMPLE = {"s": Draw("sample"), "q": Draw("queue")}
CONFIG = literal_config({"labels.classes": '["toilet", "other"]'})
# three candidates and two folds: the same threshold in a second
TRAIN: Train = CONFIG.train.model_copy(
    update={"inner_folds": 2, "l2_candidates": [0.3, 0.1, 0.03], "l2": "auto"}
)


def row(label: str, draw: str | None = "s", held: bool = False, **more: Any) -> dict[str, Any]:
    """A labelled image as a head's run folder has it."""
    ids = {"listing_id": f"L{next(NUMBERS)}", "stratum": "A"}
    score = more.get("score", 0.5) if held else None
    named = {"label": label, "draw": draw, "held_out": held, "exclusion_score": score}
    return {**ids, "weight": more.get("weight", 1.0), **named}


def labelled(*rows: dict[str, Any], balanced: bool = False) -> Labelled:
    return Labelled(rows, ("toilet",), SAMPLE, balanced)


# The threshold by costs


def test_where_training_has_the_catalogs_share_the_costs_alone_decide() -> None:
    rows = [*[row("toilet")] * 3, *[row("other")] * 97]
    assert by_cost(20.0, labelled(*rows)).operating_threshold == pytest.approx(1 / 21, abs=1e-6)
    assert by_cost(1.0, labelled(*rows)).operating_threshold == pytest.approx(0.5)


def test_the_odds_move_as_the_share_in_training_differs_from_the_catalogs() -> None:
    sample = [*[row("toilet")] * 3, *[row("other")] * 97]
    enriched = labelled(*sample, *[row("toilet", "q")] * 97)
    trained, catalog = 100.5 / 97.5, 3.5 / 97.5
    wanted = 1 / (1 + 20 * catalog / trained)
    settled = by_cost(20.0, enriched)
    assert settled.operating_threshold == pytest.approx(wanted, abs=1e-6) and wanted > 0.5
    assert settled.reason.endswith(
        "3.47 % of the catalog and 50.8 % of the training are to be excluded, by the sample s"
    )


def test_balanced_classes_count_once_each_and_weights_are_the_catalogs() -> None:
    rows = [row("toilet", weight=1.0), *[row("other", weight=3.0)] * 9]
    half = 0.5 * 28 / 10
    catalog = (1 + half) / (27 + half)
    settled = by_cost(20.0, labelled(*rows, balanced=True))
    assert settled.operating_threshold == pytest.approx(1 / (1 + 20 * catalog), abs=1e-6)


def test_labels_that_nobody_drew_move_nothing_and_the_reason_says_so() -> None:
    settled = by_cost(20.0, labelled(*[row("toilet", None)] * 5, *[row("other", None)] * 5))
    assert settled.operating_threshold == pytest.approx(1 / 21, abs=1e-6)
    assert "not drawn at random" in settled.reason


def test_a_sample_without_a_toilet_settles_a_threshold_too() -> None:
    settled = by_cost(20.0, labelled(*[row("other")] * 50, *[row("toilet", "q")] * 50))
    assert 0.5 < settled.operating_threshold < 1


def drawn(rng: np.random.Generator, images: int, share: float) -> tuple[Floats, NDArray[np.int64]]:
    """Embeddings of classes that overlap, and labels: 0 toilet, 1 other."""
    labels = (rng.random(images) >= share).astype(np.int64)
    embeddings = rng.normal(size=(images, 64))
    embeddings[:, :8] += 1.3 * (labels == 0)[:, None]
    return embeddings.astype(np.float32), labels


@pytest.mark.parametrize("queued", [0, 105], ids=["sample", "sample and queue"])
def test_at_three_percent_and_1500_labels_the_default_finds_most_toilets(queued: int) -> None:
    rng = np.random.default_rng(1)
    parts = [drawn(rng, 1500, 0.03), drawn(rng, queued, 1.0)]
    embeddings, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    names, draws = ("toilet", "other"), ["s"] * 1500 + ["q"] * queued
    head = fit(embeddings, labels, 2, TRAIN).head(CONFIG.labels, "b")
    rows = [row(names[label], draw) for label, draw in zip(labels.tolist(), draws, strict=True)]
    threshold = by_cost(20.0, labelled(*rows)).operating_threshold

    catalog, truth = drawn(rng, 20_000, 0.03)
    scores = head.exclusion_scores(head.probabilities(catalog))
    toilets, others = scores[truth == 0], scores[truth == 1]

    def cost(at: float) -> float:
        return float(20 * (toilets < at).sum() + (others >= at).sum())

    assert (toilets >= threshold).mean() > 0.85
    assert cost(threshold) < 0.7 * cost(0.5)
    if not queued:
        assert (toilets >= 0.5).mean() < 0.5
    else:  # without the prior many more good photos would be lost
        assert (others >= threshold).mean() < 0.5 * (others >= 1 / 21).mean()


# The recall of the head


def found(hits: int, misses: int) -> Labelled:
    scores = [0.9] * hits + [0.1] * misses
    return labelled(
        *(row("toilet", held=True, score=score) for score in scores),
        *(row("other", held=True, score=0.0) for _ in range(30)),
        *[row("toilet")] * 36,
    )


def test_an_interval_below_a_half_is_an_alarm_with_a_number_and_a_queue() -> None:
    assert recall.alarm(found(4, 5), 0.5, 0.0) == (
        "the head may find less than 50 % of the toilet photos: recall 44.4 % (18.1 to 74.4), of 9 "
        "held out; 45 are labelled: label about 105 more, which the queue of `toiletspark labels "
        "suggest` finds, then `toiletspark train`"
    )
    assert recall.alarm(found(30, 2), 0.5, 0.0) == ""


def test_many_labels_that_do_not_suffice_are_doubled() -> None:
    assert "label about 186 more" in recall.alarm(found(60, 90), 0.5, 0.0)


def test_without_held_out_toilets_or_labels_the_recall_is_unknown() -> None:
    assert "recall unknown, of 0 held out" in recall.alarm(found(0, 0), 0.5, 0.0)
    assert recall.alarm(None, 0.5, 0.0) == ""
    assert "labels are not in this store" in recall.judge(None, 0.5, 0.5).todo


@pytest.mark.parametrize(
    ("images", "least", "passed"),
    [
        (found(4, 5), 0.0, None),
        (found(4, 5), 0.5, False),
        (found(30, 2), 0.5, True),
        (found(30, 2), 0.9, False),
        (None, 0.5, False),
    ],
)
def test_only_min_recall_holds_a_version(
    images: Labelled | None, least: float, passed: bool | None
) -> None:
    assert recall.judge(images, 0.5, least).passed is passed


def test_a_held_version_is_accepted_with_a_reason_for_as_long_as_nothing_changes() -> None:
    judged = recall.judge(found(4, 5), 0.5, 0.5)
    assert checks.failed([judged]) == [judged]
    [accepted] = checks.accepted([judged], ["recall"], "a first version")
    assert checks.failed([accepted]) == []
    assert recall.accepted_before(judged, [accepted]).accepted == "a first version"
    assert recall.accepted_before(judged, [Check("drift", "", "", False, "", "x")]) == judged
    good = recall.judge(found(30, 2), 0.5, 0.5)
    assert recall.accepted_before(good, [accepted]).accepted == ""

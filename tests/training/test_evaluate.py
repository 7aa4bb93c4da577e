"""The worth of a head: against slow sums and scikit-learn, without claims beyond the data."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics

from tests.conftest import literal_config
from toiletspark.config.loading import load
from toiletspark.model.head import Head
from toiletspark.sampling import evaluation_sample
from toiletspark.sampling.estimates import Bootstrap, Share
from toiletspark.sampling.evaluation import DrawUsed, Evaluation, LearningCurve, read
from toiletspark.tables import storage
from toiletspark.training.dataset import TrainingSet
from toiletspark.training.evaluation.calibration import reliability
from toiletspark.training.evaluation.curves import curves
from toiletspark.training.evaluation.evaluate import evaluate, unweighted
from toiletspark.training.evaluation.predictions import predict

BACKBONE_ID = "resnet18-abc-r256c224-fp32"
CLASSES = ("a", "b", "c")
HEAD = Head(
    CLASSES, ("a",), BACKBONE_ID, np.eye(3, dtype=np.float32), np.zeros(3, dtype=np.float32)
)
SAMPLE = {"s": evaluation_sample.Draw("sample")}
CONFIG = literal_config()


def examples(
    n: int = 300, seed: int = 0, draw: str | None = "s", strata: int = 3
) -> tuple[TrainingSet, NDArray[Any]]:
    """Images whose embeddings are their logits, three a listing; some labels are misleading."""
    rng = np.random.default_rng(seed)
    listing = np.arange(n) // 3
    stratum = listing % strata
    labels = rng.integers(0, 3, n)
    logits = (np.eye(3)[labels] * 2 + rng.normal(0, 1.2, (n, 3))).astype(np.float32)
    found = TrainingSet(
        image_id=[f"i{number}" for number in range(n)],
        listing_id=[f"L{number}" for number in listing],
        stratum=[f"S{number}" for number in stratum],
        content_digest=[f"d{number}" for number in range(n)],
        label=[CLASSES[label] for label in labels],
        draw=[draw] * n,
        weight=(1.0 + 9 * stratum).astype(np.float64),
        embeddings=logits,
        corrupt=0,
    )
    return found, labels


def evaluated(
    *arguments: Any, kinds: dict[str, evaluation_sample.Draw] = SAMPLE, **keywords: Any
) -> Evaluation:
    found, labels = examples(*arguments, **keywords)
    return evaluate(HEAD, found, labels, kinds, 0.5, CONFIG)


# Plain figures


def judge(
    rows: list[list[float]],
    labels: list[int],
    threshold: float = 0.5,
    exclude: tuple[str, ...] = ("a",),
) -> Any:
    """Figures of a head whose logits are the rows themselves, for classes a, b, c."""
    head = Head(
        ("a", "b", "c"),
        exclude,
        BACKBONE_ID,
        np.eye(3, dtype=np.float32),
        np.zeros(3, dtype=np.float32),
    )
    embeddings = np.array(rows, dtype=np.float32).reshape(-1, 3)
    shown = replace(examples(0)[0], embeddings=embeddings)
    return unweighted(predict(head, shown, np.array(labels, dtype=np.int64), threshold))


def test_figures_of_a_tiny_case() -> None:
    rows = [[9.0, 0, 0], [9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]]  # says a, a, b, c
    assert judge(rows, [0, 1, 0, 2]) == {
        "accuracy": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "n": 4,
        "positives": 2,
        "good_images_lost": 0.5,
        "class_accuracy": 0.5,
    }


def test_two_excluded_classes_count_as_one_decision() -> None:
    found = judge([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]], [1, 0, 2], exclude=("a", "b"))
    assert (found["accuracy"], found["precision"], found["recall"]) == (1.0, 1.0, 1.0)
    assert found["class_accuracy"] == pytest.approx(1 / 3)


def test_the_threshold_decides_not_the_most_probable_class() -> None:
    row = [[math.log(0.4), math.log(0.35), math.log(0.25)]]
    assert judge(row, [0], threshold=0.5)["recall"] == 0.0
    assert judge(row, [0], threshold=0.39)["recall"] == 1.0
    assert judge(row, [0], threshold=0.5)["class_accuracy"] == 1.0


def test_what_cannot_be_divided_is_none() -> None:
    found = judge([[0, 9.0, 0]], [1])
    assert (found["precision"], found["recall"], found["accuracy"]) == (None, None, 1.0)
    empty = judge([], [])
    assert empty == dict.fromkeys(
        ["accuracy", "precision", "recall", "good_images_lost", "class_accuracy"]
    ) | {"n": 0, "positives": 0}
    json.dumps(found, allow_nan=False)


# Which rows stand for what


def test_a_sample_goes_before_a_queue_and_the_larger_draw_before_the_smaller() -> None:
    kinds = {
        "q": evaluation_sample.Draw("queue"),
        "s1": evaluation_sample.Draw("sample"),
        "s2": evaluation_sample.Draw("sample"),
    }
    named = ["q"] * 5 + ["s1"] * 2 + ["s2"] * 3 + [None] * 9
    found = evaluation_sample.choose_evaluation_sample(named, kinds)
    assert (found.run_id, found.kind, found.population) == ("s2", "sample", "catalog")
    assert found.rows.tolist() == [draw == "s2" for draw in named]
    queue = evaluation_sample.choose_evaluation_sample(["q", None], kinds)
    assert (queue.run_id, queue.population, queue.rows.tolist()) == (
        "q",
        "unlabelled images",
        [True, False],
    )
    nobody = evaluation_sample.choose_evaluation_sample([None, None], {})
    assert (nobody.run_id, nobody.population, nobody.rows.tolist()) == (
        None,
        "labelled images",
        [True, True],
    )


def test_figures_rest_on_one_draw_and_plain_ones_on_all_that_was_held_out() -> None:
    found, labels = examples()
    mixed = [None if number % 4 == 0 else "s" for number in range(300)]
    told = evaluate(
        HEAD, TrainingSet(**{**found.__dict__, "draw": mixed}), labels, SAMPLE, 0.5, CONFIG
    )
    kept = np.array([draw is not None for draw in mixed])
    alone = evaluate(HEAD, found.where(kept), labels[kept], SAMPLE, 0.5, CONFIG)
    assert told.draw == DrawUsed("s", "sample", rows=225, outside=75, said="")
    assert told.shares == alone.shares
    assert told.naive == unweighted(predict(HEAD, found, labels, 0.5))
    assert (told.n, told.main_figures()["held_out"]) == (225, 300)


def test_without_a_draw_weights_mean_nothing() -> None:
    told = evaluated(draw=None, kinds={})
    assert told.figures_of == "labelled images"
    for name, share in told.shares.items():
        assert share.value == pytest.approx(told.naive[name])


def test_a_listing_in_two_strata_is_no_reason_to_stop() -> None:
    found, labels = examples()
    torn = TrainingSet(**{**found.__dict__, "stratum": [f"S{number % 2}" for number in range(300)]})
    assert evaluate(HEAD, torn, labels, SAMPLE, 0.5, CONFIG).listings == 200


# Shares


def test_shares_are_the_slow_sums_of_the_weights() -> None:
    found, labels = examples()
    told = evaluate(HEAD, found, labels, SAMPLE, 0.5, CONFIG).shares
    scores = HEAD.exclusion_scores(HEAD.probabilities(found.embeddings))
    said = found.embeddings.argmax(axis=1)
    sums = dict.fromkeys(["right", "all", "hits", "out", "wanted", "lost", "good", "same"], 0.0)
    for weight, score, label, likeliest in zip(found.weight, scores, labels, said, strict=True):
        out, wanted = score >= 0.5, label == 0
        sums["all"] += weight
        sums["right"] += weight * (out == wanted)
        sums["hits"] += weight * (out and wanted)
        sums["out"] += weight * out
        sums["wanted"] += weight * wanted
        sums["lost"] += weight * (out and not wanted)
        sums["good"] += weight * (not wanted)
        sums["same"] += weight * (likeliest == label)
    expected = {
        "accuracy": sums["right"] / sums["all"],
        "precision": sums["hits"] / sums["out"],
        "recall": sums["hits"] / sums["wanted"],
        "good_images_lost": sums["lost"] / sums["good"],
        "class_accuracy": sums["same"] / sums["all"],
    }
    assert {name: share.value for name, share in told.items()} == pytest.approx(expected)
    assert all(share.low < share.value < share.high for share in told.values())
    plain = unweighted(predict(HEAD, found, labels, 0.5))
    # the weights do matter here
    assert any(abs(plain[name] - expected[name]) > 0.01 for name in expected)


def test_an_evaluation_is_the_same_twice_and_has_no_nan() -> None:
    told = evaluated()
    assert json.dumps(told.as_json(), allow_nan=False) == json.dumps(evaluated().as_json())
    share = told.shares["recall"]
    assert told.main_figures()["intervals"]["recall"] == [share.low, share.high]


@pytest.mark.parametrize("label", [0, 1])
def test_one_kind_alone_leaves_unknown_what_it_does_not_tell(label: int) -> None:
    found, labels = examples(60)
    told = evaluate(HEAD, found, np.full_like(labels, label), SAMPLE, 0.5, CONFIG)
    json.dumps(told.as_json(), allow_nan=False)
    unknown = "good_images_lost" if label == 0 else "recall"
    assert told.shares[unknown] == Share(None, 0.0, 1.0, 0)
    assert (told.curves.points, told.curves.roc_auc.value) == ([], None)


def test_an_evaluation_is_read_as_it_was_written(tmp_path: Path) -> None:
    told = replace(evaluated(), learning_curve=LearningCurve([], "It rises."), fit={"l2": 0.1})
    storage.replace_json(f"{tmp_path}/evaluation.json", told.as_json())
    assert read(str(tmp_path)) == told
    assert [row["class"] for row in told.as_json()["per_class"]] == list(CLASSES)


# Curves


def random_scores(n: int = 400, seed: int = 1) -> tuple[NDArray[Any], ...]:
    """With ties: float16 has few values."""
    rng = np.random.default_rng(seed)
    wanted = rng.random(n) < 0.2
    scores = (
        (1 / (1 + np.exp(-rng.normal(np.where(wanted, 1, -1), 1.2))))
        .astype(np.float16)
        .round(2)
        .astype(np.float32)
    )
    return scores, wanted, rng.integers(1, 30, n).astype(np.float64)


def test_areas_are_those_of_scikit_learn() -> None:
    scores, wanted, weight = random_scores()
    told = curves(
        scores, wanted, Bootstrap(np.zeros(400), np.arange(400) // 2, weight, replicates=200)
    )
    area = metrics.roc_auc_score(wanted, scores, sample_weight=weight)
    precision = metrics.average_precision_score(wanted, scores, sample_weight=weight)
    assert told.roc_auc.value == pytest.approx(area, abs=1e-9)
    assert told.average_precision.value == pytest.approx(precision, abs=1e-9)
    for share, value in ((told.roc_auc, area), (told.average_precision, precision)):
        assert 0 < share.low < value < share.high < 1


def test_the_interval_of_the_area_is_that_of_areas_worked_out_again() -> None:
    """The deviation of scikit-learn's area over the same replicates, within Wilson's bounds."""
    scores, wanted, weight = random_scores(120, seed=3)
    bootstrap = Bootstrap(np.zeros(120), np.arange(120) // 2, weight, replicates=100)
    again = [
        metrics.roc_auc_score(wanted, scores, sample_weight=weight * times[np.arange(120) // 2])
        for times in bootstrap._times
    ]
    told = curves(scores, wanted, bootstrap).roc_auc
    half = 1.96 * np.std(again, ddof=1) / 0.6**0.5  # see `estimates._TRUST`
    assert told.high - told.low == pytest.approx(2 * half, rel=0.15)


def test_points_lie_on_scikit_learns_curves() -> None:
    scores, wanted, weight = random_scores()
    points = curves(
        scores, wanted, Bootstrap(np.zeros(400), np.arange(400), weight, replicates=50)
    ).points
    false, true, _ = metrics.roc_curve(
        wanted, scores, sample_weight=weight, drop_intermediate=False
    )
    precision, recall, _ = metrics.precision_recall_curve(wanted, scores, sample_weight=weight)
    on_roc = {(round(x, 9), round(y, 9)) for x, y in zip(false, true, strict=True)}
    on_pr = {(round(x, 9), round(y, 9)) for x, y in zip(recall, precision, strict=True)}
    assert len(points) == len(np.unique(scores)) <= 200
    assert all((round(one.good_images_lost, 9), round(one.recall, 9)) in on_roc for one in points)
    assert all((round(one.recall, 9), round(one.precision, 9)) in on_pr for one in points)
    assert [one.threshold for one in points] == sorted(
        (one.threshold for one in points), reverse=True
    )


def test_many_scores_are_thinned_and_some_points_have_intervals() -> None:
    rng = np.random.default_rng(4)
    wanted = rng.random(3000) < 0.05
    scores = rng.random(3000).astype(np.float32)
    bootstrap = Bootstrap(np.zeros(3000), np.arange(3000), np.ones(3000), replicates=50)
    points = curves(scores, wanted, bootstrap).points
    assert 150 < len(points) <= 200
    assert (points[0].threshold, points[-1].threshold) == (scores.max(), scores.min())
    marked = [one for one in points if one.intervals]
    assert len(marked) == 40
    for one in marked[1:-1]:
        out = scores >= np.float32(one.threshold)
        share = bootstrap.share(out, wanted)
        assert one.intervals["recall"] == pytest.approx([share.low, share.high])
        share = bootstrap.share(wanted, out)
        assert one.intervals["precision"] == pytest.approx([share.low, share.high])
        share = bootstrap.share(out, ~wanted)
        assert one.intervals["good_images_lost"] == pytest.approx([share.low, share.high])


# Classes and strata


def test_classes_and_confusion_are_those_of_scikit_learn() -> None:
    found, labels = examples()
    told = evaluate(HEAD, found, labels, SAMPLE, 0.5, CONFIG)
    said = found.embeddings.argmax(axis=1)
    assert told.confusion.counts == metrics.confusion_matrix(labels, said).tolist()
    weighted = metrics.confusion_matrix(labels, said, sample_weight=found.weight, normalize="all")
    assert np.allclose(told.confusion.shares, weighted)
    precision, recall, _, _ = metrics.precision_recall_fscore_support(
        labels, said, sample_weight=found.weight
    )
    assert [row.precision.value for row in told.per_class] == pytest.approx(precision.tolist())
    assert [row.recall.value for row in told.per_class] == pytest.approx(recall.tolist())
    assert [row.n for row in told.per_class] == np.bincount(labels).tolist()


def test_strata_are_judged_by_themselves_and_thin_ones_are_named() -> None:
    found, labels = examples(360)
    # S0 and S1 have three listings each
    few = [f"S{min(number // 3 % 40, 2)}" for number in range(360)]
    told = evaluate(
        HEAD, TrainingSet(**{**found.__dict__, "stratum": few}), labels, SAMPLE, 0.5, CONFIG
    )
    rows = {row.stratum: row for row in told.per_stratum}
    assert told.per_stratum[0].stratum == "S2"
    assert sum(row.share for row in rows.values()) == pytest.approx(1)
    assert (rows["S0"].thin, rows["S0"].listings, rows["S0"].n) == (True, 3, 9)
    assert (rows["S0"].accuracy, rows["S0"].recall, rows["S0"].good_images_lost) == (None,) * 3
    inside = np.array([name == "S2" for name in few])
    predictions = predict(HEAD, found.where(inside), labels[inside], 0.5)
    right = predictions.excluded == predictions.to_exclude
    assert not rows["S2"].thin
    assert rows["S2"].accuracy.value == pytest.approx(
        np.average(right, weights=predictions.examples.weight)
    )
    assert rows["S2"].accuracy.n == rows["S2"].n == 342


def test_a_recall_of_few_listings_is_not_claimed_where_accuracy_is() -> None:
    found, labels = examples(300, strata=1)
    (row,) = evaluate(
        HEAD, found, np.where(np.arange(300) < 60, labels, 1), SAMPLE, 0.5, CONFIG
    ).per_stratum
    assert 0 < row.positives < 30
    assert (row.thin, row.recall) == (False, None)
    assert row.good_images_lost.n == 300 - row.positives


# Calibration


def test_bins_and_ece_by_hand() -> None:
    scores = np.array([0.0, 0.05, 0.72, 0.78, 1.0, 1.0], dtype=np.float32)
    wanted = np.array([False, False, True, False, True, True])
    told = reliability(
        scores, wanted, Bootstrap([0] * 6, np.arange(6), [1.0, 1.0, 3.0, 1.0, 2.0, 2.0])
    )
    assert [(one.low, one.n, one.share) for one in told.bins] == [
        (0.0, 2, 0.2),
        (0.7, 2, 0.4),
        (0.9, 2, 0.4),
    ]
    assert [one.mean_score for one in told.bins] == pytest.approx([0.025, 0.735, 1.0])
    assert [one.to_exclude.value for one in told.bins] == [0.0, 0.75, 1.0]
    assert told.ece == pytest.approx(0.2 * 0.025 + 0.4 * 0.015)


def test_a_temperature_is_undone_for_the_scores_before_it() -> None:
    found, labels = examples()
    folded = Head(CLASSES, ("a",), BACKBONE_ID, HEAD.weight / 4, HEAD.bias)
    told = evaluate(folded, found, labels, SAMPLE, 0.5, CONFIG, temperature=4.0).calibration
    assert told.before == evaluate(HEAD, found, labels, SAMPLE, 0.5, CONFIG).calibration.after
    assert told.after.ece != told.before.ece
    assert told.temperature == 4.0
    assert evaluated().calibration.before is None


# Mistakes


def test_the_surest_mistakes_of_each_kind_come_first() -> None:
    found, labels = examples()
    config = load(sets=["report.max_mistakes=5"])
    told = evaluate(HEAD, found, labels, SAMPLE, 0.5, config).mistakes
    probabilities = HEAD.probabilities(found.embeddings)
    kinds: dict[str, list[tuple[float, str]]] = {"missed": [], "lost": [], "confused": []}
    for name, label, row in zip(found.image_id, labels, probabilities, strict=True):
        out, wanted = row[0] >= 0.5, label == 0
        if wanted and not out:
            kinds["missed"].append((float(row[0]), name))
        elif out and not wanted:
            kinds["lost"].append((-float(row[0]), name))
        elif row.argmax() != label:
            kinds["confused"].append((-float(row.max()), name))
    assert [row.kind for row in told] == ["missed"] * 5 + ["lost"] * 5 + ["confused"] * 5
    for kind, rows in kinds.items():
        assert [row.image_id for row in told if row.kind == kind] == [
            name for _, name in sorted(rows)[:5]
        ]
    first = told[0]
    place = found.image_id.index(first.image_id)
    assert (first.content_digest, first.stratum, first.label) == (
        f"d{place}",
        found.stratum[place],
        "a",
    )
    assert first.said == CLASSES[probabilities[place].argmax()]
    assert first.exclusion_score == pytest.approx(first.probabilities["a"])

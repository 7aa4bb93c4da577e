"""The learning curve: nested shares of listings, judged on the same images, and its sentence."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.test_fit import fitted
from tests.training.test_train import BACKBONE_ID, config
from toiletspark.errors import ConfigError
from toiletspark.hashing import hash_fraction
from toiletspark.model.head import Head
from toiletspark.sampling.estimates import Difference
from toiletspark.sampling.evaluation import LearningCurve
from toiletspark.sampling.evaluation_sample import Draw
from toiletspark.training.dataset import TrainingSet
from toiletspark.training.evaluation.learning_curve import _sentence, learning_curve, nested

WIDTH = 32


def labelled(
    images: int, noise: float, draw: str | None = None
) -> tuple[TrainingSet, np.ndarray, np.ndarray]:
    """Embeddings of overlapping classes, labels, and which are held out; two images a listing."""
    rng = np.random.default_rng(5)
    labels = np.arange(images) // 2 % 2
    centres = np.random.default_rng(6).normal(0, 1, (2, WIDTH))
    embeddings = (centres[labels] + rng.normal(0, noise, (images, WIDTH))).astype(np.float32)
    listing = [f"L{place // 2}" for place in range(images)]
    names = [("toilet", "other")[label] for label in labels]
    ids = [f"i{place}" for place in range(images)]
    weight = np.where(labels == 0, 1.0, 5.0)
    rows = TrainingSet(
        ids, listing, ["S"] * images, ids, names, [draw] * images, weight, embeddings, 0
    )
    return rows, labels.astype(np.int64), np.arange(images) < images // 2


def curve(
    images: int, noise: float, *sets: str, draw: str | None = None
) -> tuple[LearningCurve, Any]:
    examples, labels, held = labelled(images, noise, draw)
    layer = fitted(examples.embeddings[~held], labels[~held])
    head = Head(("toilet", "other"), ("toilet",), BACKBONE_ID, layer.weight, layer.bias)
    chosen = config(Path("nowhere"), ("toilet", "other"), *sets)
    kinds = {draw: Draw("sample")} if draw else {}
    return learning_curve(head, examples, labels, held, chosen, kinds, layer), (
        head,
        examples,
        labels,
        held,
    )


def test_shares_of_listings_are_nested_and_no_listing_is_cut() -> None:
    listings = [f"L{place % 300}" for place in range(900)]
    shares = [nested(listings, share, 7) for share in (0.25, 0.5, 0.75, 1.0)]
    assert shares[-1].all()
    for small, large in pairwise(shares):
        assert not (small & ~large).any()
        assert small.sum() < large.sum()
    assert 0.15 < shares[0].mean() < 0.35
    assert np.array_equal(shares[0][:300], shares[0][300:600])


def test_the_last_point_is_the_head_itself_by_weighted_figures() -> None:
    found, (head, examples, labels, held) = curve(400, 3.0, draw="D")
    points = found.points
    assert [point.share for point in points] == [0.25, 0.5, 0.75, 1.0]
    assert points[-1].labels == (~held).sum()
    assert [point.labels for point in points] == sorted(point.labels for point in points)
    out = head.exclusion_scores(head.probabilities(examples.embeddings[held])) >= 0.5
    right = out == (labels[held] == 0)
    weight = examples.weight[held]
    accuracy = points[-1].accuracy
    assert accuracy.value == pytest.approx((right * weight).sum() / weight.sum())
    assert accuracy.low < accuracy.value < accuracy.high
    unweighted, _ = curve(400, 3.0)
    assert unweighted.points[-1].accuracy.value == pytest.approx(right.mean())
    assert right.mean() != pytest.approx(accuracy.value)


def test_a_point_is_what_a_fit_to_these_listings_alone_gives() -> None:
    found, (_, examples, labels, held) = curve(400, 3.0, "train.learning_curve=[0.5]")
    within = ~held & nested(examples.listing_id, 0.5, 7)
    whole = fitted(examples.embeddings[~held], labels[~held])
    layer = fitted(examples.embeddings[within], labels[within], l2=whole.l2, calibrate=False)
    out = (examples.embeddings[held] @ layer.weight.T + layer.bias).argmax(axis=1) == 0
    (point,) = found.points
    assert point.labels == within.sum()
    assert point.recall.value == pytest.approx(out[labels[held] == 0].mean())
    assert point.accuracy.value == pytest.approx((out == (labels[held] == 0)).mean())
    assert found.sentence == "There are too few labels for a learning curve."


def test_few_labels_of_a_hard_question_are_worth_adding_to_and_many_of_an_easy_one_are_not() -> (
    None
):
    hard, _ = curve(3000, 4.0, "train.learning_curve=[0.05, 1.0]")
    assert hard.sentence.startswith("From 5 to 100 % of the labels, accuracy changed by +")
    assert hard.sentence.endswith(": more labels are worth it.")
    easy, _ = curve(4000, 0.5)
    assert easy.sentence.endswith(": more labels of the same kind would change little.")
    few, _ = curve(80, 3.0)
    assert few.sentence.endswith(
        ": the held-out images are too few to tell whether more labels are worth it."
    )


def test_a_share_without_a_label_of_some_class_has_no_point() -> None:
    first, second = sorted(hash_fraction(7, f"curve:L{number}") for number in range(20, 40))[:2]
    share = (first + second) / 2
    found, (_, examples, _, held) = curve(80, 3.0, f"train.learning_curve=[0.0001, {share}, 1.0]")
    # of one listing, so of one class
    assert nested(examples.listing_id, share, 7)[~held].sum() == 2
    assert [point.share for point in found.points] == [1.0]


WORTH_IT = "more labels are worth it."
UNKNOWN = "the held-out images are too few to tell whether more labels are worth it."
LITTLE = "more labels of the same kind would change little."


@pytest.mark.parametrize(
    ("step", "figures", "end"),
    [
        ((0.008, 0.002, 0.0141), "+0.8 points (+0.2 to +1.4)", WORTH_IT),
        ((0.008, -0.002, 0.0141), "+0.8 points (-0.2 to +1.4)", UNKNOWN),
        ((0.001, -0.002, 0.004), "+0.1 points (-0.2 to +0.4)", LITTLE),
        ((-0.01, -0.015, -0.005), "-1.0 points (-1.5 to -0.5)", LITTLE),
    ],
)
def test_the_sentence_tells_the_last_step_with_its_interval(
    step: tuple[float, ...], figures: str, end: str
) -> None:
    told = _sentence([0.25, 0.75, 1.0], Difference(*step))
    assert told == f"From 75 to 100 % of the labels, accuracy changed by {figures}: {end}"


@pytest.mark.parametrize("shares", ["[0.5, 0.25]", "[0.5, 0.5]", "[0.0, 1.0]", "[1.5]"])
def test_shares_that_do_not_rise_are_refused(shares: str) -> None:
    with pytest.raises(ConfigError, match="learning_curve"):
        config(Path("nowhere"), ("toilet", "other"), f"train.learning_curve={shares}")

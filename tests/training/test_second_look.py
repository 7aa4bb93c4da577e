"""A second look: wrong labels come first, judged by heads that have not seen their listing."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import literal_config
from tests.training.test_train import gathered
from toiletspark.config import Config
from toiletspark.errors import LabelsError
from toiletspark.tables import arrow_io as rows
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import QUEUES, SECOND_LOOK_SET
from toiletspark.training import label_doubts as doubts
from toiletspark.training.dataset import TrainingSet, read
from toiletspark.training.splits import folds_of

CLASSES = ["toilet", "other", "kitchen"]


def config_at(root: Path) -> Config:
    return literal_config({"output.root": root, "labels.classes": CLASSES})


def some_labels(root: Path, count: int = 300, flipped: int = 15) -> tuple[Run, set[str]]:
    """Three clusters of embeddings, four images a listing, some labels flipped; who was flipped."""
    random = np.random.default_rng(4)
    truth = np.repeat(random.integers(0, 3, count // 4), 4)
    centres = np.abs(random.normal(size=(3, 512)))
    embeddings = np.abs(centres[truth] + random.normal(scale=0.9, size=(count, 512))).astype("<f2")
    wrong = set(random.choice(count, flipped, replace=False).tolist())
    labels = [
        CLASSES[(kind + 1 + place % 2) % 3 if place in wrong else kind]
        for place, kind in enumerate(truth)
    ]
    run = gathered(root, [one.tobytes() for one in embeddings], labels, table=SECOND_LOOK_SET)
    return run, {f"i{place:05}" for place in wrong}


def test_flipped_labels_come_first(tmp_path: Path) -> None:
    run, wrong = some_labels(tmp_path)
    told = doubts.second_look(config_at(tmp_path))
    queue = Store(str(tmp_path)).newest(QUEUES)
    assert queue is not None
    found = rows.read(queue)
    assert {row["image_id"] for row in found[:15]} == wrong
    assert (told["looked_at"], told["queue"]) == (300, queue.folder)
    assert told["likely_wrong"] == pytest.approx(15, abs=3)
    assert queue.counts == {"likely_wrong": told["likely_wrong"]}
    assert queue.inputs.as_json() == {
        "kind": "second_look",
        "second_look_set": run.run_id,
        "labels": None,
    }


def test_the_queue_holds_every_label_once_by_rank(tmp_path: Path) -> None:
    run, _ = some_labels(tmp_path, 100, 5)
    doubts.second_look(config_at(tmp_path))
    found = rows.read(Store(str(tmp_path)).newest(QUEUES))
    examples = read(run)
    assert [row["rank"] for row in found] == list(range(1, 101))
    assert all(one["score"] >= other["score"] for one, other in itertools.pairwise(found))
    assert all(0 <= row["score"] <= 1 for row in found)
    by_id = {row["image_id"]: row for row in found}
    for place, image_id in enumerate(examples.image_id):
        row = by_id.pop(image_id)
        assert (row["label"], row["listing_id"]) == (
            examples.label[place],
            examples.listing_id[place],
        )
        assert (row["content_digest"], row["reason"]) == (
            examples.content_digest[place],
            "label_doubt",
        )
        assert row["inclusion_probability"] is None
        assert (row["suggested"] != row["label"]) == (row["score"] > 0.5)
    assert by_id == {}


def test_no_label_is_judged_by_a_head_that_has_seen_its_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = some_labels(tmp_path)
    examples = read(run)
    config = config_at(tmp_path)
    fitted: list[NDArray[np.float32]] = []
    fit = doubts.fit
    monkeypatch.setattr(doubts, "fit", lambda rows, *rest: fitted.append(rows) or fit(rows, *rest))
    labels = np.array([CLASSES.index(name) for name in examples.label])
    probabilities = doubts.out_of_fold(examples, labels, config)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    folds = folds_of(examples.listing_id, 5, config.second_look.seed)
    assert sorted(set(folds.tolist())) == list(range(5))
    for fold, seen in enumerate(fitted):
        listings = {name for name, at in zip(examples.listing_id, folds, strict=True) if at == fold}
        inside = [place for place, name in enumerate(examples.listing_id) if name in listings]
        assert len(seen) == len(labels) - len(inside)
        assert not {row.tobytes() for row in seen} & {
            examples.embeddings[place].tobytes() for place in inside
        }


def test_the_queue_is_the_same_again(tmp_path: Path) -> None:
    some_labels(tmp_path, 100, 5)
    found = []
    for _ in range(2):
        doubts.second_look(config_at(tmp_path))
        found.append(rows.read(Store(str(tmp_path)).newest(QUEUES)))
    assert found[0] == found[1]


def test_a_class_that_one_fold_holds_alone_is_told(tmp_path: Path) -> None:
    count = 40
    # one listing has all kitchens
    labels = ["kitchen" if place < 4 else CLASSES[place % 2] for place in range(count)]
    random = np.random.default_rng(1)
    gathered(
        tmp_path,
        [random.random(512).astype("<f2").tobytes() for _ in range(count)],
        labels,
        table=SECOND_LOOK_SET,
    )
    with pytest.raises(LabelsError) as caught:
        doubts.second_look(config_at(tmp_path))
    fold = int(doubts.folds_of(["L0"], 5, config_at(tmp_path).second_look.seed)[0]) + 1
    assert str(caught.value) == (
        "while looking for doubtful labels\n"
        "  expected: labels of every class outside each of 5 folds of listings\n"
        f"  found:    none of kitchen outside fold {fold}; 40 labels in all\n"
        "  do:       label more images of that class, from more listings; "
        "or change second_look.seed"
    )
    assert Store(str(tmp_path)).newest(QUEUES) is None


def test_a_training_set_is_not_needed_to_be_whole() -> None:
    """A listing alone in its fold leaves a fold empty: nothing is judged there."""
    random = np.random.default_rng(2)
    listings = [f"L{place}" for place in range(6)]
    examples = TrainingSet(
        image_id=[f"i{place}" for place in range(6)],
        listing_id=listings,
        stratum=["S"] * 6,
        content_digest=[f"d{place}" for place in range(6)],
        label=["toilet", "other", "kitchen"] * 2,
        draw=[None] * 6,
        weight=np.ones(6),
        embeddings=random.random((6, 8)).astype(np.float32),
        corrupt=0,
    )
    config = literal_config({"labels.classes": CLASSES, "second_look.folds": 50})
    probabilities = doubts.out_of_fold(examples, np.array([0, 1, 2] * 2), config)
    assert probabilities.shape == (6, 3)
    assert (probabilities > 0).all()

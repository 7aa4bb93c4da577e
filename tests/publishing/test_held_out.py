"""Held-out images of one draw stand for the catalog, and settle one threshold everywhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import literal_config, stored
from tests.training.test_train import clusters, config, gathered
from toiletspark.config import Publish
from toiletspark.errors import ConfigError, HeadError
from toiletspark.model import registry
from toiletspark.model.embedding_codec import to_stored
from toiletspark.publishing import thresholds
from toiletspark.publishing.thresholds import HeldOut, Labelled, Settled
from toiletspark.sampling.estimates import Bootstrap
from toiletspark.sampling.evaluation_sample import Draw, choose_evaluation_sample, describe_draws
from toiletspark.tables import arrow_io, schemas
from toiletspark.tables.runs import Run, Store
from toiletspark.training.heads import train

UNDRAWN = "held-out images that were not drawn at random and represent only themselves"


KINDS = {"sample": Draw("sample"), "queue": Draw("queue")}


def kinds_of(draws: list[str | None], samples: set[str]) -> dict[str, Draw]:
    return {draw: Draw("sample" if draw in samples else "queue") for draw in draws if draw}


def publish(name: str, value: float = 0.0, safe: bool = False, fixed: float = 0.5) -> Publish:
    policy = {"name": name, "value": value, "safe": safe}
    usual = literal_config().publish.model_dump()
    return Publish.model_validate({**usual, "operating_threshold": fixed, "policy": policy})


def made_with(images: int = 200, seed: int = 1) -> list[dict[str, Any]]:
    """Rows of a head: half of the held-out ones of a sample, a third of a queue, others undrawn."""
    rng = np.random.default_rng(seed)
    told = []
    for place in range(images):
        held = place % 4 != 0
        toilet = bool(rng.random() < 0.4)
        score = float(np.float32(np.clip(rng.normal(0.7 if toilet else 0.3, 0.2), 0, 1)))
        told.append(
            {
                "image_id": f"i{place}",
                "listing_id": f"L{place // 2}",
                "stratum": f"S{place // 2 % 3}",
                "content_digest": f"d{place}",
                "label": "toilet" if toilet else "other",
                "weight": 1.0 + place % 5,
                "draw": ("sample", "queue", "sample", None, "queue", "sample")[place % 6],
                "held_out": held,
                "exclusion_score": score if held else None,
            }
        )
    return told


def settle_for(store: Store, publish: Publish, head_id: str, folder: str = "") -> Settled:
    labelled = thresholds.labelled_images(store, head_id, folder)
    return thresholds.settle_for(publish, head_id, labelled)


# Which rows stand for the catalog


@pytest.mark.parametrize(
    ("draws", "samples", "rows_of", "told"),
    [
        (["s1", "q", "q", "q", None], {"s1"}, [0], "1 held-out images of the sample s1"),
        (["s1", "s2", "s1", "q"], {"s1", "s2"}, [0, 2], "2 held-out images of the sample s1"),
        (["s2", "s1", None], {"s1", "s2"}, [0], "1 held-out images of the sample s2"),
        ([*"35426"], set("3542"), [1], "1 held-out images of the sample 5"),
        (["q1", "q2", "q2"], {"s1"}, [1, 2], "2 held-out images of the queue q2"),
        ([None, None], {"s1"}, [0, 1], f"2 {UNDRAWN}"),
        ([], set(), [], f"0 {UNDRAWN}"),
    ],
    ids=["sample first", "most rows", "newest", "of many", "queues", "no draw", "nothing"],
)
def test_the_rows_of_one_draw_stand(
    draws: list[str | None], samples: set[str], rows_of: list[int], told: str
) -> None:
    found = choose_evaluation_sample(draws, kinds_of(draws, samples))
    assert np.flatnonzero(found.rows).tolist() == rows_of
    assert found.description == told
    weight = np.arange(1.0, len(draws) + 1)
    drawn = any(draws)
    assert found.weights(weight).tolist() == (
        weight[rows_of].tolist() if drawn else [1.0] * len(draws)
    )


def test_which_draw_stands_does_not_hang_on_the_order_of_the_rows() -> None:
    draws: list[str | None] = ["a", "b", "b", "a", None, "c"]
    known = kinds_of(draws, {"a", "b"})
    assert (
        choose_evaluation_sample(draws, known).run_id
        == choose_evaluation_sample(draws[::-1], known).run_id
        == "b"
    )


def test_a_sample_of_some_strata_never_stands_for_the_catalog() -> None:
    known = {"few": Draw("sample", omitted=3), "all": Draw("sample"), "queue": Draw("queue")}
    found = choose_evaluation_sample(["few", "few", "all", "queue", "queue", "queue"], known)
    assert (found.run_id, found.population) == ("all", "catalog")
    alone = choose_evaluation_sample(["few", "few", "queue"], known)
    assert (alone.run_id, alone.population) == ("few", "part of the catalog")
    assert alone.description == "2 held-out images of the sample few (which leaves 3 strata out)"


def test_what_a_draw_was_stands_in_its_manifest(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    counts = {"asked": {"A": 300, "B": 0, "C": 0}, "units": {"A": 400, "B": 9, "C": 1}}
    few = stored(store, schemas.SAMPLE, [], counts=counts)
    whole = stored(store, schemas.SAMPLE, [], counts={"asked": {"A": 2}, "units": {"A": 400}})
    early = stored(store, schemas.SAMPLE, [])
    empty = stored(
        store, schemas.SAMPLE, [], counts={"asked": {"A": 2, "B": 0}, "units": {"A": 400, "B": 0}}
    )
    ids = [run.run_id for run in (few, whole, early, empty)]
    part = {
        early.run_id: {"drawn": 40, "labelled": 36, "share": 0.95},
        "queue": {"drawn": 9, "labelled": 1, "share": 0.25},
    }
    made = stored(store, schemas.TRAINING_SET, [], counts={"draws": part})
    known = describe_draws(store, [*ids, "queue", None], made)
    assert [known[run_id] for run_id in (few.run_id, whole.run_id, empty.run_id)] == [
        Draw("sample", omitted=2),  # nobody has counted
        Draw("sample"),
        Draw("sample"),
    ]
    assert (known[early.run_id], known["queue"]) == (
        Draw("sample", 0, 40, 36, 0.95),
        Draw("queue", 0, 9, 1, 0.25),
    )
    assert describe_draws(store, ["queue"], stored(store, schemas.TRAINING_SET, [])) == {
        "queue": Draw("queue")
    }


def test_a_sample_that_is_labelled_in_part_stands_for_the_catalog_from_nine_tenths_on() -> None:
    known = {
        "most": Draw("sample", 0, 40, 20, share=0.9),
        "some": Draw("sample", 0, 400, 380, share=0.899),
    }
    found = choose_evaluation_sample(["some", "some", "most"], known)
    assert (found.run_id, found.population) == ("most", "catalog")
    assert (
        found.description
        == "1 held-out images of the sample most (of its 40 images 20 are labelled)"
    )
    alone = choose_evaluation_sample(["some"], known)
    assert alone.population == "part of the catalog"
    both = Draw("sample", omitted=1, drawn=1_400, labelled=3)
    assert both.note == " (which leaves 1 stratum out; of its 1,400 images 3 are labelled)"
    assert Draw("sample", drawn=7, labelled=7).note == ""


def test_a_head_is_judged_on_held_out_images_of_the_sample_with_its_weights() -> None:
    told = made_with()
    judged, stand = thresholds.held_out_images(told, ("toilet",), KINDS)
    wanted = [row for row in told if row["held_out"] and row["draw"] == "sample"]
    assert stand.description == f"{len(wanted)} held-out images of the sample sample"
    assert judged.scores.tolist() == [row["exclusion_score"] for row in wanted]
    assert judged.to_exclude.tolist() == [row["label"] == "toilet" for row in wanted]
    assert judged.bootstrap.total(np.ones(len(wanted), dtype=bool)) == sum(
        row["weight"] for row in wanted
    )


# Settling


def test_a_fixed_threshold_needs_no_images() -> None:
    found = thresholds.settle(publish("fixed", fixed=0.7), Labelled([], (), {}))
    assert (found.operating_threshold, found.reason) == (
        0.7,
        "fixed by publish.operating_threshold",
    )


@pytest.mark.parametrize(
    ("name", "value"), [("min_recall", 0.9), ("max_share_of_good_images_lost", 0.1)]
)
def test_a_policy_is_settled_on_these_images_alone(name: Any, value: float) -> None:
    told = made_with()
    found = thresholds.settle(publish(name, value), Labelled(told, ("toilet",), KINDS))
    wanted = [row for row in told if row["held_out"] and row["draw"] == "sample"]
    bootstrap = Bootstrap(
        *([row[key] for row in wanted] for key in ("stratum", "listing_id", "weight"))
    )
    scores = np.array([row["exclusion_score"] for row in wanted], dtype=np.float32)
    slow = thresholds.by_policy(
        name,
        value,
        HeldOut(scores, np.array([row["label"] == "toilet" for row in wanted]), bootstrap),
        safe=False,
    )
    assert found.operating_threshold == slow.operating_threshold
    assert found.reason == f"{slow.reason}; by {len(wanted)} held-out images of the sample sample"


def test_a_promise_that_cannot_be_kept_is_told_in_four_parts() -> None:
    with pytest.raises(ConfigError) as caught:
        labelled = Labelled(made_with(), ("toilet",), KINDS)
        thresholds.settle(publish("min_precision", 1.0, safe=True), labelled)
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        "while settling the operating threshold by min_precision 1 on 67 held-out images of the "
        "sample sample\n"
        "  expected: a policy value that some threshold can reach, "
        "and held-out images with and without the excluded classes\n"
        "  found:    no operating threshold has min_precision 1 at the safe end\n"
        "  do:       lower the value, set publish.policy.safe=false, or label more images"
    )


# The head's own rows


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a head whose classes overlap."""
    embeddings, labels = clusters(240)
    noise = np.random.default_rng(3).normal(0, 12, embeddings.shape)
    gathered(
        tmp_path,
        to_stored((embeddings + noise).astype(np.float32)),
        [("toilet", "other")[one] for one in labels],
    )
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value"), [("min_recall", 0.9), ("cost_ratio", 20.0), ("fixed", 0.0)]
)
def test_training_and_publishing_come_to_the_same_threshold(
    root: Path, name: str, value: float
) -> None:
    sets = [
        f"publish.policy.name={name}",
        f"publish.policy.value={value}",
        "publish.policy.safe=false",
    ]
    settings = config(root, ("toilet", "other"), "train.learning_curve=[]", *sets)
    told = train(settings)
    store = Store(str(root))
    found = settle_for(store, settings.publish, told["head_id"])
    assert (found.operating_threshold, found.reason) == (
        told["operating_threshold"],
        told["threshold_reason"],
    )
    assert registry.load(told["head"]).facts["operating_threshold"] == found.operating_threshold
    assert (found.operating_threshold == 0.5) == (name == "fixed")
    run = registry.run_of(store, told["head_id"])
    toilets = [
        row["exclusion_score"]
        for row in arrow_io.read(run)
        if row["held_out"] and row["label"] == "toilet"
    ]
    excluded = [score >= np.float32(found.operating_threshold) for score in toilets]
    assert told["validation"]["recall"] == pytest.approx(np.mean(excluded))
    elsewhere = Store.open(f"{root}/elsewhere")
    outside = settle_for(elsewhere, settings.publish, told["head_id"], told["head"])
    assert outside == found


def test_a_head_is_trained_though_its_policy_cannot_be_kept(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sets = [
        "publish.policy.name=min_precision",
        "publish.policy.value=1.0",
        "train.learning_curve=[]",
    ]
    told = train(config(root, ("toilet", "other"), *sets))
    assert told["operating_threshold"] == 0.5
    assert told["threshold_reason"] == (
        "publish.operating_threshold for now, and publishing will refuse: "
        "no operating threshold has min_precision 1 at the safe end"
    )
    assert "while settling the operating threshold by min_precision 1 on " in caplog.text


def test_a_head_without_its_images_settles_no_policy(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    stored(store, schemas.HEADS, [], inputs={"head_id": "old"})
    for head_id in ("old", "gone"):
        assert settle_for(store, publish("fixed"), head_id).operating_threshold == 0.5
        by_cost = settle_for(store, publish("cost_ratio", 19.0), head_id)
        assert by_cost.operating_threshold == 0.05
        assert "as they are, because the head lacks its labels" in by_cost.reason
        with pytest.raises(HeadError) as caught:
            settle_for(store, publish("min_recall", 0.9), head_id)
        assert caught.value.found == "no such run, or one without them"
        assert caught.value.expected.startswith(
            f"the run folder of the head {head_id}, with its held-out images"
        )


def test_the_images_come_back_as_they_were_written(root: Path) -> None:
    told = train(config(root, ("toilet", "other"), "train.learning_curve=[]"))
    run = Store(str(root)).run(schemas.HEADS, Path(told["head"]).name)
    assert isinstance(run, Run)
    held = [row for row in arrow_io.read(run) if row["held_out"]]
    assert len(held) == told["validation"]["n"]
    assert all(row["draw"] is None for row in held)

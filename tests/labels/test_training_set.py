"""Labels meet their embeddings: by content, with weights, and when people disagree."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import stored, vector
from toiletspark.config import Config
from toiletspark.errors import LabelsError
from toiletspark.labels import merge as labels
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.labels.training_inputs import training_set
from toiletspark.sampling import design_weights
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]


# With their embeddings


@pytest.fixture
def gathered(spark: SparkSession, tmp_path: Path) -> pd.DataFrame:
    """Rows of a plain label, a changed image, one without an embedding, a lost one, and a copy."""
    store = Store.open(str(tmp_path / "output"))
    result = [
        ("plain", "ok", "digest-1"),
        ("changed", "ok", "digest-new"),
        ("bad", "truncated", "digest-bad"),
        ("copy", "ok", "digest-1"),
    ]
    catalog_rows = [
        {
            "image_id": name,
            "listing_id": f"L-{name}",
            "stratum": "S",
            "status": status,
            "content_digest": digest,
        }
        for name, status, digest in result
    ]
    kept = {"digest-1": 1, "digest-old": 2, "digest-new": 3, "digest-gone": 4}
    embeddings = [
        {
            "content_digest": digest,
            "backbone_id": backbone_id,
            "embedding": vector(seed + 100 * other),
        }
        for (digest, seed), (other, backbone_id) in itertools.product(
            kept.items(), enumerate(("ours", "another"))
        )
    ]
    labelled = [
        Label("plain", "toilet", None, "table"),
        Label("changed", "other", "digest-old", "folder"),
        Label("bad", "other", None, "table"),
        Label("gone", "other", "digest-gone", "folder"),
        Label("copy", "toilet", "digest-1", "folder"),
    ]
    runs = {
        "labels": labels.save(store, SourceLabels(labelled), "ann", {}, "by hand")[0],
        "catalog": stored(store, tables.CATALOG, catalog_rows),
        "embeddings": stored(store, tables.EMBEDDINGS, embeddings + embeddings[:2]),
    }
    drawn = [
        {"image_id": "plain", "inclusion_probability": 0.08},
        {"image_id": "bad", "inclusion_probability": 0.5},
    ]
    stored(store, tables.SAMPLE, drawn)
    read = {name: frames.read_run(spark, run) for name, run in runs.items()}
    settled = training_set.settle(read["labels"], read["catalog"])
    settled = training_set.with_listings(settled, training_set.drawn_listings(spark, store))
    result = training_set.with_embeddings(settled, read["embeddings"], "ours")
    weighed = design_weights.weigh(result, design_weights.read_draws(spark, store), read["catalog"])
    rows = training_set.weighted(result, weighed).toPandas()
    return rows.sort_values("image_id").set_index("image_id")


def test_a_label_follows_the_content_that_was_labelled(gathered: pd.DataFrame) -> None:
    # the label was given before the image changed
    wanted = {"changed": 2, "copy": 1, "gone": 4, "plain": 1}
    assert {name: bytes(row["embedding"]) for name, row in gathered.iterrows()} == {
        name: vector(seed) for name, seed in wanted.items()
    }
    assert dict(gathered["label"]) == {
        "changed": "other",
        "copy": "toilet",
        "gone": "other",
        "plain": "toilet",
    }
    assert np.frombuffer(gathered.loc["plain", "embedding"], "<f2").shape == (512,)


def test_a_label_without_an_embedding_is_left_out_and_others_occur_once(
    gathered: pd.DataFrame,
) -> None:
    assert list(gathered.index) == ["changed", "copy", "gone", "plain"]


def test_weights_come_from_the_sample_and_listings_from_the_catalog(gathered: pd.DataFrame) -> None:
    assert dict(gathered["weight"]) == {"changed": 1.0, "copy": 1.0, "gone": 1.0, "plain": 12.5}
    assert dict(gathered["listing_id"]) == {
        "changed": "L-changed",
        "copy": "L-copy",
        "gone": "image gone",  # no listing of the catalog can have this name
        "plain": "L-plain",
    }
    assert dict(gathered["stratum"]) == {
        "changed": "S",
        "copy": "S",
        "gone": "unknown",
        "plain": "S",
    }


def test_photos_of_an_ended_listing_stay_one_home(spark: SparkSession, tmp_path: Path) -> None:
    """Labels outlive listings: a home in pieces would be on both sides of the split."""
    store = Store.open(str(tmp_path))
    of_home = [
        {"image_id": name, "listing_id": "ended", "stratum": "Bonn | sale"} for name in ("a", "b")
    ]
    stored(store, tables.SAMPLE, [{**row, "inclusion_probability": 0.5} for row in of_home])
    stored(
        store,
        tables.QUEUES,
        [{"image_id": "c", "listing_id": "ended", "rank": 1}],
        inputs={"kind": "leaks"},
    )
    stored(
        store,
        tables.SAMPLE,
        [{"image_id": "lone", "inclusion_probability": 0.5, "stratum": "unknown"}],
    )
    imported = [
        {"image_id": name, "labeller": "ann", "class": "other"}
        for name in ("a", "b", "c", "lone", "live")
    ]
    here = [{"image_id": "live", "listing_id": "lone", "stratum": "Bonn | rent"}]
    words, now = stored(store, tables.LABELS, imported), stored(store, tables.CATALOG, here)
    settled = training_set.settle(frames.read_run(spark, words), frames.read_run(spark, now))
    placed = training_set.with_listings(
        settled, training_set.drawn_listings(spark, store)
    ).collect()
    assert {row["image_id"]: (row["listing_id"], row["stratum"]) for row in placed} == {
        "a": ("ended", "Bonn | sale"),
        "b": ("ended", "Bonn | sale"),
        "c": ("ended", "unknown"),  # queues know no stratum
        "lone": ("image lone", "unknown"),
        "live": ("lone", "Bonn | rent"),
    }


# What several people say


def settled(
    spark: SparkSession, tmp_path: Path, *imported: tuple[str, str, str, str | None, int]
) -> dict[str, Any]:
    """Settled labels of (image_id, labeller, class, digest, day); a and b show the same."""
    store = Store.open(str(tmp_path / "output"))
    now = {"a": "same", "b": "same", "c": "d-c", "d": None}
    snapshot = [
        {"image_id": name, "listing_id": f"L-{name}", "content_digest": digest}
        for name, digest in now.items()
    ]
    rows = [
        {
            "image_id": image_id,
            "labeller": who,
            "class": name,
            "content_digest": digest,
            "labelled_at": datetime(2026, 11, day, tzinfo=UTC),
        }
        for image_id, who, name, digest, day in imported
    ]
    words, catalog_now = stored(store, tables.LABELS, rows), stored(store, tables.CATALOG, snapshot)
    frame = training_set.settle(frames.read_run(spark, words), frames.read_run(spark, catalog_now))
    result = [row.asDict() for row in frame.collect()]
    assert len({row["image_id"] for row in result}) == len(result)
    return {
        row["image_id"]: (row["label"], row["newest"], row["content_digest"], row["in_conflict"])
        for row in result
    }


def test_people_who_agree_are_one_label(spark: SparkSession, tmp_path: Path) -> None:
    words = [
        ("c", "ann", "toilet", "d-c", 1),
        ("c", "bob", "toilet", None, 2),
        ("d", "ann", "other", None, 1),
    ]
    assert settled(spark, tmp_path, *words) == {
        "c": ("toilet", "toilet", "d-c", False),
        "d": ("other", "other", None, False),
    }


def test_people_who_disagree_are_told_with_the_newest_word(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Also about the same content under another id, and by a label without its picture."""
    words = [
        ("a", "ann", "toilet", "same", 3),
        ("b", "bob", "other", None, 2),
        ("c", "ann", "toilet", "d-c", 1),
        ("c", "bob", "other", "d-c", 2),
    ]
    assert settled(spark, tmp_path, *words) == {
        "a": ("toilet", "toilet", "same", True),
        "b": ("other", "toilet", "same", True),
        "c": ("other", "other", "d-c", True),
    }


def test_words_about_other_contents_do_not_contradict_each_other(
    spark: SparkSession, tmp_path: Path
) -> None:
    words = [("c", "ann", "toilet", "replaced", 1), ("c", "bob", "other", "d-c", 2)]
    assert settled(spark, tmp_path, *words) == {"c": ("other", "other", "d-c", False)}


@pytest.mark.parametrize(
    ("how", "trained"), [("leave_out", {"b": "other"}), ("newest", {"a": "other", "b": "other"})]
)
def test_what_is_trained_on_where_labels_are_in_conflict(
    spark: SparkSession, make_config: MakeConfig, how: str, trained: dict[str, str]
) -> None:
    config = with_a_conflict(make_config, how)
    summary = training_set.gather(Workspace.open(spark, config), tables.TRAINING_SET)
    assert summary == {"labelled": 2, "without_embedding": 0, "in_conflict": 1}
    rows = pd.read_parquet(Store(config.output.root).newest(tables.TRAINING_SET).folder)
    assert dict(zip(rows["image_id"], rows["label"], strict=True)) == trained
    assert set(rows["content_digest"]) == {f"d-{name}" for name in trained}


def test_training_stops_at_a_conflict_where_it_is_told_to(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = with_a_conflict(make_config, "fail")
    with pytest.raises(LabelsError) as raised:
        training_set.gather(Workspace.open(spark, config), tables.TRAINING_SET)
    assert str(raised.value) == (
        "while gathering the training set\n"
        "  expected: labels that agree about each content (labels.conflicts is fail)\n"
        "  found:    1 images about whose content labels contradict each other: 'a'\n"
        f"  do:       settle them, see {config.output.root}/conflicts; "
        "or set labels.conflicts=leave_out or newest"
    )


def test_what_is_gathered_of_a_part_of_a_sample_says_so(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    """Also what is in conflict, and cannot be used, was drawn."""
    config = with_a_conflict(make_config, "leave_out")
    store = Store.open(config.output.root)
    drawn = [{"image_id": name, "inclusion_probability": 0.5, "stratum": "S"} for name in "abcd"]
    sample = stored(store, tables.SAMPLE, drawn)
    training_set.gather(Workspace.open(spark, config), tables.TRAINING_SET)
    run = store.newest(tables.TRAINING_SET)
    assert run.counts["draws"] == {sample.run_id: {"drawn": 4, "labelled": 1, "share": 0.25}}
    (row,) = pd.read_parquet(run.folder)[["image_id", "weight", "draw"]].to_dict("records")
    assert row == {"image_id": "b", "weight": 8.0, "draw": sample.run_id}


def with_a_conflict(make_config: MakeConfig, how: str) -> Config:
    config = make_config({"labels.conflicts": how})
    store = Store.open(config.output.root)
    result = [{"image_id": name, "content_digest": f"d-{name}", "status": "ok"} for name in "ab"]
    stored(store, tables.CATALOG, result, inputs={"backbone_id": "ours"})
    kept = [
        {"content_digest": f"d-{name}", "backbone_id": "ours", "embedding": vector(1)}
        for name in "ab"
    ]
    stored(store, tables.EMBEDDINGS, kept)
    for day, who, name in ((1, "ann", "toilet"), (2, "bob", "other")):
        at = datetime(2026, 11, day, tzinfo=UTC)
        words = [
            Label("a", name, "d-a", "sheet", who, at),
            Label("b", "other", "d-b", "sheet", who, at),
        ]
        labels.save(store, SourceLabels(words), "", {}, f"sheet of {who}")
    return config

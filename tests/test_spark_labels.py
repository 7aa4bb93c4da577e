"""Labels on the Spark side: from a table, through class folders, and with the embeddings that they belong to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from jobs import draw_sample, embed_images, export_labels, import_labels, train_head
from tests.conftest import drawn_images, stored, vector
from toiletspark import catalog, frames, head, label_table, labels, tables, training_set
from toiletspark.config import Config
from toiletspark.digests import content_digest
from toiletspark.errors import LabelsError, OutputError, TableError
from toiletspark.labels import Label
from toiletspark.runs import Store

MakeConfig = Callable[..., Config]


# From a table


def imported(spark: SparkSession, make_config: MakeConfig, tmp_path: Path, frame: pd.DataFrame, **sets: Any) -> Any:
    frame.to_csv(tmp_path / "labels.csv", index=False)
    named = {f"labels.table.{key.replace('__', '.')}": value for key, value in sets.items()}
    images = pd.DataFrame({"image_id": ["a", "b", "c", "7"], "listing_id": "L1", "image_url": "u"})
    config = make_config({"labels.table.path": tmp_path / "labels.csv", **named}, images=images)
    return label_table.import_table(spark, config.labels, catalog.read_catalog(spark, config))


def stopped(error: type[Exception], *arguments: Any, **sets: Any) -> str:
    with pytest.raises(error) as raised:
        imported(*arguments, **sets)
    return str(raised.value)


def test_a_table_of_labels(spark: SparkSession, make_config: MakeConfig, tmp_path: Path) -> None:
    """Rows without a class are images that nobody labelled; the same label twice is one; numbers are ids."""
    rows = [("a", "toilet"), ("b", "other"), ("a", "toilet"), ("c", None), ("c", ""), ("nobody's", None), (7, "other")]
    found = imported(spark, make_config, tmp_path, pd.DataFrame(rows, columns=["image_id", "class"]))
    assert sorted(found, key=lambda label: label.image_id) == [
        Label("7", "other", None, "table"),
        Label("a", "toilet", None, "table"),
        Label("b", "other", None, "table"),
    ]


def test_a_table_with_other_column_names(spark: SparkSession, make_config: MakeConfig, tmp_path: Path) -> None:
    frame = pd.DataFrame({"photo.key": ["a"], "what is it": ["toilet"]})
    columns = {"columns__image_id": "photo.key", "columns__class": "what is it"}
    assert imported(spark, make_config, tmp_path, frame, **columns) == [Label("a", "toilet", None, "table")]


@pytest.mark.parametrize(
    ("rows", "expected", "found", "todo"),
    [
        (
            [("a", "toilets"), ("b", "other"), ("c", "zebra")],
            "at least one label, each one of labels.classes: toilet, other",
            "'toilets', 'zebra' (did you mean 'toilet'?)",
            "mend the table, or set labels.classes to the classes that it holds",
        ),
        (
            [("a", None)],
            "at least one label, each one of labels.classes: toilet, other",
            "no labels",
            "mend the table, or set labels.classes to the classes that it holds",
        ),
        (
            [("a", "toilet"), ("z", "other"), ("y", "other")],
            "labels of images that the images table has",
            "labels of unknown images: 'y', 'z'",
            "correct the ids, or map labels.table.columns.image_id to the right column",
        ),
        (
            [("a", "toilet"), ("a", "other"), ("b", "other")],
            "one class per image, and no null image_id",
            "1 images with several classes or no id: 'a'",
            "keep the right label of each",
        ),
        (
            [("a", "toilet"), (None, "other")],
            "one class per image, and no null image_id",
            "1 images with several classes or no id: None",
            "keep the right label of each",
        ),
    ],
    ids=["unknown classes", "no labels", "unknown images", "two classes", "no id"],
)
def test_labels_that_cannot_be_taken(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path, rows: Any, expected: str, found: str, todo: str
) -> None:
    frame = pd.DataFrame(rows, columns=["image_id", "class"])
    assert stopped(LabelsError, spark, make_config, tmp_path, frame) == (
        f"while importing labels from {tmp_path}/labels.csv\n"
        f"  expected: {expected}\n"
        f"  found:    {found}\n"
        f"  do:       {todo}"
    )


def test_a_missing_column_names_the_nearest(spark: SparkSession, make_config: MakeConfig, tmp_path: Path) -> None:
    frame = pd.DataFrame({"image_id": ["a"], "klass": ["toilet"]})
    assert stopped(TableError, spark, make_config, tmp_path, frame) == (
        f"while importing labels from {tmp_path}/labels.csv\n"
        "  expected: the column 'class' (labels.table.columns.class)\n"
        "  found:    the columns 'image_id', 'klass' (did you mean 'klass'?)\n"
        "  do:       say in the configuration what your column is called"
    )


def test_a_missing_table(spark: SparkSession, make_config: MakeConfig, tmp_path: Path) -> None:
    frame = pd.DataFrame({"image_id": ["a"], "class": ["toilet"]})
    text = stopped(TableError, spark, make_config, tmp_path, frame, path=tmp_path / "nowhere.csv")
    assert text.startswith(f"while reading the labels.table table {tmp_path}/nowhere.csv")


# Through class folders


def test_from_the_sample_through_class_folders_to_a_head(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    Path(images.loc[0, "image_url"]).write_bytes(b"broken")  # L1-1
    config = make_config(
        {"sample.size": 18, "labels.labeller": "ann", "train.validation_share": 0.5, "train.seed": 1}, images=images
    )
    folder = tmp_path / "output" / "labelling"
    draw_sample.step(spark, config)
    told = export_labels.step(spark, config)
    assert told == {"sampled": 18, "exported": 17, "folder": str(folder)}
    index = pd.read_csv(folder / "index.csv").set_index("image_id")
    urls = images.set_index("image_id")["image_url"]
    assert set(index.index) == set(images["image_id"]) - {"L1-1"}
    for image_id, row in index.iterrows():
        assert row["content_digest"] == content_digest(Path(urls[image_id]).read_bytes())
        name = Path(row["file"]).name
        room = "toilet" if image_id.endswith("-3") else "other"
        if image_id != "L6-2":  # which nobody has sorted yet
            (folder / "unlabelled" / name).rename(folder / room / name)
    assert export_labels.step(spark, config)["exported"] == 0  # what people have sorted stays where it is
    assert len(list((folder / "toilet").iterdir())) == 6

    told = import_labels.step(spark, config)
    assert (told["labelled"], told["per_class"]) == (16, {"toilet": 6, "other": 10})
    rows = pd.read_parquet(told["labels"]).set_index("image_id")
    assert rows.loc["L2-3", "class"] == "toilet"
    assert set(rows["labeller"]) == {"ann"}
    assert set(rows["how"]) == {"folder"}
    assert dict(rows["content_digest"]) == dict(index["content_digest"].drop("L6-2"))

    embed_images.step(spark, config)
    told = train_head.step(spark, config)
    assert (told["labelled"], told["without_embedding"], told["corrupt"]) == (16, 0, 0)
    assert told["trained_on"] + told["validation"]["n"] == 16
    made = head.load(told["head"])
    assert made.classes == ("toilet", "other")
    assert made.backbone_id == Store(config.output.root).newest(tables.CATALOG).manifest["inputs"]["backbone_id"]
    assert made.head_id == told["head_id"]


def test_training_before_the_labels_names_the_step(spark: SparkSession, make_config: MakeConfig) -> None:
    with pytest.raises(OutputError, match="run `toiletspark labels import` with the same configuration first"):
        train_head.step(spark, make_config())


def test_labels_without_any_embedding_stop_the_training(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    store = Store.open(config.output.root)
    stored(store, tables.CATALOG, [{"image_id": "a", "image_version": "1"}], inputs={"backbone_id": "ours"})
    labels.write(store, [Label("a", "toilet", None, "table")], "ann", {}, "by hand")
    with pytest.raises(LabelsError) as raised:
        train_head.step(spark, config)
    assert str(raised.value) == (
        "while gathering the training set\n"
        "  expected: labelled images that have an embedding\n"
        "  found:    1 labels, none of whose images could be embedded\n"
        f"  do:       see the column status in {tmp_path}/output/image_ledger"
    )


# With their embeddings


@pytest.fixture
def gathered(spark: SparkSession, tmp_path: Path) -> pd.DataFrame:
    """What is gathered for: a plain label, a changed image, one without an embedding, one that is gone, a copy."""
    store = Store.open(str(tmp_path / "output"))
    found = [
        ("plain", "ok", "digest-1"),
        ("changed", "ok", "digest-new"),
        ("bad", "truncated", "digest-bad"),
        ("copy", "ok", "digest-1"),
    ]
    catalog_rows = [
        {"image_id": name, "listing_id": f"L-{name}", "status": status, "content_digest": digest}
        for name, status, digest in found
    ]
    kept = {"digest-1": 1, "digest-old": 2, "digest-new": 3, "digest-gone": 4}
    embeddings = [
        {"content_digest": digest, "backbone_id": backbone_id, "embedding": vector(seed + 100 * other)}
        for digest, seed in kept.items()
        for other, backbone_id in enumerate(("ours", "another"))
    ]
    labelled = [
        Label("plain", "toilet", None, "table"),
        Label("changed", "other", "digest-old", "folder"),
        Label("bad", "other", None, "table"),
        Label("gone", "other", "digest-gone", "folder"),
        Label("copy", "toilet", "digest-1", "folder"),
    ]
    runs = {
        "labels": labels.write(store, labelled, "ann", {}, "by hand"),
        "catalog": stored(store, tables.CATALOG, catalog_rows),
        "embeddings": stored(store, tables.EMBEDDINGS, embeddings + embeddings[:2]),
        "sample": stored(
            store, tables.SAMPLE, [{"image_id": "plain", "weight": 12.5}, {"image_id": "bad", "weight": 3.0}]
        ),
    }
    read = {name: frames.read_run(spark, run) for name, run in runs.items()}
    rows = training_set.gather(**read, backbone_id="ours").toPandas()
    return rows.sort_values("image_id").set_index("image_id")


def test_a_label_follows_the_content_that_was_labelled(gathered: pd.DataFrame) -> None:
    wanted = {"changed": 2, "copy": 1, "gone": 4, "plain": 1}  # the label was given before the image changed
    assert {name: bytes(row["embedding"]) for name, row in gathered.iterrows()} == {
        name: vector(seed) for name, seed in wanted.items()
    }
    assert dict(gathered["label"]) == {"changed": "other", "copy": "toilet", "gone": "other", "plain": "toilet"}
    assert np.frombuffer(gathered.loc["plain", "embedding"], "<f2").shape == (512,)


def test_a_label_without_an_embedding_is_left_out_and_others_occur_once(gathered: pd.DataFrame) -> None:
    assert list(gathered.index) == ["changed", "copy", "gone", "plain"]


def test_weights_come_from_the_sample_and_listings_from_the_catalog(gathered: pd.DataFrame) -> None:
    assert dict(gathered["weight"]) == {"changed": 1.0, "copy": 1.0, "gone": 1.0, "plain": 12.5}
    assert dict(gathered["listing_id"]) == {
        "changed": "L-changed",
        "copy": "L-copy",
        "gone": "gone",
        "plain": "L-plain",
    }

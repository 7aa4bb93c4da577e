"""Labels on the Spark side: from a table, through class folders, from files, and as tasks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import drawn_images, stored, training_python
from toiletspark.config import Config
from toiletspark.errors import BackboneError, LabelsError, OutputError, TableError
from toiletspark.hashing import content_digest
from toiletspark.jobs import (
    draw_sample,
    embed_images,
    export_labels,
    import_labels,
    train_head,
    write_tasks,
)
from toiletspark.labels import label_table
from toiletspark.labels import merge as labels
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.labels.training_inputs import golden_images as golden_set
from toiletspark.model import golden, registry, weights
from toiletspark.model.backbone import Backbone
from toiletspark.model.head import Head
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]


# From a table


def imported(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path, frame: pd.DataFrame, **sets: Any
) -> Any:
    frame.to_csv(tmp_path / "labels.csv", index=False)
    named = {f"labels.table.{key.replace('__', '.')}": value for key, value in sets.items()}
    images = pd.DataFrame({"image_id": ["a", "b", "c", "7"], "listing_id": "L1", "image_url": "u"})
    config = make_config({"labels.table.path": tmp_path / "labels.csv", **named}, images=images)
    return label_table.import_table(spark, config.labels).labels


def stopped(error: type[Exception], *arguments: Any, **sets: Any) -> str:
    with pytest.raises(error) as raised:
        imported(*arguments, **sets)
    return str(raised.value)


def test_a_table_of_labels(spark: SparkSession, make_config: MakeConfig, tmp_path: Path) -> None:
    """Rows without a class are unlabelled images; the same label twice is one; numbers are ids."""
    rows = [
        ("a", "toilet"),
        ("b", "other"),
        ("a", "toilet"),
        ("c", None),
        ("c", ""),
        ("nobody's", None),
        (7, "other"),
    ]
    result = imported(
        spark, make_config, tmp_path, pd.DataFrame(rows, columns=["image_id", "class"])
    )
    assert sorted(result, key=lambda label: label.image_id) == [
        Label("7", "other", None, "table"),
        Label("a", "toilet", None, "table"),
        Label("b", "other", None, "table"),
    ]


def test_labels_of_ids_that_pandas_has_made_floats(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    """A row without id or class makes pandas hold floats; classes may be numbers too."""
    ids = pd.DataFrame({"image_id": [1, 12345678, None], "class": [1, None, None]})
    assert set(ids.dtypes.astype(str)) == {"float64"}
    ids.to_parquet(tmp_path / "labels.parquet")
    images = pd.DataFrame({"image_id": [1, 12345678], "listing_id": "L1", "image_url": "u"})
    sets = {"labels.table.path": tmp_path / "labels.parquet", "labels.table.format": "parquet"}
    classes = {"labels.classes": '["1", "0"]', "labels.exclude_classes": '["1"]'}
    config = make_config({**sets, **classes}, images=images)
    answers = label_table.import_table(spark, config.labels)
    assert answers.labels == [Label("1", "1", None, "table")]
    assert "12345678" in answers.covers


def test_a_table_with_other_column_names(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"photo.key": ["a"], "what is it": ["toilet"]})
    columns = {"columns__image_id": "photo.key", "columns__class": "what is it"}
    assert imported(spark, make_config, tmp_path, frame, **columns) == [
        Label("a", "toilet", None, "table")
    ]


@pytest.mark.parametrize(
    ("rows", "expected", "result", "todo"),
    [
        (
            [("a", "toilets"), ("b", "other"), ("c", "zebra")],
            "at least one label, each one of labels.classes: toilet, other",
            "'toilets' 1, 'zebra' 1 (did you mean 'toilet'?) in 2 of 3 rows",
            "set labels.classes to the classes that were labelled, or correct the words",
        ),
        (
            [("a", None)],
            "at least one label, each one of labels.classes: toilet, other",
            "no labels",
            "label some images first",
        ),
        (
            [("a", "toilet"), (None, "other")],
            "an image_id in each row with a class",
            "rows without one, of the classes 'other'",
            "fill it in, leave these rows out (labels.table.where), or map "
            "labels.table.columns.image_id to the right column",
        ),
    ],
    ids=["unknown classes", "no labels", "no id"],
)
def test_labels_that_cannot_be_taken(
    spark: SparkSession,
    make_config: MakeConfig,
    tmp_path: Path,
    rows: Any,
    expected: str,
    result: str,
    todo: str,
) -> None:
    frame = pd.DataFrame(rows, columns=["image_id", "class"])
    assert stopped(LabelsError, spark, make_config, tmp_path, frame) == (
        f"while importing labels from {tmp_path}/labels.csv\n"
        f"  expected: {expected}\n"
        f"  found:    {result}\n"
        f"  do:       {todo}"
    )


def test_a_table_keeps_the_words_of_two_people_on_an_image(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"image_id": ["a", "b", "a"], "class": ["toilet", "other", "other"]})
    assert imported(spark, make_config, tmp_path, frame) == [
        Label("a", "other", None, "table", "somebody who says other"),
        Label("a", "toilet", None, "table", "somebody who says toilet"),
        Label("b", "other", None, "table"),
    ]


def test_labels_of_photos_that_have_left_are_counted_by_every_door(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    """If all are unknown, and the source is new, the ids stand side by side."""
    images = pd.DataFrame({"image_id": ["0012", "b"], "listing_id": "L1", "image_url": "u"})
    config = make_config(images=images)
    some = [Label(image_id, "toilet", None, "folder") for image_id in ("0012", "gone", "gone")]
    assert label_table.count_unknown(spark, config, some, (), "S") == 1
    strange = [Label(image_id, "toilet", None, "folder") for image_id in ("12", "gone")]
    assert label_table.count_unknown(spark, config, strange, {"gone"}, "S") == 2
    with pytest.raises(LabelsError) as raised:
        label_table.count_unknown(spark, config, strange, {"others"}, "S")
    pair = "'12' here and '0012' there"
    assert raised.value.found == f"2 images, all of them unknown, for instance {pair}"


def test_a_missing_column_names_the_nearest(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"image_id": ["a"], "klass": ["toilet"]})
    assert stopped(TableError, spark, make_config, tmp_path, frame) == (
        f"while importing labels from {tmp_path}/labels.csv\n"
        "  expected: the column 'class' (labels.table.columns.class)\n"
        "  found:    the columns 'image_id', 'klass' (did you mean 'klass'?)\n"
        "  do:       write the name of your column into the configuration"
    )


WIDE = {"columns__class": ""}


def test_a_wide_table_has_a_column_for_each_class(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("a", 1, 0.0, "x"), ("b", 0, 1.0, ""), ("c", 1, 1.0, ""), (7, 0, None, "")]
    frame = pd.DataFrame(rows, columns=["image_id", "toilet", "other", "note"])
    caplog.set_level("INFO", "toiletspark")
    assert imported(spark, make_config, tmp_path, frame, **WIDE) == [
        Label("a", "toilet", None, "table"),
        Label("b", "other", None, "table"),
    ]
    assert "no label, several classes in one row: 1 ('c')" in caplog.text
    assert "rows without a class: 1" in caplog.text


def test_a_wide_table_that_cannot_be_taken(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"image_id": ["a"], "toilet": [0.7], "other": [0.3]})
    message = stopped(LabelsError, spark, make_config, tmp_path, frame, **WIDE)
    assert "found:    '0.7' 1 in 1 of 1 rows" in message
    assert 'or set labels.table.columns.class = ""' in stopped(
        TableError, spark, make_config, tmp_path, frame
    )
    frame = frame.drop(columns="other")
    message = stopped(TableError, spark, make_config, tmp_path, frame, **WIDE)
    assert "the column 'other' (labels.table.columns.class is empty: other)" in message


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
    sets = {
        "sample.size": 18,
        "labels.labeller": "ann",
        "train.validation_share": 0.5,
        "train.seed": 1,
    }
    config = make_config({**sets, "train.python": training_python()}, images=images)
    folder = tmp_path / "output" / "labelling"
    draw_sample.step(Workspace.open(spark, config))
    summary = export_labels.step(Workspace.open(spark, config))
    assert summary == {"sampled": 18, "exported": 17, "folder": str(folder)}
    index = pd.read_csv(folder / "index.csv").set_index("image_id")
    urls = images.set_index("image_id")["image_url"]
    assert set(index.index) == set(images["image_id"]) - {"L1-1"}
    for image_id, row in index.iterrows():
        assert row["content_digest"] == content_digest(Path(urls[image_id]).read_bytes())
        name = Path(row["file"]).name
        room = "toilet" if image_id.endswith("-3") else "other"
        if image_id != "L6-2":  # which nobody has sorted yet
            (folder / "unlabelled" / name).rename(folder / room / name)
    # what people have sorted stays where it is
    assert export_labels.step(Workspace.open(spark, config))["exported"] == 0
    assert len(list((folder / "toilet").iterdir())) == 6

    summary = import_labels.step(Workspace.open(spark, config))
    assert summary["since_last"] == "16 new, 0 changed, 0 gone, 0 unchanged"
    assert (summary["labelled"], summary["per_class"]) == (16, {"toilet": 6, "other": 10})
    rows = pd.read_parquet(summary["labels"]).set_index("image_id")
    assert rows.loc["L2-3", "class"] == "toilet"
    assert set(rows["labeller"]) == {"ann"}
    assert set(rows["how"]) == {"folder"}
    assert dict(rows["content_digest"]) == dict(index["content_digest"].drop("L6-2"))

    embed_images.step(Workspace.open(spark, config))
    summary = train_head.step(Workspace.open(spark, config))
    assert (
        summary["labelled"],
        summary["without_embedding"],
        summary["in_conflict"],
        summary["corrupt"],
    ) == (16, 0, 0, 0)
    assert summary["trained_on"] + summary["validation"]["n"] == 16
    made = registry.load(summary["head"])
    assert made.classes == ("toilet", "other")
    assert made.backbone_id == Store(config.output.root).newest(tables.CATALOG).inputs.backbone_id
    assert made.head_id == summary["head_id"]
    assert_golden(made, urls, config, summary)


def assert_golden(made: Head, urls: pd.Series, config: Config, summary: dict[str, Any]) -> None:
    """All 16 labelled images, in turn over the classes, with the embeddings of their JPEGs."""
    assert (summary["golden_images"], summary["golden_left_out"]) == (16, 0)
    in_turn = [image.label for image in made.golden]
    assert all(
        set(in_turn[position : position + 2]) == {"toilet", "other"} for position in range(0, 12, 2)
    )
    spec = weights.load_spec(config.backbone)
    assert made.facts["backbone"] == spec.description
    for image in made.golden:
        labelled = Path(urls[image.image_id]).read_bytes()
        assert image.content_digest == content_digest(labelled) != content_digest(image.jpeg)
        golden.require_embedding(Backbone(spec), image, config.decode, doing="testing")
    names = [f"golden-{number:02}.jpg" for number in range(16)] + ["golden.safetensors"]
    sealed = json.loads(Path(summary["head"], "bundle.json").read_text())
    assert sorted(sealed["files"]) == sorted(
        [*names, "head.json", "head.safetensors", "evaluation.json", "part-0.parquet"]
    )


def test_golden_images_that_changed_since_or_are_gone_are_left_out(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    config = make_config(images=images)
    urls = images.set_index("image_id")["image_url"]
    spec = weights.load_spec(config.backbone)
    store = Store.open(config.output.root)
    kept = {
        name: content_digest(Path(urls[name]).read_bytes())
        for name in ("L1-1", "L2-1", "L3-1", "L4-1")
    }
    labelled = [
        {"image_id": name, "content_digest": digest, "label": "other"}
        for name, digest in kept.items()
    ]
    gathered = stored(
        store, tables.TRAINING_SET, labelled, inputs={"backbone_id": spec.backbone_id}
    )
    Path(urls["L2-1"]).write_bytes(Path(urls["L5-1"]).read_bytes())
    Path(urls["L4-1"]).unlink()
    assert golden_set.keep(Workspace(spark, store, config), gathered) == {
        "golden_images": 2,
        "golden_left_out": 2,
    }
    run = store.run(tables.GOLDEN_IMAGES, gathered.run_id)
    assert {row["image_id"] for row in rows.read(run)} == {"L1-1", "L3-1"}


def test_golden_images_need_the_backbone_of_the_training_set(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config()
    store = Store.open(config.output.root)
    gathered = stored(store, tables.TRAINING_SET, [], inputs={"backbone_id": "another"})
    with pytest.raises(BackboneError) as raised:
        golden_set.keep(Workspace(spark, store, config), gathered)
    assert str(raised.value) == (
        "while making golden images\n"
        "  expected: the backbone another, with which the catalog is embedded\n"
        f"  found:    the configured one, {weights.load_spec(config.backbone).backbone_id}\n"
        "  do:       run `toiletspark embed` with this configuration first, "
        "or set [backbone] to what the catalog has"
    )


def test_training_before_the_labels_names_the_step(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    with pytest.raises(
        OutputError, match="run `toiletspark labels import` with the same configuration first"
    ):
        train_head.step(Workspace.open(spark, make_config()))


def test_labels_without_any_embedding_stop_the_training(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    store = Store.open(config.output.root)
    stored(
        store,
        tables.CATALOG,
        [{"image_id": "a", "image_version": "1"}],
        inputs={"backbone_id": "ours"},
    )
    labels.save(store, SourceLabels([Label("a", "toilet", None, "table")]), "ann", {}, "by hand")
    with pytest.raises(LabelsError) as raised:
        train_head.step(Workspace.open(spark, config))
    assert str(raised.value) == (
        "while gathering the training set\n"
        "  expected: labelled images that have an embedding\n"
        "  found:    1 labels, none of whose images could be embedded\n"
        f"  do:       see the column status in {tmp_path}/output/image_ledger"
    )


# Files


def labels_file(folder: Path, *image_ids: str) -> Path:
    words = [
        {
            "image_id": name,
            "content_digest": None,
            "class": "toilet",
            "labelled_at": "2026-11-24T10:00:00Z",
        }
        for name in image_ids
    ]
    content = {
        "format": "toiletspark-labels",
        "format_version": 1,
        "sheet": "s",
        "labeller": "",
        "labels": words,
    }
    path = folder / "labels.json"
    path.write_text(json.dumps(content))
    return path


def test_a_file_of_labels_is_merged(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Its labeller left no name; one image has left the catalog since the sheet was made."""
    file = labels_file(tmp_path, "L1-1", "gone")
    summary = import_labels.step(
        Workspace.open(spark, make_config({"labels.file": file, "labels.labeller": "ann"}))
    )
    rows = pd.read_parquet(summary["labels"])
    assert list(zip(rows["image_id"], rows["labeller"], rows["how"], strict=True)) == [
        ("L1-1", "ann", "sheet"),
        ("gone", "ann", "sheet"),
    ]


def test_a_file_of_another_catalog_is_refused(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    file = labels_file(tmp_path, "x", "../y")
    with pytest.raises(LabelsError) as raised:
        import_labels.step(Workspace.open(spark, make_config({"labels.file": file})))
    assert str(raised.value) == (
        f"while importing labels from {file}\n"
        "  expected: labels of images that the images table has\n"
        "  found:    2 images, all of them unknown, for instance '../y' here and 'L1-1' there\n"
        "  do:       write the ids as the images table has them, or use the configuration with "
        "which the sheet, the tasks or the folder were made"
    )


# Presorted, and tasks for Label Studio


def scored(config: Config, scores: dict[str, tuple[float, float]]) -> None:
    store = Store.open(config.output.root)
    table = tables.SCORES.with_columns(tables.probability_columns(("toilet", "other")))
    rows = [
        {"image_id": name, "head_id": "h1", "p_toilet": toilet, "p_other": other}
        for name, (toilet, other) in scores.items()
    ]
    stored(store, table, rows)


def test_pictures_are_presorted_by_the_newest_scores(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config({"sample.size": 18, "labels.presort": "true", "labels.labeller": "ann"})
    draw_sample.step(Workspace.open(spark, config))
    with pytest.raises(
        OutputError, match="run `toiletspark score` with the same configuration first"
    ):
        export_labels.step(Workspace.open(spark, config))
    scored(config, {"L1-3": (0.9, 0.1), "L2-3": (0.5, 0.5), "L1-1": (0.2, 0.8)})
    folder = Path(export_labels.step(Workspace.open(spark, config))["folder"])
    index = pd.read_csv(folder / "index.csv").set_index("image_id")["file"]
    locations = {name: file.partition("/")[0] for name, file in index.items()}
    assert {name: position for name, position in locations.items() if position != "unlabelled"} == {
        "L1-3": "toilet",
        "L2-3": "toilet",
        "L1-1": "other",
    }
    file = folder / index["L2-3"]
    file.rename(folder / "other" / file.name)  # a mistake of the head
    summary = import_labels.step(Workspace.open(spark, config))
    assert (
        summary["since_last"]
        == "1 new, 0 changed, 0 gone, 0 unchanged, 2 presorted and not looked at"
    )
    reviewed = config.model_copy(
        update={"labels": config.labels.model_copy(update={"reviewed": ["toilet"]})}
    )
    summary = import_labels.step(Workspace.open(spark, reviewed))
    assert (
        summary["since_last"]
        == "1 new, 0 changed, 0 gone, 1 unchanged, 1 presorted and not looked at"
    )
    rows = pd.read_parquet(summary["labels"]).set_index("image_id")
    assert dict(rows["class"] + " " + rows["how"]) == {
        "L1-3": "toilet folder_presorted",
        "L2-3": "other folder",
    }


def test_tasks_for_label_studio(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config({"labels.of": "suggest", "label_studio.document_root": tmp_path})
    queue = [
        {"image_id": name, "rank": rank} for rank, name in enumerate(("L2-3", "L1-1", "L6-2"), 1)
    ]
    store = Store.open(config.output.root)
    stored(store, tables.QUEUES, queue[:1], inputs={"kind": "second_look"})
    with pytest.raises(OutputError) as raised:
        write_tasks.step(Workspace.open(spark, config))
    assert str(raised.value) == (
        "while writing tasks for Label Studio\n"
        f"  expected: a queue of kind suggest (labels.of) in {config.output.root}/queues\n"
        "  found:    none\n"
        "  do:       run `toiletspark labels suggest` with the same configuration first"
    )
    stored(store, tables.QUEUES, queue, inputs={"kind": "suggest"})
    stored(store, tables.QUEUES, queue[:1], inputs={"kind": "second_look"})
    scored(config, {"L1-1": (0.25, 0.75), "L5-1": (0.5, 0.5)})
    summary = write_tasks.step(Workspace.open(spark, config))
    assert (summary["tasks"], summary["pre_annotated"]) == (3, 1)
    assert sorted(path.name for path in Path(summary["folder"]).iterdir()) == [
        "labelling.xml",
        "tasks.json",
    ]
    tasks = json.loads((Path(summary["folder"]) / "tasks.json").read_text())
    assert [task["data"]["image_id"] for task in tasks] == ["L2-3", "L1-1", "L6-2"]
    assert tasks[0] == {
        "data": {
            "image": "/data/local-files/?d=pictures/L2-3.jpg",
            "image_id": "L2-3",
            "listing_id": "L2",
            "content_digest": None,
        }
    }
    assert tasks[1]["predictions"] == [
        {
            "model_version": "h1",
            "score": 0.75,
            "result": [
                {
                    "from_name": "choice",
                    "to_name": "image",
                    "type": "choices",
                    "value": {"choices": ["other"]},
                }
            ],
        }
    ]


def test_pictures_that_label_studio_cannot_open_are_told(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config({"sample.size": 18, "sample.method": "exact"})
    draw_sample.step(Workspace.open(spark, config))
    with pytest.raises(LabelsError) as raised:
        write_tasks.step(Workspace.open(spark, config))
    assert raised.value.found.startswith("18 of 18 images elsewhere: 'L1-1', 'L1-2', 'L1-3'")
    assert "label_studio.document_root (not set)" in raised.value.expected

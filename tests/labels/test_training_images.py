"""Training inputs beside the embeddings: the labelled files and their views, each once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import drawn_images, picture, stored, vector
from toiletspark.config import Config
from toiletspark.errors import BackboneError, LabelsError
from toiletspark.hashing import content_digest
from toiletspark.jobs import train_head
from toiletspark.labels import merge as labels
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.labels.training_inputs import training_images, training_views
from toiletspark.launch import trainer
from toiletspark.model.backbone import Backbone
from toiletspark.model.weights import load_spec
from toiletspark.reports.head_page import gather as evaluated
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
ASKED = {"train.views": '["flip"]', "train.finetune": "all"}


def labelled(config: Config, images: pd.DataFrame) -> Store:
    """A catalog whose six first images are labelled and embedded, without a step of Spark."""
    store = Store.open(config.output.root)
    backbone_id = load_spec(config.backbone).backbone_id
    rows: list[dict[str, Any]] = images.head(6).to_dict("records")
    for row in rows:
        row |= {
            "stratum": "S",
            "status": "ok",
            "content_digest": content_digest(Path(row["image_url"]).read_bytes()),
        }
    stored(store, tables.CATALOG, rows, inputs={"backbone_id": backbone_id})
    embedded = [
        {
            "content_digest": row["content_digest"],
            "backbone_id": backbone_id,
            "embedding": vector(position),
        }
        for position, row in enumerate(rows)
    ]
    stored(store, tables.EMBEDDINGS, embedded)
    imported = [
        Label(row["image_id"], ("toilet", "other")[position % 2], None, "table")
        for position, row in enumerate(rows)
    ]
    labels.save(store, SourceLabels(imported), "ann", {}, "by hand")
    return store


def test_train_gathers_files_and_views_of_what_is_labelled_and_views_once(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = drawn_images(tmp_path / "pictures")
    config = make_config(ASKED, images=images)
    store = labelled(config, images)
    urls = images.set_index("image_id")["image_url"]
    Path(urls["L1-2"]).unlink()
    Path(urls["L2-1"]).write_bytes(picture("kitchen", 99))  # replaced since it was labelled
    monkeypatch.setattr(trainer, "train", lambda config: {"head": ""})
    monkeypatch.setattr(evaluated, "write_page", lambda *summary: "")

    summary = train_head.step(Workspace.open(spark, config))
    assert (summary["labelled"], summary["views_embedded"]) == (6, 4)
    assert (summary["images_gathered"], summary["images_without_file"]) == (4, 2)
    files = pd.read_parquet(store.newest(tables.TRAINING_IMAGES).folder).set_index("image_id")
    assert set(files.index) == {"L1-1", "L1-3", "L2-2", "L2-3"}
    for image_id, row in files.iterrows():
        assert bytes(row["content"]) == Path(urls[image_id]).read_bytes()
        assert (row["listing_id"], row["stratum"], row["weight"]) == (image_id[:2], "S", 1.0)
    source = store.newest(tables.TRAINING_SET)
    assert store.newest(tables.TRAINING_IMAGES).inputs.training_set == source.run_id

    result = (
        frames.read_all(spark, store, tables.TRAINING_VIEWS).toPandas().set_index("content_digest")
    )
    spec = load_spec(config.backbone)
    assert set(result["view"]) == {"flip"}
    assert set(result["backbone_id"]) == {spec.backbone_id}
    backbone = Backbone(spec)
    file = Path(urls["L1-1"]).read_bytes()
    mirrored = backbone.embed(
        backbone.decode([file], config.decode)[0].pixels[None, :, ::-1].copy()
    )[0]
    kept = np.frombuffer(result.loc[content_digest(file), "embedding"], "<f2").astype(np.float32)
    assert np.allclose(kept, mirrored, rtol=2e-3, atol=1e-3)

    Path(urls["L1-2"]).write_bytes(Path(urls["L1-3"]).read_bytes())
    # what is there is not made again
    assert training_views.gather(Workspace.open(spark, config)) == {"views_embedded": 0}


def test_files_that_stand_in_the_images_table(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    inline = images.assign(content=[Path(url).read_bytes() for url in images["image_url"]])
    config = make_config({**ASKED, "images.columns.content": "content"}, images=inline)
    store = labelled(config, images)
    for url in images["image_url"]:
        Path(url).unlink()
    of_six = frames.read_run(spark, store.newest(tables.CATALOG)).selectExpr(
        "content_digest", "image_id AS name"
    )
    result = training_images.located(Workspace(spark, store, config), of_six).toPandas()
    assert len(result) == 6
    assert all(
        content_digest(bytes(row.inline)) == row.content_digest for row in result.itertuples()
    )


def test_nothing_is_gathered_unasked_and_refusals_are_told(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    config = make_config(images=images)
    assert (
        training_views.gather(Workspace.open(spark, config))
        == training_images.gather(Workspace.open(spark, config))
        == {}
    )
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["_toiletspark.json"]
    config = make_config(ASKED, images=images)
    store = labelled(config, images)
    row = {"image_id": "a", "content_digest": "nowhere", "label": "toilet", "weight": 1.0}
    stored(store, tables.TRAINING_SET, [row], inputs={"backbone_id": "another"})
    with pytest.raises(LabelsError) as caught:
        training_images.gather(Workspace.open(spark, config))
    assert str(caught.value) == (
        "while gathering the labelled images\n"
        "  expected: files of labelled images\n"
        "  found:    1 labelled images, none of which lies where the catalog says, "
        "as it was labelled\n"
        "  do:       run `toiletspark embed` to see what has become of them, "
        "or set train.finetune=none"
    )
    with pytest.raises(
        BackboneError, match="expected: the backbone another, with which the catalog is embedded"
    ):
        training_views.gather(Workspace.open(spark, config))

"""Labels from a plain folder: matched with the catalog, and pictures of their own beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import drawn_images, picture, stored, stored_catalog, vector
from toiletspark.config import Config
from toiletspark.errors import LabelsError
from toiletspark.hashing import content_digest
from toiletspark.jobs import import_labels, train_head
from toiletspark.launch import trainer
from toiletspark.model.backbone import Backbone
from toiletspark.model.weights import load_spec
from toiletspark.reports.head_page import gather as head_page
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
FOREIGN = {"toilet/wc.jpg": ("toilet", 50), "other/cosy.jpg": ("kitchen", 51)}


def rows_of(store: Store, table: tables.Table) -> pd.DataFrame:
    return pd.read_parquet(store.newest(table).folder)


def catalog_rows(images: pd.DataFrame) -> list[dict[str, Any]]:
    """The catalog as `embed` leaves it."""
    rows: list[dict[str, Any]] = images.to_dict("records")
    for row in rows:
        digest = content_digest(Path(row["image_url"]).read_bytes())
        row |= {"stratum": "S", "status": "ok", "content_digest": digest}
    return rows


def numbers_of_runs(store: Store) -> list[int]:
    written = (tables.PICTURES, tables.EMBEDDINGS, tables.IMAGE_LEDGER)
    return [len(store.runs(table)) for table in written]


def own_folder(folder: Path, images: pd.DataFrame) -> Path:
    """Two pictures of the catalog, one named after its image, two of none, and what is no label."""
    urls = images.set_index("image_id")["image_url"]
    files = {name: picture(room, seed) for name, (room, seed) in FOREIGN.items()}
    files |= {
        "toilet/holiday.jpg": Path(urls["L1-3"]).read_bytes(),
        "other/0001.jpg": Path(urls["L1-1"]).read_bytes(),
        "toilet/L2-3.jpg": picture("toilet", 1, (32, 24)),  # a smaller copy of the photo
        "toilet/again.jpg": files["toilet/wc.jpg"],
        "toilet/notes.txt": b"these are toilets",
        "other/cut.jpg": picture("kitchen", 52)[:300],
        "toilet/both.jpg": picture("kitchen", 53),
        "other/both.jpg": picture("kitchen", 53),
        "other/@eaDir/cosy.jpg": b"a thumbnail",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_plain_folder_trains_and_counts_for_no_draw(
    spark: SparkSession,
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = drawn_images(tmp_path / "pictures")
    folder = own_folder(tmp_path / "mine", images)
    more = {"train.views": '["flip"]', "train.golden_images": 8, "labels.labeller": "ann"}
    config = make_config({"labels.folder": folder, **more}, images=images)
    store = Store.open(config.output.root)
    drawn = [{"image_id": name, "inclusion_probability": 0.5} for name in images["image_id"]]
    stored(store, tables.SAMPLE, drawn)

    def imported() -> dict[str, Any]:
        return import_labels.step(Workspace.open(spark, config))

    rows = catalog_rows(images)
    backbone_id = load_spec(config.backbone).backbone_id
    stored_catalog(store, rows, backbone_id)
    embedded = {"backbone_id": backbone_id, "embedding": vector(1)}
    digests = [{"content_digest": row["content_digest"], **embedded} for row in rows]
    stored(store, tables.EMBEDDINGS, digests)
    summary = imported()
    assert summary["folder"] == {
        "in_catalog": 3,
        "by_name": 1,
        "pictures": 2,
        "repeated": 1,
        "in_two_classes": 1,
        "skipped": {"not_an_image": 1, "truncated": 1},
        "leftovers": {"@eaDir": 1},
    }
    assert "no label, not_an_image: 1 ('toilet/notes.txt')" in caplog.text
    assert "other/both.jpg and toilet/both.jpg" in caplog.text
    assert "files that label the image they are named after: 1 ('toilet/L2-3.jpg')" in caplog.text
    assert summary["since_last"] == "5 new, 0 changed, 0 gone, 0 unchanged"
    contents = {name: picture(room, seed) for name, (room, seed) in FOREIGN.items()}
    wc, cosy = (f"picture {content_digest(content)}" for content in contents.values())
    labels = rows_of(store, tables.LABELS).set_index("image_id")
    assert dict(labels["class"]) == {
        "L1-3": "toilet",
        "L1-1": "other",
        "L2-3": "toilet",
        wc: "toilet",
        cosy: "other",
    }
    assert set(labels["how"]) == {"image_folder"}
    assert list(labels.index[labels["content_digest"].isna()]) == ["L2-3"]

    # again: nothing is changed, stored or embedded
    runs = numbers_of_runs(store)
    assert imported()["since_last"] == "0 new, 0 changed, 0 gone, 5 unchanged"
    assert numbers_of_runs(store) == runs

    monkeypatch.setattr(trainer, "train", lambda config: {"head": ""})
    monkeypatch.setattr(head_page, "write_page", lambda *summary: "")
    summary = train_head.step(Workspace.open(spark, config))
    assert (summary["labelled"], summary["without_embedding"]) == (5, 0)
    assert (summary["golden_images"], summary["golden_left_out"]) == (5, 0)
    assert summary["views_embedded"] == 5
    rows = rows_of(store, tables.TRAINING_SET).set_index("image_id")
    assert set(rows["draw"]) == {None}
    assert set(rows["weight"]) == {1.0}
    assert rows.loc[wc, "listing_id"] == f"image {wc}"
    assert rows.loc["L1-3", "listing_id"] == "L1"
    backbone = Backbone(load_spec(config.backbone))
    pixels = backbone.decode([contents["other/cosy.jpg"]], config.decode)[0].pixels
    embedding = np.frombuffer(rows.loc[cosy, "embedding"], "<f2").astype(np.float32)
    assert np.allclose(embedding, backbone.embed(pixels[None])[0], rtol=2e-3, atol=1e-3)

    # a moved file is the newer label, and a removed one takes its label back
    (folder / "toilet/wc.jpg").unlink()
    (folder / "toilet/again.jpg").rename(folder / "other/again.jpg")
    (folder / "other/0001.jpg").unlink()
    assert imported()["since_last"] == "0 new, 1 changed (toilet -> other 1), 1 gone, 3 unchanged"
    assert numbers_of_runs(store) == runs


def test_pictures_that_the_catalog_gets_later_become_its_images(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    urls = images.set_index("image_id")["image_url"]
    folder = tmp_path / "mine"
    for name, image_id in (("toilet/a.jpg", "L1-3"), ("other/b.jpg", "L1-1")):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(Path(urls[image_id]).read_bytes())
    config = make_config({"labels.folder": folder}, images=images)
    summary = import_labels.step(Workspace.open(spark, config))
    assert (summary["folder"]["in_catalog"], summary["folder"]["pictures"]) == (0, 2)
    store = Store.open(config.output.root)
    stored(store, tables.CATALOG, catalog_rows(images.head(3)))
    summary = import_labels.step(Workspace.open(spark, config))
    assert summary["since_last"] == "2 new, 0 changed, 2 gone, 0 unchanged"
    assert set(rows_of(store, tables.LABELS)["image_id"]) == {"L1-3", "L1-1"}


def test_unsound_files_may_leave_one_class(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    for name, content in (("toilet/a.jpg", picture()), ("other/b.jpg", b"no picture")):
        (tmp_path / "mine" / name).parent.mkdir(parents=True)
        (tmp_path / "mine" / name).write_bytes(content)
    config = make_config({"labels.folder": tmp_path / "mine"})
    with pytest.raises(LabelsError) as error:
        import_labels.step(Workspace.open(spark, config))
    assert "toilet 1, other 0; no label, not_an_image: 1 ('other/b.jpg')" in str(error.value)

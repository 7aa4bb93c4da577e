"""Bundles on the cluster: tampered ones score no image, and a worker that differs stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from tests.conftest import stored, stored_catalog, vector
from tests.support.bundles import TAMPERINGS, golden_head, marker, with_its_own_id
from toiletspark.config import Config
from toiletspark.config.command_line import reported_errors
from toiletspark.errors import HeadError
from toiletspark.jobs import embed_images, rescore_catalog, score_catalog
from toiletspark.model import bundle, registry, weights
from toiletspark.model.backbone import Backbone
from toiletspark.model.head import Head
from toiletspark.tables import schemas
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace


def with_head(make_config: Any, tmp_path: Path) -> tuple[Config, Head, str]:
    """A configuration whose score.head is sound except for random golden embeddings."""
    folder = str(tmp_path / "carried" / "head")
    config = make_config({"score.head": folder})
    head = golden_head(weights.load_spec(config.backbone))
    bundle.write(folder, head)
    return config, head, folder


def sound(config: Config, head: Head) -> Head:
    """With golden embeddings as the configuration's backbone makes them."""
    backbone = Backbone(weights.load_spec(config.backbone))
    pixels = [backbone.decode([image.jpeg], config.decode)[0].pixels for image in head.golden]
    vectors = backbone.embed(np.stack([one for one in pixels if one is not None])).astype("<f2")
    pairs = zip(head.golden, vectors, strict=True)
    return head.with_golden(replace(image, embedding=made.tobytes()) for image, made in pairs)


def made(config: Config) -> list[str]:
    """The tables of the output root that have a run."""
    store = Store.open(config.output.root)
    return [table.name for table in schemas.RUN_TABLES if store.runs(table)]


def embedded(config: Config, head: Head) -> None:
    """A catalog of one image, as `embed` leaves it."""
    store = Store.open(config.output.root)
    row = {"content_digest": "d", "backbone_id": head.backbone_id, "embedding": vector(1)}
    stored(store, schemas.EMBEDDINGS, [row])
    image = {"image_id": "a", "listing_id": "L", "status": "ok", "content_digest": "d"}
    stored_catalog(store, [image], head.backbone_id)


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed anew"])
@pytest.mark.parametrize("kind", TAMPERINGS)
def test_a_tampered_bundle_scores_no_image(
    spark: SparkSession, make_config: Any, tmp_path: Path, kind: str, sealed: bool
) -> None:
    config, head, folder = with_head(make_config, tmp_path)
    embedded(config, head)
    TAMPERINGS[kind](folder)
    if sealed and kind in ("flipped_byte", "classes_swapped"):
        with_its_own_id(folder)
    elif sealed:
        bundle.seal(folder)
    for step in (score_catalog.step, rescore_catalog.step):
        with pytest.raises(HeadError):
            step(Workspace.open(spark, config))
    assert made(config) == ["catalog", "embeddings"]
    assert not (Path(config.output.root) / "scores").exists()
    assert not marker(folder).exists()


def test_a_worker_that_embeds_otherwise_stops_the_run_and_one_that_does_not_goes_on(
    spark: SparkSession, make_config: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One message, exit code 2, no stack trace and no second attempt; no image is embedded."""
    config, head, folder = with_head(make_config, tmp_path)
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended, reported_errors():
        embed_images.step(Workspace.open(spark, config))
    output = capfd.readouterr().err
    assert ended.value.code == 2
    largest = max(head.golden, key=lambda image: len(image.jpeg))
    assert "toiletspark: while checking a worker before its first image\n" in output
    assert f"  expected: the golden image {largest.image_id!r} within " in output
    assert "  found:    a distance of " in output
    assert (
        "  do:       nothing was kept. Install the versions of Pillow, torch or OpenVINO there"
        in output
    )
    assert "Traceback" not in output
    assert made(config) == []
    bundle.write(folder, sound(config, head))  # and the same workers
    assert embed_images.step(Workspace.open(spark, config))["embedded"] == 18


def test_a_head_that_a_worker_does_not_reckon_as_before_stops_the_scoring(
    spark: SparkSession, make_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, head, _ = with_head(make_config, tmp_path)
    embedded(config, head)
    before = made(config)
    wrong = [replace(image, scores={"toilet": 0.25, "other": 0.75}) for image in head.golden]
    altered = replace(head, golden=tuple(wrong))  # behind the driver's own check
    monkeypatch.setattr(registry, "current", lambda *_, **__: altered)
    with pytest.raises(HeadError) as stopped:
        score_catalog.step(Workspace.open(spark, config))
    assert (
        stopped.value.doing
        == f"checking the head {altered.head_id} on a worker, before its first batch"
    )
    assert stopped.value.expected == "golden scores within 0.0001 of those in the bundle"
    assert made(config) == before == ["catalog", "embeddings"]


def test_before_the_first_head_and_for_another_backbones_head_nobody_is_checked(
    make_config: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config()
    backbone_id = weights.load_spec(config.backbone).backbone_id
    assert registry.probe(Store.open(config.output.root), "", backbone_id) is None
    config, head, folder = with_head(make_config, tmp_path)
    store = Store.open(config.output.root)
    assert registry.probe(store, folder, backbone_id) == max(
        head.golden, key=lambda image: len(image.jpeg)
    )
    bundle.write(folder, replace(head, golden=()))
    assert registry.probe(store, folder, backbone_id) is None
    assert caplog.messages == [
        f"the head {head.head_id} has no golden images, so no worker is checked"
    ]
    bundle.write(folder, golden_head())
    assert registry.probe(store, folder, backbone_id) is None

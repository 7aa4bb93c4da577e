"""Benchmarks measure on data as toiletspark writes it, and their instruments show what is there."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from benchmarks import stages, synthetic
from benchmarks.measure import tree_pss_mb
from benchmarks.resume import photo_server, result
from tests.support.shared_folder import shared
from toiletspark.images.decoding import decode
from toiletspark.jobs import rescore_catalog
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

ROWS, CHANGED = 100, 7


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> synthetic.SyntheticCatalog:
    """100 images, in files and row groups so small that there are several of both."""
    monkeypatch.setattr(synthetic, "FILE_ROWS", 45)
    monkeypatch.setattr(synthetic, "ROW_GROUP_ROWS", 15)
    return synthetic.make_catalog(tmp_path, ROWS)


def test_the_same_rows_are_made_again_whatever_the_catalogs_size() -> None:
    assert synthetic._digests(30, 15).equals(synthetic._digests(30, 15))
    assert not synthetic._digests(30, 15).equals(synthetic._digests(45, 15))
    embeddings = synthetic._embedding_bits(30, 15).view("<f2").astype(float)
    assert embeddings.min() >= 0.125
    assert embeddings.max() < 2
    # as many between 1/8 and 1/2 as between 1/2 and 2
    assert abs(np.log2(embeddings).mean() + 1) < 0.1


def test_the_synthetic_store_is_consistent(made: synthetic.SyntheticCatalog) -> None:
    store = Store(made.config.output.root)
    runs = {table.name: store.newest(table) for table in (tables.EMBEDDINGS, tables.IMAGE_LEDGER)}
    rows = {
        name: pd.read_parquet(run.folder) for name, run in runs.items() if run and run.rows == ROWS
    }
    embeddings, ledger = rows["embeddings"], rows["image_ledger"]
    assert len(list((made.folder / "images").glob("*.parquet"))) == 3
    assert set(pd.read_parquet(made.folder / "images")["image_id"]) == set(ledger["image_id"])
    assert ledger["image_id"].is_unique
    assert ledger["content_digest"].is_unique
    assert ledger["content_digest"].str.fullmatch("[0-9a-f]{64}").all()
    assert set(embeddings["content_digest"]) == set(ledger["content_digest"])
    assert {len(embedding) for embedding in embeddings["embedding"]} == {2 * synthetic.DIMENSIONS}
    assert set(embeddings["backbone_id"]) == {synthetic.new_head(made, 0).backbone_id}


def test_only_what_has_changed_is_embedded(
    spark: SparkSession, made: synthetic.SyntheticCatalog
) -> None:
    """The others' URLs lead nowhere, so they would be unscored if they were read."""
    synthetic.change_images(made, CHANGED, "2")
    told = rescore_catalog.step(Workspace.open(spark, made.config))
    read = {name: told[name] for name in ("images", "attempted", "fetched", "embedded", "scored")}
    assert read == {
        "images": ROWS,
        "attempted": CHANGED,
        "fetched": CHANGED,
        "embedded": CHANGED,
        "scored": ROWS,
    }
    found = result(made.config.output.root)
    sizes = {name: len(rows) for name, rows in found.items() if name != "excluded"}
    assert sizes == {"statuses": ROWS, "embeddings": ROWS + CHANGED, "scores": ROWS}
    # a head that says the same of all would test nothing
    assert 0.2 < len(found["excluded"]) / ROWS < 0.8
    old = set(synthetic._digests(0, 15).to_pylist())
    assert found["statuses"]["i000000001"][1] in old
    # the first image is one of those that changed
    assert found["statuses"]["i000000000"][1] not in old


def test_another_version_is_another_content(made: synthetic.SyntheticCatalog) -> None:
    contents = []
    for version in ("2", "3"):
        synthetic.change_images(made, CHANGED, version)
        images = pd.read_parquet(made.folder / "images")
        urls = images.loc[images["image_version"] == version, "image_url"]
        contents += [Path(url).read_bytes() for url in urls]
        assert (images["image_version"] == "1").sum() == ROWS - CHANGED
        assert not any(
            Path(url).exists() for url in images.loc[images["image_version"] == "1", "image_url"]
        )
    assert len(set(contents)) == 2 * CHANGED
    config = made.config
    decoded = decode(
        contents, config.decode, synthetic.weights.load_spec(config.backbone).preprocessing
    )
    assert [one.status for one in decoded] == ["ok"] * 2 * CHANGED


def test_pss_sees_children_and_counts_them_once() -> None:
    """A process and its child share 100 MB, apart from the tests' processes, which come and go."""
    code = (
        "import os; held = bytearray(b'x') * (100 << 20); child = os.fork(); "
        "os.write(1, b'held\\n'); os.read(0, 1)"
    )
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert [parent.stdout.readline() for _ in range(2)] == [b"held\n"] * 2
        held = tree_pss_mb(parent.pid)
        parent.communicate(b"\n\n")
    assert 100 <= held < 140
    assert tree_pss_mb(parent.pid) == 0  # it has ended


def test_the_photo_server_counts_requests_by_path() -> None:
    import urllib.request

    photo = next(shared("photos", "files").iterdir())
    with photo_server() as (url, requests):
        for _ in range(2):
            with urllib.request.urlopen(f"{url}files/{photo.name}") as answer:
                assert answer.read() == photo.read_bytes()
    assert requests == {f"/files/{photo.name}": 2}


def test_stages_tell_what_ran_and_when_nothing_did(tmp_path: Path) -> None:
    def ended(stage: int, start_ms: int, end_ms: int, *scopes: str) -> dict[str, object]:
        rdds = [{"Scope": json.dumps({"id": "1", "name": name})} for name in scopes] + [{}]
        told = {
            "Stage ID": stage,
            "Stage Name": "parquet at Native:0",
            "Number of Tasks": 2,
            "RDD Info": rdds,
        }
        told |= {"Submission Time": start_ms, "Completion Time": end_ms}
        told |= {"Accumulables": [{"Name": "internal.metrics.executorRunTime", "Value": "1500"}]}
        return {"Event": "SparkListenerStageCompleted", "Stage Info": told}

    log = tmp_path / "log"
    events = [
        {"Event": "SparkListenerApplicationStart", "Timestamp": 1000},
        ended(1, 6000, 7000, "WriteFiles", "Exchange"),
        ended(0, 2000, 4500, "WholeStageCodegen (1)", "Scan parquet", "Scan parquet"),
    ]
    log.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    first, second = stages.stages(log)
    assert (first.stage_id, first.started_s, first.seconds, first.run_s) == (0, 1.0, 2.5, 1.5)
    assert (first.does, second.does) == ("parquet: Scan parquet", "parquet: Exchange, WriteFiles")
    assert stages.idle_s([second, first]) == 1.5

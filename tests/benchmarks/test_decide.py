"""The store on which deciding is measured is one that scoring could have left."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from benchmarks import decide, synthetic
from tests.conftest import literal_config
from toiletspark.jobs import publish_exclusions
from toiletspark.model import embedding_codec, registry
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace

ROWS, CONTENTS, OVERRIDES = 3000, 500, 300


def newest(store: Store, table: tables.Table) -> Run:
    run = store.newest(table)
    assert run is not None
    return run


def test_a_second_publication_of_a_synthetic_store(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in (
        (synthetic, "FILE_ROWS", 2000),
        (synthetic, "ROW_GROUP_ROWS", 1500),
        (decide, "CONTENTS", CONTENTS),
        (decide, "OVERRIDES", OVERRIDES),
    ):
        monkeypatch.setattr(module, name, value)
    store = Store.open(f"{tmp_path}/output")
    embeddings = decide._embed(store)
    sets = {"output.root": store.root}
    decide._scored(store, ROWS, embeddings, seed=1, late=3)
    first = publish_exclusions.step(Workspace.open(spark, literal_config(sets)))
    decide._scored(store, ROWS, embeddings, seed=2, late=4)
    decide._write_overrides(tmp_path / "overrides.csv", ROWS)

    seen, scored = newest(store, tables.CATALOG), newest(store, tables.SCORES)
    catalog, scores = (pd.read_parquet(run.folder).set_index("image_id") for run in (seen, scored))
    assert catalog.index.is_unique
    assert set(scores.index) == set(catalog.index[catalog["status"] == "ok"])
    assert (scores["content_digest"] == catalog["content_digest"].reindex(scores.index)).all()
    assert catalog["content_digest"].dropna().is_unique
    assert catalog["content_digest"].isna().equals(catalog["status"] != "ok")
    head = registry.load(newest(store, tables.HEADS).folder)
    assert scored.inputs.head_id == head.head_id
    stored = pd.read_parquet(newest(store, tables.EMBEDDINGS).folder).set_index("content_digest")[
        "embedding"
    ]
    judged = scores[scores["content_digest"].isin(stored.index)]
    assert len(judged) == CONTENTS - 3  # of each 1,000 images two fail, and one is late
    vectors = embedding_codec.from_stored(b"".join(stored[judged["content_digest"]]), len(judged))
    right = head.exclusion_scores(head.probabilities(vectors))
    np.testing.assert_allclose(judged["exclusion_score"], right, atol=1e-6)
    assert 0 < (right >= 0.5).mean() < 0.1

    told = publish_exclusions.step(
        Workspace.open(
            spark, literal_config({**sets, "overrides.path": tmp_path / "overrides.csv"})
        )
    )
    assert (first["version"], told["version"]) == (1, 2)
    assert told["images"] == ROWS
    assert told["overrides"]["total"] == OVERRIDES
    assert 0.9 * OVERRIDES < told["overrides"]["met"] < OVERRIDES
    assert set(decide._reasons(store, told)) | {"hysteresis"} == set(
        tables.REASONS
    )  # so few contents change sides
    steps = decide._steps(store, Path(told["exclusion_list"]).name, 60.0)
    assert sum(steps.values()) == pytest.approx(60.0, abs=0.3)
    assert all(seconds >= 0 for seconds in steps.values())

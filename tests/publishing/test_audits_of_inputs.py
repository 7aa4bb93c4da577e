"""The sources of a version: files, schemas, rows, head and age."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import faults, portal
from benchmarks.portal import Portal
from tests.conftest import stored
from toiletspark.config import Config, loading
from toiletspark.publishing.audits import checks, inputs
from toiletspark.publishing.audits.checks import Check
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import History
from toiletspark.tables import runs, schemas, storage
from toiletspark.tables.runs import Run, Store


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Portal:
    """A portal with a catalog and its scores, and no version."""
    shop = portal.opened(tmp_path_factory.mktemp("portal") / "store", 60, seed=3)
    seen = shop.catalog()
    shop.keep(seen, shop.scores(seen))
    return shop


@pytest.fixture
def shop(opened: Portal, tmp_path: Path) -> Portal:
    """A copy of it, to put a fault into."""
    shutil.copytree(opened.store.root, tmp_path / "store")
    return replace(opened.at(tmp_path / "store"), rng=np.random.default_rng(5))


def config_of(store: Store, *sets: str) -> Config:
    return loading.load([], [f"output.root={store.root}", *sets])


def judged(shop: Portal, *sets: str) -> dict[str, Check]:
    store = shop.store
    scores = store.runs(schemas.SCORES)[-1]
    catalog = store.run(schemas.CATALOG, scores.inputs.catalog) or store.runs(schemas.CATALOG)[-1]
    found = inputs.judge(config_of(store, *sets), scores, catalog, History.read(store))
    assert {check.rule for check in found} <= {*checks.INTEGRITY, *checks.ACCEPTABLE}
    return {check.rule: check for check in found}


def published(shop: Portal, **facts: Any) -> dict[str, Run]:
    """A version of one row each, by table."""
    run_id = runs.new_run_id()
    tables = {table.name: stored(shop.store, table, [{}], run_id=run_id) for table in log.TABLES}
    log.publish(shop.store, tables["exclusion_list"], **facts)
    return tables


def failed(found: dict[str, Check]) -> dict[str, str]:
    return {check.rule: check.found for check in checks.failed(found.values())}


def scores_folder(shop: Portal) -> Path:
    return Path(shop.store.runs(schemas.SCORES)[-1].folder)


def test_sound_sources_pass_every_rule(shop: Portal) -> None:
    found = judged(shop)
    assert {check.passed for check in found.values()} == {True}
    assert found["golden_images"].found.startswith(
        "8 golden images hold; of 64 stored embeddings 0 differ, by "
    )
    assert (
        found["size.scores"].expected
        == f"a score for each of {found['size.scores'].found} sound images"
    )


# Files


def spoil_in_place(file: Path) -> None:
    """The same number of bytes, another footer."""
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda file: file.unlink(), "'part-1.parquet': missing"),
        (
            lambda file: shutil.copy(file, file.with_name("part-9.parquet")),
            "'part-9.parquet': in no manifest",
        ),
        (lambda file: file.write_bytes(file.read_bytes()[:100]), "'part-1.parquet: 100 bytes of "),
        (lambda file: file.write_bytes(b""), "'part-1.parquet: 0 bytes of "),
        (spoil_in_place, "no Parquet"),
    ],
    ids=["gone", "one more", "truncated", "empty", "spoilt"],
)
@pytest.mark.parametrize("table", [schemas.SCORES, schemas.CATALOG])
def test_files_are_those_of_the_manifest(
    shop: Portal, harm: Callable[[Path], object], found: str, table: schemas.Table
) -> None:
    harm(Path(shop.store.runs(table)[-1].folder) / "part-1.parquet")
    told = failed(judged(shop))
    assert set(told) == {f"files.{table.name}"}
    assert told[f"files.{table.name}"].startswith(found)


def test_scores_whose_catalog_is_gone(shop: Portal) -> None:
    before = shop.store.runs(schemas.CATALOG)[-1]
    seen = shop.catalog()
    shop.keep(seen, shop.scores(seen))
    gone = shop.store.runs(schemas.CATALOG)[-1]
    shutil.rmtree(gone.folder)
    check = judged(shop)["files.catalog"]
    assert (check.passed, check.found) == (False, "no such run")
    assert gone.run_id in check.expected != before.run_id


@pytest.mark.parametrize("table", [schemas.DECISIONS, schemas.STRATA])
def test_the_last_version_is_looked_at_too(shop: Portal, table: schemas.Table) -> None:
    run = published(shop)[table.name]
    assert failed(judged(shop)) == {}
    (Path(run.folder) / "part-0.parquet").write_bytes(b"disk error")
    found = judged(shop)
    assert set(failed(found)) == {"files.last_version"}
    assert f"of {table.name} {run.run_id}" in found["files.last_version"].expected
    assert "publish rollback" in found["files.last_version"].todo


@pytest.mark.parametrize("table", [schemas.DECISIONS, schemas.STRATA])
def test_a_last_version_without_one_of_its_tables_is_no_first_version(
    shop: Portal, table: schemas.Table
) -> None:
    run = published(shop)[table.name]
    (Path(run.folder) / "_manifest.json").unlink()
    check = judged(shop)["files.last_version"]
    assert (check.passed, check.expected) == (
        False,
        f"{table.name} {run.run_id} of version 1, which is live",
    )
    assert check.found == "no manifest of it"
    assert "publish rollback" in check.todo


# Schemas


def rewritten(shop: Portal, change: Callable[[pa.Table], pa.Table]) -> None:
    """Other columns in one file, and a manifest that was written afterwards."""
    run = shop.store.runs(schemas.SCORES)[-1]
    file = Path(run.folder) / "part-2.parquet"
    pq.write_table(change(pq.read_table(file)), file)
    shop.store.commit(
        faults.scoring_table(shop), run.run_id, config={}, inputs=run.inputs, counts=run.counts
    )


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda table: table.drop(["p_other"]), "in part-2.parquet 'p_other: 0 such columns'"),
        (
            lambda table: table.rename_columns([name.upper() for name in table.column_names]),
            "in part-2.parquet",
        ),
        (
            lambda table: table.set_column(
                4, "exclusion_score", table["exclusion_score"].cast(pa.float64())
            ),
            "in part-2.parquet 'exclusion_score: double'",
        ),
    ],
    ids=["a column less", "other names", "another type"],
)
def test_each_file_has_the_columns(
    shop: Portal, change: Callable[[pa.Table], pa.Table], found: str
) -> None:
    rewritten(shop, change)
    told = failed(judged(shop))
    assert set(told) == {"schema.scores"}
    assert told["schema.scores"].startswith(found)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"schema_version": 9}, "version 9"),
        (
            {"columns": {**schemas.SCORES.columns, "p_toilet": "float"}},
            "in the manifest 'p_other: None'",
        ),
    ],
)
def test_the_manifest_has_the_columns_of_the_head_and_a_known_version(
    shop: Portal, said: dict[str, object], found: str
) -> None:
    run = shop.store.runs(schemas.SCORES)[-1]
    storage.replace_json(f"{run.folder}/_manifest.json", {**run.as_json(), **said})
    assert failed(judged(shop)) == {"schema.scores": found}


# Rows and head


def test_a_sound_image_without_a_score(shop: Portal) -> None:
    seen = shop.catalog()
    shop.keep(seen, shop.scores(seen).iloc[1:])
    sound = int((seen["status"] == "ok").sum())
    assert failed(judged(shop)) == {"size.scores": f"{sound - 1}"}


def test_another_heads_scores_under_its_id(shop: Portal) -> None:
    faults.wrong_head(shop)
    told = failed(judged(shop))
    assert set(told) == {"golden_images"}
    assert "of 64 stored embeddings " in told["golden_images"]
    assert "of 64 stored embeddings 0 " not in told["golden_images"]


def test_one_canary_is_enough_and_a_nan_is_no_score(shop: Portal) -> None:
    seen = shop.catalog()
    scores = shop.scores(seen)
    shop.keep(
        seen, scores.assign(exclusion_score=scores["exclusion_score"].where(scores.index % 2 == 0))
    )
    assert "by inf at most" in failed(judged(shop))["golden_images"]


def test_without_stored_embeddings_the_head_alone_is_judged(shop: Portal) -> None:
    shutil.rmtree(Path(shop.store.root) / "embeddings")
    check = judged(shop)["golden_images"]
    assert check.passed is None
    assert (
        check.found
        == "8 golden images hold; no stored embedding among the scored contents looked at"
    )


def test_rows_that_name_another_head(shop: Portal) -> None:
    seen = shop.catalog()
    scores = shop.scores(seen)
    scores.loc[scores.index[-1], "head_id"] = "another"
    shop.keep(seen, scores)
    both = ", ".join(repr(head_id) for head_id in sorted(["another", shop.head.head_id]))
    assert failed(judged(shop)) == {"containment.head_id": f"rows of {both}"}


def test_a_head_that_is_nowhere(shop: Portal) -> None:
    heads = Path(shop.store.root) / "heads"
    head_id = shop.head.head_id
    shutil.move(heads, shop.store.root + "-elsewhere")
    check = judged(shop)["containment.head_id"]
    assert (check.passed, check.found) == (None, "no head at all, so nothing to compare with")
    shop.promote(replace(shop.head, bias=shop.head.bias + 1))
    check = judged(shop)["containment.head_id"]
    assert check.passed is False
    assert check.found == f"heads, but not this one: '{shop.head.head_id}'"
    (folder,) = Path(shop.store.root + "-elsewhere").iterdir()
    assert failed(judged(shop, f"score.head={folder}")) == {}
    other = shop.store.runs(schemas.HEADS)[-1].folder
    assert failed(judged(shop, f"score.head={other}")) == {
        "containment.head_id": f"those of the head {head_id}"
    }


def test_scores_of_another_head_than_score_head_names(shop: Portal) -> None:
    """Though both are there, and sound: the newest scores are not those that were asked for."""
    scored = shop.head.head_id
    other = replace(shop.head, bias=shop.head.bias + 1)
    shop.promote(other)
    asked = shop.store.runs(schemas.HEADS)[-1].folder
    assert failed(judged(shop)) == {}
    check = judged(shop, f"score.head={asked}")["containment.head_id"]
    assert check.passed is False
    assert check.expected == f"scores of the head {shop.head.head_id}, which score.head names"
    assert check.found == f"those of the head {scored}"
    assert check.todo.startswith("run `toiletspark score`")
    shop.keep(seen := shop.catalog(), shop.scores(seen))
    assert failed(judged(shop, f"score.head={asked}")) == {}


def test_a_score_head_that_cannot_be_read(shop: Portal) -> None:
    check = judged(shop, f"score.head={shop.store.root}/nowhere")["containment.head_id"]
    assert check.passed is False


def test_a_head_that_was_altered_and_one_for_another_backbone(shop: Portal) -> None:
    seen = shop.store.runs(schemas.CATALOG)[-1]
    others = {**seen.inputs.as_json(), "backbone_id": "another"}
    storage.replace_json(f"{seen.folder}/_manifest.json", {**seen.as_json(), "inputs": others})
    assert (
        "scores and catalog name 'a backbone of chance', 'another'"
        in failed(judged(shop))["containment.head_id"]
    )
    weights = Path(shop.store.runs(schemas.HEADS)[-1].folder) / "head.safetensors"
    spoil_in_place(weights)
    assert failed(judged(shop)) == {"containment.head_id": "another one of 'head.safetensors'"}


# Freshness


def test_an_old_catalog(shop: Portal) -> None:
    seen = shop.store.runs(schemas.CATALOG)[-1]
    storage.replace_json(
        f"{seen.folder}/_manifest.json",
        {**seen.as_json(), "made_at": "2020-01-01T00:00:00+00:00"},
    )
    assert failed(judged(shop)) == {"freshness": "one of 2020-01-01T00:00:00+00:00"}
    assert failed(judged(shop, "publish.audits.max_catalog_age_h=0")) == {}


def test_a_catalog_older_than_the_live_one(shop: Portal) -> None:
    newer = runs.new_run_id()
    published(shop, catalog=newer)
    assert failed(judged(shop))["freshness"].endswith(f"and the live version was made from {newer}")

"""What the run page gathers of a published version, and of one from before there were decisions and numbers."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from toiletspark.config import Config, Leaks
from toiletspark.jobs import publish_exclusions
from toiletspark.reports.run_page import gather as published
from toiletspark.reports.run_page import page as run_page
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import runs
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
SCORES = {"L1-1": 0.1, "L1-2": 0.2, "L1-3": 0.9, "L2-1": 0.505, "L2-2": 0.3}


def scored(store: Store, config: Config) -> None:
    """Seven images of which five have a score, one is broken and one did not come."""
    seen = [
        {
            **{"image_id": name, "listing_id": name[:2], "stratum": "s", "status": "ok"},
            "content_digest": f"d-{name}",
        }
        for name in SCORES
    ]
    seen += [{**seen[0], "image_id": "L2-3", "status": "truncated", "content_digest": None}]
    seen += [{**seen[0], "image_id": "L3-1", "status": "timeout", "content_digest": None}]
    facts: dict[str, Any] = {"config": config.recorded(), "inputs": {}}
    catalog = rows.write(store, tables.CATALOG, runs.new_run_id(), seen, **facts)
    table = tables.SCORES.with_columns(tables.probability_columns(("toilet", "other")))
    found = [
        {**{"image_id": name, "listing_id": name[:2], "content_digest": f"d-{name}", "head_id": "h"},
         **{"exclusion_score": score, "p_toilet": score, "p_other": 1 - score}}
        for name, score in SCORES.items()
    ]  # fmt: skip
    facts["inputs"] = {"catalog": catalog.run_id, "head_id": "h", "backbone_id": "b"}
    rows.write(store, table, runs.new_run_id(), found, **facts)


@pytest.fixture
def config(make_config: MakeConfig) -> Config:
    return make_config({"leaks.each_run": "true"})


def not_each_run(config: Config) -> Leaks:
    return config.leaks.model_copy(update={"each_run": False})


def told_in_manifest(run_folder: str, **counts: Any) -> None:
    path = Path(run_folder) / "_manifest.json"
    manifest = json.loads(path.read_text())
    manifest["counts"] |= counts
    path.write_text(json.dumps(manifest))


def test_a_version_tells_how_it_came_to_be(
    spark: SparkSession, config: Config, store: Store
) -> None:
    scored(store, config)
    told = publish_exclusions.step(Workspace.open(spark, config))
    assert (told["leaks_drawn"], told["leaks_to_label"]) == (
        5,
        5,
    )  # drawn with each publication, as it is set
    told_in_manifest(
        told["exclusion_list"], alarms=["look"], drift={"same_head": True, "overall": {"psi": 0.3}}
    )
    page = published.gather(Workspace(spark, store, config), {})
    version = page.version
    assert version is not None
    assert (version.number, version.alarms, version.valid_until[:2]) == (1, ["look"], "20")
    assert version.decided == {
        ("model", "keep"): 3,
        ("model", "exclude"): 2,
        ("unscored", "exclude"): 1,
        ("unscored", "unscored"): 1,
    }
    assert (page.excluded_total, page.excluded_unscored) == (3, 1)
    assert [card.image_id for card in page.excluded] == ["L1-3", "L2-1"]
    assert {line.outcome for line in version.checks} == {
        "passed",
        "not judged",
    }  # a few images settle no share
    assert len(version.checks) >= 20
    assert version.drift is not None and version.drift.overall.word == "major"
    assert version.meter is not None and (version.meter.drawn, version.meter.thin) == (5, True)
    assert "Version 1 " in run_page.render(page)


def test_a_version_from_before_all_this_has_its_page(
    spark: SparkSession, config: Config, store: Store
) -> None:
    scored(store, config)
    told = publish_exclusions.step(
        Workspace.open(spark, config.model_copy(update={"leaks": not_each_run(config)}))
    )
    shutil.rmtree(told["decisions"])
    told_in_manifest(told["exclusion_list"], audits=None, drift=None, alarms=None)
    pointer = Path(store.root) / "exclusion_list" / "_current.json"
    said = json.loads(pointer.read_text())
    expired = {"valid_until": "2026-01-02T03:04:05+00:00"}  # people shall see it; readers refuse it
    pointer.write_text(
        json.dumps({**{name: said[name] for name in ("run_id", "published_at", "rows")}, **expired})
    )
    assert store.newest(tables.LEAKS) is None
    page = published.gather(Workspace(spark, store, config), {})
    assert page.version == dataclasses.replace(
        page.version, decided={}, checks=[], drift=None, meters=[], number=0
    )  # type: ignore[type-var]
    assert page.version is not None and page.warnings[0].startswith(
        "This version was valid until 2026-01-02"
    )
    assert (page.excluded_total, page.excluded_unscored, len(page.excluded)) == (3, 0, 2)
    assert "Nobody has measured it for this version" in run_page.render(page)


def test_an_expired_version_and_a_rollback_are_told_first(store: Store) -> None:
    run = Run("any", "r", store.root, {"config": {"backbone": {"weights": "imagenet"}}})
    said = {
        "valid_until": "2026-01-02T03:04:05+00:00",
        "rolled_back_to": 7,
        "because": "too many kitchens",
    }
    version = published.Published(said, run, run, run, run, None)
    assert published.warnings_of(version) == [
        "This version was valid until 2026-01-02T03:04:05+00:00: readers refuse it, and feeds stand still.",
        "This version is a rollback: it shows what version 7 decided: too many kitchens.",
    ]
    assert (
        published.warnings_of(
            dataclasses.replace(version, said={"valid_until": "2999-01-02T03:04:05+00:00"})
        )
        == []
    )
    assert published.warnings_of(dataclasses.replace(version, said={"valid_until": None})) == []

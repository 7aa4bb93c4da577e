"""The run page of a published version: decisions, audits, drift, the leak meter and warnings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from toiletspark.config import Config, Leaks
from toiletspark.jobs import publish_exclusions
from toiletspark.publishing.versions.log import Version
from toiletspark.reports.run_page import gather
from toiletspark.reports.run_page.page import render
from toiletspark.reports.run_page.version import outcome
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import runs
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
SCORES = {"L1-1": 0.1, "L1-2": 0.2, "L1-3": 0.9, "L2-1": 0.505, "L2-2": 0.3}


def scored(store: Store, config: Config) -> None:
    """Seven images of which five have a score, one is broken and one did not come."""
    snapshot = [
        {
            **{"image_id": name, "listing_id": name[:2], "stratum": "s", "status": "ok"},
            "content_digest": f"d-{name}",
        }
        for name in SCORES
    ]
    snapshot += [{**snapshot[0], "image_id": "L2-3", "status": "truncated", "content_digest": None}]
    snapshot += [{**snapshot[0], "image_id": "L3-1", "status": "timeout", "content_digest": None}]
    facts: dict[str, Any] = {"config": config.recorded(), "inputs": {}}
    catalog = rows.write(store, tables.CATALOG, runs.new_run_id(), snapshot, **facts)
    table = tables.SCORES.with_columns(tables.probability_columns(("toilet", "other")))
    result = [
        {
            "image_id": name,
            "listing_id": name[:2],
            "content_digest": f"d-{name}",
            "head_id": "h",
            "exclusion_score": score,
            "p_toilet": score,
            "p_other": 1 - score,
        }
        for name, score in SCORES.items()
    ]
    facts["inputs"] = {"catalog": catalog.run_id, "head_id": "h", "backbone_id": "b"}
    rows.write(store, table, runs.new_run_id(), result, **facts)


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
    summary = publish_exclusions.step(Workspace.open(spark, config))
    # drawn with each publication, as it is set
    assert (summary["leaks_drawn"], summary["leaks_to_label"]) == (5, 5)
    overall = {"psi": 0.3, "ks": 0.1}
    drift = {"same_head": True, "overall": overall, "strata": {}}
    told_in_manifest(summary["exclusion_list"], alarms=["look"], drift=drift)
    page = gather.gather(Workspace(spark, store, config), {})
    version = page.version
    assert (version.number, version.alarms, version.valid_until[:2]) == (1, ["look"], "20")
    assert version.decided == {
        ("model", "keep"): 3,
        ("model", "exclude"): 2,
        ("unscored", "exclude"): 1,
        ("unscored", "unscored"): 1,
    }
    assert (page.excluded_total, page.excluded_unscored) == (3, 1)
    assert [card.image_id for card in page.excluded] == ["L1-3", "L2-1"]
    # a few images settle no share
    assert {outcome(check) for check in version.checks} == {"passed", "not judged"}
    assert len(version.checks) >= 20
    assert version.drift is not None and version.drift.overall.size == "major"
    assert version.meter is not None and (version.meter.drawn, version.meter.thin) == (5, True)
    assert "Version 1 " in render(page)


def test_a_first_version_that_has_expired_has_its_page(
    spark: SparkSession, config: Config, store: Store
) -> None:
    """People shall see it; readers refuse it."""
    scored(store, config)
    publish_exclusions.step(
        Workspace.open(spark, config.model_copy(update={"leaks": not_each_run(config)}))
    )
    pointer = Path(store.root) / "exclusion_list" / "_current.json"
    entry = json.loads(pointer.read_text())
    pointer.write_text(json.dumps({**entry, "valid_until": "2026-01-02T03:04:05+00:00"}))
    assert store.newest(tables.LEAKS) is None
    page = gather.gather(Workspace(spark, store, config), {})
    assert (page.version.drift, page.version.meters, page.version.number) == (None, [], 1)
    assert page.warnings[0].startswith("This version was valid until 2026-01-02")
    assert (page.excluded_total, page.excluded_unscored, len(page.excluded)) == (3, 1, 2)
    assert "Not measured for this version" in render(page)


def live(store: Store, **facts: Any) -> gather.LiveRuns:
    config = {"backbone": {"weights": "imagenet"}}
    run = Run(table="any", run_id="r", folder=store.root, config=config)
    return gather.LiveRuns(
        Version(version=9, run_id="r", layout=2, published_at="", **facts), run, run, run, run, run
    )


def test_an_expired_version_and_a_rollback_are_told_first(store: Store) -> None:
    until = "2026-01-02T03:04:05+00:00"
    runs = live(store, valid_until=until, rolled_back_to=7, because="too many kitchens")
    assert gather.warnings(runs) == [
        f"This version was valid until {until}: readers refuse it, and feeds stand still.",
        "This version is a rollback: it has the decisions of version 7: too many kitchens.",
    ]
    assert gather.warnings(live(store, valid_until="2999-01-02T03:04:05+00:00")) == []
    assert gather.warnings(live(store, valid_until=None)) == []

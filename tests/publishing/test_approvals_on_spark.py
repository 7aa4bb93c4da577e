"""Planning and approving by the job: readers see no change before the approval."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import drawn_images, stored
from tests.publishing.test_approvals import publishing
from tests.publishing.test_publication import listed, prepare, with_threshold
from tests.reports.test_run_page import Parsed
from tests.support.small_versions import pointer_file
from toiletspark.config import Config, loading
from toiletspark.errors import AuditError, OutputError, UserError
from toiletspark.feed import readers
from toiletspark.hashing import content_digest
from toiletspark.jobs import publish_exclusions
from toiletspark.publishing.versions import log
from toiletspark.tables import schemas
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """No thumbnails: there is no images table."""
    sets = [f"output.root={tmp_path / 'output'}", "report.max_excluded=0"]
    return loading.load([], [*sets, "publish.policy.name=fixed"])


def page_of(told: dict[str, Any]) -> Parsed:
    return Parsed(Path(told["diff_page"]).read_text(encoding="utf-8"))


def test_a_plan_changes_nothing_for_readers_and_its_approval_ships_exactly_it(
    spark: SparkSession, config: Config, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(store)
    publish_exclusions.step(Workspace.open(spark, config))
    before = pointer_file(store).read_bytes()
    told = publish_exclusions.step(
        Workspace.open(spark, publishing(with_threshold(config, 0.3), plan=True))
    )
    assert pointer_file(store).read_bytes() == before
    assert [version.number for version in log.read_all(store)] == [1]
    assert (told["version"], told["excluded"], told["operating_threshold"]) == (1, 5, 0.3)
    assert "waits_for_approval" not in told
    plan = told["plan"]
    assert told["diff_page"] == f"{store.root}/reports/plan-{plan}.html"
    assert f"what plan {plan} would change: {told['diff_page']}" in caplog.text
    assert page_of(told).of("p", **{"class": "headline"}) == [
        "If this ships, 1 image leaves the feed and no image returns to it."
    ]
    files = {path: path.stat().st_mtime_ns for path in Path(store.root).rglob("*.parquet")}
    prepare(store, scores={"a": 0.0})  # newer scores have no part in what was looked at
    with pytest.raises(UserError, match=r"operating_threshold = 0\.3 in the plan, 0\.5 here"):
        publish_exclusions.step(Workspace.open(spark, publishing(config, approve=plan)))
    config = with_threshold(config, 0.3)
    shipped = publish_exclusions.step(Workspace.open(spark, publishing(config, approve=plan)))
    assert (shipped["version"], shipped["approved"], shipped["excluded"]) == (2, plan, 5)
    assert shipped["operating_threshold"] == 0.3
    assert {path: path.stat().st_mtime_ns for path in files} == files
    found = readers.read_current(spark, store.root)
    assert listed(found) == {"a": 0.95, "b": 0.6, "c": 0.5, "d": 0.4}
    assert {row["run_id"] for row in found.collect()} == {plan}
    with pytest.raises(OutputError, match="version 2 is live"):
        publish_exclusions.step(Workspace.open(spark, publishing(config, approve=plan)))


def test_where_approval_is_required_a_new_head_or_threshold_waits_and_a_rescoring_goes_on(
    spark: SparkSession, config: Config, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(store)
    config = publishing(config, require_approval=True)
    first = publish_exclusions.step(Workspace.open(spark, config))
    command = f"toiletspark publish approve {first['plan']}"
    assert (first["version"], first["waits_for_approval"]) == (None, command)
    said = caplog.text
    assert "NOT PUBLISHED: publish.require_approval is set" in said
    assert f"there is no version yet. Look at the page, and publish it by `{command}`." in said
    assert not pointer_file(store).exists()
    headline = page_of(first).of("p", **{"class": "headline"})
    assert headline == [
        "Nothing is published yet. If this ships, 4 of 7 images stay out of the feed."
    ]
    publish_exclusions.step(Workspace.open(spark, publishing(config, approve=first["plan"])))
    prepare(store, scores={"a": 0.1, "b": 0.6, "e": 0.9})
    again = publish_exclusions.step(Workspace.open(spark, config))
    assert (again["version"], "plan" in again) == (2, False)
    assert sorted(path.name for path in (Path(store.root) / "reports").iterdir()) == [
        f"plan-{first['plan']}.html"
    ]
    before = pointer_file(store).read_bytes()
    other = publish_exclusions.step(Workspace.open(spark, with_threshold(config, 0.95)))
    assert other["version"] == 2
    assert other["waits_for_approval"].endswith(other["plan"])
    assert "version 2 stays live" in caplog.text
    assert pointer_file(store).read_bytes() == before
    parsed = page_of(other)
    assert parsed.of("p", **{"class": "headline"}) == [
        "If this ships, no image leaves the feed and 2 images return to it."
    ]
    assert (
        "The same head, but the operating threshold goes from 0.5 to 0.95."
        in parsed.of("p", **{"class": "lead"})[0]
    )


def test_a_plan_that_fails_its_audits_is_shown_and_ends_as_a_publication_would(
    spark: SparkSession, config: Config, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(store, unembedded="z")  # an image that has neither a score nor a failure
    with pytest.raises(AuditError) as stopped:
        publish_exclusions.step(Workspace.open(spark, publishing(config, plan=True)))
    assert stopped.value.exit_code == 3
    assert "containment.decision" in stopped.value.expected
    found = re.search(r"what plan (\S+) would change: (\S+)", caplog.text)
    assert found is not None
    page = Parsed(Path(found[2]).read_text(encoding="utf-8"))
    assert page.of("h2", id="approve") == ["This plan cannot be shipped"]
    with pytest.raises(AuditError, match=r"containment\.decision"):
        publish_exclusions.step(Workspace.open(spark, publishing(config, approve=found[1])))
    assert log.read_all(store) == []


def with_pictures(make_config: Callable[..., Config], tmp_path: Path) -> tuple[Config, list[str]]:
    """Six drawn images, their catalog, and scores of H: 0.9, 0.7, 0.5, 0.3, 0.1 and 0.6."""
    images = drawn_images(tmp_path / "pictures").head(6)
    config = make_config(images=images)
    scored(Store.open(config.output.root), images, [0.9, 0.7, 0.5, 0.3, 0.1, 0.6], head="H")
    return config, images["image_id"].tolist()


def scored(store: Store, images: pd.DataFrame, scores: list[float], head: str) -> None:
    digests = [content_digest(Path(path).read_bytes()) for path in images["image_url"]]
    rows = [
        {
            "image_id": row.image_id,
            "listing_id": row.listing_id,
            "stratum": f"{row.listing_id} | sale",
            "content_digest": digest,
            "image_version": "v1",
            "status": "ok",
            "head_id": head,
            "exclusion_score": score,
        }
        for row, digest, score in zip(images.itertuples(), digests, scores, strict=True)
    ]
    seen = stored(
        store, schemas.CATALOG, [{k: row.get(k) for k in schemas.CATALOG.columns} for row in rows]
    )
    inputs = {"catalog": seen.run_id, "head_id": head, "backbone_id": "B"}
    of_scores = [{k: row.get(k) for k in schemas.SCORES.columns} for row in rows]
    stored(store, schemas.SCORES, of_scores, inputs=inputs)


def test_the_page_shows_what_another_head_would_change(
    spark: SparkSession, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config, ids = with_pictures(make_config, tmp_path)
    publish_exclusions.step(Workspace.open(spark, config))
    images = drawn_images(tmp_path / "pictures").head(6)
    images.loc[5, "image_id"] = "new"
    scored(Store(config.output.root), images, [0.2, 0.7, 0.5, 0.8, 0.1, 0.6], head="other")
    parsed = page_of(publish_exclusions.step(Workspace.open(spark, publishing(config, plan=True))))
    assert parsed.of("p", **{"class": "headline"}) == [
        "If this ships, 1 image leaves the feed and 1 image returns to it."
    ]
    assert [text for text in parsed.of("h2") if ":" in text][:3] == [
        "Would leave the feed: 1",
        "Would return to the feed: 1",
        "New, and excluded at once: 1",
    ]
    assert parsed.of("p", **{"class": "score"}) == ["0.300 → 0.800", "0.900 → 0.200", "0.600"]
    shown = [text for text in parsed.of("p", **{"class": "id"}) if text.startswith("image ")]
    assert shown == [f"image {ids[3]}", f"image {ids[0]}", "image new"]
    pictures = [found["alt"] for tag, found in parsed.elements if tag == "img"]
    # "new" is in no images table
    assert pictures == [f"Thumbnail of image {image_id}" for image_id in (ids[3], ids[0])]
    tiles = dict(
        zip(
            parsed.of("dt"),
            [text for text in parsed.of("dd") if "excluded" not in text],
            strict=False,
        )
    )
    assert (tiles["new images"], tiles["gone from the catalog"], tiles["stay as they are"]) == (
        "1",
        "1",
        "3",
    )

"""Gathers the run page of the published version: its figures, and thumbnails of what it excludes and nearly does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.errors import OutputError
from toiletspark.feed import leak_meter as leaks
from toiletspark.images import thumbnails
from toiletspark.publishing.versions import log as versions
from toiletspark.reports.run_page import page as run_page
from toiletspark.reports.run_page import version as version_parts
from toiletspark.reports.run_page.version import VersionParts
from toiletspark.sampling.evaluation_sample import LABELLED
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace

_BINS = 20
RANDOM_BACKBONE = (
    "The backbone is randomly initialised, because ImageNet's weights could not be had or were not asked for. "
    "It shows that the chain works, not how good toiletspark is."
)


@dataclass(frozen=True)
class Published:
    """A published version and the runs that it was made from; decisions: None of an early one."""

    said: dict[str, Any]
    excluded: Run
    unscored: Run
    scores: Run
    seen: Run
    decisions: Run | None


def write_page(work: Workspace, seconds: dict[str, float]) -> Path:
    """Writes the page of the version that is published now, beside the tables.

    Args:
        spark: the session.
        store: where the tables lie.
        config: thumbnails are made from the images table that it names.
        seconds: wall time per step so far.

    Returns:
        Its path; on a store that is not this machine's, a file below the working folder.

    Raises:
        OutputError: nothing was published.
    """
    version = _version(work.store)
    page = gather(work, seconds)
    folder = (
        Path(work.store.root.removeprefix("file://"))
        if storage.is_local(work.store.root)
        else Path.cwd()
    )
    path = folder / "reports" / f"{version.excluded.run_id}.html"
    run_page.write(page, path)
    return path


def gather(work: Workspace, seconds: dict[str, float]) -> run_page.RunPage:
    """Everything that the page says; see `write_page`."""
    version = _version(work.store)
    threshold = float(version.excluded.inputs.operating_threshold)
    scores, made_from = (
        frames.read_run(work.spark, version.scores),
        version.scores.inputs,
    )
    listed = frames.read_run(work.spark, version.excluded).select("image_id", "reason")
    surest = scores.join(listed, on="image_id", how="inner")  # what has no score now is not in it
    distance = F.abs(F.col("exclusion_score") - F.lit(threshold))
    excluded = (
        surest.orderBy(F.desc("exclusion_score"), "image_id")
        .limit(work.config.report.max_excluded)
        .collect()
    )
    borderline = (
        scores.orderBy(distance, "image_id").limit(work.config.report.max_borderline).collect()
    )
    pictures = thumbnails.of_few(
        work.spark,
        work.config,
        {row["image_id"]: row["content_digest"] for row in [*excluded, *borderline]},
    )
    decided = _decided(work.spark, version)
    per_status = frames.read_run(work.spark, version.unscored).groupBy("status").count().collect()
    return run_page.RunPage(
        title="What leaves the feed",
        run_id=version.excluded.run_id,
        made_from=[("head", made_from.head_id), ("backbone", made_from.backbone_id)],
        made_at=version.excluded.made_at,
        facts=_facts(version, seconds),
        unscored={row["status"]: row["count"] for row in per_status},
        seconds=seconds,
        validation=_validation(work.store, version),
        operating_threshold=threshold,
        threshold_reason=version.excluded.inputs.threshold_reason,
        score_histogram=_histogram(scores),
        excluded=[_card(row, pictures) for row in excluded],
        excluded_total=version.excluded.rows,
        borderline=[_card(row, pictures) for row in borderline],
        warnings=warnings_of(version),
        excluded_unscored=sum(
            row["count"] for row in decided if row["decision"] == "exclude" and row["no_score"]
        ),
        version=_parts(work.store, work.config, version, decided),
    )


def _parts(store: Store, config: Config, version: Published, decided: list[Row]) -> VersionParts:
    counts, by_reason = version.excluded.counts, Counter[tuple[str, str]]()
    for row in decided:
        by_reason[str(row["reason"]), str(row["decision"])] += row["count"]
    return VersionParts(
        number=int(version.said.get("version", 0)),
        valid_until=version.said.get("valid_until") or "",
        alarms=counts.get("alarms") or [],
        decided=dict(by_reason),
        checks=version_parts.checks_of(counts.get("audits") or []),
        drift=version_parts.drift_of(counts.get("drift")),
        meters=leaks.trend(store, config.labels) if store.newest(tables.LEAKS) else [],
    )


def _decided(spark: SparkSession, version: Published) -> list[Row]:
    """reason, decision, no_score (boolean) and their images; none of a version without decisions."""
    if version.decisions is None:
        return []
    no_score = (F.col("status") != "ok").alias("no_score")
    decisions = frames.read_run(spark, version.decisions)
    return decisions.groupBy("reason", "decision", no_score).count().collect()


def warnings_of(version: Published) -> list[str]:
    """What readers must know before any number: it has expired, it is a rollback, or shows nothing but the chain."""
    said, found = version.said, []
    if said.get("valid_until") and datetime.fromisoformat(said["valid_until"]) < datetime.now(UTC):
        found.append(
            f"This version was valid until {said['valid_until']}: readers refuse it, and feeds stand still."
        )
    if said.get("rolled_back_to") is not None:
        because = f": {said['because']}" if said.get("because") else ""
        found.append(
            f"This version is a rollback: it shows what version {said['rolled_back_to']} decided{because}."
        )
    if version.seen.manifest.config["backbone"]["weights"] == "random":
        found.append(RANDOM_BACKBONE)
    return found


def _version(store: Store) -> Published:
    excluded = versions.current(
        store.root, allow_stale=True
    )  # people must see one that has expired
    inputs, live = excluded.inputs, versions.live(store)
    unscored = store.run(tables.UNSCORED, excluded.run_id)
    scores, seen = (
        store.run(tables.SCORES, inputs.scores),
        store.run(tables.CATALOG, inputs.catalog),
    )
    if unscored is None or scores is None or seen is None:
        raise OutputError(
            doing=f"gathering the run page of {excluded.run_id}",
            expected="the runs that it was made from",
            found=f"one of unscored, scores and catalog is no longer in {store.root}",
            todo="publish again",
        )
    said = live.said if live and live.run_id == excluded.run_id else {}
    return Published(
        said, excluded, unscored, scores, seen, store.run(tables.DECISIONS, excluded.run_id)
    )


def _facts(version: Published, seconds: dict[str, float]) -> list[tuple[str, str]]:
    facts = [
        ("images in", f"{version.seen.rows:,}"),
        ("scored", f"{version.scores.rows:,}"),
        ("unscored", f"{version.unscored.rows:,}"),
        ("excluded", f"{version.excluded.rows:,}"),
    ]
    return [*facts, ("wall time", f"{sum(seconds.values()):.0f} s")] if seconds else facts


def _validation(store: Store, version: Published) -> run_page.Validation | None:
    """The figures that the head was made with, if it is one of this store's; early heads have no intervals."""
    head_id = version.scores.inputs.head_id
    found = [run for run in store.runs(tables.HEADS) if run.inputs.head_id == head_id]
    if not found:
        return None
    counts: dict[str, Any] = found[-1].counts
    known = [name for name in run_page.VALIDATION_MEANINGS if name in counts]
    return run_page.Validation(
        figures={
            name: float("nan") if counts[name] is None else float(counts[name]) for name in known
        },
        intervals={name: (low, high) for name, (low, high) in counts.get("intervals", {}).items()},
        figures_of=counts.get("figures_of", LABELLED),
    )


def _histogram(scores: DataFrame) -> list[int]:
    """Counts of exclusion_score in equal bins over [0, 1]; a score of 1 falls into the last."""
    bins = F.least(F.floor(F.col("exclusion_score") * _BINS), F.lit(_BINS - 1)).cast("int")
    counted = {
        row["bin"]: row["count"] for row in scores.groupBy(bins.alias("bin")).count().collect()
    }
    return [counted.get(index, 0) for index in range(_BINS)]


def _card(row: Row, pictures: dict[str, bytes]) -> run_page.Card:
    values = row.asDict()
    classes = {
        name.removeprefix("p_"): value for name, value in values.items() if name.startswith("p_")
    }
    best = max(classes, key=lambda name: classes[name])
    by = values.get("reason") or "model"
    return run_page.Card(
        image_id=row["image_id"],
        listing_id=row["listing_id"],
        exclusion_score=row["exclusion_score"],
        thumbnail_jpeg=pictures.get(row["image_id"]),
        note=f"{best} {classes[best]:.2f}" + ("" if by == "model" else f", by {by}"),
    )

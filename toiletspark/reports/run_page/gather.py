"""Gathers the run page of the live version: its figures, and thumbnails of the images it shows."""

import math
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.errors import OutputError
from toiletspark.feed import leak_meter
from toiletspark.images import thumbnails
from toiletspark.publishing import publication
from toiletspark.publishing.versions import log
from toiletspark.publishing.versions.log import Version
from toiletspark.reports import html
from toiletspark.reports.html import ImageCard
from toiletspark.reports.run_page.page import FIGURE_MEANINGS, HeadFigures, RunPage, render
from toiletspark.reports.run_page.version import VersionFacts, drift_table
from toiletspark.tables import spark_io, storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import CATALOG, DECISIONS, HEADS, LEAKS, SCORES, UNSCORED
from toiletspark.tables.workspace import Workspace

_BINS = 20
RANDOM_BACKBONE = (
    "The backbone is randomly initialised, because ImageNet's weights were not available or not "
    "asked for. This shows that the chain works, not how good toiletspark is."
)


@dataclass(frozen=True)
class LiveRuns:
    """The live version and the runs that it was made from."""

    version: Version
    excluded: Run
    unscored: Run
    decisions: Run
    scores: Run
    catalog: Run


def write_page(work: Workspace, seconds: dict[str, float]) -> Path:
    """Writes the page of the live version to <root>/reports/<run_id>.html; returns its path.

    It is below the working folder if the store is not on this machine. `seconds` has the wall time
    per step so far. Raises OutputError if nothing was published.
    """
    page = gather(work, seconds)
    root = work.store.root
    folder = Path(root.removeprefix("file://")) if storage.is_local(root) else Path.cwd()
    path = folder / "reports" / f"{page.run_id}.html"
    html.write(str(path), render(page))
    return path


def gather(work: Workspace, seconds: dict[str, float]) -> RunPage:
    """Everything on the page; see `write_page`."""
    runs = _live_runs(work.store)
    section = work.config.report
    threshold = float(runs.excluded.inputs.operating_threshold)
    scores = spark_io.read_run(work.spark, runs.scores)
    reasons = spark_io.read_run(work.spark, runs.excluded).select("image_id", "reason")
    distance = F.abs(F.col("exclusion_score") - F.lit(threshold))
    # without the excluded images that have no score now
    surest = scores.join(reasons, on="image_id", how="inner")
    surest = surest.orderBy(F.desc("exclusion_score"), "image_id").limit(section.max_excluded)
    nearest = scores.orderBy(distance, "image_id").limit(section.max_borderline)
    excluded, borderline = surest.collect(), nearest.collect()
    digests = {row["image_id"]: row["content_digest"] for row in [*excluded, *borderline]}
    pictures = thumbnails.of_few(work.spark, work.config, digests)
    no_score = (F.col("status") != "ok").alias("no_score")
    decisions = spark_io.read_run(work.spark, runs.decisions)
    decided = decisions.groupBy("reason", "decision", no_score).count().collect()
    without_score = [row for row in decided if row["no_score"] and row["decision"] == "exclude"]
    statuses = spark_io.read_run(work.spark, runs.unscored).groupBy("status").count().collect()
    inputs = runs.scores.inputs
    return RunPage(
        title="What leaves the feed",
        run_id=runs.excluded.run_id,
        made_from=[("head", inputs.head_id), ("backbone", inputs.backbone_id)],
        made_at=runs.excluded.made_at,
        facts=_facts(runs, seconds),
        unscored={row["status"]: row["count"] for row in statuses},
        seconds=seconds,
        validation=_validation(work.store, inputs.head_id),
        operating_threshold=threshold,
        threshold_reason=runs.excluded.inputs.threshold_reason,
        score_histogram=_histogram(scores),
        excluded=[_card(row, pictures) for row in excluded],
        excluded_total=runs.excluded.rows,
        borderline=[_card(row, pictures) for row in borderline],
        warnings=warnings(runs),
        version=_version_facts(work, runs, decided),
        excluded_unscored=sum(row["count"] for row in without_score),
    )


def warnings(runs: LiveRuns) -> list[str]:
    """Sentences to read before any number: expired, a rollback, or a random backbone."""
    sentences = []
    until = runs.version.valid_until
    older = runs.version.rolled_back_to
    if until and datetime.fromisoformat(until) < datetime.now(UTC):
        expired = f"This version was valid until {until}"
        sentences.append(f"{expired}: readers refuse it, and feeds stand still.")
    if older is not None:
        because = f": {runs.version.because}" if runs.version.because else ""
        decisions = f"it has the decisions of version {older}{because}"
        sentences.append(f"This version is a rollback: {decisions}.")
    if runs.catalog.config["backbone"]["weights"] == "random":
        sentences.append(RANDOM_BACKBONE)
    return sentences


def _live_runs(store: Store) -> LiveRuns:
    # people must see a version that has expired
    version, excluded = log.current_version(store.root, allow_stale=True)
    unscored = store.run(UNSCORED, excluded.run_id)
    decisions = store.run(DECISIONS, excluded.run_id)
    scores = store.run(SCORES, excluded.inputs.scores)
    catalog = store.run(CATALOG, excluded.inputs.catalog)
    if not (unscored and decisions and scores and catalog):
        raise OutputError(
            doing=f"gathering the run page of {excluded.run_id}",
            expected="the runs that it was made from",
            found="one of unscored, decisions, scores and catalog is no longer in " + store.root,
            todo="publish again",
        )
    return LiveRuns(version, excluded, unscored, decisions, scores, catalog)


def _version_facts(work: Workspace, runs: LiveRuns, decided: list[Row]) -> VersionFacts:
    counts = runs.excluded.counts
    by_reason = Counter[tuple[str, str]]()
    for row in decided:
        by_reason[str(row["reason"]), str(row["decision"])] += row["count"]
    has_leaks = work.store.newest(LEAKS) is not None
    return VersionFacts(
        number=runs.version.number,
        valid_until=runs.version.valid_until or "",
        alarms=counts["alarms"],
        decided=dict(by_reason),
        checks=publication.checks_of(runs.excluded),
        drift=drift_table(counts["drift"]),
        meters=leak_meter.trend(work.store, work.config.labels) if has_leaks else [],
    )


def _facts(runs: LiveRuns, seconds: dict[str, float]) -> list[tuple[str, str]]:
    names = {"images in": runs.catalog, "scored": runs.scores}
    names |= {"unscored": runs.unscored, "excluded": runs.excluded}
    facts = [(name, html.with_commas(run.rows)) for name, run in names.items()]
    return [*facts, ("wall time", f"{sum(seconds.values()):.0f} s")] if seconds else facts


def _validation(store: Store, head_id: str) -> HeadFigures | None:
    """The figures that the head was made with, if it is one of this store's."""
    heads = [run for run in store.runs(HEADS) if run.inputs.head_id == head_id]
    if not heads:
        return None
    counts = heads[-1].counts
    known = [name for name in FIGURE_MEANINGS if name in counts]
    figures = {name: math.nan if counts[name] is None else float(counts[name]) for name in known}
    intervals = {name: (low, high) for name, (low, high) in counts["intervals"].items()}
    return HeadFigures(figures, intervals, counts["figures_of"])


def _histogram(scores: DataFrame) -> list[int]:
    """Exclusion scores counted in equal bins over [0, 1]; a score of 1 falls into the last."""
    bins = F.least(F.floor(F.col("exclusion_score") * _BINS), F.lit(_BINS - 1)).cast("int")
    rows = scores.groupBy(bins.alias("bin")).count().collect()
    counts = {row["bin"]: row["count"] for row in rows}
    return [counts.get(index, 0) for index in range(_BINS)]


def _card(row: Row, pictures: dict[str, bytes]) -> ImageCard:
    values = row.asDict()
    classes = [name for name in values if name.startswith("p_")]
    best = max(classes, key=lambda name: values[name])
    reason = values.get("reason") or "model"
    by = "" if reason == "model" else f", by {reason}"
    facts = {name: row[name] for name in ("image_id", "listing_id", "exclusion_score")}
    note = f"{best.removeprefix('p_')} {values[best]:.2f}{by}"
    return ImageCard(**facts, thumbnail_jpeg=pictures.get(row["image_id"]), note=note)

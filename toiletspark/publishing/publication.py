"""A version from its sources to its readers: decided, written unseen, audited, then published.

The tables of a version (see `versions.log`) are complete, and their files counted, before the
audits; the audits' results stand in the manifest of its exclusion list. Readers see nothing of it
before its number is taken and the pointer has moved.
"""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from toiletspark.config import Config
from toiletspark.errors import AuditError
from toiletspark.publishing import decisions, figures, overrides, thresholds
from toiletspark.publishing.audits import changes, checks, inputs, recall
from toiletspark.publishing.audits.changes import Last
from toiletspark.publishing.audits.checks import Check
from toiletspark.publishing.decisions import Rules
from toiletspark.publishing.figures import Figures
from toiletspark.publishing.thresholds import Labelled, Settled
from toiletspark.publishing.versions import log, retention
from toiletspark.publishing.versions.log import History, Version
from toiletspark.tables import arrow_io, spark_io
from toiletspark.tables.manifest import Inputs, TableInput
from toiletspark.tables.runs import Run, Store, described_files
from toiletspark.tables.schemas import CATALOG, DECISIONS, EXCLUSION_LIST, SCORES, STRATA, UNSCORED
from toiletspark.tables.workspace import Workspace


@dataclass(frozen=True)
class Sources:
    """The scores that decide, their catalog, and the versions so far."""

    scores: Run
    catalog: Run
    history: History

    def inputs(self, settled: Settled) -> Inputs:
        """The inputs of a version, with the threshold that decides."""
        live = self.history.live
        return self.scores.inputs.updated(
            catalog=self.catalog.run_id,
            scores=self.scores.run_id,
            last_version=live.number if live else None,
            last_run=live.run_id if live else None,
            operating_threshold=settled.operating_threshold,
            threshold_reason=settled.reason,
        )


@dataclass(frozen=True)
class Made:
    """A version that was written and not yet published.

    The counts of its exclusion list have `audits`, `alarms` (sentences about what people must look
    at at once) and `overrides` (see `ActiveOverrides.summary`; {} without a table of overrides).
    """

    exclusion_list: Run
    unscored: Run
    decisions: Run
    figures: Figures
    sources: Sources


@dataclass(frozen=True)
class Shipped:
    """A version that readers see, and the folders of old runs that were removed."""

    exclusion_list: Run
    version: Version
    removed: list[str]


def newest_sources(store: Store) -> Sources:
    """The newest scores, their catalog, and the versions so far; an OutputError without scores."""
    doing = "publishing the exclusion list"
    scores = store.require(SCORES, doing=doing, step="score")
    catalog = store.run(CATALOG, scores.inputs.catalog)
    if catalog is None:  # the audits tell that it is another one
        catalog = store.require(CATALOG, doing=doing, step="embed")
    return Sources(scores, catalog, History.read(store))


def make(work: Workspace, sources: Sources) -> Made:
    """Writes the tables of a version and audits them; nothing that readers see changes.

    Raises:
        AuditError: the sources are not sound; nothing was written. (`require_passed` judges the
            audits of the decisions.)
        UserError: publish.accept names what cannot be accepted. See also `thresholds.settle_for`
            and `overrides.read`.
    """
    spark, store, config, run_id = work.spark, work.store, work.config, work.run_id
    of_sources = _require_sound(config, sources)
    active = overrides.read(spark, config, datetime.now(UTC))
    head_id = sources.scores.inputs.head_id
    labelled = thresholds.labelled_images(store, head_id, config.score.head)
    settled = thresholds.settle_for(config.publish, head_id, labelled)
    made_from = sources.inputs(settled).updated(overrides=TableInput.of(config.overrides))
    facts: dict[str, Any] = {"config": config.recorded(), "inputs": made_from}

    last = sources.history.run(DECISIONS)
    last_frame = spark_io.read_run(spark, last) if last else None
    decided = decisions.decide(
        spark_io.read_run(spark, sources.catalog),
        spark_io.read_run(spark, sources.scores),
        last_frame,
        active.frames if active else None,
        _rules(work, settled, sources.scores),
    )
    decisions_run = spark_io.write_run(decided, store, DECISIONS, run_id, **facts)
    written = spark_io.read_run(spark, decisions_run)
    is_comparable = _decides_like(sources.history.live, made_from)
    counted = figures.gather(written, last_frame if is_comparable else None)
    unscored = spark_io.write_run(
        decisions.unscored(written).coalesce(1), store, UNSCORED, run_id, **facts
    )
    arrow_io.write(store, STRATA, run_id, figures.rows_of(counted), **facts)
    excluded = decisions.exclusion_list(written).coalesce(1)
    folder = spark_io.write_files(excluded, store, EXCLUSION_LIST, run_id)
    rows = sum(file.rows for file in described_files(folder))

    audits = [*of_sources, *checks.of_files(counted, rows, unscored.rows)]
    audits += _recall(config, sources, made_from, labelled)
    counts = _audited(config, sources, counted, audits)
    if warning := recall.alarm(labelled, settled.operating_threshold, config.publish.min_recall):
        counts["alarms"] = [warning, *counts["alarms"]]
    counts["overrides"] = {}
    if active:
        counts["overrides"] = active.summary(written)
        last_list = sources.history.run(EXCLUSION_LIST)
        is_first = last_list is None or not last_list.counts.get("overrides")
        overrides.require_met(active, counts["overrides"], written, is_first=is_first)
    exclusion_list = store.commit(EXCLUSION_LIST, run_id, **facts, counts=counts)
    return Made(exclusion_list, unscored, decisions_run, counted, sources)


def _rules(work: Workspace, settled: Settled, scores: Run) -> Rules:
    section = work.config.publish
    return Rules(
        operating_threshold=settled.operating_threshold,
        # at low thresholds it would keep excluded what is certainly none
        hysteresis=min(section.hysteresis, settled.operating_threshold / 2),
        keep_score_days=section.keep_score_days,
        failures=section.failures.model_dump(),
        now=datetime.now(UTC),
        scored_at=datetime.fromisoformat(scores.made_at),
        head_id=scores.inputs.head_id,
        run_id=work.run_id,
    )


def _require_sound(config: Config, sources: Sources) -> list[Check]:
    """The audits of the sources, passed or accepted."""
    section, scores = config.publish, sources.scores
    checks.require_acceptable(section.accept)
    judged = inputs.judge(config, scores, sources.catalog, sources.history)
    audits = checks.accepted(judged, section.accept, section.because)
    checks.require(audits, doing=f"auditing the sources of the list (scores {scores.run_id})")
    return audits


def _recall(
    config: Config, sources: Sources, made_from: Inputs, labelled: Labelled | None
) -> list[Check]:
    """The audit of the head's recall; accepted for as long as head and threshold stay."""
    section, history = config.publish, sources.history
    threshold = float(made_from.operating_threshold or 0.0)
    judged = recall.judge(labelled, threshold, section.min_recall)
    live = history.run(EXCLUSION_LIST)
    if live and _decides_like(history.live, made_from):
        judged = recall.accepted_before(judged, checks_of(live))
    return checks.accepted([judged], section.accept, section.because)


def _decides_like(live: Version | None, inputs: Inputs) -> bool:
    """Returns True if the same head and threshold made the live version."""
    new = (inputs.head_id, inputs.operating_threshold)
    return live is not None and (live.head_id, live.operating_threshold) == new


def _audited(
    config: Config, sources: Sources, counted: Figures, earlier: list[Check]
) -> dict[str, Any]:
    """The counts of the manifest, with all checks."""
    section = config.publish
    history, last = sources.history, None
    if history.live:
        counts = [version.counts for version in history.versions[-section.audits.history :]]
        strata = figures.strata_of(arrow_io.read(history.run(STRATA)))
        last = Last(counts, strata, history.live.head_id == sources.scores.inputs.head_id)
    judged = [
        *checks.of_version(counted, sources.catalog.rows),
        *changes.judge(counted, last, section.audits),
    ]
    audits = [*earlier, *checks.accepted(judged, section.accept, section.because)]
    names = ("listings", "emptied", "newly_emptied")
    return {
        "audits": [asdict(check) for check in audits],
        "drift": changes.drift_summary(counted, last),
        "alarms": checks.alarms(counted, audits, section.failures.policy),
        "listings": {name: getattr(counted, name) for name in names},
        **counted.counts,
    }


def ship(store: Store, config: Config, exclusion_list: Run) -> Shipped:
    """Publishes a version that has just been made, if that undoes nothing published meanwhile.

    On local stores, rollbacks, approvals and others that ship wait for one another. Elsewhere a
    version that is published in the moment between the look and the pointer is still overtaken.
    Raises AuditError if it was overtaken, see `_undone`, or has failed its audits.
    """
    with log.publishing_lock(store):
        history = History.read(store)
        _require_not_overtaken(config, exclusion_list, history.live)
        return ship_written(history, config, exclusion_list)


def ship_written(history: History, config: Config, exclusion_list: Run, **fields: Any) -> Shipped:
    """Publishes a written version by its manifest, with these `fields`, and removes old ones.

    `history` was read while `log.publishing_lock` is held, which must still be held. Raises
    AuditError if the version has failed its audits; the live version stays.
    """
    require_passed(exclusion_list)
    version = log.publish(
        history.store,
        exclusion_list,
        config.publish.valid_for_h,
        counts={name: exclusion_list.counts[name] for name in figures.COUNTS},
        **exclusion_list.inputs.model_dump(include=log.DECIDED_BY),
        **fields,
    )
    history = replace(history, versions=[*history.versions, version], live=version)
    return shipped(history, config, exclusion_list)


def shipped(history: History, config: Config, exclusion_list: Run) -> Shipped:
    """The newest version of a history, after old runs were removed."""
    removed = retention.clean(history, config.publish)
    return Shipped(exclusion_list, history.versions[-1], removed)


def needs_approval(config: Config, exclusion_list: Run, live: Version | None) -> bool:
    """Returns True if people must look at a version before it ships (publish.require_approval).

    Not while head and operating threshold are those of the live version: scheduled rescoring goes
    on.
    """
    return config.publish.require_approval and not _decides_like(live, exclusion_list.inputs)


def checks_of(exclusion_list: Run) -> list[Check]:
    """The audits of a version, from its manifest."""
    return [Check(**check) for check in exclusion_list.counts["audits"]]


def has_failed(exclusion_list: Run) -> bool:
    """Returns True if a version has failed its audits."""
    return bool(checks.failed(checks_of(exclusion_list)))


def require_passed(exclusion_list: Run, page: str = "") -> None:
    """Stops with an AuditError if a version has failed its audits; `page` shows its changes."""
    doing = f"auditing the exclusion list {exclusion_list.run_id}"
    checks.require(checks_of(exclusion_list), doing=doing, page=page)


def _require_not_overtaken(config: Config, exclusion_list: Run, live: Version | None) -> None:
    """Stops if a version that is live since the list was begun, minutes ago, must not be undone.

    Versions are compared by number: a rollback may show the very run that was live at the start.
    """
    before = exclusion_list.inputs.last_version
    if live is None or live.number == before:
        return
    if undone := _undone(config, exclusion_list, live):
        expected = f"version {before} to be live, against which it was made"
        if before is None:
            expected = "no version to be live, as when it was made"
        raise AuditError(
            doing=f"publishing the exclusion list {exclusion_list.run_id}",
            expected=expected,
            found=f"overtaken: version {live.number} is live, {undone}",
            todo=f"{checks.LAST_STAYS}publish again: `toiletspark publish`",
        )


def _undone(config: Config, exclusion_list: Run, live: Version) -> str:
    """The reason why a list must not follow a live version that is newer than it; "" if it may."""
    ours = exclusion_list.inputs.catalog
    if live.rolled_back_to:
        return f"a rollback to version {live.shows}"
    if live.catalog and ours < live.catalog:
        return f"made from the newer catalog {live.catalog} (this one from {ours})"
    if needs_approval(config, exclusion_list, live):
        return "of another head or operating threshold (publish.require_approval)"
    return ""

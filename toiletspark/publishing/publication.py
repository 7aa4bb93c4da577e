"""How a version comes to be: decided, written where nobody looks, audited, and only then published.

The tables of a version (see `versions`) are complete, and their files counted, before the audits; the audits' results
stand in the manifest of its exclusion list; the version exists once its number is taken, and readers see it once the
pointer has moved. Whatever happens before that changes nothing for readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from toiletspark.config import Config
from toiletspark.errors import AuditError
from toiletspark.publishing import decisions, figures, overrides, thresholds
from toiletspark.publishing.audits import changes as change_audits
from toiletspark.publishing.audits import checks as audits
from toiletspark.publishing.audits import inputs as source_audits
from toiletspark.publishing.audits.changes import Last
from toiletspark.publishing.audits.checks import Check
from toiletspark.publishing.decisions import Rules
from toiletspark.publishing.figures import Figures
from toiletspark.publishing.thresholds import Settled
from toiletspark.publishing.versions import log as versions
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, described_files
from toiletspark.tables.workspace import Workspace

_DECIDES = (
    "head_id",
    "operating_threshold",
)  # what nobody may change unseen where publish.require_approval is set


@dataclass(frozen=True)
class Sources:
    """What a version is made from.

    Attributes:
        scores: of the head that decides.
        seen: the catalog that they belong to.
        live: the version that counts now, or None.
        last: its decisions, or None.
    """

    scores: Run
    seen: Run
    live: Version | None
    last: Run | None

    def inputs(self, settled: Settled) -> Inputs:
        """The inputs of a version, with the threshold that decides."""
        return self.scores.inputs.updated(
            catalog=self.seen.run_id,
            scores=self.scores.run_id,
            last_version=self.live.number if self.live else None,
            last_run=self.live.run_id if self.live else None,
            operating_threshold=settled.operating_threshold,
            threshold_reason=settled.reason,
        )


@dataclass(frozen=True)
class Made:
    """A version that was written and not yet published.

    Attributes:
        checks: all audits, with what was accepted.
        alarms: what people must look at at once, in sentences.
    """

    listed: Run
    unscored: Run
    decisions: Run
    figures: Figures
    checks: list[Check]
    alarms: list[str]
    settled: Settled
    sources: Sources
    overrides: dict[str, Any]  # see `overrides.Read.told`; {} where there is no table of them


def newest_sources(store: Store) -> Sources:
    """The newest scores, their catalog, and the version that is live.

    Raises:
        OutputError: nothing was scored yet.
    """
    scores = store.require(tables.SCORES, doing="publishing the exclusion list", step="score")
    seen = store.run(tables.CATALOG, scores.inputs.catalog)
    live = versions.live(store)
    return Sources(
        scores,
        seen or store.require(tables.CATALOG, doing="publishing the exclusion list", step="embed"),
        live,
        versions.companion(store, live, tables.DECISIONS),
    )


def make(work: Workspace, found: Sources) -> Made:
    """Writes the tables of a version and audits them; nothing that readers see changes.

    Raises:
        AuditError: the sources are not what they must be; nothing was written. (What the audits of the decisions say
            is in `Made.checks`.)
        UserError: publish.accept names what cannot be accepted.
        ConfigError, HeadError: see `thresholds.settle_for`.
        TableError: see `overrides.read`.
    """
    checks = _require_sound(work.store, work.config, found)
    said = overrides.read(work.spark, work.config, datetime.now(UTC))
    head_id, run_id = found.scores.inputs.head_id, work.run_id
    settled = thresholds.settle_for(
        work.store, work.config.publish, head_id, work.config.score.head
    )
    facts: dict[str, Any] = {"config": work.config.recorded(), "inputs": found.inputs(settled)}

    decided = decisions.decide(
        frames.read_run(work.spark, found.seen),
        frames.read_run(work.spark, found.scores),
        frames.read_run(work.spark, found.last) if found.last else None,
        said.frames if said else None,
        _rules(work.config, settled, found.scores, run_id),
    )
    decisions_run = frames.write_run(decided, work.store, tables.DECISIONS, run_id, **facts)
    written = frames.read_run(work.spark, decisions_run)
    counted = figures.gather(written, _comparable(work.spark, found, settled))
    unscored = decisions.unscored(written).coalesce(1)
    unscored_run = frames.write_run(unscored, work.store, tables.UNSCORED, run_id, **facts)
    rows.write(work.store, tables.STRATA, run_id, figures.rows_of(counted), **facts)
    folder = frames.write_files(
        decisions.exclusion_list(written).coalesce(1), work.store, tables.EXCLUSION_LIST, run_id
    )
    listed_rows = sum(file.rows for file in described_files(folder))
    checks = [*checks, *audits.of_files(counted, listed_rows, unscored_run.rows)]

    checks, told = _audited(work.store, work.config, found, counted, checks)
    told["overrides"] = said.told(written) if said else {}
    listed = work.store.commit(tables.EXCLUSION_LIST, run_id, **facts, counts=told)
    return Made(
        listed,
        unscored_run,
        decisions_run,
        counted,
        checks,
        told["alarms"],
        settled,
        found,
        told["overrides"],
    )


def _require_sound(store: Store, config: Config, found: Sources) -> list[Check]:
    """The audits of what a version is made from, passed or accepted.

    Raises:
        AuditError: one of them failed.
        UserError: publish.accept names what cannot be accepted.
    """
    audits.require_acceptable(config.publish.accept)
    judged = source_audits.judge(store, config, found.scores, found.seen, found.live, found.last)
    checks = audits.accepted(judged, config.publish.accept, config.publish.because)
    audits.require(
        checks,
        doing=f"auditing what the exclusion list is made from (scores {found.scores.run_id})",
    )
    return checks


def _comparable(spark: SparkSession, found: Sources, settled: Settled) -> DataFrame | None:
    """The last decisions, where the same head and threshold made them; else None."""
    if found.last is None:
        return None
    before = found.last.inputs
    same_head = before.head_id == found.scores.inputs.head_id
    same = same_head and before.operating_threshold == settled.operating_threshold
    return frames.read_run(spark, found.last) if same else None


def _last_versions(store: Store, found: Sources, history: int) -> Last | None:
    """What the last versions, `history` of them, were like; early ones tell less, or nothing."""
    if found.live is None:
        return None
    log = versions.log(store)[-history:]
    counts = [version.counts for version in log or [found.live] if version.counts.get("images")]
    head_id = found.last.inputs.head_id if found.last else found.live.said.get("head_id")
    strata = figures.strata_of(rows.read(versions.companion(store, found.live, tables.STRATA)))
    return Last(counts, strata, head_id == found.scores.inputs.head_id)


def _audited(
    store: Store, config: Config, found: Sources, counted: Figures, before: list[Check]
) -> tuple[list[Check], dict[str, Any]]:
    """All checks, those of before and those of what was written, and what the manifest tells of them."""
    last, section = (
        _last_versions(store, found, config.publish.audits.history),
        config.publish,
    )
    judged = [
        *audits.of_version(counted, found.seen.rows),
        *change_audits.judge(counted, last, section.audits),
    ]
    checks = [*before, *audits.accepted(judged, section.accept, section.because)]
    told = {
        "audits": [check.told() for check in checks],
        "drift": change_audits.drift_told(counted, last),
        "alarms": audits.alarms(counted, checks, section.failures.policy),
        "listings": {
            name: getattr(counted, name) for name in ("listings", "emptied", "newly_emptied")
        },
        **counted.counts,
    }
    return checks, told


def ship(store: Store, config: Config, made: Made) -> Version:
    """Publishes what has just been made, where that undoes nothing that was published meanwhile.

    Rollbacks, approvals and others that ship wait for one another, on local stores only; elsewhere what comes in the
    very moment between the look and the pointer is still followed.

    Raises:
        AuditError: it was overtaken, see `_undone`, or see `ship_written`.
        OutputError: see `versions.nothing_is_removed`.
    """
    with versions.nothing_is_removed(store):
        _require_not_overtaken(store, config, made.listed)
        return ship_written(store, config, made.listed)


def ship_written(
    store: Store, config: Config, listed: Run, *, facts: dict[str, Any] | None = None
) -> Version:
    """Publishes a version as it lies there, by what its manifest says.

    Args:
        store: where.
        config: how long it is valid.
        listed: its exclusion list.
        facts: whatever else the log shall tell of it.

    Raises:
        AuditError: it has not passed its audits; the version that counts stays.
    """
    require_passed(listed)
    told = listed.counts
    return versions.publish(
        store,
        listed,
        counts={name: told[name] for name in figures.COUNTS},
        valid_for_h=config.publish.valid_for_h,
        facts={**entry_facts(listed), **(facts or {})},
    )


def needs_approval(store: Store, config: Config, listed: Run) -> bool:
    """Whether a version must be looked at before it ships.

    Only where publish.require_approval says so, and not while head and operating threshold are those of the live
    version: a scheduled rescoring goes on. The first version has nothing to be compared with and is always looked at.
    """
    if not config.publish.require_approval:
        return False
    before = versions.published(store.root)
    return before is None or any(
        getattr(before.inputs, name) != getattr(listed.inputs, name) for name in _DECIDES
    )


def checks_of(listed: Run) -> list[Check]:
    """The audits of a version, as its manifest tells them."""
    return [Check(**told) for told in listed.counts["audits"]]


def require_passed(listed: Run) -> None:
    """Stops where a version has not passed its audits.

    Raises:
        AuditError: see `audits.require`.
    """
    audits.require(checks_of(listed), doing=f"auditing the exclusion list {listed.run_id}")


def entry_facts(listed: Run) -> dict[str, Any]:
    """What the log tells of a version beside its counts."""
    inputs = listed.inputs
    return {name: getattr(inputs, name) for name in ("head_id", "operating_threshold", "catalog")}


def _require_not_overtaken(store: Store, config: Config, listed: Run) -> None:
    """Making a list takes minutes, and what it was judged by at the start may no longer be so.

    By numbers, since a rollback may show the very run that was live at the start.
    """
    live, before = versions.live(store), listed.inputs.last_version
    if (
        live is None
        or live.number == before
        or not (undone := _undone(store, config, live, listed))
    ):
        return
    raise AuditError(
        doing=f"publishing the exclusion list {listed.run_id}",
        expected="no version to be live, as when it was made"
        if before is None
        else f"version {before} to be live, against which it was made",
        found=f"overtaken: version {live.number} is live, {undone}",
        todo=f"{audits.LAST_STAYS}publish again: `toiletspark publish`",
    )


def _undone(store: Store, config: Config, live: Version, listed: Run) -> str:
    """What the live version is that a list must not follow which was made before it; "" if it may."""
    ours, catalog = str(listed.inputs.catalog), source_audits.catalog_of(store, live)
    if "rolled_back_to" in live.said:
        return f"a rollback to version {live.shows}"
    if catalog is not None and ours < catalog:
        return f"made from the newer catalog {catalog} (this one from {ours})"
    if needs_approval(store, config, listed):
        return "of another head or operating threshold (publish.require_approval)"
    return ""


def _rules(config: Config, settled: Settled, scores: Run, run_id: str) -> Rules:
    section = config.publish
    return Rules(
        operating_threshold=settled.operating_threshold,
        hysteresis=section.hysteresis,
        keep_score_days=section.keep_score_days,
        failures=section.failures.model_dump(),
        now=datetime.now(UTC),
        scored_at=datetime.fromisoformat(scores.made_at),
        head_id=str(scores.inputs.head_id),
        run_id=run_id,
    )

"""How a version comes to be: decided, written where nobody looks, audited, and only then published.

The tables of a version (see `versions`) are complete, and their files counted, before the audits; the audits' results
stand in the manifest of its exclusion list; the version exists once its number is taken, and readers see it once the
pointer has moved. Whatever happens before that changes nothing for readers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import SparkSession

from toiletspark import audits, decisions, figures, frames, held_out, overrides, rows, tables, versions
from toiletspark.audits import Check
from toiletspark.config import Config
from toiletspark.decisions import Rules
from toiletspark.figures import Figures
from toiletspark.policies import Settled
from toiletspark.runs import Run, Store, new_run_id
from toiletspark.versions import Version

DOING = "publishing the exclusion list"


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


@dataclass(frozen=True)
class Made:
    """A version that was written and not yet published; `checks` hold what was accepted."""

    listed: Run
    unscored: Run
    decisions: Run
    figures: Figures
    checks: list[Check]
    settled: Settled
    sources: Sources
    overrides: dict[str, Any]  # see `overrides.Read.told`; {} where there is no table of them


def sources(store: Store) -> Sources:
    """The newest scores, their catalog, and the version that is live.

    Raises:
        OutputError: nothing was scored yet.
    """
    scores = store.require(tables.SCORES, doing=DOING, step="score")
    seen = store.run(tables.CATALOG, scores.manifest["inputs"]["catalog"])
    live = versions.live(store)
    return Sources(
        scores,
        seen or store.require(tables.CATALOG, doing=DOING, step="embed"),
        live,
        versions.companion(store, live, tables.DECISIONS),
    )


def make(spark: SparkSession, store: Store, config: Config, found: Sources) -> Made:
    """Writes the tables of a version and audits them; nothing that readers see changes.

    Raises:
        AuditError: the sources are not what they must be. (What the audits of the decisions say is in `Made.checks`.)
        ConfigError, HeadError: see `held_out.settle_for`.
        TableError: see `overrides.read`.
    """
    said = overrides.read(spark, config, datetime.now(UTC))
    run_id, made_from = new_run_id(), found.scores.manifest["inputs"]
    settled = held_out.settle_for(store, config.publish, made_from["head_id"], config.score.head)
    decided = decisions.decide(
        frames.read_run(spark, found.seen),
        frames.read_run(spark, found.scores),
        frames.read_run(spark, found.last) if found.last else None,
        said.frames if said else None,
        _rules(config, settled, found.scores, run_id),
    )
    inputs = {
        **made_from,
        "catalog": found.seen.run_id,
        "scores": found.scores.run_id,
        "last_version": found.live.number if found.live else None,
        "last_run": found.live.run_id if found.live else None,
        "operating_threshold": settled.operating_threshold,
        "threshold_reason": settled.reason,
    }
    facts: dict[str, Any] = {"config": config.recorded(), "inputs": inputs}
    decisions_run = frames.write_run(decided, store, tables.DECISIONS, run_id, **facts)
    written = frames.read_run(spark, decisions_run)
    counted = figures.gather(written)
    unscored = decisions.unscored(written).coalesce(1)
    unscored_run = frames.write_run(unscored, store, tables.UNSCORED, run_id, **facts)
    rows.write(store, tables.STRATA, run_id, figures.rows_of(counted), **facts)
    frames.write_files(decisions.exclusion_list(written).coalesce(1), store, tables.EXCLUSION_LIST, run_id)
    checks = audits.accepted(audits.of_version(counted, found.seen.rows), config.publish.accept, config.publish.because)
    told = {"audits": [check.told() for check in checks], **counted.counts}
    overridden = said.told(written) if said else {}
    told |= {"overrides": overridden} if said else {}
    listed = store.commit(tables.EXCLUSION_LIST, run_id, **facts, counts=told)
    return Made(listed, unscored_run, decisions_run, counted, checks, settled, found, overridden)


def ship(store: Store, config: Config, made: Made) -> Version:
    """Publishes what has just been made; see `ship_written`."""
    return ship_written(store, config, made.listed)


def ship_written(store: Store, config: Config, listed: Run, *, facts: dict[str, Any] | None = None) -> Version:
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
    told = listed.manifest["counts"]
    return versions.publish(
        store,
        listed,
        counts={name: told[name] for name in figures.COUNTS},
        valid_for_h=config.publish.valid_for_h,
        facts={**entry_facts(listed), **(facts or {})},
    )


def checks_of(listed: Run) -> list[Check]:
    """The audits of a version, as its manifest tells them."""
    return [Check(**told) for told in listed.manifest["counts"]["audits"]]


def require_passed(listed: Run) -> None:
    """Stops where a version has not passed its audits.

    Raises:
        AuditError: see `audits.require`.
    """
    audits.require(checks_of(listed), doing=f"auditing the exclusion list {listed.run_id}")


def entry_facts(listed: Run) -> dict[str, Any]:
    """What the log tells of a version beside its counts."""
    inputs = listed.manifest["inputs"]
    return {name: inputs[name] for name in ("head_id", "operating_threshold", "catalog")}


def _rules(config: Config, settled: Settled, scores: Run, run_id: str) -> Rules:
    section = config.publish
    return Rules(
        operating_threshold=settled.operating_threshold,
        hysteresis=section.hysteresis,
        keep_score_days=section.keep_score_days,
        failures=section.failures.model_dump(),
        now=datetime.now(UTC),
        scored_at=datetime.fromisoformat(scores.manifest["made_at"]),
        head_id=str(scores.manifest["inputs"]["head_id"]),
        run_id=run_id,
    )

"""How a version comes to be: decided, written where nobody looks, audited, and only then published.

The tables of a version (see `versions`) are complete, and their files counted, before the audits; the audits' results
stand in the manifest of its exclusion list; the version exists once its number is taken, and readers see it once the
pointer has moved. Whatever happens before that changes nothing for readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from toiletspark import (
    audits,
    change_audits,
    decisions,
    figures,
    frames,
    held_out,
    overrides,
    rows,
    source_audits,
    tables,
    versions,
)
from toiletspark.audits import Check
from toiletspark.change_audits import Last
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
        AuditError: the sources are not what they must be; nothing was written. (What the audits of the decisions say
            is in `Made.checks`.)
        UserError: publish.accept names what cannot be accepted.
        ConfigError, HeadError: see `held_out.settle_for`.
        TableError: see `overrides.read`.
    """
    checks = _source_checks(store, config, found)
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
    counted = figures.gather(written, _comparable(spark, found, inputs))
    unscored = decisions.unscored(written).coalesce(1)
    unscored_run = frames.write_run(unscored, store, tables.UNSCORED, run_id, **facts)
    rows.write(store, tables.STRATA, run_id, figures.rows_of(counted), **facts)
    frames.write_files(decisions.exclusion_list(written).coalesce(1), store, tables.EXCLUSION_LIST, run_id)
    last = _last(store, config, found)
    judged = [
        *audits.of_version(counted, found.seen.rows),
        *change_audits.judge(counted, last, config.publish.audits),
    ]
    checks += audits.accepted(judged, config.publish.accept, config.publish.because)
    alarms = _alarms(counted, checks, config)
    told = {
        "audits": [check.told() for check in checks],
        "drift": change_audits.drift_told(counted, last),
        "alarms": alarms,
        "listings": {name: getattr(counted, name) for name in ("listings", "emptied", "newly_emptied")},
        **counted.counts,
    }
    overridden = said.told(written) if said else {}
    told |= {"overrides": overridden} if said else {}
    listed = store.commit(tables.EXCLUSION_LIST, run_id, **facts, counts=told)
    return Made(listed, unscored_run, decisions_run, counted, checks, alarms, settled, found, overridden)


def _source_checks(store: Store, config: Config, found: Sources) -> list[Check]:
    """The audits of what a version is made from, passed or accepted."""
    audits.require_acceptable(config.publish.accept)
    judged = source_audits.judge(store, config, found.scores, found.seen, found.live, found.last)
    checks = audits.accepted(judged, config.publish.accept, config.publish.because)
    audits.require(checks, doing=f"auditing what the exclusion list is made from (scores {found.scores.run_id})")
    return checks


def _comparable(spark: SparkSession, found: Sources, inputs: Mapping[str, Any]) -> DataFrame | None:
    """The last decisions, where the same head and threshold made them; else None."""
    if found.last is None:
        return None
    before = found.last.manifest["inputs"]
    same = all(before.get(name) == inputs[name] for name in ("head_id", "operating_threshold"))
    return frames.read_run(spark, found.last) if same else None


def _last(store: Store, config: Config, found: Sources) -> Last | None:
    """What the last versions were like; early ones tell less, or nothing."""
    if found.live is None:
        return None
    log = versions.log(store)[-config.publish.audits.history :]
    counts = [version.counts for version in log or [found.live] if version.counts.get("images")]
    before = found.last.manifest["inputs"] if found.last else found.live.said
    strata = figures.strata_of(rows.read(versions.companion(store, found.live, tables.STRATA)))
    return Last(counts, strata, before.get("head_id") == found.scores.manifest["inputs"]["head_id"])


def _alarms(counted: Figures, checks: list[Check], config: Config) -> list[str]:
    denied = counted.total("policy")
    policy = [
        f"access to {denied} of {counted.images} images was denied (publish.failures.policy: "
        f"{config.publish.failures.policy}); it is a mistake in the configuration, or an attack"
    ]
    accepted = [
        f"{check.rule} failed ({check.found}) and was accepted: {check.accepted}" for check in checks if check.accepted
    ]
    return [*(policy if denied else []), *accepted]


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

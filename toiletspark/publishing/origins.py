"""What a version is made from: scores, their catalog, and the versions before; and whether they are sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from toiletspark.config import Config
from toiletspark.publishing import figures
from toiletspark.publishing.audits import checks as audits
from toiletspark.publishing.audits import inputs as source_audits
from toiletspark.publishing.audits.changes import Last
from toiletspark.publishing.audits.checks import Check
from toiletspark.publishing.thresholds import Settled
from toiletspark.publishing.versions import log as versions
from toiletspark.publishing.versions.log import Version
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Run, Store

DOING = "publishing the exclusion list"


@dataclass(frozen=True)
class Origins:
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

    def inputs(self, settled: Settled) -> dict[str, Any]:
        """As the manifests of a version tell them, with the threshold that decides."""
        return {
            **self.scores.manifest["inputs"],
            "catalog": self.seen.run_id,
            "scores": self.scores.run_id,
            "last_version": self.live.number if self.live else None,
            "last_run": self.live.run_id if self.live else None,
            "operating_threshold": settled.operating_threshold,
            "threshold_reason": settled.reason,
        }


def newest(store: Store) -> Origins:
    """The newest scores, their catalog, and the version that is live.

    Raises:
        OutputError: nothing was scored yet.
    """
    scores = store.require(tables.SCORES, doing=DOING, step="score")
    seen = store.run(tables.CATALOG, scores.manifest["inputs"]["catalog"])
    live = versions.live(store)
    return Origins(
        scores,
        seen or store.require(tables.CATALOG, doing=DOING, step="embed"),
        live,
        versions.companion(store, live, tables.DECISIONS),
    )


def require_sound(store: Store, config: Config, found: Origins) -> list[Check]:
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


def comparable(spark: SparkSession, found: Origins, settled: Settled) -> DataFrame | None:
    """The last decisions, where the same head and threshold made them; else None."""
    if found.last is None:
        return None
    before = found.last.manifest["inputs"]
    same_head = before.get("head_id") == found.scores.manifest["inputs"]["head_id"]
    same = same_head and before.get("operating_threshold") == settled.operating_threshold
    return frames.read_run(spark, found.last) if same else None


def last_versions(store: Store, found: Origins, history: int) -> Last | None:
    """What the last versions, `history` of them, were like; early ones tell less, or nothing."""
    if found.live is None:
        return None
    log = versions.log(store)[-history:]
    counts = [version.counts for version in log or [found.live] if version.counts.get("images")]
    before = found.last.manifest["inputs"] if found.last else found.live.said
    strata = figures.strata_of(rows.read(versions.companion(store, found.live, tables.STRATA)))
    return Last(counts, strata, before.get("head_id") == found.scores.manifest["inputs"]["head_id"])

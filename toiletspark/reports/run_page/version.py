"""The version on the run page: alarms, decisions, audits, drift and the leak meter. No Spark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from toiletspark.feed.leak_meter import Meter, named
from toiletspark.sampling.estimates import Share
from toiletspark.tables.schemas import DECISIONS_OF_IMAGES, REASONS

if TYPE_CHECKING:
    from toiletspark.publishing.audits.checks import Check

REASON_MEANINGS = {
    "model": "The exclusion score, compared with the operating threshold.",
    "hysteresis": "The score is so near to the threshold that the last decision stays.",
    "last_score": "The image could not be fetched this time; its last score decides.",
    "override": "A person has decided.",
    "unscored": "There is no score; the kind of failure decides.",
}
OUTCOMES = ("failed", "accepted", "not judged", "passed")  # in the order in which they are shown
STABLE_PSI, MAJOR_PSI = 0.1, 0.25  # the usual reading of a population stability index
_TREND_VERSIONS = 12


@dataclass(frozen=True)
class StratumDrift:
    """The difference of a stratum's exclusion scores from those of the last version."""

    name: str  # of the stratum
    psi: float  # population stability index, >= 0
    ks: float  # largest distance of the two distributions, [0, 1]
    images: int | None = None  # in the stratum; None for all images together

    @property
    def size(self) -> str:
        """stable, moderate or major."""
        if self.psi < STABLE_PSI:
            return "stable"
        return "moderate" if self.psi <= MAJOR_PSI else "major"


@dataclass(frozen=True)
class DriftTable:
    """Drift of all images, and of the strata that moved most, the largest PSI first."""

    # False if the last version has another head: then scores differ whatever the images do
    same_head: bool
    overall: StratumDrift
    strata: list[StratumDrift]


@dataclass(frozen=True)
class VersionFacts:
    """Facts about a published version."""

    number: int  # 1, 2, ...
    valid_until: str = ""  # when readers begin to refuse it; "" = never
    alarms: Sequence[str] = ()  # sentences that people must see at once
    # images by reason and decision, see `schemas.DECISIONS`
    decided: Mapping[tuple[str, str], int] = field(default_factory=dict)
    checks: Sequence[Check] = ()  # the audits
    drift: DriftTable | None = None  # None for the first version
    meters: Sequence[Meter] = ()  # the leak meter, oldest version first

    @property
    def by_reason(self) -> list[tuple[str, list[int]]]:
        """Each reason with its images kept, excluded and unscored."""
        used = {reason for reason, _ in self.decided}
        order = [reason for reason in REASONS if reason in used] + sorted(used - set(REASONS))
        sides = DECISIONS_OF_IMAGES
        return [(name, [self.decided.get((name, side), 0) for side in sides]) for name in order]

    @property
    def totals(self) -> list[int]:
        """Images kept, excluded and unscored."""
        return [sum(counts) for counts in zip(*(row for _, row in self.by_reason), strict=True)]

    @property
    def sorted_checks(self) -> list[Check]:
        """The audits, those that did not pass first."""
        return sorted(self.checks, key=lambda check: OUTCOMES.index(outcome(check)))

    @property
    def meter(self) -> Meter | None:
        """The leak meter of this version."""
        return next((meter for meter in self.meters if meter.version == self.number), None)

    @property
    def trend(self) -> Sequence[Meter]:
        """The last versions that have a leak sample."""
        return self.meters[-_TREND_VERSIONS:]


def drift_table(drift: Mapping[str, Any] | None) -> DriftTable | None:
    """The drift that the manifest of an exclusion list records."""
    if not drift:
        return None
    strata = [StratumDrift(name, **figures) for name, figures in drift["strata"].items()]
    strata.sort(key=lambda stratum: (-stratum.psi, stratum.name))
    return DriftTable(drift["same_head"], StratumDrift("all images", **drift["overall"]), strata)


def outcome(check: Check) -> str:
    """One of `OUTCOMES`."""
    if check.accepted:
        return "accepted"
    if check.passed is None:
        return "not judged"
    return "passed" if check.passed else "failed"


def outcome_counts(checks: Iterable[Check]) -> str:
    """The outcomes counted, as in "16 passed, 2 not judged, 1 accepted"."""
    outcomes = [outcome(check) for check in checks]
    names = [name for name in reversed(OUTCOMES) if name in outcomes]
    return ", ".join(f"{outcomes.count(name)} {name}" for name in names)


def span(share: Share, meters: Iterable[Meter]) -> tuple[float, float, float] | None:
    """Low, value and high of a figure on the trend's common axis, in percent of its width."""
    if share.value is None:
        return None
    end = axis(meters)
    return 100 * share.low / end, 100 * share.value / end, 100 * min(share.high, end) / end


def axis(meters: Iterable[Meter]) -> float:
    """The right end of the trend's axis: the highest upper bound that is shown, at least 0.001."""
    shown = [meter for meter in meters if not meter.thin]
    shares = [share for meter in shown for share in (meter.leaking, meter.lost)]
    return max([0.001, *(share.high for share in shares if share.n)])


def classes_of(meters: Sequence[Meter]) -> str:
    """The classes that the feed must not show, in words; of the newest meter."""
    return named(meters[-1].classes) if meters else ""

"""What the run page tells of a published version: alarms, decisions, audits, drift and the leak meter. Without Spark.

Versions from before one of these was counted tell nothing of it, and their page comes all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from toiletspark.feed.leak_meter import Meter, named
from toiletspark.sampling.estimates import Share
from toiletspark.tables.schemas import DECISIONS_OF_IMAGES, REASONS

REASON_MEANINGS = {
    "model": "The exclusion score, against the operating threshold.",
    "hysteresis": "The score is so near to the threshold that the last version's decision stands.",
    "last_score": "The image could not be fetched this time; its last score decides.",
    "override": "Somebody has said so.",
    "unscored": "There is no score; the kind of failure decides.",
}
OUTCOMES = ("failed", "accepted", "not judged", "passed")  # in the order in which they are shown
STABLE, MAJOR = 0.1, 0.25  # of PSI, as it is commonly read
_SHOWN = 12  # versions of the trend


@dataclass(frozen=True)
class CheckLine:
    """One audit; outcome: one of `OUTCOMES`, because: why it was accepted, or ""."""

    rule: str
    expected: str
    found: str
    outcome: str
    because: str


@dataclass(frozen=True)
class Moved:
    """How exclusion scores differ from those of the last version; psi and ks are None where they were not measured.

    Attributes:
        name: of the stratum.
        psi: population stability index, >= 0.
        ks: largest distance of the two distributions, [0, 1].
        images: in the stratum.
    """

    name: str
    psi: float | None
    ks: float | None
    images: int | None

    @property
    def word(self) -> str:
        """stable, moderate or major; unknown where nothing was measured."""
        if self.psi is None:
            return "unknown"
        return "stable" if self.psi < STABLE else "moderate" if self.psi <= MAJOR else "major"


@dataclass(frozen=True)
class Drift:
    """Drift of all images, and of the strata that moved most, the largest PSI first.

    same_head: whether the last version's scores are by the same head; if not, they differ whatever the images do.
    """

    same_head: bool
    overall: Moved
    strata: list[Moved]


@dataclass(frozen=True)
class VersionParts:
    """What the page tells of a version.

    Attributes:
        number: of the version; 0 of one from before there were numbers.
        valid_until: when readers begin to refuse it; "" = never.
        alarms: sentences that people must see at once.
        decided: images by reason and decision, of `tables.DECISIONS`; {} where nobody has counted.
        checks: the audits.
        drift: None where there is no version before, or nobody has measured it.
        meters: the leak meter, oldest version first.
    """

    number: int = 0
    valid_until: str = ""
    alarms: Sequence[str] = ()
    decided: Mapping[tuple[str, str], int] = field(default_factory=dict)
    checks: Sequence[CheckLine] = ()
    drift: Drift | None = None
    meters: Sequence[Meter] = ()

    @property
    def by_reason(self) -> list[tuple[str, list[int]]]:
        """Reasons that occur, those of the closed list first, each with its images kept, excluded and unscored."""
        there = {reason for reason, _ in self.decided}
        order = [reason for reason in REASONS if reason in there] + sorted(there - set(REASONS))
        return [
            (reason, [self.decided.get((reason, side), 0) for side in DECISIONS_OF_IMAGES])
            for reason in order
        ]

    @property
    def totals(self) -> list[int]:
        """Images kept, excluded and unscored."""
        return [
            sum(row[place] for _, row in self.by_reason)
            for place in range(len(DECISIONS_OF_IMAGES))
        ]

    @property
    def meter(self) -> Meter | None:
        """The leak meter of this very version."""
        return next((meter for meter in self.meters if meter.version == self.number), None)

    @property
    def trend(self) -> Sequence[Meter]:
        """The last versions that have a leak sample."""
        return self.meters[-_SHOWN:]


def checks_of(told: Iterable[Mapping[str, Any]]) -> list[CheckLine]:
    """The audits of a manifest, those that did not pass first."""
    lines = [
        CheckLine(
            str(one.get("rule", "")),
            str(one.get("expected", "")),
            str(one.get("found", "")),
            _outcome(one),
            str(one.get("accepted") or ""),
        )
        for one in told
    ]
    return sorted(lines, key=lambda line: OUTCOMES.index(line.outcome))


def drift_of(told: Mapping[str, Any] | None) -> Drift | None:
    """The drift of a manifest."""
    if not told:
        return None
    strata = [_moved(name, one) for name, one in told.get("strata", {}).items()]
    strata.sort(key=lambda moved: (-math.inf if moved.psi is None else -moved.psi, moved.name))
    return Drift(
        bool(told.get("same_head")), _moved("all images", told.get("overall") or {}), strata
    )


def summed_up(checks: Sequence[CheckLine]) -> str:
    """How many audits came out how, as in "16 passed, 1 accepted, 2 not judged"."""
    counts = {
        outcome: sum(line.outcome == outcome for line in checks) for outcome in reversed(OUTCOMES)
    }
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)


def span(share: Share, meters: Iterable[Meter]) -> tuple[float, float, float] | None:
    """Where a figure and its bounds lie on the trend's common axis: low, value, high in percent of its width."""
    reach = axis(meters)
    if share.value is None:
        return None
    return 100 * share.low / reach, 100 * share.value / reach, 100 * min(share.high, reach) / reach


def axis(meters: Iterable[Meter]) -> float:
    """The share at the right end of the trend's axis: the highest upper bound that is shown, 0.001 at least."""
    sides = [
        share.high
        for meter in meters
        if not meter.thin
        for share in (meter.leaking, meter.lost)
        if share.n
    ]
    return max([0.001, *sides])


def classes_of(meters: Sequence[Meter]) -> str:
    """What the feed must not show, in words; of the newest meter."""
    return named(meters[-1].classes) if meters else ""


def _outcome(one: Mapping[str, Any]) -> str:
    if one.get("accepted"):
        return "accepted"
    return {True: "passed", False: "failed"}.get(one.get("passed"), "not judged")  # type: ignore[arg-type]


def _moved(name: str, told: Mapping[str, Any]) -> Moved:
    images = told.get("images")
    return Moved(
        name,
        _number(told.get("psi")),
        _number(told.get("ks")),
        None if images is None else int(images),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

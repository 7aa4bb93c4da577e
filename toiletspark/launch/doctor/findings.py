"""A finding: what is wrong, where, why it matters, and the exact setting that mends it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from toiletspark.launch.doctor.observed import Place

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")  # the most harmful first


@dataclass(frozen=True)
class Finding:
    """One thing that a person can mend.

    Attributes:
        check: the check that found it, a name for programs.
        level: error: jobs fail, or their result is wrong or lost; warning: they are slow or at risk; note: to know.
        what: what was seen.
        where: executors, machines or hosts; "" = the whole application.
        why: what comes of it.
        todo: what to do, with the exact setting.
        settings: settings of Spark's that mend it.
        sets: keys of toiletspark's configuration that mend it.
    """

    check: str
    level: Level
    what: str
    where: str
    why: str
    todo: str
    settings: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)


def exit_code(findings: Iterable[Finding]) -> int:
    """0: sound; 1: warnings; 2: errors. Notes do not count."""
    levels = {finding.level for finding in findings}
    return 2 if "error" in levels else 1 if "warning" in levels else 0


def by_harm(findings: Iterable[Finding]) -> list[Finding]:
    """Errors before warnings before notes; among equals, the order of the checks stays."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def places(those: Iterable[Place], most: int = 4) -> str:
    """Where something was seen, for a message: "executor 0 on a, executor 1 on b and 3 more"."""
    names = [str(place) for place in those]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

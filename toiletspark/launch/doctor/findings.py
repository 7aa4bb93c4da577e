"""A finding: a fault, its location, its harm, and the exact setting that mends it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from toiletspark.launch.settings import Level

_ORDER: tuple[Level, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """A fault that a person can mend.

    An error lets jobs fail, or their result be wrong or lost; a warning makes them slow or risky.
    """

    check: str  # a name for programs
    level: Level
    what: str  # the fault
    where: str  # executors, machines or hosts; "" = the whole application
    why: str  # its consequence
    todo: str  # the remedy, with the exact setting
    settings: Mapping[str, str] = field(default_factory=dict)  # of Spark, that mend it
    sets: Mapping[str, str] = field(default_factory=dict)  # keys of our configuration that mend it


def exit_code(findings: Iterable[Finding]) -> int:
    """Returns 0 if sound, 1 for warnings, 2 for errors. Notes do not count."""
    levels = {finding.level for finding in findings}
    return 2 if "error" in levels else 1 if "warning" in levels else 0


def by_harm(findings: Iterable[Finding]) -> list[Finding]:
    """Sorts errors before warnings before notes, and keeps the order of the checks among equals."""
    return sorted(findings, key=lambda finding: _ORDER.index(finding.level))


def names(items: Iterable[object], most: int = 4) -> str:
    """Names executors or hosts in a message: "executor 0 on a, executor 1 on b and 3 more"."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more

"""What a version must be to be published: rules over its figures, named as Deequ names them. Without Spark.

A rule of integrity (rows, ids, values) cannot be accepted away: a list that breaks one is wrong. Rules about shares and
change can be, with a reason, since a catalog may really have changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from toiletspark.errors import AuditError, UserError, nearest, shown
from toiletspark.figures import Figures

TODO = "the last version stays in force; "


@dataclass(frozen=True)
class Check:
    """One rule, and what came of it.

    Attributes:
        rule: its name, as `--accept` takes it.
        expected: in words.
        found: in words.
        passed: None where it could not be judged, and `found` says why.
        todo: what a person can do about it.
        acceptable: whether `--accept` may overrule it.
        accepted: why it was accepted though it failed; "" if it was not.
    """

    rule: str
    expected: str
    found: str
    passed: bool | None
    todo: str = ""
    acceptable: bool = False
    accepted: str = ""

    def told(self) -> dict[str, Any]:
        """As manifests hold it."""
        return asdict(self)


def accepted(checks: Sequence[Check], rules: Iterable[str], because: str) -> list[Check]:
    """The checks, with the failed ones among `rules` accepted.

    Raises:
        UserError: there is no such rule, or it is one of integrity.
    """
    named, known = set(rules), {check.rule for check in checks}
    fixed = sorted({check.rule for check in checks if check.rule in named and not check.acceptable})
    unknown = sorted(named - known)
    if unknown or fixed:
        raise UserError(
            doing="accepting failed audits",
            expected=f"rules that can be accepted: {shown(sorted({c.rule for c in checks if c.acceptable}), 30)}",
            found=f"{shown(unknown)}{nearest(unknown[0], known)}" if unknown else f"{shown(fixed)}, of integrity",
            todo="a list that breaks a rule of integrity is wrong, whatever the reason" if fixed else "mend the name",
        )
    failed = [check.rule in named and check.passed is False for check in checks]
    return [replace(check, accepted=because) if taken else check for check, taken in zip(checks, failed, strict=True)]


def failed(checks: Iterable[Check]) -> list[Check]:
    """Those that stop a publication."""
    return [check for check in checks if check.passed is False and not check.accepted]


def require(checks: Iterable[Check], *, doing: str) -> None:
    """Stops where a check failed that nobody has accepted.

    Raises:
        AuditError: names every such rule, what it expected and what was found.
    """
    stopping = failed(checks)
    if stopping:
        todo = "; ".join(dict.fromkeys(check.todo for check in stopping if check.todo))
        raise AuditError(
            doing=doing,
            expected="; ".join(f"{check.rule}: {check.expected}" for check in stopping),
            found="; ".join(f"{check.rule}: {check.found}" for check in stopping),
            todo=TODO + (todo or "run `toiletspark rescore` again, and report this if it comes back"),
        )


def of_version(figures: Figures, images: int) -> list[Check]:
    """The rules of integrity.

    Args:
        figures: of the decisions, as written.
        images: rows of the catalog that they are about.
    """
    sides = figures.total("kept") + figures.total("excluded") + figures.total("unscored")
    return [
        Check("size", f"one decision for each of {images} images", f"{figures.images}", 0 < figures.images == images),
        Check("completeness.image_id", "no null", f"{figures.null_ids} nulls", not figures.null_ids),
        Check("uniqueness.image_id", "each once", f"{figures.repeated_ids} more", not figures.repeated_ids),
        Check(
            "containment.decision",
            f"each of {images} images kept, excluded or unscored, for a known reason",
            f"{sides} are, and {figures.unknown_words} rows hold a word that no list has",
            sides == images and not figures.unknown_words,
        ),
        Check(
            "containment.exclusion_score",
            "a number in [0, 1] where there is a score, and null elsewhere",
            f"{figures.scores_amiss} rows where it is not",
            not figures.scores_amiss,
        ),
    ]

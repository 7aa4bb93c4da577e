"""The rules that a version must keep, named as Deequ names them. No Spark.

Rules of integrity cannot be accepted: a list that breaks one is wrong. Rules about shares and
change can be, with a reason, because a catalog may really have changed. Source of the names:
Schelter et al., Automating large-scale data quality verification (2018), the paper on Deequ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from toiletspark.errors import AuditError, UserError, nearest, shown

if TYPE_CHECKING:
    from toiletspark.publishing.figures import Figures

LAST_STAYS = "the last version stays in force; "
INTEGRITY = (
    *("files.scores", "files.catalog", "files.last_version"),
    *("schema.scores", "schema.catalog", "schema.last_version"),
    *("size.scores", "containment.head_id", "golden_images"),
    *("size", "completeness.image_id", "uniqueness.image_id"),
    *("containment.decision", "containment.exclusion_score"),
    *("consistency.decision", "size.exclusion_list", "size.unscored"),
)
ACCEPTABLE = (
    *("freshness", "containment.strata", "rate_of_change.size"),
    *("share.excluded", "share.unscored", "share.policy", "share.listings_emptied"),
    *("rate_of_change.excluded", "rate_of_change.unscored", "drift", "recall"),
)


@dataclass(frozen=True)
class Check:
    """One rule and its result, in words."""

    rule: str  # its name, as `--accept` takes it
    expected: str
    found: str
    passed: bool | None  # None if it could not be judged; `found` says why
    todo: str = ""
    accepted: str = ""  # the reason why it was accepted though it failed


@dataclass(frozen=True)
class Rule:
    """A rule before it is judged; see `Check`."""

    name: str
    expected: str
    todo: str = ""

    def passed(self, found: str) -> Check:
        """The rule is kept."""
        return self.judged(found, passed=True)

    def failed(self, found: str, todo: str = "") -> Check:
        """The rule is broken; `todo` is better advice than the rule's own."""
        return Check(self.name, self.expected, found, passed=False, todo=todo or self.todo)

    def unknown(self, why: str) -> Check:
        """The rule could not be judged."""
        return Check(self.name, self.expected, why, None)

    def judged(self, found: str, *, passed: bool) -> Check:
        """The rule is kept or broken."""
        return Check(self.name, self.expected, found, passed, self.todo)


def require_acceptable(rules: Iterable[str]) -> None:
    """Stops with a UserError if somebody accepts an unknown rule, or one of integrity."""
    unknown = sorted(set(rules) - {*INTEGRITY, *ACCEPTABLE})
    fixed = sorted(set(rules) & set(INTEGRITY))
    found, todo = f"{shown(fixed)}, of integrity", "a list that breaks a rule of integrity is wrong"
    if unknown:
        found, todo = f"{shown(unknown)}{nearest(unknown[0], ACCEPTABLE)}", "correct the name"
    if unknown or fixed:
        raise UserError(
            doing="accepting failed audits (publish.accept)",
            expected=f"rules that can be accepted: {shown(ACCEPTABLE, len(ACCEPTABLE))}",
            found=found,
            todo=todo,
        )


def accepted(checks: Sequence[Check], rules: Iterable[str], because: str) -> list[Check]:
    """The checks, with the failed ones among `rules` accepted; see `require_acceptable`."""
    named = set(rules)
    require_acceptable(named)
    return [
        replace(check, accepted=because) if check.rule in named and check.passed is False else check
        for check in checks
    ]


def failed(checks: Iterable[Check]) -> list[Check]:
    """The checks that stop a publication."""
    return [check for check in checks if check.passed is False and not check.accepted]


def require(checks: Iterable[Check], *, doing: str, page: str = "") -> None:
    """Stops with an AuditError that names every check that failed and was not accepted.

    `page` is the location of a page that shows what was refused.
    """
    stopping = failed(checks)
    if not stopping:
        return
    advice = [check.todo for check in stopping if check.todo]
    if all(check.rule in ACCEPTABLE for check in stopping):
        options = " ".join(f"--accept {check.rule}" for check in stopping)
        command = f'`toiletspark publish {options} --because "..."`'
        advice.append(f"or, if it is right as it is, {command}")
    again = "run `toiletspark rescore` again, and report this if it comes back"
    raise AuditError(
        doing=doing,
        expected="; ".join(f"{check.rule}: {check.expected}" for check in stopping),
        found="; ".join(f"{check.rule}: {check.found}" for check in stopping),
        todo=LAST_STAYS
        + (f"see {page}; " if page else "")
        + ("; ".join(dict.fromkeys(advice)) or again),
    )


def of_version(figures: Figures, images: int) -> list[Check]:
    """The rules of integrity about the written rows of a version; `images` counts its catalog."""
    counted, unknown = figures.images, figures.unknown_words
    each = f"one decision for each of {images} images"
    decided = figures.total("kept") + figures.total("excluded") + figures.total("unscored")
    known_words = Check(
        "containment.decision",
        f"each of {images} images kept, excluded or unscored, for a known reason",
        f"{decided} are, and {unknown} rows have an unknown word",
        passed=decided == images and not unknown,
    )
    scores = Check(
        "containment.exclusion_score",
        "a number in [0, 1] where there is a score, and null elsewhere",
        f"{figures.scores_amiss} other rows",
        passed=not figures.scores_amiss,
    )
    nulls, more = figures.null_ids, figures.repeated_ids
    return [
        Check("size", each, f"{counted}", passed=0 < counted == images),
        Check("completeness.image_id", "no null", f"{nulls} nulls", passed=not nulls),
        Check("uniqueness.image_id", "each once", f"{more} more", passed=not more),
        _consistency(figures.changed),
        known_words,
        scores,
    ]


def of_files(figures: Figures, excluded_rows: int, unscored_rows: int) -> list[Check]:
    """Compares the rows of both files for readers with the decisions that were counted."""
    todo = "run `toiletspark publish` again, which writes both anew"

    def check(name: str, count: str, words: str, rows: int) -> Check:
        wanted = figures.total(count)
        rule = Rule(f"size.{name}", f"a row for each of {wanted} {words}", todo)
        return rule.judged(f"{rows}", passed=rows == wanted)

    return [
        check("exclusion_list", "excluded", "excluded images", excluded_rows),
        check("unscored", "no_score", "images without a score", unscored_rows),
    ]


def _consistency(changed: int | None) -> Check:
    rule = Rule(
        "consistency.decision",
        "the same decision where content, head and threshold are the same",
        "scores or embeddings were changed in place: run `toiletspark score` again, and find out "
        "by whom",
    )
    if changed is None:
        return rule.unknown("the last version is of another head or threshold, or there is none")
    moved = f"{changed} images whose score moved by more than 0.0001"
    return rule.judged(moved, passed=not changed)


def alarms(figures: Figures, checks: Iterable[Check], policy: str) -> list[str]:
    """Sentences about what people must look at at once; `policy` is publish.failures.policy."""
    sentences = [
        f"{check.rule} failed ({check.found}) and was accepted: {check.accepted}"
        for check in checks
        if check.accepted
    ]
    if unread := figures.statuses.get("bad_url"):
        sentences.insert(
            0,
            f"the addresses of {unread} of {figures.images} images cannot be read (bad_url); their "
            "last decisions stand: see their image_url in the images table",
        )
    if denied := figures.total("policy"):
        sentences.insert(
            0,
            f"access to {denied} of {figures.images} images was denied (publish.failures.policy: "
            f"{policy}); it is a mistake in the configuration, or an attack",
        )
    return sentences

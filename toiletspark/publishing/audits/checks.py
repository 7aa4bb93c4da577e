"""The rules that a version must keep, named as Deequ names them. No Spark.

Rules of integrity (files, schemas, rows, ids, values, heads) cannot be accepted: a list that breaks
one is wrong. Rules about shares and change can be, with a reason, because a catalog may really have
changed. `inputs` judges the sources before anything is decided; `of_version` the rows that were
written; `of_files` the files for readers; `changes` shares and change. Source of the names:
Schelter et al., Automating large-scale data quality verification (2018), the paper on Deequ.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

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
    *("rate_of_change.excluded", "rate_of_change.unscored", "drift"),
)


@dataclass(frozen=True)
class Check:
    """One rule and its result.

    Attributes:
        rule: its name, as `--accept` takes it.
        expected: in words.
        found: in words.
        passed: None if it could not be judged; `found` says why.
        todo: advice to people.
        accepted: the reason why it was accepted though it failed; "" if it was not.
    """

    rule: str
    expected: str
    found: str
    passed: bool | None
    todo: str = ""
    accepted: str = ""

    def as_json(self) -> dict[str, Any]:
        """The check as it stands in manifests."""
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """A rule before it is judged; see `Check`."""

    name: str
    expected: str
    todo: str = ""

    def passed(self, found: str) -> Check:
        """The rule is kept."""
        return self.judged(found, passed=True)

    def failed(self, found: str) -> Check:
        """The rule is broken."""
        return self.judged(found, passed=False)

    def unknown(self, why: str) -> Check:
        """The rule could not be judged."""
        return Check(self.name, self.expected, why, None)

    def judged(self, found: str, *, passed: bool) -> Check:
        """The rule is kept or broken."""
        return Check(self.name, self.expected, found, passed, self.todo)


def require_acceptable(rules: Iterable[str]) -> None:
    """Stops if somebody accepts an unknown rule, or one of integrity.

    Raises:
        UserError: names it, and the rules that can be accepted.
    """
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
    """The checks, with the failed ones among `rules` accepted.

    Raises:
        UserError: see `require_acceptable`.
    """
    named = set(rules)
    require_acceptable(named)
    return [
        replace(check, accepted=because) if check.rule in named and check.passed is False else check
        for check in checks
    ]


def failed(checks: Iterable[Check]) -> list[Check]:
    """The checks that stop a publication."""
    return [check for check in checks if check.passed is False and not check.accepted]


def require(checks: Iterable[Check], *, doing: str) -> None:
    """Stops if a check failed and was not accepted.

    Raises:
        AuditError: names every such rule, with what was expected and found.
    """
    stopping = failed(checks)
    if not stopping:
        return
    advice = [check.todo for check in stopping if check.todo]
    if all(check.rule in ACCEPTABLE for check in stopping):
        options = " ".join(f"--accept {check.rule}" for check in stopping)
        advice.append(
            f'or, if it is right as it is, `toiletspark publish {options} --because "..."`'
        )
    todo = "; ".join(dict.fromkeys(advice))
    raise AuditError(
        doing=doing,
        expected="; ".join(f"{check.rule}: {check.expected}" for check in stopping),
        found="; ".join(f"{check.rule}: {check.found}" for check in stopping),
        todo=LAST_STAYS
        + (todo or "run `toiletspark rescore` again, and report this if it comes back"),
    )


def of_version(figures: Figures, images: int) -> list[Check]:
    """The rules of integrity about the rows of a version.

    Args:
        figures: of the decisions, as written.
        images: rows of the catalog that they are about.
    """
    decided = figures.total("kept") + figures.total("excluded") + figures.total("unscored")
    known_words = Rule(
        "containment.decision",
        f"each of {images} images kept, excluded or unscored, for a known reason",
    )
    scores = Rule(
        "containment.exclusion_score",
        "a number in [0, 1] where there is a score, and null elsewhere",
    )
    return [
        Rule("size", f"one decision for each of {images} images").judged(
            f"{figures.images}", passed=0 < figures.images == images
        ),
        Rule("completeness.image_id", "no null").judged(
            f"{figures.null_ids} nulls", passed=not figures.null_ids
        ),
        Rule("uniqueness.image_id", "each once").judged(
            f"{figures.repeated_ids} more", passed=not figures.repeated_ids
        ),
        _consistency(figures.changed),
        known_words.judged(
            f"{decided} are, and {figures.unknown_words} rows have an unknown word",
            passed=decided == images and not figures.unknown_words,
        ),
        scores.judged(f"{figures.scores_amiss} other rows", passed=not figures.scores_amiss),
    ]


def of_files(figures: Figures, excluded_rows: int, unscored_rows: int) -> list[Check]:
    """Compares the files for readers with the decisions that the figures were counted on.

    Args:
        figures: of the decisions, as written.
        excluded_rows: of the written exclusion list.
        unscored_rows: of the written table of images without a score.
    """
    todo = "run `toiletspark publish` again, which writes both anew"
    excluded, no_score = figures.total("excluded"), figures.total("no_score")
    return [
        Rule("size.exclusion_list", f"a row for each of {excluded} excluded images", todo).judged(
            f"{excluded_rows}", passed=excluded_rows == excluded
        ),
        Rule("size.unscored", f"a row for each of {no_score} images without a score", todo).judged(
            f"{unscored_rows}", passed=unscored_rows == no_score
        ),
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
    found = f"{changed} images whose score moved by more than 0.0001"
    return rule.judged(found, passed=not changed)


def alarms(figures: Figures, checks: Iterable[Check], policy: str) -> list[str]:
    """Sentences about what people must look at at once.

    Args:
        figures: of the decisions.
        checks: all of the version.
        policy: publish.failures.policy.
    """
    overruled = [
        f"{check.rule} failed ({check.found}) and was accepted: {check.accepted}"
        for check in checks
        if check.accepted
    ]
    denied = figures.total("policy")
    if not denied:
        return overruled
    alarm = (
        f"access to {denied} of {figures.images} images was denied (publish.failures.policy: "
        f"{policy}); it is a mistake in the configuration, or an attack"
    )
    return [alarm, *overruled]

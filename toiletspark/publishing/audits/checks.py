"""What a version must be to be published: rules, named as Deequ names them, and how they stop. Without Spark.

Rules of integrity (files, schemas, rows, ids, values, heads) cannot be accepted away: a list that breaks one is wrong.
Rules about shares and change can be, with a reason, since a catalog may really have changed. `source_audits` judges
what a version is made from, before anything is decided; `of_version` the rows that were written; `of_files` whether
readers get all of them; `change_audits` how much of everything they hold. Source of the names: Schelter et al.,
Automating large-scale data quality verification (2018), the paper on Deequ.
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
    *(
        "size",
        "completeness.image_id",
        "uniqueness.image_id",
        "containment.decision",
        "containment.exclusion_score",
    ),
    *("consistency.decision", "size.exclusion_list", "size.unscored"),
)
ACCEPTABLE = (
    *("freshness", "containment.strata", "rate_of_change.size"),
    *("share.excluded", "share.unscored", "share.policy", "share.listings_emptied"),
    *("rate_of_change.excluded", "rate_of_change.unscored", "drift"),
)


@dataclass(frozen=True)
class Check:
    """One rule, and what came of it.

    Attributes:
        rule: its name, as `--accept` takes it.
        expected: in words.
        found: in words.
        passed: None where it could not be judged, and `found` says why.
        todo: what a person can do about it.
        accepted: why it was accepted though it failed; "" if it was not.
    """

    rule: str
    expected: str
    found: str
    passed: bool | None
    todo: str = ""
    accepted: str = ""

    @property
    def acceptable(self) -> bool:
        """Whether `--accept` may overrule it."""
        return self.rule in ACCEPTABLE

    def told(self) -> dict[str, Any]:
        """As manifests hold it."""
        return asdict(self)


def require_acceptable(rules: Iterable[str]) -> None:
    """Stops where somebody accepts a rule that there is not, or one of integrity.

    Raises:
        UserError: names it, and the rules that can be accepted.
    """
    named = set(rules)
    fixed, unknown = sorted(named & set(INTEGRITY)), sorted(named - {*INTEGRITY, *ACCEPTABLE})
    if unknown or fixed:
        raise UserError(
            doing="accepting failed audits (publish.accept)",
            expected=f"rules that can be accepted: {shown(ACCEPTABLE, len(ACCEPTABLE))}",
            found=f"{shown(unknown)}{nearest(unknown[0], ACCEPTABLE)}"
            if unknown
            else f"{shown(fixed)}, of integrity",
            todo="mend the name"
            if unknown
            else "a list that breaks a rule of integrity is wrong, whatever the reason",
        )


def accepted(checks: Sequence[Check], rules: Iterable[str], because: str) -> list[Check]:
    """The checks, with the failed ones among `rules` accepted; to accept what has not failed changes nothing.

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
    """Those that stop a publication."""
    return [check for check in checks if check.passed is False and not check.accepted]


def require(checks: Iterable[Check], *, doing: str) -> None:
    """Stops where a check failed that nobody has accepted.

    Raises:
        AuditError: names every such rule, what it expected and what was found.
    """
    stopping = failed(checks)
    if stopping:
        names = [check.rule for check in stopping if check.rule in ACCEPTABLE]
        options = " ".join(f"--accept {name}" for name in names)
        ways = [check.todo for check in stopping if check.todo]
        if names and len(names) == len(stopping):
            ways.append(
                f'or, if it is right as it is, `toiletspark publish {options} --because "..."`'
            )
        todo = "; ".join(dict.fromkeys(ways))
        raise AuditError(
            doing=doing,
            expected="; ".join(f"{check.rule}: {check.expected}" for check in stopping),
            found="; ".join(f"{check.rule}: {check.found}" for check in stopping),
            todo=LAST_STAYS
            + (todo or "run `toiletspark rescore` again, and report this if it comes back"),
        )


def of_version(figures: Figures, images: int) -> list[Check]:
    """The rules of integrity.

    Args:
        figures: of the decisions, as written.
        images: rows of the catalog that they are about.
    """
    sides = figures.total("kept") + figures.total("excluded") + figures.total("unscored")
    return [
        Check(
            "size",
            f"one decision for each of {images} images",
            f"{figures.images}",
            0 < figures.images == images,
        ),
        Check(
            "completeness.image_id", "no null", f"{figures.null_ids} nulls", not figures.null_ids
        ),
        Check(
            "uniqueness.image_id",
            "each once",
            f"{figures.repeated_ids} more",
            not figures.repeated_ids,
        ),
        _consistency(figures.changed),
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


def of_files(figures: Figures, listed: int, unscored: int) -> list[Check]:
    """Whether what readers get is what was decided: they read other files than those that the figures were counted on.

    Args:
        figures: of the decisions, as written.
        listed: rows of the written exclusion list.
        unscored: rows of the written companion.
    """
    todo = "run `toiletspark publish` again, which writes both anew"
    wanted = (
        ("exclusion_list", "excluded images", figures.total("excluded"), listed),
        ("unscored", "images without a score", figures.total("no_score"), unscored),
    )
    return [
        Check(f"size.{table}", f"a row for each of {count} {what}", f"{rows}", rows == count, todo)
        for table, what, count, rows in wanted
    ]


def _consistency(changed: int | None) -> Check:
    """The same content, head and threshold give the same decision."""
    rule, expected = (
        "consistency.decision",
        "no other decision where content, head and threshold are the same",
    )
    if changed is None:
        return Check(
            rule,
            expected,
            "the last version is of another head or threshold, or there is none",
            None,
        )
    todo = "scores or embeddings were changed in place: run `toiletspark score` again, and find out by whom"
    return Check(
        rule, expected, f"{changed} images whose score moved by more than 0.0001", not changed, todo
    )


def alarms(figures: Figures, checks: Iterable[Check], policy: str) -> list[str]:
    """What people must look at at once, in sentences.

    Args:
        figures: of the decisions.
        checks: all of the version.
        policy: what becomes of images to which access was denied (publish.failures.policy).
    """
    denied = figures.total("policy")
    told = [
        f"access to {denied} of {figures.images} images was denied (publish.failures.policy: {policy}); "
        "it is a mistake in the configuration, or an attack"
    ]
    overruled = [
        f"{one.rule} failed ({one.found}) and was accepted: {one.accepted}"
        for one in checks
        if one.accepted
    ]
    return [*(told if denied else []), *overruled]

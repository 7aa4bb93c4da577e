"""What a row of the table of overrides means, which rows count, and what they say as labels. Without Spark.

Of what is said twice about the same image or content, the newer word counts. Where that cannot be told, because a word
has no time or both have the same, the one that excludes does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from toiletspark.errors import TableError, nearest, shown
from toiletspark.labels.merge import Label

DECISIONS = ("keep", "exclude")
COLUMNS = ("image_id", "content_digest", "decision", "label", "who", "why", "when", "until")
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_FOR_EVER = datetime.max.replace(tzinfo=UTC)
_YEAR_10000 = re.compile(r"\+[1-9]\d{4,}(?=-)")  # as Spark writes years that Python does not have

Row = Mapping[str, str | None]


@dataclass(frozen=True)
class Override:
    """One row: somebody's decision about an image (`image_id`) or a content (`content_digest`), never about both.

    Attributes:
        image_id: of one image, or "".
        content_digest: of every image with this content, or "".
        decision: keep or exclude.
        label: the class that was seen; "" where the row does not say.
        who: has decided it.
        why: in words.
        when: with its time zone; None where the row does not say.
        until: the last moment at which it counts; None = for ever.
    """

    image_id: str
    content_digest: str
    decision: str
    label: str
    who: str
    why: str
    when: datetime | None
    until: datetime | None

    @property
    def key(self) -> tuple[str, str]:
        """What it is about: image_id and content_digest, one of them empty."""
        return self.image_id, self.content_digest

    @property
    def told(self) -> str:
        """As `tables.DECISIONS` tells it."""
        return f"{self.who}: {self.why}"

    def counts_at(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return self.until is None or self.until >= now


def parse(rows: Iterable[Row], classes: Collection[str], *, doing: str) -> list[Override]:
    """Checks the table's rows and gives them their types.

    Args:
        rows: `COLUMNS`, all text; null, blank and a missing column are the same.
        classes: what may stand in `label`.
        doing: for messages.

    Raises:
        TableError: a row names neither or both of image and content; a decision, a class or a time is none; somebody
            has not said who or why.
    """
    clean = [{name: (row.get(name) or "").strip() for name in COLUMNS} for row in rows]
    _require_one_subject(clean, doing)
    _require_decision(clean, doing)
    _require_signed(clean, doing)
    _require_class(clean, classes, doing)
    _require_moment(clean, "when", doing)
    _require_moment(clean, "until", doing)
    return [
        Override(**{**row, "when": moment(row["when"]), "until": moment(row["until"], last=True)})  # type: ignore[arg-type]
        for row in clean
    ]


def moment(text: str, *, last: bool = False) -> datetime | None:
    """A time in ISO 8601, in UTC unless it says otherwise; None for "".

    Databases write 9999-12-31 23:59:59 for "for ever", which may be in the year 10000 in UTC, or in the session's zone:
    all that comes after the last moment that Python has is that moment.

    Args:
        text: a day or a moment.
        last: a day means its last moment, not its first.

    Raises:
        ValueError: it is neither.

    >>> moment("2026-11-30", last=True) > moment("2026-11-30 23:59") > moment("2026-11-30")
    True
    """
    if not text:
        return None
    if _YEAR_10000.match(text):
        moment(_YEAR_10000.sub("2000", text))  # the rest must be sound all the same
        return _FOR_EVER
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return _in_utc(datetime.fromisoformat(text))
    return datetime.combine(day, time.max if last else time.min, UTC)


def _in_utc(found: datetime) -> datetime:
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError:
        if found.year == datetime.max.year:
            return _FOR_EVER
        raise


def resolve(overrides: Iterable[Override]) -> dict[tuple[str, str], Override]:
    """The one that counts of each subject, by `Override.key`; the same one in whichever order they come."""
    said: dict[tuple[str, str], list[Override]] = {}
    for override in overrides:
        said.setdefault(override.key, []).append(override)
    return {key: _winner(about) for key, about in said.items()}


def _winner(about: Sequence[Override]) -> Override:
    """The newest, and of equals the one that excludes; but an exclusion without a time is as new as any."""

    def rank(override: Override) -> tuple[object, ...]:
        excludes = override.decision == "exclude"
        return excludes, override.when or _LONG_AGO, override.who, override.why, override.label

    newest = max((override.when for override in about if override.when), default=None)
    return max((one for one in about if one.when in (newest, None)), key=rank)


def class_of(override: Override, classes: Sequence[str], exclude_classes: Collection[str]) -> str:
    """Its class as a label: its own, or the only one that its decision leaves; "" where there are several."""
    if override.label:
        return override.label
    sides = [
        name for name in classes if (name in exclude_classes) == (override.decision == "exclude")
    ]
    return sides[0] if len(sides) == 1 else ""


def as_labels(
    resolved: Mapping[tuple[str, str], Override],
    digests: Mapping[str, str],
    images: Mapping[str, str],
    classes: Sequence[str],
    exclude_classes: Collection[str],
) -> tuple[list[Label], dict[str, int]]:
    """What overrides say as labels, one an image; what is said of an image goes before what is said of its content.

    Args:
        resolved: see `resolve`.
        digests: the content of images, where it is known.
        images: an image of each content, where there is one.
        classes: labels.classes.
        exclude_classes: labels.exclude_classes.

    Returns:
        The labels, and how many overrides give none: `without_class`, `without_image`.
    """
    labels: dict[str, Label] = {}
    missing = {"without_class": 0, "without_image": 0}
    for (image_id, digest), override in sorted(
        resolved.items(), reverse=True
    ):  # images first, then contents
        image_id = image_id or images.get(digest, "")
        label = class_of(override, classes, exclude_classes)
        if not image_id or not label:
            missing["without_class" if image_id else "without_image"] += 1
            continue
        seen = digest or digests.get(image_id)
        labels.setdefault(
            image_id, Label(image_id, label, seen, "override", override.who, override.when)
        )
    return [labels[image_id] for image_id in sorted(labels)], missing


def _subjects(rows: Iterable[Mapping[str, str]]) -> str:
    return shown(row["image_id"] or row["content_digest"] for row in rows)


def _rows(rows: Sequence[Mapping[str, str]]) -> str:
    return f"{len(rows)} {'rows' if rows[1:] else 'row'}, about {_subjects(rows)}"


def _require_one_subject(rows: list[dict[str, str]], doing: str) -> None:
    neither = [row for row in rows if not (row["image_id"] or row["content_digest"])]
    both = [row for row in rows if row["image_id"] and row["content_digest"]]
    if neither or both:
        about = (
            f"{len(both)} with both: {_subjects(both)}" if both else f"{len(neither)} with neither"
        )
        by = shown(dict.fromkeys(row["who"] for row in both or neither))
        raise TableError(
            doing=doing,
            expected="either an image_id or a content_digest in each row",
            found=f"{about} (by {by})",
            todo="make two rows of a row with both: one for the image, one for its content"
            if both
            else "say which image or content the row is about, or remove it",
        )


def _require_decision(rows: list[dict[str, str]], doing: str) -> None:
    wrong = [row for row in rows if row["decision"] not in DECISIONS]
    if wrong:
        words = list(dict.fromkeys(row["decision"] for row in wrong))
        raise TableError(
            doing=doing,
            expected="the decision keep or exclude in each row",
            found=f"{shown(words)}{nearest(words[0].lower(), DECISIONS)} in {_rows(wrong)}",
            todo="mend these rows",
        )


def _require_signed(rows: list[dict[str, str]], doing: str) -> None:
    wrong = [row for row in rows if not (row["who"] and row["why"])]
    if wrong:
        raise TableError(
            doing=doing,
            expected="in each row who has decided it, and why",
            found=f"nothing in {_rows(wrong)}",
            todo="fill it in: an override beats every score, so others must be able to ask about it",
        )


def _require_class(rows: list[dict[str, str]], classes: Collection[str], doing: str) -> None:
    wrong = list(
        dict.fromkeys(row["label"] for row in rows if row["label"] and row["label"] not in classes)
    )
    if wrong:
        raise TableError(
            doing=doing,
            expected=f"one of labels.classes: {', '.join(classes)}; or nothing",
            found=f"{shown(wrong)}{nearest(wrong[0], classes)}",
            todo="mend the class, or leave it empty",
        )


def _require_moment(rows: list[dict[str, str]], name: str, doing: str) -> None:
    wrong = [row for row in rows if not _is_moment(row[name])]
    if wrong:
        raise TableError(
            doing=doing,
            expected=f"in {name} a day or a moment, as in 2026-11-30 or 2026-11-30T18:00:00+01:00, or nothing",
            found=f"{shown(dict.fromkeys(row[name] for row in wrong))} in {_rows(wrong)}",
            todo="write years first; a moment without a zone is UTC",
        )


def _is_moment(text: str) -> bool:
    try:
        moment(text)
    except (ValueError, OverflowError):
        return False
    return True

"""Rows of the overrides table: checked, resolved for each image, and as labels. No Spark.

Of several rows about the same image or content the newest counts. Where this is open, because a row
has no time or both have the same, the one that excludes counts.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Literal

import pydantic
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from toiletspark.errors import TableError, nearest, shown
from toiletspark.labels.merge import Label

COLUMNS = ("image_id", "content_digest", "decision", "label", "who", "why", "when", "until")
_FOR_EVER = datetime.max.replace(tzinfo=UTC)
_YEAR_10000 = re.compile(r"\+[1-9]\d{4,}(?=-)")  # Spark writes years that Python does not have

_SUBJECT = "either an image_id or a content_digest in each row"
_SIGNED = "fill it in: an override beats every score, so others must be able to ask about it"
_MOMENT = "a day or a moment, as in 2026-11-30 or 2026-11-30T18:00:00+01:00, or nothing"
_ZONE = "write years first; a moment without a zone is UTC"
_RULES = {  # by column: what is expected, and what to do
    "both": (_SUBJECT, "make two rows of a row with both: one for the image, one for its content"),
    "neither": (_SUBJECT, "name the image or the content that the row is about, or remove it"),
    "decision": ("the decision keep or exclude in each row", "correct these rows"),
    "who": ("in each row the person who decided", _SIGNED),
    "why": ("in each row the reason", _SIGNED),
    "label": ("one of labels.classes, or nothing", "correct the class, or leave it empty"),
    "when": (f"in when {_MOMENT}", _ZONE),
    "until": (f"in until {_MOMENT}", _ZONE),
}


def moment(text: str, *, last: bool = False) -> datetime | None:
    """Reads a day or a moment in ISO 8601, in UTC unless it has a zone; None for "".

    `last` takes the last moment of a day, not its first. Databases write 9999-12-31 23:59:59 for
    "for ever". In UTC or in the session's zone this may be in the year 10000, so everything after
    the last moment that Python has becomes that moment. Raises ValueError if it is no time.

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


def _in_utc(time_read: datetime) -> datetime:
    try:
        return time_read.astimezone(UTC) if time_read.tzinfo else time_read.replace(tzinfo=UTC)
    except OverflowError:
        if time_read.year == datetime.max.year:
            return _FOR_EVER
        raise ValueError("before the first year") from None


def _read_moment(value: Any, *, last: bool = False) -> Any:
    return moment(value, last=last) if isinstance(value, str) else value


_read_until = functools.partial(_read_moment, last=True)


@dataclass(frozen=True)
class Override:
    """One row: somebody's decision about an image or about a content, never about both."""

    image_id: str  # one image, or ""
    content_digest: str  # every image with this content, or ""
    decision: Literal["keep", "exclude"]
    label: str  # the class of the image, or ""
    who: Annotated[str, pydantic.Field(min_length=1)]
    why: Annotated[str, pydantic.Field(min_length=1)]
    when: Annotated[datetime | None, pydantic.BeforeValidator(_read_moment)]
    until: Annotated[datetime | None, pydantic.BeforeValidator(_read_until)]

    @pydantic.field_validator("label")
    @classmethod
    def _is_known(cls, label: str, info: pydantic.ValidationInfo) -> str:
        if label and info.context and label not in info.context["classes"]:
            raise ValueError("no class")
        return label

    @pydantic.model_validator(mode="after")
    def _has_one_subject(self) -> Override:
        if bool(self.image_id) == bool(self.content_digest):
            raise PydanticCustomError("both" if self.image_id else "neither", "not one subject")
        return self

    @property
    def key(self) -> tuple[str, str]:
        """The subject: image_id and content_digest, one of them empty."""
        return self.image_id, self.content_digest

    @property
    def note(self) -> str:
        """The text that decisions keep."""
        return f"{self.who}: {self.why}"

    def counts_at(self, now: datetime) -> bool:
        """Returns True if it has not expired."""
        return self.until is None or self.until >= now


Resolved = dict[tuple[str, str], Override]  # by `Override.key`
_ROWS = pydantic.TypeAdapter(list[Override])


def parse(
    rows: Iterable[Mapping[str, str | None]], classes: Collection[str], *, doing: str
) -> list[Override]:
    """Gives the table's rows their types. Null, blank and a missing column are the same.

    Raises TableError if a row has neither or both of image and content, no decision, no known
    class, no sound time, nobody who decided it, or no reason.
    """
    clean = [{name: (row.get(name) or "").strip() for name in COLUMNS} for row in rows]
    try:
        return _ROWS.validate_python(clean, context={"classes": classes})
    except pydantic.ValidationError as error:
        raise _error(error, clean, classes, doing) from None


def _error(
    error: pydantic.ValidationError,
    rows: list[dict[str, str]],
    classes: Collection[str],
    doing: str,
) -> TableError:
    """The error about the first broken rule, with all rows that break it."""
    broken: dict[str, list[dict[str, str]]] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        index, *column = detail["loc"]
        rule = str(column[0]) if column else detail["type"]
        broken.setdefault(rule, []).append(rows[int(index)])
    rule = next(name for name in [*_RULES, *broken] if name in broken)
    wrong = broken[rule]
    expected, todo = _RULES.get(rule, (f"text in {rule}", "correct these rows"))
    if rule == "label":
        expected += f": {', '.join(classes)}"
    values = list(dict.fromkeys(row.get(rule, rule) for row in wrong))
    known = {"decision": ("keep", "exclude"), "label": classes}.get(rule, ())
    count = f"{len(wrong)} {'rows' if wrong[1:] else 'row'}"
    ids = shown(row["image_id"] or row["content_digest"] or f"by {row['who']}" for row in wrong)
    found = f"{shown(values)}{nearest(values[0].lower(), known)} in {count}: {ids}"
    return TableError(doing=doing, expected=expected, found=found, todo=todo)


def resolve(overrides: Iterable[Override]) -> Resolved:
    """The override that counts for each subject, by `Override.key`, whatever the order of rows."""
    by_subject = defaultdict(list)
    for override in overrides:
        by_subject[override.key].append(override)
    return {key: _winner(rows) for key, rows in by_subject.items()}


def _winner(rows: Sequence[Override]) -> Override:
    """The newest, and of equals one that excludes; an exclusion without a time is as new as any."""

    def rank(override: Override) -> tuple[object, ...]:
        excludes = override.decision == "exclude"
        long_ago = datetime.min.replace(tzinfo=UTC)
        return excludes, override.when or long_ago, override.who, override.why, override.label

    newest = max((row.when for row in rows if row.when), default=None)
    return max((row for row in rows if row.when in (newest, None)), key=rank)


def class_of(override: Override, classes: Sequence[str], exclude_classes: Collection[str]) -> str:
    """Its class, or the only class that its decision leaves; "" if there are several."""
    if override.label:
        return override.label
    excludes = override.decision == "exclude"
    possible = [name for name in classes if (name in exclude_classes) == excludes]
    return possible[0] if len(possible) == 1 else ""


def as_labels(
    resolved: Resolved,
    digests: Mapping[str, str],
    images: Mapping[str, str],
    classes: Sequence[str],
    exclude_classes: Collection[str],
) -> tuple[list[Label], dict[str, int]]:
    """Overrides as labels, one per image; an override of the image wins over one of its content.

    `digests` has the content of images, and `images` an image of each content, where they are
    known. Returns the labels, and the number of overrides that give none: `without_class`,
    `without_image`.
    """
    labels: dict[str, Label] = {}
    missing = {"without_class": 0, "without_image": 0}
    images_first = sorted(resolved.items(), reverse=True)
    for (image_id, digest), override in images_first:
        image_id = image_id or images.get(digest, "")
        label = class_of(override, classes, exclude_classes)
        if not image_id or not label:
            missing["without_class" if image_id else "without_image"] += 1
        elif image_id not in labels:
            content = digest or digests.get(image_id)
            labels[image_id] = Label(
                image_id, label, content, "override", override.who, override.when
            )
    return [labels[image_id] for image_id in sorted(labels)], missing

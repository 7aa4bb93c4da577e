"""The page of a plan: which images would leave the feed and which would return to it, and how to ship it.

Somebody who has never heard of heads and thresholds decides by it, so plain counts and pictures come first. As all
pages it is one file that loads nothing and runs nothing; ids, overrides and strata come from strangers, and the
template escapes everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from toiletspark.reports.plan_page.changes import LEAVING, NEW, RETURNING, Changed, Changes, Stratum
from toiletspark.reports.run_page.page import environment
from toiletspark.statuses import MEANINGS

KINDS = {  # heading, what it means, what is said where there is none
    LEAVING: (
        "Would leave the feed",
        "In the feed today, and no longer if this ships. Is a good photo among them? The first of a group are the "
        "surest to be excluded, the last the most doubtful.",
        "No image that is in the feed today would leave it.",
    ),
    RETURNING: (
        "Would return to the feed",
        "Not in the feed today, and in it again if this ships. Is a photo among them that nobody should see? The first "
        "of a group are the most doubtful.",
        "No image that is excluded today would return.",
    ),
    NEW: (
        "New, and excluded at once",
        "The live version did not know these images, so nobody has seen them in the feed by it.",
        "No new image would be excluded.",
    ),
}
_COUNT_OF = {
    LEAVING: "leaving",
    RETURNING: "returning",
    NEW: "new_excluded",
}  # kind: how strata count it
MOST_STRATA = 40  # rows of the table; the rest is summed up in one


@dataclass(frozen=True)
class Section:
    """One kind of change as the page shows it.

    Attributes:
        kind: leaving, returning or new.
        title: its heading.
        lead: what it means, and what to look for.
        none: what is said where there is none.
        total: images.
        shown: of them with a picture.
        groups: stratum, its images and those shown, in the order of the table.
    """

    kind: str
    title: str
    lead: str
    none: str
    total: int
    shown: int
    groups: list[tuple[str, int, list[Changed]]]


def render(page: Changes) -> str:
    """The page as HTML text; every string in it is taken as text, never as markup.

    Cost: about 1.4 characters per byte of thumbnail, and 1,000 per image.
    """
    ranked = sorted(
        page.strata, key=lambda stratum: (-stratum.changed, -stratum.new_excluded, stratum.stratum)
    )
    return (
        environment()
        .get_template("diff_page.html.j2")
        .render(
            page=page,
            headline=headline(page),
            what_differs=what_differs(page),
            strata=ranked[:MOST_STRATA],
            rest=_sum(ranked[MOST_STRATA:]) if ranked[MOST_STRATA:] else None,
            sections=list(_sections(page, ranked)),
        )
    )


def headline(page: Changes) -> str:
    """The one sentence to decide by."""
    images = _images(page.after.images)
    if page.before is None:
        return f"Nothing is published yet. If this ships, {page.total('excluded'):,} of {images} stay out of the feed."
    if not page.comparable:
        return f"If this ships, {page.total('excluded'):,} of {images} stay out of the feed."
    leaving, returning = page.total("leaving"), page.total("returning")
    if not leaving + returning:
        return f"If this ships, none of {images} leaves the feed and none returns to it."
    return f"If this ships, {_do(leaving, 'leave')} the feed and {_do(returning, 'return')} to it."


def what_differs(page: Changes) -> str:
    """Why anything would change, as far as head and threshold tell."""
    before, after = page.before, page.after
    if before is None:
        return "There is no live version to compare with: the page shows what would be excluded."
    if not page.comparable:
        return (
            f"{before.name.capitalize()}, the live one, does not tell what it has decided of each image, so nothing "
            "can be compared: the page shows what would be excluded."
        )
    threshold = f"{before.operating_threshold:.4g}"
    if before.operating_threshold != after.operating_threshold:
        moved = f"the operating threshold goes from {threshold} to {after.operating_threshold:.4g}"
        return (
            f"The same head, but {moved}."
            if before.head_id == after.head_id
            else f"Another head scores, and {moved}."
        )
    if before.head_id != after.head_id:
        return f"Another head scores; the operating threshold stays {threshold}."
    return (
        f"Head and operating threshold ({threshold}) are those of the live version: changed images, overrides and "
        "settings make the difference."
    )


def why(before: dict[str, Any] | None, now: dict[str, Any]) -> str:
    """What has decided of an image where it is not simply its score, in a few words; "" where it is.

    Args:
        before: its row of `tables.DECISIONS` in the live version, or None.
        now: in the plan.
    """
    earlier = (before or {}).get("reason")
    if now["reason"] == "override":
        return f"override: {now['override'] or 'nobody told who and why'}"
    if now["reason"] == "unscored":
        return f"no score: {MEANINGS.get(now['status'], now['status'])}"
    if now["reason"] == "last_score":
        return "It could not be fetched now: its last score decides."
    if earlier == "override":
        return "An override has ended: the score decides."
    if earlier == "unscored":
        return "It had no score before: now the score decides."
    return ""


def _sections(page: Changes, ranked: Sequence[Stratum]) -> Iterator[Section]:
    if not page.comparable:
        yield _section(
            page, ranked, NEW, "Would be excluded", "The surest first in each group.", "Nothing."
        )
        return
    for kind, words in KINDS.items():
        if kind != NEW or page.total("new_excluded"):
            yield _section(page, ranked, kind, *words)


def _section(
    page: Changes, ranked: Sequence[Stratum], kind: str, title: str, lead: str, none: str
) -> Section:
    count = _COUNT_OF[kind]
    groups: dict[str, list[Changed]] = {}
    for image in page.changed.get(kind, []):
        groups.setdefault(image.stratum, []).append(image)
    in_order = [
        (row.stratum, getattr(row, count), groups[row.stratum])
        for row in ranked
        if row.stratum in groups
    ]
    shown = sum(len(images) for _, _, images in in_order)
    return Section(kind, title, lead, none, total=page.total(count), shown=shown, groups=in_order)


def _sum(strata: Sequence[Stratum]) -> Stratum:
    counts = {
        name: sum(getattr(stratum, name) for stratum in strata)
        for name in Stratum.__dataclass_fields__
        if name != "stratum"
    }
    return Stratum(f"{len(strata):,} further strata", **counts)


def _do(count: int, verb: str) -> str:
    """A count and its verb: "no image returns", "1 image returns", "7 images return"."""
    return f"{_images(count) if count else 'no image'} {verb}{'' if count > 1 else 's'}"


def _images(count: int) -> str:
    return f"{count:,} {'image' if count == 1 else 'images'}"

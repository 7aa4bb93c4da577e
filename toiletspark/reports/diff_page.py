"""The page of a plan: which images would leave the feed and which would return to it, and how to ship it.

Somebody who has never heard of heads and thresholds decides by it, so plain counts and pictures come first. As all
pages it is one file that loads nothing and runs nothing; ids, overrides and strata come from strangers, and the template
escapes everything. Nothing of Spark is known here, see `differences`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from toiletspark.reports.run_page import STATUS_MEANINGS, environment

LEAVING, RETURNING, NEW = "leaving", "returning", "new"
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
MOST_STRATA = 40  # rows of the table; the rest is summed up in one


@dataclass(frozen=True)
class Side:
    """A version as the page compares it.

    Attributes:
        name: such as "version 3".
        run_id: of its tables.
        made_at: as text with its time zone.
        head_id: whose scores decide.
        operating_threshold: excluded from it on.
        threshold_reason: why it is this one; "" where nobody told.
        images: of its catalog.
        excluded: of them.
    """

    name: str
    run_id: str
    made_at: str
    head_id: str
    operating_threshold: float
    threshold_reason: str
    images: int
    excluded: int


@dataclass(frozen=True)
class Stratum:
    """What changes in one stratum; `known` images are in both versions, all others of `images` are new.

    Attributes:
        stratum: any text, shown verbatim.
        images: of the plan.
        known: of them, those that the live version has decided about too.
        leaving: known, not excluded there, and excluded here.
        returning: known, excluded there, and not here.
        between: known, kept there and unscored here, or the other way: whether they show is the feed's mode.
        new_excluded: not known, and excluded here.
        excluded_before: known, and excluded there.
        excluded: here.
    """

    stratum: str
    images: int
    known: int
    leaving: int
    returning: int
    between: int
    new_excluded: int
    excluded_before: int
    excluded: int

    @property
    def changed(self) -> int:
        """How many images it gains and loses."""
        return self.leaving + self.returning

    @property
    def share_before(self) -> float:
        """Of the known images, NaN where there is none."""
        return self.excluded_before / self.known if self.known else float("nan")

    @property
    def share_after(self) -> float:
        """Of all images, NaN where there is none."""
        return self.excluded / self.images if self.images else float("nan")


@dataclass(frozen=True)
class Changed:
    """One image that would leave, return, or be excluded at once.

    Attributes:
        image_id: any text, shown verbatim.
        listing_id: likewise.
        stratum: likewise.
        score_before: in the live version, [0, 1], or None.
        score: now, or None.
        why: what decides, in a few words; overrides are strangers' text.
        thumbnail_jpeg: as `run_page.Card` has it.
    """

    image_id: str
    listing_id: str
    stratum: str
    score_before: float | None
    score: float | None
    why: str
    thumbnail_jpeg: bytes | None


@dataclass(frozen=True)
class DiffPage:
    """Everything that the page says.

    Attributes:
        before: the live version, or None where there is none.
        after: the plan.
        comparable: whether the live version tells what it has decided of each image.
        strata: all of them.
        gone: images of the live version that are no longer in the catalog.
        changed: images by kind (`KINDS`), in the order to show; possibly only a part of them.
        audits: as `audits.Check.told` tells them.
        warnings: sentences that a reader must see before any number.
        command: what ships the plan.
        removed_after_days: how long the plan is kept; 0: for ever.
    """

    before: Side | None
    after: Side
    comparable: bool
    strata: Sequence[Stratum]
    gone: int
    changed: dict[str, list[Changed]]
    audits: list[dict[str, Any]]
    warnings: list[str]
    command: str
    removed_after_days: float

    def total(self, name: str) -> int:
        """The sum of a count over all strata."""
        return sum(int(getattr(stratum, name)) for stratum in self.strata)

    @property
    def new(self) -> int:
        """Images that the live version did not know."""
        return self.total("images") - self.total("known")

    @property
    def unchanged(self) -> int:
        """Known images of which the same is decided."""
        return self.total("known") - self.total("leaving") - self.total("returning") - self.total("between")

    @property
    def failed(self) -> list[str]:
        """The audits that keep the plan from being shipped."""
        return [check["rule"] for check in self.audits if check["passed"] is False and not check["accepted"]]


def render(page: DiffPage) -> str:
    """The page as HTML text; every string in it is taken as text, never as markup.

    Cost: about 1.4 characters per byte of thumbnail, and 1,000 per image.
    """
    ranked = sorted(page.strata, key=lambda stratum: (-stratum.changed, -stratum.new_excluded, stratum.stratum))
    order = {stratum.stratum: place for place, stratum in enumerate(ranked)}
    return (
        environment()
        .get_template("diff_page.html.j2")
        .render(
            page=page,
            headline=headline(page),
            what_differs=what_differs(page),
            strata=ranked[:MOST_STRATA],
            rest=_sum(ranked[MOST_STRATA:]) if ranked[MOST_STRATA:] else None,
            sections=list(_sections(page, order)),
        )
    )


def headline(page: DiffPage) -> str:
    """The one sentence to decide by."""
    images = _images(page.after.images)
    if page.before is None:
        return f"Nothing is published yet. If this ships, {page.total('excluded'):,} of {images} stay out of the feed."
    if not page.comparable:
        return f"If this ships, {page.total('excluded'):,} of {images} stay out of the feed."
    leaving, returning = page.total("leaving"), page.total("returning")
    if not leaving + returning:
        return f"If this ships, none of {images} leaves the feed and none returns to it."
    leave = (
        "1 image leaves"
        if leaving == 1
        else f"{_images(leaving) if leaving else 'no image'} leave{'' if leaving else 's'}"
    )
    back = "1 returns" if returning == 1 else f"{returning:,} return" if returning else "none returns"
    return f"If this ships, {leave} the feed and {back} to it."


def what_differs(page: DiffPage) -> str:
    """Why anything would change, as far as head and threshold tell."""
    before, after = page.before, page.after
    if before is None:
        return "There is no live version to compare with: the page shows what would be excluded."
    if not page.comparable:
        return (
            f"{before.name.capitalize()}, the live one, does not tell what it has decided of each image, so nothing can "
            "be compared: the page shows what would be excluded."
        )
    threshold = f"{before.operating_threshold:.4g}"
    if before.operating_threshold != after.operating_threshold:
        moved = f"the operating threshold goes from {threshold} to {after.operating_threshold:.4g}"
        return (
            f"Another head scores, and {moved}." if before.head_id != after.head_id else f"The same head, but {moved}."
        )
    if before.head_id != after.head_id:
        return f"Another head scores; the operating threshold stays {threshold}."
    return (
        f"Head and operating threshold ({threshold}) are those of the live version: changed images, overrides and "
        "settings make the difference."
    )


def why(before: dict[str, Any] | None, now: dict[str, Any]) -> str:
    """What has decided of an image, in a few words.

    Args:
        before: its row of `tables.DECISIONS` in the live version, or None.
        now: in the plan.
    """
    earlier = (before or {}).get("reason")
    if now["reason"] == "override":
        return f"override: {now['override'] or 'nobody told who and why'}"
    if now["reason"] == "unscored":
        return f"no score: {STATUS_MEANINGS.get(now['status'], now['status'])}"
    if now["reason"] == "last_score":
        return "It could not be fetched now: its last score decides."
    if earlier == "override":
        return "An override has ended: the score decides."
    if earlier == "unscored":
        return "It had no score before: now the score decides."
    if before and before["exclusion_score"] == now["exclusion_score"]:
        return "The same score, another threshold."
    return "By its new score." if before else "By its score."


def _sections(page: DiffPage, order: dict[str, int]) -> Any:
    """Kind, heading, lead, total and (stratum, images) of each kind that the page has to show."""
    totals = {
        LEAVING: page.total("leaving"),
        RETURNING: page.total("returning"),
        NEW: page.total("new_excluded"),
    }
    for kind, (title, lead, none) in KINDS.items():
        if kind != NEW and not page.comparable:
            continue
        if kind == NEW and page.comparable and not totals[NEW]:
            continue
        if not page.comparable:
            title, lead, none = "Would be excluded", "The surest first in each group.", "Nothing would be excluded."
        groups: dict[str, list[Changed]] = {}
        for image in page.changed.get(kind, []):
            groups.setdefault(image.stratum, []).append(image)
        ranked = sorted(groups.items(), key=lambda group: order.get(group[0], len(order)))
        shown = sum(len(images) for images in groups.values())
        yield {
            "kind": kind,
            "title": title,
            "lead": lead,
            "none": none,
            "total": totals[kind],
            "shown": shown,
            "groups": ranked,
        }


def _sum(strata: Sequence[Stratum]) -> Stratum:
    counts = {
        name: sum(getattr(stratum, name) for stratum in strata)
        for name in Stratum.__dataclass_fields__
        if name != "stratum"
    }
    return Stratum(f"{len(strata):,} further strata", **counts)


def _images(count: int) -> str:
    return f"{count:,} {'image' if count == 1 else 'images'}"

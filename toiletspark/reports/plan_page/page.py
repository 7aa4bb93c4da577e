"""The page of a plan: which images would leave the feed and which would return, and how to ship it.

Its readers need not know heads and thresholds, so plain counts and pictures come first. As all
pages it is one file that loads nothing and runs nothing; ids, overrides and strata come from
strangers, and the template escapes everything. No Spark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from toiletspark.reports import html

if TYPE_CHECKING:
    from toiletspark.publishing.audits.checks import Check

LEAVING, RETURNING, NEW = "leaving", "returning", "new"  # changes of which pictures are shown
MAX_STRATA = 40  # rows of the table; one more row sums up the rest


@dataclass(frozen=True)
class Side:
    """A version as the page compares it."""

    name: str  # such as "version 3"
    run_id: str  # of its tables
    made_at: str  # text with its time zone
    head_id: str  # of the head whose scores decide
    operating_threshold: float  # images are excluded from it on
    threshold_reason: str  # why it is this one, in a sentence
    images: int  # of its catalog
    excluded: int  # of them


@dataclass(frozen=True)
class StratumChanges:
    """The changes in one stratum."""

    stratum: str  # any text, shown verbatim
    images: int  # of the plan
    known: int  # of them, those about which the live version has decided too; all others are new
    leaving: int  # known, not excluded there, and excluded here
    returning: int  # known, excluded there, and not here
    # known, kept there and unscored here, or the other way: the feed's mode decides whether they
    # are shown
    between: int
    new_excluded: int  # not known, and excluded here
    excluded_before: int  # known, and excluded there
    excluded: int  # here

    @property
    def changed(self) -> int:
        """The images that the feed gains and loses."""
        return self.leaving + self.returning

    @property
    def share_before(self) -> float | None:
        """The excluded share of the known images, or None."""
        return self.excluded_before / self.known if self.known else None

    @property
    def share_after(self) -> float | None:
        """The excluded share of all images, or None."""
        return self.excluded / self.images if self.images else None


COUNTS = [field.name for field in fields(StratumChanges) if field.name != "stratum"]


@dataclass(frozen=True)
class ChangedImage:
    """One image that would leave, return, or be excluded at once."""

    image_id: str  # any text, shown verbatim
    listing_id: str  # any text, shown verbatim
    stratum: str  # any text, shown verbatim
    score_before: float | None  # in the live version, [0, 1], or None
    score: float | None  # now, or None
    why: str  # the reason if it is not the score alone, in a few words; may be strangers' text
    thumbnail_jpeg: bytes | None  # see `html.ImageCard`


@dataclass(frozen=True)
class PlanPage:
    """Everything on the page of a plan."""

    before: Side | None  # the live version, or None
    after: Side  # the plan
    strata: Sequence[StratumChanges]  # all of them
    gone: int  # images of the live version that are no longer in the catalog
    # images by change, in the order to show; possibly only a part of them
    changed: dict[str, list[ChangedImage]]
    audits: list[Check]  # of the plan
    warnings: list[str]  # sentences that a reader must see before any number
    command: str  # ships the plan
    removed_after_days: float  # days for which the plan is kept; 0 = for ever

    def total(self, name: str) -> int:
        """The sum of a count over all strata."""
        return sum(int(getattr(stratum, name)) for stratum in self.strata)

    @property
    def new(self) -> int:
        """Images that the live version did not know."""
        return self.total("images") - self.total("known")

    @property
    def unchanged(self) -> int:
        """Known images with the same decision."""
        changed = sum(self.total(name) for name in ("leaving", "returning", "between"))
        return self.total("known") - changed

    @property
    def failed(self) -> list[str]:
        """The audits that keep the plan from being shipped."""
        failed = [check for check in self.audits if check.passed is False]
        return [check.rule for check in failed if not check.accepted]


@dataclass(frozen=True)
class ChangeSection:
    """One change as the page shows it."""

    change: str  # leaving, returning or new
    total: int  # images
    # stratum, its images and those shown, in the order of the table
    groups: list[tuple[str, int, list[ChangedImage]]]

    @property
    def shown(self) -> int:
        """Images with a picture."""
        return sum(len(images) for _, _, images in self.groups)


def render(page: PlanPage) -> str:
    """The page as HTML text: about 1.4 characters per byte of thumbnail, and 1,000 per image."""
    strata = sorted(page.strata, key=lambda row: (-row.changed, -row.new_excluded, row.stratum))
    rest = strata[MAX_STRATA:]
    return html.render(
        "plan_page.html.j2",
        page=page,
        headline=headline(page),
        what_differs=what_differs(page),
        strata=strata[:MAX_STRATA],
        rest=_sum(rest) if rest else None,
        sections=list(_sections(page, strata)),
    )


def headline(page: PlanPage) -> str:
    """The one sentence to decide by."""
    images = _images(page.after.images)
    if page.before is None:
        out = f"{page.total('excluded'):,} of {images} stay out of the feed"
        return f"Nothing is published yet. If this ships, {out}."
    leaving, returning = page.total("leaving"), page.total("returning")
    if not leaving + returning:
        return f"If this ships, none of {images} leaves the feed and none returns to it."
    leave, back = _clause(leaving, "leave"), _clause(returning, "return")
    return f"If this ships, {leave} the feed and {back} to it."


def what_differs(page: PlanPage) -> str:
    """The cause of the changes, as far as head and threshold explain them."""
    before, after = page.before, page.after
    if before is None:
        return "There is no live version to compare with: the page shows the excluded images."
    threshold = f"{before.operating_threshold:.4g}"
    same_head = before.head_id == after.head_id
    if before.operating_threshold != after.operating_threshold:
        moved = f"the operating threshold goes from {threshold} to {after.operating_threshold:.4g}"
        return f"The same head, but {moved}." if same_head else f"Another head scores, and {moved}."
    if not same_head:
        return f"Another head scores; the operating threshold stays {threshold}."
    return (
        f"Head and operating threshold ({threshold}) are those of the live version: changed images,"
        " overrides and settings make the difference."
    )


def _sections(page: PlanPage, ranked: Sequence[StratumChanges]) -> Iterator[ChangeSection]:
    has_new = page.before is None or page.total("new_excluded")
    changes = [LEAVING, RETURNING] if page.before else []
    for change in [*changes, NEW] if has_new else changes:
        count = "new_excluded" if change == NEW else change
        by_stratum: dict[str, list[ChangedImage]] = {}
        for image in page.changed.get(change, []):
            by_stratum.setdefault(image.stratum, []).append(image)
        rows = [row for row in ranked if row.stratum in by_stratum]
        groups = [(row.stratum, getattr(row, count), by_stratum[row.stratum]) for row in rows]
        yield ChangeSection(change, page.total(count), groups)


def _sum(strata: Sequence[StratumChanges]) -> StratumChanges:
    sums = {name: sum(getattr(row, name) for row in strata) for name in COUNTS}
    return StratumChanges(f"{len(strata):,} further strata", **sums)


def _clause(count: int, verb: str) -> str:
    """A count and its verb: "no image returns", "1 image returns", "7 images return"."""
    subject = _images(count) if count else "no image"
    return f"{subject} {verb}{'' if count > 1 else 's'}"


def _images(count: int) -> str:
    return f"{count:,} {'image' if count == 1 else 'images'}"

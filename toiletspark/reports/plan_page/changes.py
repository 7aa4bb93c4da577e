"""What a plan changes against the live version: what `differences` gathers and `diff_page` shows. Without Spark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LEAVING, RETURNING, NEW = (
    "leaving",
    "returning",
    "new",
)  # kinds of change that pictures are shown of


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
        why: what decides if not the score alone, in a few words; overrides are strangers' text.
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
class Changes:
    """Everything that the page of a plan says.

    Attributes:
        before: the live version, or None where there is none.
        after: the plan.
        comparable: whether the live version tells what it has decided of each image.
        strata: all of them.
        gone: images of the live version that are no longer in the catalog.
        changed: images by kind, in the order to show; possibly only a part of them.
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
        return (
            self.total("known")
            - self.total("leaving")
            - self.total("returning")
            - self.total("between")
        )

    @property
    def failed(self) -> list[str]:
        """The audits that keep the plan from being shipped."""
        return [
            check["rule"]
            for check in self.audits
            if check["passed"] is False and not check["accepted"]
        ]

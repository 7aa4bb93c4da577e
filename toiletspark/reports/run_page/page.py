"""The page of a run: what was excluded, what is borderline, and what could not be scored.

Data engineers and marketing read the same file, from a mail or a shared folder, so it must work
offline and for ever: thumbnails and style are inside it, and it holds no script. Ids, notes and
titles come from strangers (threat T8), so the template escapes everything that it prints, and the
page's own policy forbids whatever would slip through.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from toiletspark.images.statuses import MEANINGS
from toiletspark.reports import html
from toiletspark.reports.html import ImageCard
from toiletspark.reports.run_page import version
from toiletspark.reports.run_page.version import VersionFacts

FIGURE_MEANINGS = {
    "recall": "of those that should be excluded are excluded",
    "good_images_lost": "of the good images leave the feed",
    "precision": "of those on the excluded side belong there",
    "accuracy": "of the images are put on the right side",
    "n": "labelled images, held out from training",
}
POPULATIONS = {  # see `evaluation_sample.EvaluationSample`
    "catalog": "Estimates for the whole catalog, each with its 95 % interval.",
    "part of the catalog": "Estimates for images like those that were drawn and labelled, not for "
    "the whole catalog.",
    "unlabelled images": "Estimates for the images that nobody had labelled before, each with its "
    "95 % interval.",
    "labelled images": "Figures of the labelled images alone. They were not drawn at random, so "
    "they are no estimates for the catalog.",
}


@dataclass(frozen=True)
class HeadFigures:
    """The quality of the head on held-out images."""

    # recall, good_images_lost, precision and accuracy in [0, 1], NaN where undefined, and n, the
    # number of held-out images; in the order to show
    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]  # low and high of those that have a 95 % interval
    figures_of: str  # the population, a key of `POPULATIONS`


@dataclass(frozen=True)
class RunPage:
    """Everything on the page of one run; cards are shown in the order given."""

    title: str  # heading of the page
    run_id: str  # key of the run
    made_from: list[tuple[str, str]]  # label and value pairs, such as ("head", "6ea2310883b8c78d")
    made_at: str  # text with its time zone
    # label and value pairs, such as ("images in", "4,800"), in the order to show
    facts: list[tuple[str, str]]
    unscored: dict[str, int]  # images without a score, counted per status
    seconds: dict[str, float]  # wall time per step, in the order of the steps
    validation: HeadFigures | None  # None if the head was not validated
    operating_threshold: float  # [0, 1]; an image is excluded when its exclusion score is >= this
    threshold_reason: str  # why it is this one, in a sentence; "" if the version does not tell
    # exclusion scores counted in equal bins over [0, 1], lowest bin first
    score_histogram: list[int]
    # cards of excluded images, the surest first; possibly only a part of them
    excluded: list[ImageCard]
    excluded_total: int  # all excluded images, >= len(excluded)
    # cards of the images nearest to the operating threshold, nearest first
    borderline: list[ImageCard]
    warnings: list[str]  # sentences that a reader must see before any number
    version: VersionFacts  # facts about the published version
    excluded_unscored: int = 0  # excluded images that have no score now, and so no card


@dataclass(frozen=True)
class Bar:
    """One bin of the histogram, in percent of the plot's width (from the left) and height."""

    left: float  # left edge of the bin, [0, 100]
    split: float  # the operating threshold in the bin, [left, right]; excluded from here on
    right: float  # right edge of the bin, [0, 100]
    top: float  # upper end of the bar from the top, [0, 100]; 100 for an empty bin
    count: int  # images in the bin


def render(page: RunPage) -> str:
    """The page as HTML text: about 1.4 characters per byte of thumbnail, and 1,000 per card."""
    return html.render(
        "run_page.html.j2",
        page=page,
        bars=list(bars(page.score_histogram, page.operating_threshold)),
        ticks=list(ticks(page.score_histogram)),
        threshold_left=_left(page.operating_threshold),
        status_meanings=MEANINGS,
        figure_meanings=FIGURE_MEANINGS,
        populations=POPULATIONS,
        parts=version,
    )


def bars(counts: list[int], operating_threshold: float) -> Iterator[Bar]:
    """One bar per bin of [0, 1], lowest scores first.

    Heights are logarithmic: nearly all images of a catalog lie near 0, and the few that matter
    would be lost.
    """
    top_count = _top_count(counts)
    for number, count in enumerate(counts):
        left, right = 100 * number / len(counts), 100 * (number + 1) / len(counts)
        split = min(max(_left(operating_threshold), left), right)
        yield Bar(left, split, right, _top(count, top_count), count)


def ticks(counts: list[int]) -> Iterator[tuple[str, float]]:
    """The grid lines as (label, percent from the top): 0 and powers of ten."""
    top_count = _top_count(counts)
    yield "0", 100.0
    tick = 1 if top_count < 1_000 else 10  # on a tall scale the labels of 0 and 1 would touch
    while tick <= top_count:
        yield _short_count(tick), _top(tick, top_count)
        tick *= 10


def _top_count(counts: list[int]) -> int:
    """The count at the upper end of the plot: a power of ten, at least 10, that no bin exceeds.

    >>> _top_count([3, 0, 812])
    1000
    """
    top_count = 10
    while top_count < max(counts, default=0):
        top_count *= 10
    return top_count


def _top(count: int, top_count: int) -> float:
    """Percent from the top; log(1 + count), so that 0 is the base line."""
    return 100 - 100 * math.log1p(count) / math.log1p(top_count)


def _left(operating_threshold: float) -> float:
    """Percent from the left; above 1 is the right end."""
    return 100 * min(max(operating_threshold, 0.0), 1.0)


def _short_count(count: int) -> str:
    """A count that fits beside the plot on a phone.

    >>> _short_count(100), _short_count(10_000), _short_count(1_000_000)
    ('100', '10 k', '1 M')
    """
    if count >= 1_000_000:
        return f"{count // 1_000_000:,} M"
    return f"{count // 1_000} k" if count >= 1_000 else str(count)

"""The one page of a run: what was excluded, what is borderline, and what could not be scored.

Data engineers and marketing read the same file, from a mail or a shared folder, so it must work offline and
for ever: thumbnails and style are inside it, and it holds no script. Ids, notes and titles come from
strangers (threat T8), so the template escapes everything it prints, and the page's own policy forbids
whatever would slip through.
"""

import base64
import functools
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from toiletspark.reports.run_page import histogram
from toiletspark.reports.run_page import version as version_parts
from toiletspark.reports.run_page.version import VersionParts
from toiletspark.statuses import MEANINGS

VALIDATION_MEANINGS = {
    "recall": "of those that should be excluded are found",
    "good_images_lost": "of the good images leave the feed",
    "precision": "of those put on the excluded side belong there",
    "accuracy": "of the images are put on the right side",
    "n": "labelled images, held out from training",
}
FIGURES_OF = {  # see `evaluation_sample.EvaluationSample`
    "catalog": "Estimates for the whole catalog, each with its 95 % interval.",
    "part of the catalog": "Estimates for images like those that were drawn and labelled, not for the whole catalog.",
    "unlabelled images": "Estimates for what nobody had labelled before, each with its 95 % interval.",
    "labelled images": "Of the labelled images alone: chance did not draw them, so they are none of the catalog.",
}


@dataclass(frozen=True)
class Validation:
    """How often the head is right.

    Attributes:
        figures: recall, good_images_lost, precision and accuracy in [0, 1], NaN where undefined, and n, the number of
            held-out images that they rest on; in the order to show.
        intervals: low and high of those that have a 95 % interval.
        figures_of: what they are figures of, see `evaluation_sample.EvaluationSample`.
    """

    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    figures_of: str


@dataclass(frozen=True)
class Card:
    """One image as the page shows it.

    Attributes:
        image_id: Key of the image; any text, shown verbatim.
        listing_id: Key of its listing; any text, shown verbatim.
        exclusion_score: [0, 1], higher = more surely to be excluded; None (or NaN, what pandas makes of
            a null) if the image has no score, for instance because it could not be read.
        thumbnail_jpeg: A JPEG that we encoded ourselves, at most 224 px on its longer side, never the bytes
            that were fetched; None if the image could not be read.
        note: One line for the reader, such as the most probable class and the stratum.
    """

    image_id: str
    listing_id: str
    exclusion_score: float | None
    thumbnail_jpeg: bytes | None
    note: str


@dataclass(frozen=True)
class RunPage:
    """Everything that the page of one run says; cards are shown in the order given.

    Attributes:
        title: Heading of the page.
        run_id: Key of the run.
        made_from: Label and value pairs that name what decided, such as ("head", "6ea2310883b8c78d").
        made_at: When the page was made, as text with its time zone.
        facts: Label and value pairs, such as ("images in", "4,800"), in the order to show.
        unscored: Images without a score, counted per status.
        seconds: Wall time per step, in seconds, in the order of the steps.
        validation: None if the head was not validated.
        operating_threshold: [0, 1]; an image is excluded when its exclusion score is >= this.
        threshold_reason: Why it is this one, in a sentence; "" if the version does not tell.
        score_histogram: Counts of exclusion scores in equal bins over [0, 1], lowest bin first.
        excluded: Cards of excluded images, the surest first; possibly only a part of them.
        excluded_total: Number of all excluded images, >= len(excluded).
        borderline: Cards of the images whose scores are nearest to the operating threshold, nearest first.
        warnings: Sentences that a reader must see before any number.
        excluded_unscored: How many of the excluded images have no score now, and so no card.
        version: What is known of the published version; None of one that tells nothing.
    """

    title: str
    run_id: str
    made_from: list[tuple[str, str]]
    made_at: str
    facts: list[tuple[str, str]]
    unscored: dict[str, int]
    seconds: dict[str, float]
    validation: Validation | None
    operating_threshold: float
    threshold_reason: str
    score_histogram: list[int]
    excluded: list[Card]
    excluded_total: int
    borderline: list[Card]
    warnings: list[str]
    excluded_unscored: int = 0
    version: VersionParts | None = None


def render(page: RunPage) -> str:
    """Returns the page as HTML text.

    Args:
        page: What to show; every string in it is taken as text, never as markup.

    Returns:
        One HTML document without scripts, links or external resources. About 1.4 characters per byte of
        thumbnail, and 1,000 per card.

    Raises:
        jinja2.UndefinedError: The template names what RunPage does not have; a defect of this package.
    """
    template = environment().get_template("run_page.html.j2")
    return template.render(
        page=page,
        bars=list(histogram.bars(page.score_histogram, page.operating_threshold)),
        ticks=list(histogram.ticks(page.score_histogram)),
        threshold_left=histogram.threshold_left(page.operating_threshold),
        status_meanings=MEANINGS,
        validation_meanings=VALIDATION_MEANINGS,
        figures_of=FIGURES_OF,
        parts=version_parts,
    )


def write(page: RunPage, path: Path) -> None:
    """Writes the page to a file, in one step for those who may be reading the old one.

    Args:
        page: What to show.
        path: The .html file to create or replace; missing parent folders are made.

    Raises:
        OSError: The folder cannot be written; the old file, if any, is untouched.
    """
    # An id with a lone surrogate (a badly decoded file name) has no UTF-8 form; it must not cost us the page.
    content = render(page).encode("utf-8", errors="backslashreplace")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@functools.cache
def environment() -> jinja2.Environment:
    """Returns the template environment: it escapes every value, and refuses names that do not exist."""
    # PackageLoader also reads from a zip, which is how Spark carries the package (--py-files).
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("toiletspark.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["scored"] = _is_scored
    environment.filters |= {
        "score": _score,
        "percent": _percent,
        "duration": _duration,
        "base64": _base64,
    }
    environment.filters["points"] = _points
    return environment


def _score(score: float | None) -> str:
    """Returns an exclusion score with three decimals, as everywhere on the page.

    >>> _score(0.98765), _score(None)
    ('0.988', 'no score')
    """
    return f"{score:.3f}" if score is not None and _is_scored(score) else "no score"


def _is_scored(score: float | None) -> bool:
    """Returns whether there is a score; a null that came through pandas is NaN."""
    return score is not None and not math.isnan(score)


def _percent(share: float) -> str:
    """Returns a share in [0, 1] as percent with one decimal; a share of nothing (0 / 0, NaN) has no value.

    >>> _percent(0.9689), _percent(float("nan"))
    ('96.9 %', 'undefined')
    """
    return "undefined" if math.isnan(share) else f"{100 * share:.1f} %"


def _duration(seconds: float) -> str:
    """Returns a wall time as people say it.

    >>> _duration(0.42), _duration(75), _duration(3725)
    ('0.4 s', '1 min 15 s', '1 h 02 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _points(difference: Mapping[str, float | None]) -> str:
    """Returns a difference of two shares with its interval, in percentage points.

    >>> _points({"value": 0.012, "low": -0.003, "high": 0.027}), _points({"value": None, "low": None, "high": None})
    ('+1.2 points (-0.3 to +2.7)', 'unknown')
    """
    sides = [difference[side] for side in ("value", "low", "high")]
    known = [f"{100 * side:+.1f}" for side in sides if side is not None and math.isfinite(side)]
    return (
        f"{known[0]} points ({known[1]} to {known[2]})" if len(known) == len(sides) else "unknown"
    )


def _base64(content: bytes) -> str:
    """Returns bytes as base64 text, whose alphabet cannot leave an HTML attribute."""
    return base64.b64encode(content).decode("ascii")

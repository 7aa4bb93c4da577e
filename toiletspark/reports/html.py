"""HTML: the template environment of all pages, the image card, and writing a page."""

import base64
import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from toiletspark.tables import storage


@dataclass(frozen=True)
class ImageCard:
    """One image as a page shows it."""

    image_id: str  # any text, shown verbatim
    listing_id: str  # any text, shown verbatim
    # [0, 1], higher = more surely to be excluded; None or NaN without a score
    exclusion_score: float | None
    # a JPEG that we encoded ourselves, at most 224 px on its longer side, never the fetched bytes;
    # None if the image could not be read
    thumbnail_jpeg: bytes | None
    note: str  # one line for the reader, such as the most probable class and the stratum


def render(template: str, **values: Any) -> str:
    """A page as HTML text; every string among the values is taken as text, never as markup."""
    return environment().get_template(template).render(**values)


def write(location: str, page: str) -> None:
    """Writes a page in one step for those who may be reading the old one.

    A lone surrogate (of a badly decoded file name) has no UTF-8 form; it is written as an escape.
    """
    storage.replace_bytes(location, page.encode("utf-8", errors="backslashreplace"))


def write_json(location: str, content: dict[str, Any]) -> None:
    """Writes the figures of a page beside it, for programs."""
    text = json.dumps(content, indent=1, allow_nan=False)
    storage.replace_bytes(location, f"{text}\n".encode())


@functools.cache
def environment() -> jinja2.Environment:
    """The template environment: it escapes every value, and refuses names that do not exist."""
    # PackageLoader also reads from a zip, which is how Spark carries the package (--py-files).
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("toiletspark.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["scored"] = is_scored
    filters = (with_commas, score, percent, duration, points, as_base64)
    environment.filters |= {function.__name__: function for function in filters}
    return environment


def with_commas(number: int) -> str:
    """A whole number with separators.

    >>> with_commas(1234567)
    '1,234,567'
    """
    return f"{number:,}"


def score(value: float | None) -> str:
    """An exclusion score with three decimals.

    >>> score(0.98765), score(None)
    ('0.988', 'no score')
    """
    return f"{value:.3f}" if is_scored(value) else "no score"


def is_scored(value: float | None) -> bool:
    """Returns True if there is a score; a null that came through pandas is NaN."""
    return value is not None and not math.isnan(value)


def percent(share: float | None) -> str:
    """A share in [0, 1] as percent with one decimal; a share of nothing (NaN, None) is unknown.

    >>> percent(0.9689), percent(float("nan"))
    ('96.9 %', 'unknown')
    """
    return "unknown" if share is None or math.isnan(share) else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """A wall time in words.

    >>> duration(0.42), duration(75), duration(3725)
    ('0.4 s', '1 min 15 s', '1 h 02 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def points(difference: Mapping[str, float | None]) -> str:
    """A difference of two shares with its interval, in percentage points.

    >>> points({"value": 0.012, "low": -0.003, "high": 0.027})
    '+1.2 points (-0.3 to +2.7)'
    >>> points({"value": None, "low": None, "high": None})
    'unknown'
    """
    sides = [difference[side] for side in ("value", "low", "high")]
    known = [f"{100 * side:+.1f}" for side in sides if side is not None and math.isfinite(side)]
    if len(known) < len(sides):
        return "unknown"
    return f"{known[0]} points ({known[1]} to {known[2]})"


def as_base64(content: bytes) -> str:
    """Bytes as base64 text, whose alphabet cannot leave an HTML attribute."""
    return base64.b64encode(content).decode("ascii")

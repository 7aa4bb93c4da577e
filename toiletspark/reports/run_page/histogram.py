"""The histogram of exclusion scores on the run page, as places in percent. No Spark, no drawing library."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """One bin of the histogram, in percent of the plot's width (from the left) and height (from the top).

    Attributes:
        left: Left edge of the bin, [0, 100].
        split: Where the operating threshold cuts the bin, [left, right]; excluded from here on.
        right: Right edge of the bin, [0, 100].
        top: Upper end of the bar, [0, 100]; 100 for an empty bin.
        count: Images in the bin.
    """

    left: float
    split: float
    right: float
    top: float
    count: int


def bars(counts: list[int], operating_threshold: float) -> Iterator[Bar]:
    """Yields one bar per bin, lowest scores first.

    Heights are logarithmic: nearly all images of a catalog lie near 0, and the few that matter would be lost.

    Args:
        counts: Images per bin, equal bins over [0, 1].
        operating_threshold: [0, 1].
    """
    top_count = _top_count(counts)
    threshold = threshold_left(operating_threshold)
    for place, count in enumerate(counts):
        left, right = 100 * place / len(counts), 100 * (place + 1) / len(counts)
        split = min(max(threshold, left), right)
        yield Bar(left, split, right, _top(count, top_count), count)


def ticks(counts: list[int]) -> Iterator[tuple[str, float]]:
    """Yields the grid lines, as (label, percent from the top): 0 and powers of ten."""
    top_count = _top_count(counts)
    yield "0", 100.0
    tick = (
        1 if top_count < 1_000 else 10
    )  # on a tall scale 1 lies so near to 0 that the labels would touch
    while tick <= top_count:
        yield _short_count(tick), _top(tick, top_count)
        tick *= 10


def _top_count(counts: list[int]) -> int:
    """Returns the count at the upper end of the plot: the power of ten, at least 10, that no bin exceeds.

    >>> _top_count([3, 0, 812])
    1000
    """
    top_count = 10
    while top_count < max(counts, default=0):
        top_count *= 10
    return top_count


def _top(count: int, top_count: int) -> float:
    """Returns where a count lies, in percent from the top; log(1 + count), so that 0 is the base line."""
    return 100 - 100 * math.log1p(count) / math.log1p(top_count)


def _short_count(count: int) -> str:
    """Returns a count that fits beside the plot on a phone.

    >>> _short_count(100), _short_count(10_000), _short_count(1_000_000)
    ('100', '10 k', '1 M')
    """
    if count >= 1_000_000:
        return f"{count // 1_000_000:,} M"
    return f"{count // 1_000} k" if count >= 1_000 else str(count)


def threshold_left(operating_threshold: float) -> float:
    """Returns where the operating threshold lies, in percent from the left; above 1 is the right end."""
    return 100 * min(max(operating_threshold, 0.0), 1.0)

"""How many units each stratum gives: shares by a rule, between bounds, and such that a larger sample holds the smaller.

A unit is what is drawn: a listing, or an image. Seats go one after another to the stratum with the highest claim, and
the order in which they go does not depend on how many there are. So no stratum ever gives fewer units for a larger
size, as it can under largest remainder (the Alabama paradox), and a top-up keeps every label.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Sample
from toiletspark.errors import ConfigError, nearest, shown

Method = Literal["proportional", "sqrt", "neyman", "equal"]
OTHER = "other"
_HALVINGS = 80


@dataclass(frozen=True)
class Stratum:
    """A cell of the catalog.

    Attributes:
        name: of the stratum; any text.
        units: listings or images, >= 1; N in the formulas.
        images: in it, >= units.
        weight: >= 0: active listings, or the sum of the column that `sample.weigh_by` names.
        deviation: >= 0: standard deviation between its units of what is to be estimated; for `neyman` alone.
    """

    name: str
    units: int
    images: int
    weight: float
    deviation: float = 0.0


def plan(cells: Sequence[Stratum], sample: Sample) -> dict[str, int]:
    """What the configuration asks of each stratum, in units; by name.

    `sample.strata` says it for single strata, and `other` in it for the rest: a number or a share of each, or
    "allocate", which shares out what is left of `sample.size`. Without `sample.strata` all is shared out. Only a
    number from the configuration may exceed what the stratum has; all of it is drawn then.

    Raises:
        ConfigError: a stratum of the configuration is not in the table, or one of the table not in the
            configuration, which has no `other`.
    """
    said = {name: value for name, value in sample.strata.items() if name != OTHER}
    rest = sample.strata.get(OTHER, None if said else "allocate")
    _require_known(said, cells)
    asked = {cell.name: _units(cell, said[cell.name]) for cell in cells if cell.name in said}
    others = [cell for cell in cells if cell.name not in said]
    if rest is None and others:
        raise ConfigError(
            doing="allocating the sample",
            expected="every stratum of the table in sample.strata",
            found=f"{len(others)} that are not in it: {shown(cell.name for cell in others)}",
            todo='add them, or say what the others give: other = "allocate", other = 0.01 (of each) or other = 0',
        )
    if rest == "allocate":
        left = max(
            0,
            sample.size
            - sum(min(asked[cell.name], cell.units) for cell in cells if cell.name in asked),
        )
        asked |= allocate(
            others, left, sample.allocation, sample.min_per_stratum, sample.max_per_stratum
        )
    elif rest is not None:
        asked |= {cell.name: _units(cell, rest) for cell in others}
    return dict(sorted(asked.items()))


def allocate(
    cells: Sequence[Stratum],
    size: int,
    method: Method,
    min_per_stratum: int,
    max_per_stratum: int = 0,
) -> dict[str, int]:
    """Shares `size` units out.

    Every stratum first gets its minimum (all its units where it has fewer); then seats go to the highest
    m / (k - 1/2), k being the stratum's next seat and m its measure:

        proportional   its weight
        sqrt           the square root of its weight: small strata are told apart better, the whole is known worse
        neyman         units x deviation: the smallest variance of the whole for this size. Units, not weights: what
                       is estimated is a figure of the catalog, in which every unit counts once
        equal          1

    Strata that measure 0 get more than the minimum when all others are full, and share by units then. Ties go to
    the first name.

    Args:
        cells: the strata.
        size: units in all; more where the minima alone need more, fewer where the bounds allow no more.
        method: see above.
        min_per_stratum: units.
        max_per_stratum: units; 0 is no bound.

    Returns:
        Units per stratum name; for a larger size none of them is smaller.

    Source: Cochran, Sampling Techniques (1977), 5.5 (Neyman) and ch. 5A (bounds); Bankier, The American Statistician
    42 (1988), power allocation; Webster's divisors, Balinski and Young, Fair Representation (1982).
    """
    ordered = sorted(cells, key=lambda cell: cell.name)
    units = np.array([cell.units for cell in ordered], dtype=np.int64)
    most = np.minimum(units, max_per_stratum) if max_per_stratum else units
    given = np.minimum(most, min_per_stratum)
    measure = _measures(ordered, method)
    given = _seated(measure, given, np.where(measure > 0, most, given), size)
    given = _seated(units.astype(np.float64), given, np.where(measure > 0, given, most), size)
    return {cell.name: int(count) for cell, count in zip(ordered, given, strict=True)}


def _measures(cells: Sequence[Stratum], method: Method) -> NDArray[np.float64]:
    if method == "equal":
        return np.ones(len(cells))
    if method == "neyman":
        return np.array([cell.units * cell.deviation for cell in cells], dtype=np.float64)
    weights = np.array([cell.weight for cell in cells], dtype=np.float64)
    return np.sqrt(weights) if method == "sqrt" else weights


def _seated(
    measure: NDArray[np.float64], least: NDArray[np.int64], most: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """The counts once `size` seats are taken, of which `least` are; none goes beyond `most`.

    Cost: halving finds the claim below which seats stay empty, to within a seat a stratum; the last seats are
    given one by one.
    """

    def seats(claim: float, less: int) -> NDArray[np.int64]:
        """Per stratum the seats k whose claim, measure / (k - 1/2), is at least this; then `less` fewer."""
        with np.errstate(over="ignore"):
            whole = np.minimum(np.floor(measure / claim + 0.5), most.astype(np.float64)).astype(
                np.int64
            )
        return np.clip(whole - less, least, most)

    open_cells = most > least
    if not open_cells.any() or int(least.sum()) >= size:
        return least
    low, high = 0.0, 4 * float(measure[open_cells].max())
    for _ in range(_HALVINGS):
        claim = (low + high) / 2
        low, high = (low, claim) if claim and int(seats(claim, 0).sum()) <= size else (claim, high)
    given = seats(high, 1)  # one back: a quotient's rounding must not decide
    waiting = [
        (-measure[at] / (given[at] + 0.5), at) for at in np.flatnonzero(given < most).tolist()
    ]
    heapq.heapify(waiting)
    for _ in range(size - int(given.sum())):
        if not waiting:
            break
        _, at = heapq.heappop(waiting)
        given[at] += 1
        if given[at] < most[at]:
            heapq.heappush(waiting, (-measure[at] / (given[at] + 0.5), at))
    return given


def _units(cell: Stratum, value: int | float | str) -> int:
    """A number as it is; a share of the stratum rounded up, so that a share above 0 gives something."""
    if isinstance(value, float):
        return min(cell.units, math.ceil(value * cell.units - 1e-9))
    return int(value)


def _require_known(said: dict[str, int | float | str], cells: Sequence[Stratum]) -> None:
    names = {cell.name for cell in cells}
    unknown = [name for name in said if name not in names]
    if unknown:
        raise ConfigError(
            doing="allocating the sample",
            expected="strata of the table in sample.strata",
            found=f"{shown(unknown)}, which the table does not have{nearest(unknown[0], names)}",
            todo="mend the name; `toiletspark sample --preview` lists all strata",
        )

"""Allocation: units per stratum; a larger sample contains the smaller one.

A unit is a listing or an image. Units go one after another to the stratum with the highest claim.
So no stratum ever gets fewer units in a larger sample, as it can under largest remainder (the
Alabama paradox), and enlarging a sample keeps every label.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Sample
from toiletspark.errors import ConfigError, nearest, shown

Method = Literal["proportional", "sqrt", "neyman", "equal"]
Counts = NDArray[np.int64]  # units, by stratum
OTHER = "other"


@dataclass(frozen=True)
class Stratum:
    """A cell of the catalog."""

    name: str
    units: int  # listings or images, >= 1; N in the formulas
    images: int  # >= units
    weight: float  # >= 0: active listings, or the sum of the column that `sample.weigh_by` names
    deviation: float = 0.0  # >= 0, of the estimated figure between its units; for `neyman` alone
    named: int = 0  # images that name a listing
    unknown: int = 0  # of these, images whose listing the table does not have


def allocate_sample(cells: Sequence[Stratum], sample: Sample) -> dict[str, int]:
    """Returns the units that the configuration asks of each stratum, by name.

    `sample.strata` sets single strata, and its key `other` the rest: to a number of units, a share
    of each stratum, or "allocate", which divides what is left of `sample.size`. Without
    `sample.strata` all of it is divided. Only a configured number may exceed the units of a
    stratum; all are drawn then.

    Raises ConfigError if a configured stratum is not in the table, or if one of the table is not
    configured and there is no `other`.
    """
    configured = {name: value for name, value in sample.strata.items() if name != OTHER}
    rest = sample.strata.get(OTHER, None if configured else "allocate")
    _require_known(configured, cells)
    wanted: dict[str, int] = {}
    others: list[Stratum] = []
    left = sample.size
    for cell in cells:
        if cell.name in configured:
            wanted[cell.name] = _units(cell, configured[cell.name])
            left -= min(wanted[cell.name], cell.units)
        else:
            others.append(cell)
    if rest is None and others:
        raise ConfigError(
            doing="allocating the sample",
            expected="every stratum of the table in sample.strata",
            found=f"{len(others)} that are not in it: {shown(cell.name for cell in others)}",
            todo='add them, or set the others: other = "allocate", other = 0.01 (of each) or '
            "other = 0",
        )
    if rest == "allocate":
        bounds = (sample.least_asked, sample.max_per_stratum)
        wanted |= allocate(others, max(0, left), sample.allocation, *bounds)
    elif rest is not None:
        wanted |= {cell.name: _units(cell, rest) for cell in others}
    return dict(sorted(wanted.items()))


def allocate(
    cells: Sequence[Stratum], size: int, method: Method, min_units: int, max_units: int = 0
) -> dict[str, int]:
    """Divides `size` units among strata: more if the minima need more, fewer if no more fit.

    Every stratum first gets its minimum (all its units if it has fewer). Each further unit goes to
    the highest m / (k - 1/2), k being the stratum's next unit and m its measure:

        proportional   its weight
        sqrt           the root of its weight: small strata are estimated better, the whole worse
        neyman         units x deviation: the smallest variance of the whole. Units, not weights:
                       estimates are figures of the catalog, in which every unit counts once
        equal          1

    Strata that measure 0 get more than the minimum when all others are full, then by units. Ties go
    to the first name. `max_units` bounds each stratum; 0 is no bound.

    Returns units per stratum name; none is smaller for a larger size. A heap operation per unit.

    Source: Cochran, Sampling Techniques (1977), 5.5 (Neyman) and ch. 5A (bounds); Bankier, The
    American Statistician 42 (1988), power allocation; Webster's divisors, Balinski and Young, Fair
    Representation (1982).
    """
    ordered = sorted(cells, key=lambda cell: cell.name)
    units = np.array([cell.units for cell in ordered], dtype=np.int64)
    most = np.minimum(units, max_units) if max_units else units
    allocated = np.minimum(most, min_units)
    weights = np.array([cell.weight for cell in ordered], dtype=np.float64)
    deviations = np.array([cell.deviation for cell in ordered], dtype=np.float64)
    measure = {
        "proportional": weights,
        "sqrt": np.sqrt(weights),
        "neyman": units * deviations,
        "equal": np.ones(len(ordered)),
    }[method]
    has_measure = measure > 0
    allocated = _add_units(measure, allocated, np.where(has_measure, most, allocated), size)
    allocated = _add_units(units, allocated, np.where(has_measure, allocated, most), size)
    return {cell.name: int(count) for cell, count in zip(ordered, allocated, strict=True)}


def _add_units(measure: NDArray[Any], allocated: Counts, most: Counts, size: int) -> Counts:
    """Adds units by the highest claim until there are `size`, at most `most` a stratum."""
    counts, measures, limits = allocated.tolist(), measure.tolist(), most.tolist()

    def claim(row: int) -> tuple[float, int]:
        return -measures[row] / (counts[row] + 0.5), row

    claims = [claim(row) for row in range(len(counts)) if counts[row] < limits[row]]
    heapq.heapify(claims)
    for _ in range(size - sum(counts)):
        if not claims:
            break
        _, row = claims[0]
        counts[row] += 1
        if counts[row] < limits[row]:
            heapq.heapreplace(claims, claim(row))
        else:
            heapq.heappop(claims)
    return np.array(counts, dtype=np.int64)


def _units(cell: Stratum, value: int | float | str) -> int:
    """Returns a number as it is, and a share of the stratum rounded up."""
    if isinstance(value, float):
        return min(cell.units, math.ceil(value * cell.units - 1e-9))
    return int(value)


def _require_known(configured: dict[str, int | float | str], cells: Sequence[Stratum]) -> None:
    names = {cell.name for cell in cells}
    unknown = [name for name in configured if name not in names]
    if unknown:
        raise ConfigError(
            doing="allocating the sample",
            expected="strata of the table in sample.strata",
            found=f"{shown(unknown)}, which the table does not have{nearest(unknown[0], names)}",
            todo="correct the name; `toiletspark sample --preview` lists all strata",
        )

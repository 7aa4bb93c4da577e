"""The page of a sample: units asked and drawn per stratum, and what can be estimated from them."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from toiletspark.reports import html


@dataclass(frozen=True)
class StratumRow:
    """One stratum as the page shows it."""

    stratum: str  # any text, shown verbatim
    units: int  # listings or images in the catalog
    images: int  # in the catalog
    asked: int  # units; may exceed `units` where the configuration names a number
    got: int  # units that were drawn
    images_got: int  # images that were drawn
    fraction: float  # [0, 1], the probability of a unit in the first stage; 0: nothing can be drawn
    # of a 95 % interval for a share inside the stratum, at worst; None where nothing was drawn
    half_width: float | None
    thin: bool  # True if nothing can be estimated for the stratum alone


@dataclass(frozen=True)
class SamplePage:
    """Everything on the page of one sample."""

    run_id: str  # of the sample
    made_at: str  # text with its time zone
    unit: str  # listing or image
    how: list[tuple[str, str]]  # label and value pairs: allocation, method, seed and other settings
    images_per_listing: int | None  # of a drawn listing; 0 is all. None where images are the units.
    max_half_width: float  # a stratum beyond it is thin
    covered_images: float  # share of the catalog's images that had a chance to be drawn, [0, 1]
    covered_units: float  # the same of its units
    design_effect: float  # Kish's, >= 1: by this factor unequal weights raise the variance
    effective_images: float  # drawn images / design effect
    strata: list[StratumRow]  # thin ones first, the largest first among them


def design_effect(count: int, weights: float, squares: float) -> float:
    """The factor by which unequal weights raise the variance: n x sum(w^2) / sum(w)^2.

    The gain by strata and the loss by clusters are not in it. `weights` and `squares` are sums over
    the `count` rows.

    Source: Kish, Survey Sampling (1965), 11.7; Journal of Official Statistics 8 (1992).

    >>> design_effect(4, 4.0, 4.0), design_effect(2, 4.0, 10.0)
    (1.0, 1.25)
    """
    return count * squares / weights**2 if weights else math.nan


def render(page: SamplePage) -> str:
    """The page as HTML text; every string in it is taken as text, never as markup."""
    return html.render("sample_page.html.j2", page=page, sums=totals(page))


def as_json(page: SamplePage) -> dict[str, Any]:
    """The page for programs: its attributes, and the sums over the strata."""
    return {**asdict(page), "how": dict(page.how), "totals": totals(page)}


def totals(page: SamplePage) -> dict[str, int]:
    """Sums over the strata, and the number of thin, uncovered and empty ones."""
    names = ("units", "images", "asked", "got", "images_got")
    thin = [row for row in page.strata if row.thin]
    uncovered = [row for row in page.strata if not row.fraction]
    return {
        **{name: sum(getattr(row, name) for row in page.strata) for name in names},
        "strata": len(page.strata),
        "thin": len(thin),
        "thin_images": sum(row.images for row in thin),
        "uncovered": len(uncovered),
        "uncovered_images": sum(row.images for row in uncovered),
        "empty": sum(not row.got for row in page.strata),
    }

"""The stratified sample: how many images each stratum gives, and which.

Strata are location x listing type, weighed by active listings. Every drawn row carries the probability with
which it was drawn, so that figures found on the sample can be carried over to the catalog.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import tables

# Part of what "the same draw" means for sampleby: rows are first laid out in this many partitions by hash of
# their id and sorted there, since Spark's random numbers follow partition and position.
_LAYOUT_PARTITIONS = 32


@dataclass(frozen=True)
class Stratum:
    """A cell of location x listing type: its images and its active listings."""

    name: str
    images: int
    active_listings: int


def strata(catalog: DataFrame) -> list[Stratum]:
    """Counts the strata of a catalog (columns stratum, listing_id, active); by name. One shuffle."""
    active_listing = F.when(F.col("active"), F.col("listing_id"))
    counted = catalog.groupBy("stratum").agg(
        F.count("*").alias("images"), F.count_distinct(active_listing).alias("active_listings")
    )
    return sorted((Stratum(*row) for row in counted.collect()), key=lambda stratum: stratum.name)


def allocate(cells: Iterable[Stratum], size: int, min_per_stratum: int) -> dict[str, int]:
    """Shares `size` images out in proportion to active listings.

    Each stratum gives at least min_per_stratum and at most all its images; what a full stratum cannot give goes
    to the others. Among strata without an active listing images weigh instead. Fractions are rounded by largest
    remainder, so that the parts add up; ties go to the first name.

    Args:
        cells: the strata.
        size: images in all; more where the minima alone need more, fewer where the catalog has fewer.
        min_per_stratum: images.

    Returns:
        Images to draw per stratum name.

    Source: proportional allocation with bounds, Cochran, Sampling Techniques (1977), ch. 5.
    """
    open_cells = {cell.name: cell for cell in cells}
    fixed: dict[str, int] = {}
    while open_cells:
        shares = _proportional(_weights(open_cells.values()), max(0, size - sum(fixed.values())))
        low = {name: min(cell.images, min_per_stratum) for name, cell in open_cells.items()}
        too_few = {name: low[name] for name in open_cells if shares[name] < low[name]}
        too_many = {name: cell.images for name, cell in open_cells.items() if shares[name] > cell.images}
        lacking = sum(low[name] - shares[name] for name in too_few)
        beyond = sum(shares[name] - too_many[name] for name in too_many)
        # The larger side first: raising a stratum leaves less for the others, and a full one leaves more
        settled = (too_few if lacking >= beyond else too_many) or shares
        fixed |= settled
        for name in settled:
            del open_cells[name]
    return dict(sorted(fixed.items()))


def draw(
    catalog: DataFrame,
    cells: Iterable[Stratum],
    allocation: Mapping[str, int],
    method: Literal["sampleby", "exact"],
    seed: int,
) -> DataFrame:
    """Draws images; the same ones whatever the partitioning or the order of the rows.

    Args:
        catalog: columns image_id (unique), listing_id, stratum.
        cells: the strata of this catalog.
        allocation: images to draw per stratum.
        method: sampleby draws each image by itself with the stratum's probability, so that counts vary; exact
            ranks the images of a stratum by hash(seed, image_id) and takes the first, so that counts are met.
        seed: chooses the draw.

    Returns:
        The columns of `tables.SAMPLE`, one row per drawn image. Cost: one shuffle of the ids.
    """
    fractions = {cell.name: min(1.0, allocation[cell.name] / cell.images) for cell in cells}
    ids = catalog.select("image_id", "listing_id", "stratum")
    drawn = _sample_by(ids, fractions, seed) if method == "sampleby" else _exact(ids, allocation, seed)
    probability = ids.sparkSession.createDataFrame(
        list(fractions.items()), "stratum string, inclusion_probability double"
    )
    return (
        drawn.join(F.broadcast(probability), on="stratum", how="inner")
        .withColumn("weight", 1 / F.col("inclusion_probability"))
        .select(*tables.SAMPLE.columns)
    )


def _weights(cells: Collection[Stratum]) -> dict[str, int]:
    """Active listings, or images where none of these strata has an active listing."""
    active = any(cell.active_listings for cell in cells)
    return {cell.name: cell.active_listings if active else cell.images for cell in cells}


def _proportional(weights: Mapping[str, int], size: int) -> dict[str, int]:
    """Whole numbers in proportion to the weights that add up to size (largest remainder)."""
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    exact = {name: size * weight / total for name, weight in weights.items()}
    whole = {name: math.floor(share) for name, share in exact.items()}
    left = size - sum(whole.values())
    for name in sorted(exact, key=lambda name: (whole[name] - exact[name], name))[:left]:
        whole[name] += 1
    return whole


def _sample_by(ids: DataFrame, fractions: Mapping[str, float], seed: int) -> DataFrame:
    laid_out = ids.repartition(_LAYOUT_PARTITIONS, "image_id").sortWithinPartitions("image_id")
    return laid_out.sampleBy("stratum", dict(fractions), seed)


def _exact(ids: DataFrame, allocation: Mapping[str, int], seed: int) -> DataFrame:
    wanted = ids.sparkSession.createDataFrame(list(allocation.items()), "stratum string, wanted bigint")
    by_hash = Window.partitionBy("stratum").orderBy(F.xxhash64(F.lit(seed), "image_id"), "image_id")
    ranked = ids.withColumn("rank", F.row_number().over(by_hash))
    return ranked.join(F.broadcast(wanted), on="stratum", how="inner").where(F.col("rank") <= F.col("wanted"))

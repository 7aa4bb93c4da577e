"""The draw: which units of each stratum, which images of a drawn listing, and with what probability.

Chance follows from hash(seed, id), so that the same units are drawn on any cluster and layout. Every drawn row carries
the probabilities of both stages, so that figures found on the sample can be carried over to the catalog.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Sample
from toiletspark.errors import TableError, shown
from toiletspark.sampling import strata
from toiletspark.sampling.allocation import Stratum
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames

Keep = Callable[
    [DataFrame, str], DataFrame
]  # sets a frame aside under a name, see `frames.set_aside`

# Part of what "the same draw" means for sampleby: units are first laid out in this many partitions by hash of
# their id and sorted there, since Spark's random numbers follow partition and position.
_LAYOUT_PARTITIONS = 32
_LEAST, _MOST = -(2**63), 2**63 - 1  # of xxhash64
# How far from its expected place a stratum's cut is looked for: in standard deviations, and in units beyond. Short of
# it once in some 10^8 strata; then the search goes on in a wider zone.
_ZONE_DEVIATIONS, _ZONE_UNITS = 6.0, 10.0
_WIDER = 4.0


@dataclass(frozen=True)
class Zone:
    """Where the cut of a stratum lies: below `low` every unit is drawn, from `high` on none. Both as xxhash64."""

    stratum: str
    wanted: int
    low: int
    high: int


def draw(
    images: DataFrame,
    frame: DataFrame,
    cells: Sequence[Stratum],
    wanted: Mapping[str, int],
    sample: Sample,
    keep: Keep,
) -> DataFrame:
    """Draws images; the same ones whatever the partitioning or the order of the rows.

    With `exact`, the units of a stratum with the smallest hash(seed, id) are drawn, as many as wanted: permanent random
    numbers, so that a larger draw contains the smaller. With `sampleby` each unit is drawn by itself with the stratum's
    probability, and counts vary. With listings as units, images_per_listing of each drawn one are taken, those with
    the smallest hash of their own.

    Args:
        images: image_id (unique), listing_id (null: a listing of its own).
        frame: of `strata.read_frame`, and steady: it is read twice.
        cells: the strata of this frame.
        wanted: units per stratum name; what goes beyond the stratum counts as all of it.
        sample: unit, images_per_listing, method, seed.
        keep: sets aside what is read more than once.

    Returns:
        The columns of `tables.SAMPLE`, one row per drawn image. Cost: `exact` reads the frame twice and shuffles
        only what is near a cut (some 10 units a stratum and 12 times the root of what it gives); `sampleby` shuffles
        and sorts the ids of all units. Listings as units: one more pass over the images; images as units: one
        shuffle of them by listing.

    Source: Ohlsson, Coordination of samples using permanent random numbers (1995); two stages: Cochran, Sampling
    Techniques (1977), ch. 11.
    """
    keyed = strata.of_listings(images)
    if sample.unit == "image":
        units = keep(
            keyed.join(
                frame.select(*strata.LISTING, "stratum").hint("shuffle_hash"),
                on=strata.LISTING,
                how="inner",
            ),
            "images",
        )
        drawn = _with_fractions(_units(units, ["image_id"], cells, wanted, sample), cells, wanted)
        return _finished(drawn, listing=F.lit(1.0), image=F.col("fraction"))
    drawn = keep(
        _with_fractions(_units(frame, strata.LISTING, cells, wanted, sample), cells, wanted),
        "listings",
    )
    inside = _inside(keyed.join(drawn, on=strata.LISTING, how="inner"), sample)
    share = F.least(F.lit(1.0), F.lit(sample.images_per_listing) / F.col("images"))
    return _finished(
        inside, listing=F.col("fraction"), image=share if sample.images_per_listing else F.lit(1.0)
    )


def _units(
    units: DataFrame,
    ids: list[str],
    cells: Sequence[Stratum],
    wanted: Mapping[str, int],
    sample: Sample,
) -> DataFrame:
    """The drawn rows of `units`, whose key is `ids`."""
    if sample.method == "sampleby":
        fractions = {cell.name: _fraction(cell, wanted) for cell in cells}
        laid_out = units.repartition(_LAYOUT_PARTITIONS, ids[0]).sortWithinPartitions(*ids)
        return laid_out.sampleBy("stratum", fractions, sample.seed)
    chance = F.struct(F.xxhash64(F.lit(sample.seed), ids[0]).alias("hash"), *ids)
    placed = units.withColumn("chance", chance)
    some = {cell.name: cell.units for cell in cells if 0 < wanted[cell.name] < cell.units}
    cuts = _cuts(placed, {name: wanted[name] for name in some}, some)
    whole = [(cell.name, None) for cell in cells if wanted[cell.name] >= cell.units]
    kind = placed.schema["chance"].dataType.simpleString()
    taken = frames.of_rows(
        units.sparkSession, [*cuts.items(), *whole], {"stratum": "string", "cut": kind}
    )
    below = F.col("cut").isNull() | (F.col("chance") <= F.col("cut"))
    return (
        placed.join(F.broadcast(taken), on="stratum", how="inner")
        .where(below)
        .drop("chance", "cut")
    )


def _cuts(placed: DataFrame, wanted: Mapping[str, int], units: Mapping[str, int]) -> dict[str, Row]:
    """The chance of the last unit that is drawn, per stratum.

    Only rows whose hash is near the expected cut are sorted, so that no task ever holds a stratum; what is surely
    below it is counted. A stratum whose cut is not where it was looked for is looked for again in a wider zone, at
    last in all of it: exact whatever the ids are.
    """
    cuts: dict[str, Row] = {}
    width = 1.0
    while len(cuts) < len(wanted):
        zones = [
            _zone(name, wanted[name], units[name], width) for name in wanted if name not in cuts
        ]
        cuts |= {
            row["stratum"]: row["cut"]
            for row in _looked_for(placed, zones)
            if row["cut"] is not None
        }
        _require_found([zone for zone in zones if zone.stratum not in cuts])
        width *= _WIDER
    return cuts


def _require_found(missed: Sequence[Zone]) -> None:
    gone = [zone.stratum for zone in missed if (zone.low, zone.high) == (_LEAST, _MOST)]
    if gone:
        raise TableError(
            doing="drawing the sample",
            expected="the units that were counted before",
            found=f"fewer of {shown(gone)}",
            todo="draw again while nobody writes to the tables",
        )


def _zone(name: str, wanted: int, units: int, width: float) -> Zone:
    spread = width * (_ZONE_DEVIATIONS * math.sqrt(wanted * (1 - wanted / units)) + _ZONE_UNITS)
    low, high = (wanted - spread) / units, (wanted + spread) / units
    return Zone(
        name,
        wanted,
        _LEAST if low <= 0 else _LEAST + int(low * 2**64),
        _MOST if high >= 1 else min(_MOST, _LEAST + int(high * 2**64)),
    )


def _looked_for(placed: DataFrame, zones: Sequence[Zone]) -> list[Row]:
    """stratum and cut, null where it is not in the zone. One pass; shuffles the rows in the zones."""
    where = frames.of_rows(
        placed.sparkSession,
        [(zone.stratum, zone.wanted, zone.low, zone.high) for zone in zones],
        {"stratum": "string", "wanted": "bigint", "low": "bigint", "high": "bigint"},
    )
    near = placed.select("stratum", "chance").join(F.broadcast(where), on="stratum", how="inner")
    near = near.where(F.col("chance.hash") <= F.col("high"))
    surely = F.col("chance.hash") < F.col("low")
    found = near.groupBy("stratum", "wanted").agg(
        F.count_if(surely).alias("below"),
        F.sort_array(F.collect_list(F.when(~surely, F.col("chance")))).alias("zone"),
    )
    place = (F.col("wanted") - F.col("below") - 1).cast("int")
    return found.select("stratum", F.get("zone", place).alias("cut")).collect()


def _inside(images: DataFrame, sample: Sample) -> DataFrame:
    """images_per_listing of each listing, by a hash that has nothing to do with the listing's own."""
    if not sample.images_per_listing:
        return images
    chance = F.xxhash64(F.lit(sample.seed), F.lit("image"), "image_id")
    order = Window.partitionBy(*strata.LISTING).orderBy(chance, "image_id")
    return images.withColumn("place", F.row_number().over(order)).where(
        F.col("place") <= sample.images_per_listing
    )


def _fraction(cell: Stratum, wanted: Mapping[str, int]) -> float:
    return min(1.0, wanted[cell.name] / cell.units)


def _with_fractions(
    drawn: DataFrame, cells: Sequence[Stratum], wanted: Mapping[str, int]
) -> DataFrame:
    rows = [(cell.name, _fraction(cell, wanted)) for cell in cells]
    fractions = frames.of_rows(
        drawn.sparkSession, rows, {"stratum": "string", "fraction": "double"}
    )
    return drawn.join(F.broadcast(fractions), on="stratum", how="inner")


def _finished(drawn: DataFrame, listing: Column, image: Column) -> DataFrame:
    return (
        drawn.withColumn("listing_id", F.when(~F.col("lone"), F.col("listing_id")))
        .withColumn("listing_probability", listing)
        .withColumn("image_probability", image)
        .withColumn(
            "inclusion_probability", F.col("listing_probability") * F.col("image_probability")
        )
        .withColumn("weight", 1 / F.col("inclusion_probability"))
        .select(*tables.SAMPLE.columns)
    )

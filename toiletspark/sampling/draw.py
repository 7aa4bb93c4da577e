"""The draw: units of each stratum, images of a drawn listing, and their inclusion probabilities.

Randomness follows from seed and ids, so the same units are drawn on any cluster and partitioning.
Every drawn row carries the probabilities of both stages, for estimates of the catalog.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Sample
from toiletspark.errors import TableError, shown
from toiletspark.sampling import permanent_numbers, strata
from toiletspark.sampling.allocation import Stratum
from toiletspark.tables import spark_io
from toiletspark.tables.schemas import SAMPLE

SetAside = Callable[[DataFrame, str], DataFrame]  # under a name, see `spark_io.set_aside`
Wanted = Mapping[str, int]  # units per stratum name; a number beyond the stratum means all of it

_LEAST, _MOST = -(2**63), 2**63 - 1  # of xxhash64
# The cut of a stratum is searched this far from its expected position: in standard deviations, and
# in units in addition. Once in some 10^8 strata it lies outside, and the next zone is wider.
_ZONE_DEVIATIONS, _ZONE_UNITS, _WIDER = 6.0, 10.0, 4.0


class Zone(NamedTuple):
    """A search zone in xxhash64: units below `low` are drawn, from `high` on none."""

    stratum: str
    wanted: int
    low: int
    high: int


class Drawn(NamedTuple):
    """A sample, and what the next draw has to know."""

    images: DataFrame  # the columns of `schemas.SAMPLE`, one row per drawn image
    numbers: DataFrame | None  # `schemas.SAMPLE_UNITS`, set aside; None with `exact`


def draw(
    images: DataFrame,
    frame: DataFrame,
    cells: Sequence[Stratum],
    wanted: Wanted,
    sample: Sample,
    set_aside: SetAside,
    known: DataFrame | None = None,
) -> Drawn:
    """Draws images; the same ones with any partitioning and order of the rows.

    With `exact`, the wanted number of units of a stratum with the smallest hash(seed, id) are drawn
    (permanent random numbers), so a larger draw contains the smaller. With `sampleby` each unit is
    drawn by itself with the stratum's fraction, and counts vary; units that were drawn stay drawn
    (`permanent_numbers`). With listings as units, images_per_listing of each drawn one are taken,
    those with the smallest hash of their own.

    `images` has image_id (unique) and listing_id (null: a listing of its own); the frame is that of
    `strata.read_frame`, set aside because it is read twice, and `cells` are its strata. `known` are
    the numbers of the last draw of the same design, for `sampleby`.

    Cost: `exact` reads the frame twice and shuffles only rows near a cut (some 10 units a stratum
    and 12 times the root of the units drawn); `sampleby` see `permanent_numbers.assign_numbers`.
    Listings as units: one more pass over the images; images as units: one shuffle of them by
    listing.

    Source: Ohlsson, Coordination of samples using permanent random numbers (1995); two stages:
    Cochran, Sampling Techniques (1977), ch. 11.
    """
    keyed = strata.with_listing_key(images)
    units = frame
    ids = strata.LISTING
    if sample.unit == "image":
        stratum_of_listing = frame.select(*ids, "stratum").hint("shuffle_hash")
        units = set_aside(keyed.join(stratum_of_listing, ids), "images")
        ids = ["image_id"]
    fractions = {cell.name: min(1.0, wanted[cell.name] / cell.units) for cell in cells}
    numbers = None
    if sample.method == "sampleby":
        numbers = permanent_numbers.assign_numbers(units, ids, fractions, sample.seed, known)
        numbers = set_aside(numbers, "numbers")
        drawn = permanent_numbers.drawn_units(units, ids, numbers)
    else:
        drawn = _draw_exactly(units, ids, cells, wanted, sample.seed)
        columns = {"stratum": "string", "fraction": "double"}
        rows = spark_io.of_rows(drawn.sparkSession, list(fractions.items()), columns)
        drawn = drawn.join(F.broadcast(rows), "stratum")
    if sample.unit == "image":
        return Drawn(_sample_rows(drawn, listing=F.lit(1.0), image=F.col("fraction")), numbers)
    images_drawn = keyed.join(set_aside(drawn, "listings"), ids)
    share = F.lit(1.0)
    if sample.images_per_listing:
        share = F.least(share, F.lit(sample.images_per_listing) / F.col("images"))
        images_drawn = _draw_inside(images_drawn, sample)
    return Drawn(_sample_rows(images_drawn, listing=F.col("fraction"), image=share), numbers)


def _draw_exactly(
    units: DataFrame, ids: list[str], cells: Sequence[Stratum], wanted: Wanted, seed: int
) -> DataFrame:
    """The wanted units of each stratum with the smallest hash; ties go by id."""
    chance = F.struct(F.xxhash64(F.lit(seed), ids[0]).alias("hash"), *ids)
    with_chance = units.withColumn("chance", chance)
    partly_drawn = [cell for cell in cells if 0 < wanted[cell.name] < cell.units]
    whole = [cell.name for cell in cells if wanted[cell.name] >= cell.units]
    cuts = {**dict.fromkeys(whole), **_find_cuts(with_chance, wanted, partly_drawn)}
    columns = {"stratum": "string", "cut": with_chance.schema["chance"].dataType.simpleString()}
    rows = spark_io.of_rows(units.sparkSession, list(cuts.items()), columns)
    is_drawn = F.col("cut").isNull() | (F.col("chance") <= F.col("cut"))
    drawn = with_chance.join(F.broadcast(rows), "stratum").where(is_drawn)
    return drawn.drop("chance", "cut")


def _find_cuts(units: DataFrame, wanted: Wanted, cells: Sequence[Stratum]) -> dict[str, Row]:
    """The chance of the last drawn unit, per stratum.

    Only rows whose hash is near the expected cut are sorted, so that no task ever holds a stratum;
    rows surely below it are counted. A cut outside its zone is searched again in a wider one.
    """
    cuts: dict[str, Row] = {}
    width = 1.0
    while left := [cell for cell in cells if cell.name not in cuts]:
        zones = [_zone(cell, wanted[cell.name], width) for cell in left]
        for row in _search(units, zones):
            if row["cut"] is not None:
                cuts[row["stratum"]] = row["cut"]
        _require_complete([zone for zone in zones if zone.stratum not in cuts])
        width *= _WIDER
    return cuts


def _require_complete(missed: Sequence[Zone]) -> None:
    gone = [zone.stratum for zone in missed if (zone.low, zone.high) == (_LEAST, _MOST)]
    if gone:
        raise TableError(
            doing="drawing the sample",
            expected="the units that were counted before",
            found=f"fewer of {shown(gone)}",
            todo="draw again while nobody writes to the tables",
        )


def _zone(cell: Stratum, wanted: int, width: float) -> Zone:
    deviation = math.sqrt(wanted * (1 - wanted / cell.units))
    spread = width * (_ZONE_DEVIATIONS * deviation + _ZONE_UNITS)
    low, high = (wanted - spread) / cell.units, (wanted + spread) / cell.units
    low_hash = _LEAST if low <= 0 else _LEAST + int(low * 2**64)
    high_hash = _MOST if high >= 1 else min(_MOST, _LEAST + int(high * 2**64))
    return Zone(cell.name, wanted, low_hash, high_hash)


def _search(units: DataFrame, zones: Sequence[Zone]) -> list[Row]:
    """stratum and cut, null if it is not in the zone. One pass; shuffles the rows in the zones."""
    columns = {"stratum": "string", "wanted": "bigint", "low": "bigint", "high": "bigint"}
    bounds = F.broadcast(spark_io.of_rows(units.sparkSession, zones, columns))
    near = units.select("stratum", "chance").join(bounds, "stratum")
    near = near.where(F.col("chance.hash") <= F.col("high"))
    is_below = F.col("chance.hash") < F.col("low")
    counted = near.groupBy("stratum", "wanted").agg(
        F.count_if(is_below).alias("below"),
        F.sort_array(F.collect_list(F.when(~is_below, F.col("chance")))).alias("zone"),
    )
    last = (F.col("wanted") - F.col("below") - 1).cast("int")
    return counted.select("stratum", F.get("zone", last).alias("cut")).collect()


def _draw_inside(images: DataFrame, sample: Sample) -> DataFrame:
    """images_per_listing of each listing, by a hash that is independent of the listing's own."""
    chance = F.xxhash64(F.lit(sample.seed), F.lit("image"), "image_id")
    order = Window.partitionBy(*strata.LISTING).orderBy(chance, "image_id")
    ranked = images.withColumn("rank", F.row_number().over(order))
    return ranked.where(F.col("rank") <= sample.images_per_listing)


def _sample_rows(drawn: DataFrame, listing: Column, image: Column) -> DataFrame:
    """The columns of `schemas.SAMPLE`, from the probabilities of both stages."""
    rows = drawn.withColumns(
        {
            "listing_id": F.when(~F.col("lone"), F.col("listing_id")),
            "listing_probability": listing,
            "image_probability": image,
            "inclusion_probability": listing * image,
            "weight": 1 / (listing * image),
        }
    )
    return rows.select(*SAMPLE.columns)

"""Permanent random numbers: a drawn unit stays drawn, and its inclusion probability stays known.

Each unit has a number in (0, 1] that never changes, and a chance: the highest sampling fraction of
the strata in which it stood at any draw so far. It is in the sample if its number is at most its
chance. The numbers are uniform and independent, so the chance is the inclusion probability,
whichever units come, go, come back or change their stratum, and however `sample.size` changes.

The first draw is Spark's `sampleBy`, which gives no numbers. They are made after it: a hash of seed
and id is put below the fraction for the units that it drew, and above it for the others. A unit
that comes later has the hash itself.

A design is the unit and the seed of the configuration. With another seed it begins anew.

Source: Ohlsson, Coordination of samples using permanent random numbers (1995).
"""

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Sample
from toiletspark.tables import spark_io
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import SAMPLE, SAMPLE_UNITS

# Part of the definition of a first draw: units are first put into this many partitions by hash of
# their id and sorted there, since Spark's random numbers follow partition and position.
_LAYOUT_PARTITIONS = 32


def last_numbers(store: Store, sample: Sample) -> Run | None:
    """Finds the `schemas.SAMPLE_UNITS` of the newest sample of this design; None if it is new."""
    design = (sample.method, sample.unit, sample.seed)
    for run in reversed(store.runs(SAMPLE_UNITS)):
        recorded = run.config["sample"]
        is_same = (recorded["method"], recorded["unit"], recorded["seed"]) == design
        if is_same and store.run(SAMPLE, run.run_id):  # else the draw ended before its sample
            return run
    return None


def assign_numbers(
    units: DataFrame,
    ids: Sequence[str],
    fractions: Mapping[str, float],
    seed: int,
    known: DataFrame | None,
) -> DataFrame:
    """Gives each unit its number and its chance; the same ones with any order of the rows.

    `units` has the columns `ids`, unique together, and stratum. `fractions`, [0, 1], are those of
    this draw, by stratum. `known` are the rows of the last draw, None before the first.

    Returns `schemas.SAMPLE_UNITS` of all units, also of known ones that are gone: they may come
    back. Two ids with the same 64-bit hash share a row, the smaller number and the higher chance.
    Cost: one shuffle of 24 bytes a unit; the first draw sorts the ids of all units as well.
    """
    columns = {"stratum": "string", "fraction": "double"}
    shares = spark_io.of_rows(units.sparkSession, list(fractions.items()), columns)
    keyed = units.select("stratum", *ids)
    fraction = F.col("fraction")
    uniform = _uniform(seed)

    def rows(part: DataFrame, number: Column) -> DataFrame:
        part = part.withColumn("unit", _key(ids)).join(F.broadcast(shares), "stratum")
        return part.select("unit", number.alias("number"), fraction.alias("chance"))

    if known is None:
        laid_out = keyed.repartition(_LAYOUT_PARTITIONS, ids[0]).sortWithinPartitions(*ids)
        drawn = laid_out.sampleBy("stratum", dict(fractions), seed)
        # A drawn unit has both rows. Its number is the smaller one.
        others = rows(keyed, fraction + (1 - fraction) * uniform)
        numbered = rows(drawn, fraction * uniform).unionByName(others)
    else:
        numbered = known.unionByName(rows(keyed, F.lit(None).cast("double")))
    number = F.coalesce(F.min("number"), uniform).alias("number")
    return numbered.groupBy("unit").agg(number, F.max("chance").alias("chance"))


def drawn_units(units: DataFrame, ids: Sequence[str], numbers: DataFrame) -> DataFrame:
    """Selects the rows of `units` that are in the sample, with `fraction`, their chance, (0, 1]."""
    drawn = numbers.where("number <= chance").select("unit", F.col("chance").alias("fraction"))
    return units.withColumn("unit", _key(ids)).join(drawn, "unit").drop("unit")


def _key(ids: Sequence[str]) -> Column:
    return F.xxhash64(*ids)


def _uniform(seed: int) -> Column:
    """A number in (0, 1] by hash of seed and unit, independent of Spark's and of other hashes.

    Zero is left out, so that no unit is drawn at the fraction 0. With 1 in it, and "at most" as the
    rule, a unit that was drawn at a fraction stays drawn at it, however the product is rounded.
    """
    hashed = F.xxhash64(F.lit(seed), F.lit("number"), "unit")
    return (F.shiftrightunsigned(hashed, 11) + 1) * F.lit(2.0**-53)

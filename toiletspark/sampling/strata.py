"""Strata of a sample: location x listing type, further columns, and their sizes.

Further stratifiers belong to the sample alone; the catalog's `stratum` does not change.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config, Sample
from toiletspark.errors import OutputError, TableError
from toiletspark.sampling.allocation import Stratum
from toiletspark.tables import listing_checks, spark_io, user_tables
from toiletspark.tables.listing_checks import Named
from toiletspark.tables.schemas import SCORES
from toiletspark.tables.user_tables import HAS_LISTING
from toiletspark.tables.workspace import Workspace

# The key of a listing; an image without one is a listing of its own, lone.
LISTING = ["listing_id", "lone"]
# Quantiles are those of about as many listings, chosen by hash: the same with any partitioning,
# unlike Spark's approximate quantiles, and within 0.2 % of the listings.
_LISTINGS_FOR_CUTS = 100_000
_DIGITS = 10  # that sums keep: the last ones depend on the order in which rows arrive


@dataclass(frozen=True)
class Band:
    """A further stratifier: a column of the listings table, and the rising cuts between its bands.

    A value that equals a cut belongs to the band above. Without cuts each value is a stratum.
    """

    column: str
    cuts: list[float] | None


def cut_bands(spark: SparkSession, config: Config, listings: int) -> list[Band]:
    """Turns `sample.stratify_by` into bands; reads the listings table if quantiles are asked for.

    `listings` counts the rows of that table. Raises TableError if a column is missing, or holds no
    number and is to be cut.
    """
    stratifiers = config.sample.stratify_by
    columns = [stratifier.column for stratifier in stratifiers if stratifier.bands]
    values = _read_values(spark, config, columns, listings) if columns else {}
    bands = []
    for stratifier in stratifiers:
        cuts = stratifier.cuts
        if stratifier.bands:
            cuts = _quantiles(values[stratifier.column], stratifier.bands)
        bands.append(Band(stratifier.column, cuts))
    return bands


def read_frame(spark: SparkSession, config: Config, bands: Sequence[Band]) -> DataFrame:
    """Reads the sampling frame: the listings that have images.

    Returns listing_id (image_id if there is none), lone (true then), images (how many, >= 1),
    stratum, weight (double, NaN if the column holds no number), has_listing (the table has it). One
    row per listing_id and lone, no nulls. An image whose listing is unknown counts under "unknown".
    Cost: one shuffle of the images' listing ids and one of the listings.
    """
    own = [band.column for band in bands]
    if config.sample.weigh_by:
        own.append(config.sample.weigh_by)
    listings = user_tables.read_listings(spark, config, own)
    listings = listings.withColumns({"lone": F.lit(False), HAS_LISTING: F.lit(True)})
    images = with_listing_key(user_tables.read_images(spark, config))
    counted = images.groupBy(*LISTING).agg(F.count("*").alias("images"))
    joined = counted.join(listings.hint("shuffle_hash"), LISTING, "left")  # sorting would cost more
    names = user_tables.own_columns(own)
    parts = [_stratum_part(band, F.col(name)) for band, name in zip(bands, names, strict=False)]
    weight = _number(F.col(names[-1])) if config.sample.weigh_by else F.col("active").cast("double")
    stratum = F.concat_ws(" | ", "stratum", *parts)
    has_listing = F.col(HAS_LISTING).isNotNull().alias(HAS_LISTING)
    return user_tables.with_stratum(joined, config).select(
        *LISTING, "images", stratum.alias("stratum"), weight.alias("weight"), has_listing
    )


def with_listing_key(images: DataFrame) -> DataFrame:
    """Returns image_id, the key of `read_frame`, and exclusion_score if there is one."""
    return images.select(
        "image_id",
        F.coalesce("listing_id", "image_id").alias("listing_id"),
        F.col("listing_id").isNull().alias("lone"),
        *(name for name in images.columns if name == "exclusion_score"),
    )


def count_strata(frame: DataFrame, sample: Sample) -> list[Stratum]:
    """Counts the strata of a frame (see `read_frame`), by name. One shuffle of the strata.

    Raises TableError at a weight that is negative or no number, or over sample.max_strata strata.
    """
    is_named = ~F.col("lone")
    is_unknown = is_named & ~F.col(HAS_LISTING)
    counted = frame.groupBy("stratum").agg(
        F.count("*").alias("listings"),
        F.sum("images").alias("images"),
        F.sum("weight").alias("weight"),
        F.min("weight").alias("least"),
        F.coalesce(F.sum(F.when(is_named, F.col("images"))), F.lit(0)).alias("named"),
        F.coalesce(F.sum(F.when(is_unknown, F.col("images"))), F.lit(0)).alias("unknown"),
    )
    rows = counted.limit(sample.max_strata + 1).collect()
    if len(rows) > sample.max_strata:
        columns = ", ".join(stratifier.column for stratifier in sample.stratify_by)
        raise TableError(
            doing="counting the strata",
            expected=f"at most {sample.max_strata} (sample.max_strata)",
            found="more",
            todo="use fewer bands or another column in sample.stratify_by"
            + (f": {columns}" if columns else ""),
        )
    rows.sort(key=lambda row: row["stratum"])
    bad = [row.stratum for row in rows if not (row.least >= 0 and np.isfinite(row.weight))]
    if bad:
        raise TableError(
            doing=f"weighing the strata by {sample.weigh_by!r}",
            expected="numbers of 0 or more in that column of the listings table; null counts 0",
            found=f"a negative number or no number, in {len(bad)} strata, among them {bad[0]!r}",
            todo="correct the column, or name another one in sample.weigh_by",
        )
    cells = []
    for row in rows:
        units = row["images"] if sample.unit == "image" else row["listings"]
        sizes = (units, row["images"], _rounded(row["weight"]))
        named = {name: row[name] for name in ("named", "unknown")}
        cells.append(Stratum(row["stratum"], *sizes, **named))
    return cells


def measure_strata(work: Workspace, frame: DataFrame) -> list[Stratum]:
    """Counts the strata of a frame (`count_strata`), and measures what Neyman's allocation needs.

    Raises OutputError if that is configured, and nothing was scored yet; TableError if no image
    names a listing that the table has.
    """
    sample = work.config.sample
    cells = count_strata(frame, sample)
    if work.config.listings.is_set:
        unknown = frame.where(~F.col("lone") & ~F.col(HAS_LISTING)).select("listing_id")
        listing_checks.require_listings(work.spark, work.config, named(cells), unknown)
    if sample.allocation != "neyman":
        return cells
    scores = work.store.newest(SCORES)
    if scores is None:
        raise OutputError(
            doing="allocating the sample by neyman",
            expected=f"a complete run of scores in {work.store.root}/{SCORES.name}, to measure how "
            "strata vary inside",
            found="none",
            todo="draw a first sample with another sample.allocation, train and score, then draw "
            "again",
        )
    return with_deviations(cells, frame, spark_io.read_run(work.spark, scores), sample)


def named(cells: Sequence[Stratum]) -> Named:
    """The images of all strata that name a listing, and those whose listing is unknown."""
    return Named(sum(cell.named for cell in cells), sum(cell.unknown for cell in cells))


def with_deviations(
    cells: Sequence[Stratum], frame: DataFrame, scores: DataFrame, sample: Sample
) -> list[Stratum]:
    """Adds the deviation between a stratum's units, by earlier scores, for Neyman.

    An image's label is treated as a coin that shows "excluded" with the probability
    exclusion_score. For images the variance is then p (1 - p), p being the stratum's mean score.
    For listings it is that of the total estimated from a drawn listing, by the law of total
    variance over the two stages: with M images and a mean score p, of which m are drawn, Var(M p) +
    Mean(M^2 p (1 - p) / m). Strata without a score get the mean deviation of the others.

    `scores` has image_id, listing_id, exclusion_score in [0, 1]; one row per image_id. Cost: one
    shuffle of the scores by listing. Source: Cochran, Sampling Techniques (1977), 5.5 and 10.3.
    """
    by_listing = with_listing_key(scores).groupBy(*LISTING)
    mean_scores = by_listing.agg(F.count("*").alias("scored"), F.avg("exclusion_score").alias("p"))
    joined = frame.join(mean_scores.hint("shuffle_hash"), LISTING)
    images, p = F.col("images"), F.col("p")
    if sample.unit == "image":
        mean = F.sum(F.col("scored") * p) / F.sum("scored")
        variance = mean * (1 - mean)
    else:
        drawn = images
        if sample.images_per_listing:
            drawn = F.least("images", F.lit(sample.images_per_listing))
        variance = F.var_pop(images * p) + F.avg(images * images * p * (1 - p) / drawn)
    rows = joined.groupBy("stratum").agg(variance.alias("variance")).collect()
    deviations = {row["stratum"]: _rounded(max(0.0, row["variance"]) ** 0.5) for row in rows}
    in_order = [deviations[name] for name in sorted(deviations)]
    mean_deviation = float(np.mean(in_order)) if in_order else 1.0
    return [replace(cell, deviation=deviations.get(cell.name, mean_deviation)) for cell in cells]


def _read_values(
    spark: SparkSession, config: Config, columns: list[str], listings: int
) -> dict[str, NDArray[np.float64]]:
    """The numbers of each column at listings chosen by hash; nulls and NaN are left out."""
    share = min(1.0, _LISTINGS_FOR_CUTS / max(1, listings))
    rows = user_tables.read_listings(spark, config, columns)
    if share < 1:
        limit = int((2 * share - 1) * 2**63)
        rows = rows.where(F.xxhash64(F.lit("bands"), "listing_id") < F.lit(limit))
    names = user_tables.own_columns(columns)
    numbers = {name: F.col(name).cast("double") for name in names}
    texts = [F.max(F.when(numbers[name].isNull(), F.col(name).cast("string"))) for name in names]
    for column, text in zip(columns, rows.agg(*texts).collect()[0], strict=True):
        if text is not None:
            raise _no_number(column, text)
    frame: pd.DataFrame = rows.select(*names).withColumns(numbers).toPandas()
    values = {}
    for column, name in zip(columns, names, strict=True):
        values[column] = frame[name].dropna().to_numpy()
        if not len(values[column]):
            raise _no_number(column, "no value at all")
    return values


def _no_number(column: str, value: str) -> TableError:
    return TableError(
        doing=f"cutting the column {column!r} of the listings table into bands",
        expected="numbers",
        found=repr(value[:100]),
        todo="leave out bands for it in sample.stratify_by: each value is a stratum then",
    )


def _quantiles(values: NDArray[np.float64], bands: int) -> list[float]:
    """Cuts that divide the values into parts of about one size; fewer if many values are equal."""
    shares = [number / bands for number in range(1, bands)]
    cuts = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    return [float(cut) for cut in cuts if cut > values.min()]


def _stratum_part(band: Band, column: Column) -> Column:
    """The band's part of a stratum's name."""
    prefix = band.column
    if band.cuts is None:
        return F.concat(F.lit(f"{prefix} "), F.coalesce(column.cast("string"), F.lit("unknown")))
    number = column.cast("double")
    name = F.when(number.isNull() | F.isnan(number), F.lit(f"{prefix} unknown"))
    if not band.cuts:
        return name.otherwise(F.lit(f"{prefix} known"))
    texts = [repr(cut).removesuffix(".0") for cut in band.cuts]  # different cuts stay different
    parts = [f"below {texts[0]}"]
    parts += [f"{low} to below {high}" for low, high in itertools.pairwise(texts)]
    for cut, part in zip(band.cuts, parts, strict=True):
        name = name.when(number < cut, F.lit(f"{prefix} {part}"))
    return name.otherwise(F.lit(f"{prefix} from {texts[-1]}"))


def _number(column: Column) -> Column:
    """Casts to double: null becomes 0, and text that is no number NaN."""
    no_number = F.when(column.isNull(), F.lit(0.0)).otherwise(F.lit(float("nan")))
    return F.coalesce(column.cast("double"), no_number)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")

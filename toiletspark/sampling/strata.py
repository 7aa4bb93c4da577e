"""The strata of a sample: location x listing type and further columns of the listings, and what each of them holds.

Further stratifiers are the sample's own. The catalog's `stratum`, which reports and lists read, stays as it is.
"""

from __future__ import annotations

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
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.workspace import Workspace

LISTING = [
    "listing_id",
    "lone",
]  # the key of a listing: an image without one is a listing of its own, and lone
# Quantiles are those of about as many listings, chosen by hash: the same on any layout, which Spark's approximate
# quantiles are not, and right to 0.2 % of the listings. A smaller table is taken whole.
_LISTINGS_FOR_CUTS = 100_000
_DIGITS = 10  # that sums keep: they differ in the last ones with the order in which rows arrive


@dataclass(frozen=True)
class Band:
    """A further stratifier: a column of the listings table, and where its numbers are cut.

    Attributes:
        column: the user's name for it.
        cuts: rising; a value belongs to the band above a cut that it equals. None: each value is a stratum.
    """

    column: str
    cuts: list[float] | None


def cut_bands(spark: SparkSession, config: Config, listings: int) -> list[Band]:
    """Turns `sample.stratify_by` into bands; reads the listings table where quantiles are asked for.

    Args:
        spark: the session.
        config: the stratifiers.
        listings: rows of the listings table.

    Raises:
        TableError: a column is missing, or is to be cut and holds no number.
    """
    asked = config.sample.stratify_by
    columns = [one.column for one in asked if one.bands]
    values = _values(spark, config, columns, listings) if columns else {}
    return [
        Band(one.column, _quantiles(values[one.column], one.bands) if one.bands else one.cuts)
        for one in asked
    ]


def read_frame(spark: SparkSession, config: Config, bands: Sequence[Band]) -> DataFrame:
    """What a sample is drawn from: the listings that have images.

    Returns:
        listing_id (image_id where there is none), lone (true there), images (how many, >= 1), stratum, weight (double,
        NaN where the column holds no number). One row per listing_id and lone, no nulls. An image whose listing is
        unknown counts under "unknown". One shuffle of the images' listing ids and one of the listings.
    """
    own = [
        *(band.column for band in bands),
        *([config.sample.weigh_by] if config.sample.weigh_by else []),
    ]
    listings = catalog.read_listings(spark, config, own).withColumn("lone", F.lit(False))
    counted = (
        of_listings(catalog.read_images(spark, config))
        .groupBy(*LISTING)
        .agg(F.count("*").alias("images"))
    )
    joined = counted.join(
        listings.hint("shuffle_hash"), on=LISTING, how="left"
    )  # sorting both sides would cost more
    names = catalog.own_columns(own)
    parts = [
        _part(band, F.col(name)) for band, name in zip(bands, names[: len(bands)], strict=True)
    ]
    weight = _number(F.col(names[-1])) if config.sample.weigh_by else F.col("active").cast("double")
    stratum = F.concat_ws(" | ", "stratum", *parts)
    return catalog.with_stratum(joined, config).select(
        *LISTING, "images", stratum.alias("stratum"), weight.alias("weight")
    )


def of_listings(images: DataFrame) -> DataFrame:
    """Images under the key of `read_frame`: image_id, listing_id, lone, and exclusion_score if it is there."""
    more = [name for name in ("exclusion_score",) if name in images.columns]
    lone = F.col("listing_id").isNull()
    return images.select(
        "image_id",
        F.coalesce("listing_id", "image_id").alias("listing_id"),
        lone.alias("lone"),
        *more,
    )


def count(frame: DataFrame, sample: Sample) -> list[Stratum]:
    """The strata of a frame (see `read_frame`), by name. One shuffle of the strata.

    Raises:
        TableError: a weight is negative or no number, or there are more strata than sample.max_strata.
    """
    counted = frame.groupBy("stratum").agg(
        F.count("*").alias("listings"),
        F.sum("images").alias("images"),
        F.sum("weight").alias("weight"),
        F.min("weight").alias("least"),
    )
    rows = counted.limit(sample.max_strata + 1).collect()
    if len(rows) > sample.max_strata:
        columns = ", ".join(one.column for one in sample.stratify_by)
        raise TableError(
            doing="counting the strata",
            expected=f"at most {sample.max_strata} (sample.max_strata)",
            found="more",
            todo="use fewer bands or another column in sample.stratify_by"
            + (f": {columns}" if columns else ""),
        )
    wrong = sorted(
        row["stratum"] for row in rows if not (row["least"] >= 0 and np.isfinite(row["weight"]))
    )
    if wrong:
        raise TableError(
            doing=f"weighing the strata by {sample.weigh_by!r}",
            expected="numbers of 0 or more in that column of the listings table; null counts 0",
            found=f"a negative one, or what is no number, in {len(wrong)} strata, among them {wrong[0]!r}",
            todo="mend the column, or name another one in sample.weigh_by",
        )
    images = sample.unit == "image"
    cells = [
        Stratum(
            row["stratum"],
            row["images"] if images else row["listings"],
            row["images"],
            _rounded(row["weight"]),
        )
        for row in rows
    ]
    return sorted(cells, key=lambda cell: cell.name)


def measured(work: Workspace, frame: DataFrame) -> list[Stratum]:
    """The strata of a frame with all that the allocation of the configuration looks at; by name.

    Raises:
        TableError: see `count`.
        OutputError: Neyman's allocation is asked for, and nothing was scored yet.
    """
    cells = count(frame, work.config.sample)
    if work.config.sample.allocation != "neyman":
        return cells
    scores = work.store.newest(tables.SCORES)
    if scores is None:
        raise OutputError(
            doing="allocating the sample by neyman",
            expected=f"a complete run of scores in {work.store.root}/{tables.SCORES.name}, to tell how strata vary inside",
            found="none",
            todo="draw a first sample with another sample.allocation, train and score, then draw again",
        )
    return with_deviations(cells, frame, frames.read_run(work.spark, scores), work.config.sample)


def with_deviations(
    cells: Sequence[Stratum], frame: DataFrame, scores: DataFrame, sample: Sample
) -> list[Stratum]:
    """The strata with the standard deviation between their units, by earlier scores; for Neyman's allocation.

    An image's label is taken for a coin that falls on "excluded" with the probability exclusion_score. For images the
    variance is then p (1 - p), p being the stratum's mean score. For listings it is that of what a drawn listing says
    of its total, by the law of total variance over the two stages: with M images and a mean score p, of which m are
    drawn, Var(M p) + Mean(M^2 p (1 - p) / m). Strata without a score get the mean deviation of the others.

    Args:
        cells: of `count`.
        frame: of `read_frame`.
        scores: image_id, listing_id, exclusion_score in [0, 1]; one row per image_id.
        sample: the unit, and how many images of a listing.

    Cost: one shuffle of the scores by listing.

    Source: Cochran, Sampling Techniques (1977), 5.5 and 10.3.
    """
    per_listing = (
        of_listings(scores)
        .groupBy(*LISTING)
        .agg(F.count("*").alias("scored"), F.avg("exclusion_score").alias("p"))
    )
    joined = frame.join(per_listing.hint("shuffle_hash"), on=LISTING, how="inner")
    total, noise = F.col("images") * F.col("p"), F.col("p") * (1 - F.col("p"))
    drawn = (
        F.least("images", F.lit(sample.images_per_listing))
        if sample.images_per_listing
        else F.col("images")
    )
    if sample.unit == "image":
        mean = F.sum(F.col("scored") * F.col("p")) / F.sum("scored")
        variance = mean * (1 - mean)
    else:
        variance = F.var_pop(total) + F.avg(F.col("images") * F.col("images") * noise / drawn)
    rows = joined.groupBy("stratum").agg(variance.alias("variance")).collect()
    found = {row["stratum"]: _rounded(max(0.0, row["variance"]) ** 0.5) for row in rows}
    elsewhere = float(np.mean([found[name] for name in sorted(found)])) if found else 1.0
    return [replace(cell, deviation=found.get(cell.name, elsewhere)) for cell in cells]


def _values(
    spark: SparkSession, config: Config, columns: list[str], listings: int
) -> dict[str, NDArray[np.float64]]:
    """The numbers of each column at listings chosen by hash; nulls and NaN are left out."""
    share = min(1.0, _LISTINGS_FOR_CUTS / max(1, listings))
    rows = catalog.read_listings(spark, config, columns)
    if share < 1:
        rows = rows.where(
            F.xxhash64(F.lit("bands"), "listing_id") < F.lit(int((2 * share - 1) * 2**63))
        )
    names = catalog.own_columns(columns)
    numbers = [F.col(name).cast("double").alias(name) for name in names]
    texts = [
        F.max(F.when(F.col(name).cast("double").isNull(), F.col(name).cast("string")))
        for name in names
    ]
    for column, wrong in zip(columns, rows.agg(*texts).collect()[0], strict=True):
        if wrong is not None:
            raise _no_number(column, wrong)
    found: pd.DataFrame = rows.select(*numbers).toPandas()
    values = {
        column: found[name].dropna().to_numpy() for column, name in zip(columns, names, strict=True)
    }
    for column, kept in values.items():
        if not len(kept):
            raise _no_number(column, "no value at all")
    return values


def _no_number(column: str, found: str) -> TableError:
    return TableError(
        doing=f"cutting the column {column!r} of the listings table into bands",
        expected="numbers",
        found=repr(found[:100]),
        todo="leave out bands for it in sample.stratify_by: each value is a stratum then",
    )


def _quantiles(values: NDArray[np.float64], bands: int) -> list[float]:
    """Values of the column that cut it into parts of about one size; fewer where many are equal."""
    shares = [number / bands for number in range(1, bands)]
    cuts = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    return [float(cut) for cut in cuts if cut > values.min()]


def _part(band: Band, column: Column) -> Column:
    """The band's part of a stratum's name, which says what is in it."""
    if band.cuts is None:
        return F.concat(
            F.lit(f"{band.column} "), F.coalesce(column.cast("string"), F.lit("unknown"))
        )
    number = column.cast("double")
    if not band.cuts:
        name = F.lit(f"{band.column} known")
    else:
        first, last = band.cuts[0], band.cuts[-1]
        name = F.when(number < first, F.lit(f"{band.column} below {_text(first)}"))
        for low, high in itertools.pairwise(band.cuts):
            name = name.when(
                number < high, F.lit(f"{band.column} {_text(low)} to below {_text(high)}")
            )
        name = name.otherwise(F.lit(f"{band.column} from {_text(last)}"))
    return F.when(number.isNull() | F.isnan(number), F.lit(f"{band.column} unknown")).otherwise(
        name
    )


def _text(number: float) -> str:
    """A number without a point that it does not need; different ones stay different."""
    return repr(number).removesuffix(".0")


def _number(column: Column) -> Column:
    """As double: null is 0, what is no number NaN."""
    return F.coalesce(
        column.cast("double"), F.when(column.isNull(), F.lit(0.0)).otherwise(F.lit(float("nan")))
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")

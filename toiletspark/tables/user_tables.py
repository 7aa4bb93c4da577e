"""The user's listings, images and feed under our names, with checked keys."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config, Images, Table
from toiletspark.errors import TableError, nearest, shown
from toiletspark.tables import spark_io
from toiletspark.tables.schemas import IMAGES
from toiletspark.tables.table_reader import read_table

MAX_URL_CHARS = 8192  # no server takes more; a Parquet file of 3 kB can hold a gigabyte of them
TOO_LONG = "too-long:"  # a scheme that nothing allows, so that the image is refused
TRUE_WORDS = ("true", "t", "1", "1.0", "yes", "y")
FALSE_WORDS = ("false", "f", "0", "0.0", "no", "n", "")
CONTENT = "content"  # the images' inline bytes: read beside our columns, never written


def text(frame: DataFrame, name: str) -> Column:
    """A column of the user's table as text, so that an id is the same text in every table.

    Whole numbers are written as digits alone: pandas makes floats of integers as soon as one is
    missing, some databases give decimals, and Spark would write 1.0, 1.2345678E7 and 1.00. Null and
    NaN become null; other values are as Spark casts them. The name may hold dots and blanks.
    """
    column, kind = F.col(_quoted(name)), dict(frame.dtypes)[name]
    plain = column.cast("string")
    if kind in ("float", "double"):
        # through bigint: a decimal keeps only 17 digits of a double, and larger ones overflow
        is_whole = (column % 1 == 0) & (F.abs(column) < F.lit(2.0**63))
        digits = F.when(is_whole, column.cast("bigint").cast("string")).otherwise(plain)
        return F.when(~F.isnan(column), digits)
    if kind.startswith("decimal"):
        digits = column.cast("decimal(38,0)").cast("string")
        return F.when(column % 1 == 0, digits).otherwise(plain)
    return plain


def word(column: Column) -> Column:
    """A text column without blanks around it, in small letters."""
    return F.lower(F.trim(column))


def read_catalog(
    spark: SparkSession, config: Config, listings: DataFrame | None = None
) -> DataFrame:
    """The images with location, listing type, activity and stratum of their listings.

    Columns: those of `schemas.IMAGES`, and `content` (binary; null where images come by URL). An
    image whose listing is unknown keeps its row. Raises TableError without a table or a column.
    `listings` are those of `read_listings`, if they have been read already.
    """
    listings = read_listings(spark, config) if listings is None else listings
    joined = read_images(spark, config).join(listings, on="listing_id", how="left")
    return with_stratum(joined, config).select(*IMAGES.columns, CONTENT)


def read_images(spark: SparkSession, config: Config) -> DataFrame:
    """The images, unchecked: image_id, image_version, listing_id, position, image_url, content."""
    table, names = config.images, config.images.columns
    raw = read_table(spark, table, "images")
    _require_mapped(raw, "images", names.model_dump(), table)
    content, url = _column(names.content, "binary"), _image_url(table)
    image_id = text(raw, names.image_id)
    listing_id = text(raw, names.listing_id) if names.listing_id else image_id
    return raw.select(
        image_id.alias("image_id"),
        _version(names.image_version, url, content).alias("image_version"),
        listing_id.alias("listing_id"),
        _column(names.position, "int").alias("position"),
        url.alias("image_url"),
        content.alias(CONTENT),
    )


def read_listings(spark: SparkSession, config: Config, own: Sequence[str] = ()) -> DataFrame:
    """The listings, unchecked: listing_id, location, listing_type, active; no rows without a table.

    `own` are further columns of the user's table, unchanged, under the names of `own_columns`.
    Raises TableError if the table or a column is missing.
    """
    table, names = config.listings, config.listings.columns
    if not table.is_set and not own:
        ours = ("listing_id", "location", "listing_type", "active")
        return spark_io.no_rows(spark, {name: IMAGES.columns[name] for name in ours})
    raw = read_table(spark, table, "listings")
    _require_mapped(raw, "listings", names.model_dump(), table)
    _require_own(raw, own, table)
    own_named = zip(own, own_columns(own), strict=True)
    return raw.select(
        text(raw, names.listing_id).alias("listing_id"),
        _column(names.location, "string").alias("location"),
        _column(names.listing_type, "string").alias("listing_type"),
        _is_active(names.active).alias("active"),
        *(F.col(_quoted(name)).alias(alias) for name, alias in own_named),
    )


def own_columns(own: Sequence[str]) -> list[str]:
    """The names of the user's own columns in `read_listings`: theirs may be named like ours."""
    return [f"own_{number}" for number in range(len(own))]


def with_stratum(joined: DataFrame, config: Config) -> DataFrame:
    """Adds `stratum` to rows that were left-joined with their listings.

    Unknown values become "unknown" (not active), or without a listings table "all" (active).
    """
    has_listings = config.listings.is_set
    unknown = F.lit("unknown" if has_listings else "all")
    return (
        joined.withColumn("location", F.coalesce("location", unknown))
        .withColumn("listing_type", F.coalesce("listing_type", unknown))
        .withColumn("active", F.coalesce("active", F.lit(not has_listings)))
        .withColumn("stratum", F.concat_ws(" | ", F.col("location"), F.col("listing_type")))
    )


def check(spark: SparkSession, config: Config) -> dict[str, int]:
    """Checks the keys of both of the user's tables, see `check_keys`."""
    return check_keys(read_images(spark, config), read_listings(spark, config), config)


def check_keys(images: DataFrame, listings: DataFrame | None, config: Config) -> dict[str, int]:
    """Counts images and listings, wherever they were read to; 0 listings without their table.

    Cost: one shuffle of 8 bytes a row; if two keys of a table have the same hash, one of its keys.

    Raises:
        TableError: a key of either table is null or occurs twice, or a table has no rows.
    """
    keys = {"images": _Key(images, "image_id", config.images)}
    if listings is not None and config.listings.is_set:
        keys["listings"] = _Key(listings, "listing_id", config.listings)
    counts = {"images": 0, "listings": 0}
    counts.update(_count_by_hash(keys))
    for name, key in keys.items():
        if not counts[name]:
            counts[name] = _count_keys(key, name)
    return counts


def read_feed(spark: SparkSession, config: Config) -> tuple[DataFrame, str]:
    """The table to clean and the column of its image ids: [feed], or else the images table."""
    if config.feed.is_set:
        return read_table(spark, config.feed, "feed"), config.feed.image_id
    names = config.images.columns
    images = read_table(spark, config.images, "images")
    return (images.drop(names.content) if names.content else images), names.image_id


def _column(name: str, kind: str) -> Column:
    """A column of the user's table; nulls if the name is ""."""
    return (F.col(_quoted(name)) if name else F.lit(None)).cast(kind)


def _image_url(table: Images) -> Column:
    url = _column(table.columns.image_url, "string")
    url = F.concat(F.lit(table.url_prefix), url) if table.url_prefix else url
    too_long = F.concat(F.lit(TOO_LONG), F.sha2(url, 256))
    return F.when(F.length(url) > MAX_URL_CHARS, too_long).otherwise(url)


def _version(column: str, url: Column, content: Column) -> Column:
    """The user's version of an image, else a digest of the inline bytes or of the URL."""
    if column:
        return F.coalesce(_column(column, "string"), F.lit(""))
    digest = F.coalesce(F.sha2(content, 256), F.sha2(url, 256))
    return F.coalesce(F.substring(digest, 1, 16), F.lit(""))


def _is_active(column: str) -> Column:
    """Booleans, 0/1 and the usual words as a boolean; null is not active."""
    if not column:
        return F.lit(True)
    return F.coalesce(word(_column(column, "string")).isin(*TRUE_WORDS), F.lit(False))


def _require_mapped(frame: DataFrame, name: str, names: dict[str, str], table: Table) -> None:
    """Stops if a mapped name ("" is none) is not a column of the table."""
    wanted = {f"{name}.columns.{key}": column for key, column in names.items() if column}
    missing = {key: column for key, column in wanted.items() if column not in frame.columns}
    if missing:
        key, first = next(iter(missing.items()))
        raise TableError(
            doing=f"reading the {name} table {table.label}",
            expected=", ".join(f"the column '{column}' ({key})" for key, column in missing.items()),
            found=f"the columns {shown(frame.columns, 20)}{nearest(first, frame.columns)}",
            todo=f'write the name of your column into the configuration: {key} = "..."',
        )


def _require_own(frame: DataFrame, own: Sequence[str], table: Table) -> None:
    missing = [name for name in own if name not in frame.columns]
    if missing:
        raise TableError(
            doing=f"reading the listings table {table.label}",
            expected=f"the columns {shown(own)}, which sample.stratify_by and sample.weigh_by name",
            found=f"the columns {shown(frame.columns, 20)}{nearest(missing[0], frame.columns)}",
            todo="correct the name of the column in the configuration",
        )


@dataclass(frozen=True)
class _Key:
    """The key of a table, and the rows that must have it."""

    rows: DataFrame
    column: str
    table: Table


def _count_by_hash(keys: dict[str, _Key]) -> dict[str, int]:
    """Counts the rows of each table whose keys are sound beyond doubt; the others are left out.

    `repartition` comes first, since a partial count merges nothing.
    """
    hashes = [
        key.rows.select(
            F.lit(name).alias("name"),
            F.xxhash64(key.column).alias("hash"),
            F.col(key.column).isNull().alias("is_null"),
        )
        for name, key in keys.items()
    ]
    by_hash = functools.reduce(DataFrame.unionByName, hashes).repartition("name", "hash")
    counts = (F.count("*").alias("rows"), F.count_if("is_null").alias("nulls"))
    suspect = (F.col("rows") > 1) | (F.col("nulls") > 0)
    per_name = by_hash.groupBy("name", "hash").agg(*counts).groupBy("name")
    totals = per_name.agg(F.sum("rows").alias("rows"), F.count_if(suspect).alias("suspect"))
    return {row["name"]: int(row["rows"]) for row in totals.collect() if not row["suspect"]}


def _count_keys(checked: _Key, name: str) -> int:
    """Counts the rows by the keys themselves, in one shuffle; the error names a duplicate."""
    key, table = checked.column, checked.table
    per_key = checked.rows.groupBy(key).agg(F.count("*").alias("rows"))
    is_null = F.col(key).isNull()
    is_duplicate = ~is_null & (F.col("rows") > 1)
    row = per_key.agg(
        F.coalesce(F.sum("rows"), F.lit(0)).alias("rows"),
        F.coalesce(F.sum(F.when(is_null, F.col("rows"))), F.lit(0)).alias("nulls"),
        F.count_if(is_duplicate).alias("duplicates"),
        F.min(F.when(is_duplicate, F.col(key))).alias("example"),
    ).collect()[0]
    problems = []
    if not row["rows"]:
        problems.append("no rows")
    if row["nulls"]:
        problems.append(f"{row['nulls']} rows where it is null")
    if row["duplicates"]:
        count, example = row["duplicates"], row["example"]
        problems.append(f"{count} ids that occur more than once, among them {example!r}")
    if problems:
        raise TableError(
            doing=f"checking the {name} table {table.label}",
            expected=f"at least one row, and {key} unique and never null",
            found="; ".join(problems),
            todo=f"correct the table, or map {name}.columns.{key} to the column that identifies a "
            "row",
        )
    return int(row["rows"])


def _quoted(name: str) -> str:
    """A column name that may hold dots and blanks, quoted for Spark."""
    return "`" + name.replace("`", "``") + "`"

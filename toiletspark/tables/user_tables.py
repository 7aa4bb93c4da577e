"""The user's tables, read under our names and checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Sequence

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that all Spark code gives it

from toiletspark.config import Config, Images, Listings, Table
from toiletspark.errors import TableError, nearest, shown
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import storage

MAX_URL_CHARS = 8192  # no server takes more; a Parquet file of 3 kB can hold a gigabyte of them
TOO_LONG = "too-long:"  # a scheme that nothing allows, so that the image is refused
CONTENT = "content"  # the images' inline bytes, which stand beside the catalog's columns and are never written


def read_table(spark: SparkSession, table: Table, name: str) -> DataFrame:
    """One of the user's tables as it is.

    Raises:
        TableError: it does not exist or cannot be read.
    """
    doing = f"reading the {name} table {table.path}"
    if not table.path:
        raise TableError(
            doing=f"reading the {name} table",
            expected=f"its path in {name}.path",
            found="nothing",
            todo=f"add `[{name}]` with `path = ...` to your configuration (see conf/mytables.example.toml)",
        )
    defaults = {"header": "true"} if table.format == "csv" else {}
    reader = spark.read.format(table.format).options(**{**defaults, **table.options})
    try:
        return reader.load(storage.spark_path(table.path))
    except (AnalysisException, Py4JJavaError) as error:
        raise TableError(
            doing=doing,
            expected=f"a {table.format} file or folder with at least one row",
            found=_reason(error),
            todo=f"check {name}.path and {name}.format",
        ) from None


def text(frame: DataFrame, name: str) -> Column:
    """A column of a user's table as a text, so that an id is the same text in every table, whatever its type there.

    pandas makes floats of integers as soon as one is missing, and some databases give them as decimals with places.
    Spark would write these as 1.0, 1.2345678E7 and 1.00: whole numbers are written as digits alone instead.

    Args:
        frame: the user's table.
        name: its column, which may hold dots and blanks.

    Returns:
        What has no whole number is as Spark casts it; null stays null, and so does NaN, pandas' other word for it.
    """
    column, kind = F.col(_quoted(name)), dict(frame.dtypes)[name]
    if kind in ("float", "double"):
        # by way of bigint, since a decimal has but 17 right digits of a double; not beyond, where it would overflow
        whole = (column % 1 == 0) & (F.abs(column) < F.lit(2.0**63))
        digits = F.when(whole, column.cast("bigint").cast("string")).otherwise(
            column.cast("string")
        )
        return F.when(~F.isnan(column), digits)
    if kind.startswith("decimal"):
        return F.when(column % 1 == 0, column.cast("decimal(38,0)").cast("string")).otherwise(
            column.cast("string")
        )
    return column.cast("string")


def read_catalog(spark: SparkSession, config: Config) -> DataFrame:
    """Images with what their listings say of them.

    Columns: those of `tables.IMAGES`, and `content` (binary, null where images come by URL).
    Grain: one row per image_id, none null. An image whose listing is unknown keeps its row.

    Raises:
        TableError: a table or a column is missing, an id is null or occurs twice.
    """
    joined = read_images(spark, config).join(
        read_listings(spark, config), on="listing_id", how="left"
    )
    return with_stratum(joined, config).select(*tables.IMAGES.columns, CONTENT)


def read_images(spark: SparkSession, config: Config) -> DataFrame:
    """The images alone, unchecked: image_id, image_version, listing_id, position, image_url and `content`."""
    return _images(spark, config.images)


def read_listings(spark: SparkSession, config: Config, own: Sequence[str] = ()) -> DataFrame:
    """The listings alone, unchecked: listing_id, location, listing_type, active; no rows where there is no such table.

    Args:
        spark: the session.
        config: maps the columns.
        own: further columns of the user's table, as they are, under the names of `own_columns`.

    Raises:
        TableError: the table or a column is missing.
    """
    return _listings(spark, config.listings, own)


def own_columns(own: Sequence[str]) -> list[str]:
    """What `read_listings` calls the user's own columns: theirs may be named like ours."""
    return [f"own_{number}" for number in range(len(own))]


def with_stratum(joined: DataFrame, config: Config) -> DataFrame:
    """Adds `stratum` to images, or what stands for them, that were left-joined with their listings.

    What is not known of location and listing_type becomes "unknown" (not active), or "all" (active) where there is no
    listings table.
    """
    known = bool(config.listings.path)
    unknown = F.lit("unknown" if known else "all")
    return (
        joined.withColumn("location", F.coalesce("location", unknown))
        .withColumn("listing_type", F.coalesce("listing_type", unknown))
        .withColumn("active", F.coalesce("active", F.lit(not known)))
        .withColumn("stratum", F.concat_ws(" | ", F.col("location"), F.col("listing_type")))
    )


def check(spark: SparkSession, config: Config) -> dict[str, int]:
    """Looks at every row's keys, before the cluster works.

    Returns:
        Rows of `listings` and `images`.

    Raises:
        TableError: a null or duplicate id, or no image at all.
    """
    images = _images(spark, config.images)
    return {"images": check_images(images, config), "listings": check_listings(spark, config)}


def check_images(images: DataFrame, config: Config) -> int:
    """As `check`, for the images alone, wherever they have been read to; returns how many they are."""
    return _check_key(images, "image_id", config.images.path, "images")


def check_listings(spark: SparkSession, config: Config) -> int:
    """As `check`, for the listings alone; 0 where there is no such table."""
    if not config.listings.path:
        return 0
    return _check_key(
        _listings(spark, config.listings), "listing_id", config.listings.path, "listings"
    )


def read_feed(spark: SparkSession, config: Config) -> tuple[DataFrame, str]:
    """The table to clean and the column that names its images: feed.path, or else the images table.

    Raises:
        TableError: it does not exist.
    """
    if config.feed.path:
        return read_table(spark, config.feed, "feed"), config.feed.image_id
    names = config.images.columns
    images = read_table(spark, config.images, "images")
    return (images.drop(names.content) if names.content else images), names.image_id


def _images(spark: SparkSession, table: Images) -> DataFrame:
    """image_id, image_version, listing_id, position, image_url, content, all under our names and types."""
    raw, names = read_table(spark, table, "images"), table.columns
    _require_columns(
        raw, {f"images.columns.{key}": name for key, name in names.model_dump().items()}, table.path
    )
    content = (
        F.col(_quoted(names.content)).cast("binary")
        if names.content
        else F.lit(None).cast("binary")
    )
    url = (
        F.col(_quoted(names.image_url)).cast("string")
        if names.image_url
        else F.lit(None).cast("string")
    )
    url = F.concat(F.lit(table.url_prefix), url) if table.url_prefix else url
    url = F.when(
        F.length(url) > MAX_URL_CHARS, F.concat(F.lit(TOO_LONG), F.sha2(url, 256))
    ).otherwise(url)
    image_id = text(raw, names.image_id)
    return raw.select(
        image_id.alias("image_id"),
        _version(names.image_version, url, content).alias("image_version"),
        (text(raw, names.listing_id) if names.listing_id else image_id).alias("listing_id"),
        (F.col(_quoted(names.position)) if names.position else F.lit(None))
        .cast("int")
        .alias("position"),
        url.alias("image_url"),
        content.alias(CONTENT),
    )


def _version(column: str, url: Column, content: Column) -> Column:
    """What tells that an image changed: the user's own column, else a digest of the inline bytes or of the URL."""
    if column:
        return F.coalesce(F.col(_quoted(column)).cast("string"), F.lit(""))
    digest = F.coalesce(F.sha2(content, 256), F.sha2(url, 256))
    return F.coalesce(F.substring(digest, 1, 16), F.lit(""))


def _listings(spark: SparkSession, table: Listings, own: Sequence[str] = ()) -> DataFrame:
    """listing_id, location, listing_type, active, and own_0 ... for `own`; no rows where there is no listings table."""
    if not table.path and not own:
        return frames.no_rows(
            spark,
            {
                "listing_id": "string",
                "location": "string",
                "listing_type": "string",
                "active": "boolean",
            },
        )
    raw, names = read_table(spark, table, "listings"), table.columns
    wanted = {f"listings.columns.{key}": name for key, name in names.model_dump().items()}
    _require_columns(raw, wanted, table.path)
    _require_own(raw, own, table.path)
    return raw.select(
        text(raw, names.listing_id).alias("listing_id"),
        F.col(_quoted(names.location)).cast("string").alias("location"),
        F.col(_quoted(names.listing_type)).cast("string").alias("listing_type"),
        _truth(names.active).alias("active"),
        *(
            F.col(_quoted(name)).alias(ours)
            for name, ours in zip(own, own_columns(own), strict=True)
        ),
    )


def _truth(column: str) -> Column:
    """Booleans, 0/1 and the usual words as a boolean; null is not active."""
    if not column:
        return F.lit(True)
    word = F.lower(F.trim(F.col(_quoted(column)).cast("string")))
    return F.coalesce(word.isin("true", "t", "1", "1.0", "yes", "y"), F.lit(False))


def _require_columns(frame: DataFrame, wanted: dict[str, str], path: str) -> None:
    """Every mapped name ("" is none) must be a column of the table."""
    missing = {key: name for key, name in wanted.items() if name and name not in frame.columns}
    if missing:
        key, name = next(iter(missing.items()))
        raise TableError(
            doing=f"reading the {key.split('.')[0]} table {path}",
            expected=", ".join(f"the column '{name}' ({key})" for key, name in missing.items()),
            found=f"the columns {shown(frame.columns, 20)}{nearest(name, frame.columns)}",
            todo=f'say in the configuration what your column is called: {key} = "..."',
        )


def _require_own(frame: DataFrame, own: Sequence[str], path: str) -> None:
    missing = [name for name in own if name not in frame.columns]
    if missing:
        raise TableError(
            doing=f"reading the listings table {path}",
            expected=f"the columns {shown(own)}, which sample.stratify_by and sample.weigh_by name",
            found=f"the columns {shown(frame.columns, 20)}{nearest(missing[0], frame.columns)}",
            todo="mend the name of the column in the configuration",
        )


def _check_key(frame: DataFrame, key: str, path: str, name: str) -> int:
    """Counts the rows, and stops at a null or duplicate key.

    Cost: one shuffle of 8 bytes a row: where no two keys have the same hash, none is double. Laid out by hash first,
    since counting before the shuffle merges nothing. Where a hash occurs twice, the keys themselves are counted.
    """
    hashed = frame.select(
        F.xxhash64(key).alias("hashed"), F.col(key).isNull().alias("null")
    ).repartition("hashed")
    per_hash = hashed.groupBy("hashed").agg(
        F.count("*").alias("rows"), F.count_if("null").alias("nulls")
    )
    suspect = (F.col("rows") > 1) | (F.col("nulls") > 0)
    counts = per_hash.agg(
        F.sum("rows").alias("rows"), F.count_if(suspect).alias("suspect")
    ).collect()[0]
    if counts["rows"] and not counts["suspect"]:
        return int(counts["rows"])
    return _count_keys(frame, key, path, name)


def _count_keys(frame: DataFrame, key: str, path: str, name: str) -> int:
    """As `_check_key`, on the keys themselves; names one that is double. One shuffle of the keys."""
    per_key = frame.groupBy(key).agg(F.count("*").alias("rows"))
    doubled = F.col(key).isNotNull() & (F.col("rows") > 1)
    counts = per_key.agg(
        F.coalesce(F.sum("rows"), F.lit(0)).alias("rows"),
        F.coalesce(F.sum(F.when(F.col(key).isNull(), F.col("rows"))), F.lit(0)).alias("nulls"),
        F.count(F.when(doubled, True)).alias("doubled"),
        F.min(F.when(doubled, F.col(key))).alias("example"),
    )
    row = counts.collect()[0]
    problems = []
    if not row["rows"]:
        problems.append("no rows")
    if row["nulls"]:
        problems.append(f"{row['nulls']} rows where it is null")
    if row["doubled"]:
        problems.append(
            f"{row['doubled']} ids that occur more than once, among them {row['example']!r}"
        )
    if problems:
        raise TableError(
            doing=f"checking the {name} table {path}",
            expected=f"at least one row, and {key} unique and never null",
            found="; ".join(problems),
            todo=f"mend the table, or map {name}.columns.{key} to the column that identifies a row",
        )
    return int(row["rows"])


def _reason(error: AnalysisException | Py4JJavaError) -> str:
    """The first line of what Spark says, or of what lies at the bottom of Java's stack."""
    if not isinstance(error, Py4JJavaError):
        return str(error).splitlines()[0]
    cause = error.java_exception
    while cause.getCause() is not None:
        cause = cause.getCause()
    return str(cause.getMessage()).splitlines()[0]


def _quoted(name: str) -> str:
    """A column name that may hold dots and blanks, as Spark wants it."""
    return "`" + name.replace("`", "``") + "`"

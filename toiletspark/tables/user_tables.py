"""The user's listings, images and feed under our names, with checked keys."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config, Images, Table
from toiletspark.errors import TableError, nearest, shown
from toiletspark.tables import spark_io
from toiletspark.tables.formats.column_types import require_types
from toiletspark.tables.schemas import IMAGES, quoted
from toiletspark.tables.table_reader import read_table

MAX_URL_CHARS = 8192  # no server takes more; a Parquet file of 3 kB can hold a gigabyte of them
TOO_LONG = "too long: "  # and a digest: no URL, so that the image is bad_url
NOT_UTF8 = "not UTF-8: "  # likewise; a URL that is no text cannot be handed to Python
TRUE_WORDS = ("true", "t", "1", "1.0", "yes", "y")
FALSE_WORDS = ("false", "f", "0", "0.0", "no", "n", "")
_BLANKS_AROUND = r"^[\s\u00a0\ufeff]+|[\s\u00a0\ufeff]+$"  # which copied cells have
CONTENT = "content"  # the images' inline bytes: read beside our columns, never written
HAS_LISTING = "has_listing"  # beside our columns too: null for an image that names no listing
UNKNOWN_WORD = "unknown_word"  # of listings: the word for active that is none of the above


def text(frame: DataFrame, name: str) -> Column:
    """A column of the user's table as text, so that an id is the same text in every table.

    Whole numbers are written as digits alone: pandas makes floats of integers as soon as one is
    missing, some databases give decimals, and Spark would write 1.0, 1.2345678E7 and 1.00. Moments
    are in UTC, whatever the session's zone is. Null and NaN become null; other values are as Spark
    casts them. The name may hold dots and blanks.
    """
    column, kind = frame[quoted(name)], dict(frame.dtypes)[name]
    plain = column.cast("string")
    if kind in ("float", "double"):
        # through bigint: a decimal keeps only 17 digits of a double, and larger ones overflow
        is_whole = (column % 1 == 0) & (F.abs(column) < F.lit(2.0**63))
        digits = F.when(is_whole, column.cast("bigint").cast("string")).otherwise(plain)
        return F.when(~F.isnan(column), digits)
    if kind.startswith("decimal"):
        digits = column.cast("decimal(38,0)").cast("string")
        return F.when(column % 1 == 0, digits).otherwise(plain)
    if kind == "timestamp":
        return F.to_utc_timestamp(column, F.current_timezone()).cast("string")
    return plain


def word(column: Column) -> Column:
    """A text column without blanks around it, in small letters."""
    return F.lower(F.trim(column))


def is_no_text(column: Column) -> Column:
    """Returns whether a text has bytes that are no UTF-8: Spark reads them, Python does not."""
    return _readable(column) != column


def _readable(column: Column) -> Column:
    """The text with U+FFFD for bytes that are no UTF-8; null stays null."""
    return F.when(column.isNotNull(), F.format_string("%s", column))


def read_catalog(spark: SparkSession, config: Config) -> DataFrame:
    """The images with location, listing type, activity and stratum of their listings.

    Columns: those of `schemas.IMAGES`; `content` (binary; null where images come by URL);
    `has_listing` (boolean; null where the image names no listing, or there is no table of them). An
    image whose listing is unknown keeps its row. Raises TableError without a table or a column.
    """
    listings = read_listings(spark, config).withColumn(HAS_LISTING, F.lit(True))
    joined = read_images(spark, config).join(listings, on="listing_id", how="left")
    is_asked = F.lit(config.listings.is_set) & F.col("listing_id").isNotNull()
    has_listing = F.when(is_asked, F.col(HAS_LISTING).isNotNull()).alias(HAS_LISTING)
    return with_stratum(joined, config).select(*IMAGES.columns, CONTENT, has_listing)


def read_images(spark: SparkSession, config: Config) -> DataFrame:
    """The images, unchecked: image_id, image_version, listing_id, position, image_url, content."""
    table, names = config.images, config.images.columns
    raw = read_table(spark, table, "images", names.model_dump().values())
    _require_mapped(raw, "images", names.model_dump(), table)
    content, url = _column(names.content, "binary"), _image_url(table)
    image_id = text(raw, names.image_id)
    listing_id = text(raw, names.listing_id) if names.listing_id else image_id
    return raw.select(
        image_id.alias("image_id"),
        _version(raw, names.image_version, url, content).alias("image_version"),
        listing_id.alias("listing_id"),
        _column(names.position, "int").alias("position"),
        url.alias("image_url"),
        content.alias(CONTENT),
    )


def read_listings(spark: SparkSession, config: Config, own: Sequence[str] = ()) -> DataFrame:
    """The listings, unchecked: listing_id, location, listing_type, active; no rows without a table.

    `unknown_word` has the word for active that is neither yes nor no, and counts as no; else null.
    `own` are further columns of the user's table, unchanged, under the names of `own_columns`.
    Raises TableError if the table or a column is missing.
    """
    table, names = config.listings, config.listings.columns
    if not table.is_set and not own:
        ours = ("listing_id", "location", "listing_type", "active")
        columns = {name: IMAGES.columns[name] for name in ours}
        return spark_io.no_rows(spark, {**columns, UNKNOWN_WORD: "string"})
    mapped = [*names.model_dump().values(), *own]
    raw = read_table(spark, table, "listings", mapped)
    _require_mapped(raw, "listings", names.model_dump(), table)
    _require_own(raw, own, table)
    own_named = zip(own, own_columns(own), strict=True)
    return raw.select(
        text(raw, names.listing_id).alias("listing_id"),
        _readable(_column(names.location, "string")).alias("location"),
        _readable(_column(names.listing_type, "string")).alias("listing_type"),
        _is_active(names.active).alias("active"),
        _unknown_word(names.active).alias(UNKNOWN_WORD),
        *(F.col(quoted(name)).alias(alias) for name, alias in own_named),
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


def check_images(images: DataFrame, config: Config) -> int:
    """Counts images, wherever they were read to; TableError at a null or duplicate id or none."""
    return check_key(images, "image_id", config.images, "images")[0]


def read_feed(spark: SparkSession, config: Config) -> tuple[DataFrame, str]:
    """The table to clean and the column of its image ids: [feed], or else the images table."""
    if config.feed.is_set:
        feed = read_table(spark, config.feed, "feed", [config.feed.image_id])
        return feed, config.feed.image_id
    names = config.images.columns
    images = read_table(spark, config.images, "images", names.model_dump().values())
    return (images.drop(names.content) if names.content else images), names.image_id


def _column(name: str, kind: str) -> Column:
    """A column of the user's table; nulls if the name is ""."""
    return (F.col(quoted(name)) if name else F.lit(None)).cast(kind)


def _image_url(table: Images) -> Column:
    raw = _column(table.columns.image_url, "string")
    url = F.regexp_replace(raw, _BLANKS_AROUND, "")  # puts U+FFFD where bytes are no UTF-8
    url = F.concat(F.lit(table.url_prefix), url) if table.url_prefix else url
    too_long = F.concat(F.lit(TOO_LONG), F.sha2(url, 256))
    no_text = F.concat(F.lit(NOT_UTF8), F.sha2(raw, 256))
    url = F.when(F.length(url) > MAX_URL_CHARS, too_long).otherwise(url)
    return F.when(is_no_text(raw), no_text).otherwise(url)


def _version(raw: DataFrame, column: str, url: Column, content: Column) -> Column:
    """The user's version of an image, else a digest of the inline bytes or of the URL.

    A CSV file that pandas wrote has 7.0 for 7 as soon as one version is missing: here both are 7.
    """
    if column:
        whole = F.regexp_replace(text(raw, column), r"^(-?\d+)\.0+$", "$1")
        return F.coalesce(whole, F.lit(""))
    digest = F.coalesce(F.sha2(content, 256), F.sha2(url, 256))
    return F.coalesce(F.substring(digest, 1, 16), F.lit(""))


def _is_active(column: str) -> Column:
    """Booleans, 0/1 and the usual words as a boolean; null is not active."""
    if not column:
        return F.lit(True)
    return F.coalesce(word(_column(column, "string")).isin(*TRUE_WORDS), F.lit(False))


def _unknown_word(column: str) -> Column:
    """The user's word for active, if it is neither a word for yes nor one for no."""
    if not column:
        return F.lit(None).cast("string")
    raw = _column(column, "string")
    return F.when(~word(raw).isin(*TRUE_WORDS, *FALSE_WORDS), raw)


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
    require_types(frame, wanted, f"reading the {name} table {table.label}")


def _require_own(frame: DataFrame, own: Sequence[str], table: Table) -> None:
    missing = [name for name in own if name not in frame.columns]
    if missing:
        raise TableError(
            doing=f"reading the listings table {table.label}",
            expected=f"the columns {shown(own)}, which sample.stratify_by and sample.weigh_by name",
            found=f"the columns {shown(frame.columns, 20)}{nearest(missing[0], frame.columns)}",
            todo="correct the name of the column in the configuration",
        )


def check_key(
    frame: DataFrame, key: str, table: Table, name: str, flag: Column | None = None
) -> tuple[int, int]:
    """Counts the rows of the table `name`, and those with a flag; stops at a bad key.

    A bad key is null, stands twice, or is not UTF-8.

    Cost: one shuffle of 8 bytes a row; if two keys have the same hash, one of the keys themselves.
    `repartition` comes first, since a partial count merges nothing.
    """
    flagged = (F.lit(False) if flag is None else flag).alias("flagged")
    is_bad = F.col(key).isNull() | F.coalesce(_has_no_text(frame), F.lit(False))
    hashed = frame.select(F.xxhash64(key).alias("hash"), is_bad.alias("is_bad"), flagged)
    by_hash = hashed.repartition("hash").groupBy("hash")
    per_hash = by_hash.agg(
        F.count("*").alias("rows"),
        F.count_if("is_bad").alias("bad"),
        F.count_if("flagged").alias("flagged"),
    )
    suspect = (F.col("rows") > 1) | (F.col("bad") > 0)
    totals = per_hash.agg(
        F.sum("rows").alias("rows"),
        F.sum("flagged").alias("flagged"),
        F.count_if(suspect).alias("suspect"),
    )
    row = totals.collect()[0]
    if row["rows"] and not row["suspect"]:
        return int(row["rows"]), int(row["flagged"])
    _require_text(frame, table, name)
    return _count_keys(frame, key, table, name), int(row["flagged"] or 0)


def _has_no_text(frame: DataFrame) -> Column:
    """Returns whether one of the ids in a row is not UTF-8; null if one of them is null."""
    ids = [name for name in frame.columns if name in ("image_id", "listing_id")]
    return F.greatest(*(is_no_text(F.col(name)) for name in [*ids, ids[0]]))


def _require_text(frame: DataFrame, table: Table, name: str) -> None:
    texts = [column for column, kind in frame.dtypes if kind == "string"]
    readable = [_readable(F.col(column)).alias(column) for column in texts]
    rows = frame.where(_has_no_text(frame)).select(*readable).limit(1).collect()
    for row in rows:
        values = [f"{column} {value!r}" for column, value in row.asDict().items() if value]
        raise TableError(
            doing=f"checking the {name} table {table.label}",
            expected="ids that are text in UTF-8",
            found=f"bytes that are none, shown as U+FFFD, in the row {', '.join(values)}",
            todo="write the ids again in UTF-8",
        )


def _count_keys(frame: DataFrame, key: str, table: Table, name: str) -> int:
    """Counts the rows by the keys themselves, in one shuffle; the error names a duplicate."""
    per_key = frame.groupBy(key).agg(F.count("*").alias("rows"))
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

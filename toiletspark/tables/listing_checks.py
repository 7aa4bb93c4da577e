"""Checks of the listings table: its key, its words for active, and the images that name them."""

import logging
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.errors import TableError
from toiletspark.tables import joins, user_tables
from toiletspark.tables.user_tables import FALSE_WORDS, TRUE_WORDS, UNKNOWN_WORD
from toiletspark.tables.words import require_few_unknown

_log = logging.getLogger("toiletspark")


@dataclass(frozen=True)
class Named:
    """Images that name a listing, and those of them whose listing the table does not have."""

    images: int
    unknown: int

    @property
    def summary(self) -> dict[str, Any]:
        """The figures for a summary; none where no image names a listing of a table."""
        if not self.images:
            return {}
        return {"of_listings": {"images": self.images, "without_listing": self.unknown}}


@dataclass(frozen=True)
class ListingCheck:
    """The number of listings, and how often each unknown word for active stands there."""

    rows: int
    unknown_words: dict[str, int]

    @property
    def summary(self) -> dict[str, Any]:
        """The unknown words for a summary, if there are any."""
        return {"unknown_active": self.unknown_words} if self.unknown_words else {}


def check(spark: SparkSession, config: Config) -> tuple[int, ListingCheck]:
    """Checks the images' key and the listings; returns the number of images, and the listings'."""
    images = user_tables.check_images(user_tables.read_images(spark, config), config)
    return images, check_listings(spark, config)


def check_listings(spark: SparkSession, config: Config) -> ListingCheck:
    """Checks the listings' key and their words for active; no rows without a table.

    Unknown words count as no. Raises TableError at a null or duplicate id, or if more than 1 in 100
    listings have an unknown word.
    """
    section = config.listings
    if not section.is_set:
        return ListingCheck(0, {})
    listings = user_tables.read_listings(spark, config)
    is_unknown = F.col(UNKNOWN_WORD).isNotNull()
    rows, unknown = user_tables.check_key(listings, "listing_id", section, "listings", is_unknown)
    if not unknown:
        return ListingCheck(rows, {})
    counted = listings.where(is_unknown).groupBy(UNKNOWN_WORD).count().collect()
    words = {row[UNKNOWN_WORD]: row["count"] for row in counted}
    require_few_unknown(
        words,
        rows,
        (*TRUE_WORDS, *FALSE_WORDS),
        TableError,
        doing=f"reading the listings table {section.label}",
        expected=f"yes or no in the column '{section.columns.active}' (listings.columns.active): "
        f"{', '.join(filter(None, TRUE_WORDS))}, or {', '.join(filter(None, FALSE_WORDS))}",
        todo="write yes or no into that column (with listings.query, as in SELECT *, status = "
        "'ACTIVE' AS active FROM ...), or set listings.columns.active to \"\": all are active",
    )
    return ListingCheck(rows, words)


def require_listings(
    spark: SparkSession, config: Config, named: Named, unknown_ids: DataFrame
) -> None:
    """Stops if the table has none of the listings that images name; a note if it lacks some.

    `unknown_ids` (one column) are the ids that it does not have.
    """
    if not named.unknown:
        return
    share = f"{named.unknown} of {named.images} images name a listing that the table does not have"
    if named.unknown < named.images:
        _log.info("%s", share)
        return
    listings = user_tables.read_listings(spark, config).select("listing_id")
    pair = joins.neighbours(unknown_ids, listings)
    raise TableError(
        doing=f"joining the images with the listings table {config.listings.label}",
        expected="images that name listings of the table",
        found=f"{share}, for instance {pair or 'no listing_id at all'}",
        todo="write the ids alike in both tables (with images.query or listings.query, as in "
        "SELECT trim(listing_id) AS listing_id, ... FROM ...), or map images.columns.listing_id "
        "and listings.columns.listing_id to the columns that hold the same ids",
    )

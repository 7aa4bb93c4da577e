"""The feed: a table of the user's without the images that a version of the exclusion list removes.

Three modes, each a plain join (docs/feed.md has them as SQL):

    open     left anti join on images excluded by score or by a person
    mixed    left anti join on the whole exclusion list, with images that cannot be read
    closed   left semi join on images that were decided to be kept
"""

from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.errors import OutputError, TableError, nearest, shown
from toiletspark.tables import joins
from toiletspark.tables.formats.column_types import require_types
from toiletspark.tables.user_tables import text

# The standing of a row of the feed in a version; each row has exactly one.
STANDINGS = {
    "keep": "kept",
    "excluded_model": "excluded by score",
    "excluded_override": "excluded by a person",
    "excluded_unscored": "excluded without a score",
    "unscored": "without a score",  # and without a decision
    "unknown_id": "with an id that the version does not know",  # uploaded since, or another table
    "null_id": "without an id",
}
_OPEN = ("excluded_model", "excluded_override")
REMOVED = {
    "open": _OPEN,
    "mixed": (*_OPEN, "excluded_unscored"),
    "closed": tuple(standing for standing in STANDINGS if standing != "keep"),
}
_UNDECIDED = ("unscored", "unknown_id", "null_id")


@dataclass(frozen=True)
class Counts:
    """Rows of a feed."""

    rows: dict[str, int]  # by standing; they add up to the feed
    repeated_ids: int  # image ids that occur more than once
    repeated_rows: int  # rows with such an id

    @property
    def feed_in(self) -> int:
        """All rows."""
        return sum(self.rows.values())

    def removed(self, mode: str) -> dict[str, int]:
        """The rows that a mode removes, by standing."""
        return {standing: self.rows[standing] for standing in REMOVED[mode]}


def build_feed(
    feed: DataFrame, exclusion_list: DataFrame, decisions: DataFrame, image_id: str, mode: str
) -> DataFrame:
    """Removes the rows of a feed table that a mode removes, and no others.

    Rows without an id, or with an unknown id, stay in open and mixed and are removed in closed.
    (`NOT IN` would empty the feed at the first null.)

    Args:
        feed: any table, any number of rows per image. Raises TableError if it lacks `image_id`.
        exclusion_list: the columns image_id and reason of `schemas.EXCLUSION_LIST`.
        decisions: the columns image_id and decision of `schemas.DECISIONS`, of the same version.
        image_id: the feed's column with the image's id; compared as `user_tables.text` writes it.

    Returns the feed's columns and remaining rows. Cost: one join by id, broadcast if the list is
    small.
    """
    _require_column(feed, image_id)
    ids = {
        "open": exclusion_list.where(~F.col("reason").eqNullSafe("unscored")),
        "mixed": exclusion_list,
        "closed": decisions.where(F.col("decision") == "keep"),
    }[mode].select("image_id")
    is_same = text(feed, image_id) == ids["image_id"]
    return feed.join(ids, on=is_same, how="left_semi" if mode == "closed" else "left_anti")


def standings(feed: DataFrame, decisions: DataFrame, image_id: str) -> DataFrame:
    """Each image of a feed, with its decision in a version; see `build_feed` for the arguments.

    Returns image_id (null for all rows without one), rows (of the feed), listing_id (null for
    unknown images), decision, standing (see `STANDINGS`). One row per image_id. Cost: one shuffle
    of the ids and one of the decisions.
    """
    _require_column(feed, image_id)
    ids = feed.select(text(feed, image_id).alias("image_id")).groupBy("image_id")
    images = ids.agg(F.count("*").alias("rows"))
    decided = decisions.select("image_id", "listing_id", "decision", "reason")
    images = images.join(decided, on="image_id", how="left")
    return images.withColumn("standing", _standing()).drop("reason")


def count(images: DataFrame) -> Counts:
    """Counts the rows behind `standings`, in one pass."""
    is_repeated = F.col("image_id").isNotNull() & (F.col("rows") > 1)
    sums = images.groupBy("standing").agg(
        F.sum("rows").alias("rows"),
        F.count_if(is_repeated).alias("repeated_ids"),
        F.coalesce(F.sum(F.when(is_repeated, F.col("rows"))), F.lit(0)).alias("repeated_rows"),
    )
    found = sums.collect()
    rows = dict.fromkeys(STANDINGS, 0) | {row["standing"]: int(row["rows"]) for row in found}
    repeated_ids = sum(int(row["repeated_ids"]) for row in found)
    return Counts(rows, repeated_ids, sum(int(row["repeated_rows"]) for row in found))


def require_known(
    images: DataFrame,
    counts: Counts,
    decisions: DataFrame,
    image_id: str,
    *,
    table: str,
    version: int,
) -> None:
    """Stops with a TableError if the version knows none of a feed's ids: nothing would be excluded.

    `images` are `standings` by the `decisions`; the table's path and the version's number are for
    the message.
    """
    with_id = counts.feed_in - counts.rows["null_id"]
    if not with_id or counts.rows["unknown_id"] < with_id:
        return
    pair = joins.neighbours(images.select("image_id"), decisions.select("image_id"))
    raise TableError(
        doing=f"building the feed from {table}",
        expected=f"ids in the column '{image_id}' (feed.image_id) that version {version} knows",
        found=f"{with_id} rows with an id, all of them unknown, for instance {pair}",
        todo="set feed.image_id to the column that holds the ids of the images table, written as "
        "there; if all images are new, run `toiletspark rescore` first",
    )


def summary(counts: Counts, mode: str, feed_out: int) -> dict[str, Any]:
    """The summary of a feed that was written; raises OutputError if its rows do not add up.

    The rows that the decisions remove, and those that the join has left (`feed_out`, counted in the
    files), must be all rows that went in.
    """
    removed = counts.removed(mode)
    total = sum(removed.values())
    if counts.feed_in != feed_out + total:
        raise OutputError(
            doing=f"building the feed, mode {mode}",
            expected=f"{counts.feed_in} rows of the feed table less {total} removed ones",
            found=f"{feed_out} rows",
            todo="build the feed again while nobody writes to its table; if this stays, run "
            "`toiletspark publish`",
        )
    return {
        "feed_in": counts.feed_in,
        "feed_out": feed_out,
        "feed_removed": total,
        "feed_mode": mode,
        "feed_rows": counts.rows,
        "feed_removed_rows": removed,
        "feed_repeated": {"ids": counts.repeated_ids, "rows": counts.repeated_rows},
    }


def sentence(summary: dict[str, Any]) -> str:
    """The summary in words."""
    removed = _words(summary["feed_removed_rows"])
    kept = set(_UNDECIDED) - set(REMOVED[summary["feed_mode"]])
    undecided = _words({name: summary["feed_rows"][name] for name in _UNDECIDED if name in kept})
    words = f"{summary['feed_in']} rows in, {summary['feed_out']} out, "
    words += f"{summary['feed_removed']} removed" + (f" ({removed})" if removed else "")
    return words + (f"; let through though nobody has decided: {undecided}" if undecided else "")


def _words(rows: dict[str, int]) -> str:
    return ", ".join(f"{count} {STANDINGS[standing]}" for standing, count in rows.items() if count)


def _standing() -> Column:
    reason = F.col("reason")
    reason = F.when(reason.isin("override", "unscored"), reason).otherwise("model")
    return (
        F.when(F.col("image_id").isNull(), "null_id")
        .when(F.col("decision").isNull(), "unknown_id")
        .when(F.col("decision") == "exclude", F.concat(F.lit("excluded_"), reason))
        .otherwise(F.col("decision"))
    )


def _require_column(feed: DataFrame, image_id: str) -> None:
    if image_id not in feed.columns:
        raise TableError(
            doing="building the feed",
            expected=f"the column '{image_id}' (feed.image_id) in the feed table",
            found=f"the columns {shown(feed.columns, 20)}{nearest(image_id, feed.columns)}",
            todo="set feed.image_id to the column that names the image",
        )
    require_types(feed, {"feed.image_id": image_id}, "building the feed")

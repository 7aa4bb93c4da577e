"""The feed: a table of the user's without the images that a version of the exclusion list keeps out of it.

Three modes, each a plain join (docs/feed.md has them as SQL):

    open     left anti join on what was excluded on a score or by a person
    mixed    left anti join on the whole exclusion list, which also names what cannot be read
    closed   left semi join on what was decided to be kept

So that the counts are more than the join's own word for itself, they are worked out from the decisions: what the
decisions say is removed and what the join has left must add up to what went in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.errors import OutputError, TableError, nearest, shown
from toiletspark.tables.user_tables import text

# How a row of the feed stands with a version; each row has exactly one of these.
#   keep                decided to be kept
#   excluded_model, excluded_override, excluded_unscored   on the exclusion list, for this reason
#   unscored            has no score, and nobody has decided
#   unknown_id          the version's catalog does not know the image: uploaded since, or of another table
#   null_id             the row names no image
STANDINGS = (
    *("keep", "excluded_model", "excluded_override", "excluded_unscored"),
    *("unscored", "unknown_id", "null_id"),
)
_OPEN = ("excluded_model", "excluded_override")
REMOVED = {
    "open": _OPEN,
    "mixed": (*_OPEN, "excluded_unscored"),
    "closed": tuple(standing for standing in STANDINGS if standing != "keep"),
}
_WORDS = {
    "excluded_model": "excluded by score",
    "excluded_override": "excluded by a person",
    "excluded_unscored": "excluded without a score",
    "unscored": "without a score",
    "unknown_id": "with an id that the version does not know",
    "null_id": "without an id",
}
_HOLES = ("unscored", "unknown_id", "null_id")
_SHOWN = 5  # unknown ids that are named


@dataclass(frozen=True)
class Counts:
    """Rows of a feed.

    Attributes:
        rows: by standing, all of them; they add up to the feed.
        repeated_ids: image ids that occur more than once.
        repeated_rows: rows that have such an id.
    """

    rows: dict[str, int]
    repeated_ids: int
    repeated_rows: int

    @property
    def feed_in(self) -> int:
        """All rows."""
        return sum(self.rows.values())

    def removed(self, mode: str) -> dict[str, int]:
        """The rows that a mode removes, by standing."""
        return {standing: self.rows[standing] for standing in REMOVED[mode]}


def build_feed(
    feed: DataFrame, listed: DataFrame, decisions: DataFrame, image_id: str, mode: str
) -> DataFrame:
    """Takes out of a feed table what a mode removes, and nothing else.

    Rows without an id, and rows whose id the version does not know, stay in open and mixed and are gone in closed,
    where nothing stays that nobody has decided on. (`NOT IN` would empty the feed at the first null.)

    Args:
        feed: any table, any number of rows per image.
        listed: the columns image_id and reason of `tables.EXCLUSION_LIST`.
        decisions: the columns image_id and decision of `tables.DECISIONS`, of the same version.
        image_id: the feed's column that names the image; compared as `catalog.text` writes it.
        mode: open, mixed or closed.

    Returns:
        The feed's columns and remaining rows. Cost: one join by id, broadcast where Spark finds the list small.

    Raises:
        TableError: the feed has no such column.
    """
    _require_column(feed, image_id)
    by_whom = {
        "open": listed.where(~F.col("reason").eqNullSafe("unscored")),
        "mixed": listed,
        "closed": decisions.where(F.col("decision") == "keep"),
    }[mode]
    ids = by_whom.select(F.col("image_id").alias("__decided_id"))
    same = text(feed, image_id) == F.col("__decided_id")
    return feed.join(ids, on=same, how="left_semi" if mode == "closed" else "left_anti")


def standings(feed: DataFrame, decisions: DataFrame, image_id: str) -> DataFrame:
    """Each image that a feed names, with what a version has decided of it.

    Args:
        feed: see `build_feed`.
        decisions: `tables.DECISIONS`.
        image_id: see `build_feed`.

    Returns:
        image_id (null for all rows without one), rows (of the feed), listing_id (null where the version does not know
        the image), decision, standing. One row per image_id. Cost: one shuffle of the ids and one of the decisions.

    Raises:
        TableError: the feed has no such column.
    """
    _require_column(feed, image_id)
    named = (
        feed.select(text(feed, image_id).alias("image_id"))
        .groupBy("image_id")
        .agg(F.count("*").alias("rows"))
    )
    decided = decisions.select("image_id", "listing_id", "decision", "reason")
    known = named.join(decided, on="image_id", how="left")
    return known.withColumn("standing", _standing()).drop("reason")


def count(images: DataFrame) -> Counts:
    """Counts the rows behind `standings`, in one pass."""
    repeated = F.col("image_id").isNotNull() & (F.col("rows") > 1)
    found = images.groupBy("standing").agg(
        F.sum("rows").alias("rows"),
        F.count_if(repeated).alias("repeated_ids"),
        F.coalesce(F.sum(F.when(repeated, F.col("rows"))), F.lit(0)).alias("repeated_rows"),
    )
    by_standing = {row["standing"]: row for row in found.collect()}
    return Counts(
        {name: int(by_standing[name]["rows"]) if name in by_standing else 0 for name in STANDINGS},
        sum(int(row["repeated_ids"]) for row in by_standing.values()),
        sum(int(row["repeated_rows"]) for row in by_standing.values()),
    )


def require_known(
    images: DataFrame, counts: Counts, image_id: str, *, table: str, version: int
) -> None:
    """Stops where the version knows none of a feed's ids: nothing would be excluded, as if all were sound.

    Args:
        images: see `standings`.
        counts: of them.
        image_id: see `build_feed`.
        table: the feed's path, for the message.
        version: its number, for the message.

    Raises:
        TableError: there are ids, and all of them are unknown.
    """
    named = counts.feed_in - counts.rows["null_id"]
    if not named or counts.rows["unknown_id"] < named:
        return
    ids = (
        images.where("image_id is not null")
        .select("image_id")
        .orderBy("image_id")
        .limit(_SHOWN)
        .collect()
    )
    raise TableError(
        doing=f"building the feed from {table}",
        expected=f"ids in the column '{image_id}' (feed.image_id) that version {version} knows",
        found=f"{named} rows with an id, all of them unknown: {shown(row['image_id'] for row in ids)}",
        todo="set feed.image_id to the column that holds the ids of the images table, written as there; if all images "
        "are new, run `toiletspark rescore` first",
    )


def told(counts: Counts, mode: str, feed_out: int) -> dict[str, Any]:
    """What the summary says of a feed that was written.

    Args:
        counts: of the feed that went in.
        mode: open, mixed or closed.
        feed_out: rows that the join has left, counted in the files.

    Raises:
        OutputError: what went in is not what came out and what was removed.
    """
    removed = counts.removed(mode)
    if counts.feed_in != feed_out + sum(removed.values()):
        raise OutputError(
            doing=f"building the feed, mode {mode}",
            expected=f"{counts.feed_in} rows of the feed table less {sum(removed.values())} removed ones",
            found=f"{feed_out} rows",
            todo="build the feed again while nobody writes to its table; if this stays, run `toiletspark publish`",
        )
    return {
        "feed_in": counts.feed_in,
        "feed_out": feed_out,
        "feed_removed": sum(removed.values()),
        "feed_mode": mode,
        "feed_rows": counts.rows,
        "feed_removed_rows": removed,
        "feed_repeated": {"ids": counts.repeated_ids, "rows": counts.repeated_rows},
    }


def sentence(told: dict[str, Any]) -> str:
    """What `told` says, in words."""
    because = ", ".join(
        f"{rows} {_WORDS[standing]}" for standing, rows in told["feed_removed_rows"].items() if rows
    )
    passed = {
        name: told["feed_rows"][name] for name in _HOLES if name not in REMOVED[told["feed_mode"]]
    }
    unseen = ", ".join(f"{rows} {_WORDS[standing]}" for standing, rows in passed.items() if rows)
    return (
        f"{told['feed_in']} rows in, {told['feed_out']} out, {told['feed_removed']} removed"
        + (f" ({because})" if because else "")
        + (f"; let through though nobody has decided: {unseen}" if unseen else "")
    )


def _standing() -> Column:
    reason = F.when(F.col("reason").isin("override", "unscored"), F.col("reason")).otherwise(
        "model"
    )
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

"""The feed without what the exclusion list names."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.errors import TableError, nearest, shown


def build_feed(feed: DataFrame, excluded: DataFrame, image_id: str) -> DataFrame:
    """Takes the excluded images out of a feed table, and nothing else.

    A left anti join: rows without an id, or with an id that the list does not know, stay. (`NOT IN` would
    empty the feed at the first null.)

    Args:
        feed: any table, one or more rows per image.
        excluded: column image_id, as `exclusions.read_current` gives it.
        image_id: the feed's column that names the image.

    Returns:
        The feed's columns and remaining rows.

    Raises:
        TableError: the feed has no such column.
    """
    if image_id not in feed.columns:
        raise TableError(
            doing="building the feed",
            expected=f"the column '{image_id}' (feed.image_id) in the feed table",
            found=f"the columns {shown(feed.columns, 20)}{nearest(image_id, feed.columns)}",
            todo="set feed.image_id to the column that names the image",
        )
    listed = excluded.select(F.col("image_id").alias("__excluded_id")).distinct()
    same = F.col(f"`{image_id}`").cast("string") == F.col("__excluded_id")
    return feed.join(listed, on=same, how="left_anti")

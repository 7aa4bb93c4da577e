"""What is to be tried, cut into commits: the images that wait, each with its place and its commit."""

from __future__ import annotations

import math

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import frames, tables
from toiletspark.config import Config
from toiletspark.runs import Store

# One row per image that waits. Rows of one `place` are worked on by one task: equal URLs are then fetched once, and
# the members of a shard are read from a shard that is open.
PLAN = tables.Table(
    "plan",
    ("image_id",),
    {
        "image_id": "string",
        "image_version": "string",
        "attempts": "int",
        "image_url": "string",
        "content": "binary",
        "inline_bytes": "bigint",
        "place": "string",
        "commit": "int",
    },
)
_FILES_PER_COMMIT = 8


def plan(waiting: DataFrame, images: DataFrame, count: int, store: Store, config: Config, run_id: str) -> DataFrame:
    """Sets the plan aside, so that each commit reads its own share of it alone.

    Inline bytes are copied into it, once, since the user's table cannot be read by commit.

    Args:
        waiting: image_id, image_version, image_url, attempts (null: none yet).
        images: image_id and content, from the user's table; read only where content is inline.
        count: rows of `waiting`.
        store: where.
        config: sizes.
        run_id: of this run.

    Returns:
        The columns of `PLAN`, partitioned by `commit`, which counts from 0.
    """
    commits = math.ceil(count / config.embed.images_per_commit)
    rows = _with_content(waiting, images, config.fetch.max_image_bytes) if config.images.columns.content else waiting
    rows = _without_content(rows) if "content" not in rows.columns else rows
    rows = rows.withColumn("attempts", F.coalesce("attempts", F.lit(0))).withColumn("place", _place())
    rows = rows.withColumn("commit", _slice(commits))
    laid_out = rows.repartition("commit", F.pmod(F.hash("place"), F.lit(_FILES_PER_COMMIT)))
    return frames.set_aside(laid_out.select(*PLAN.columns), store, run_id, PLAN.name, partition_by="commit")


def _without_content(rows: DataFrame) -> DataFrame:
    return rows.withColumn("content", F.lit(None).cast("binary")).withColumn("inline_bytes", F.lit(0))


def _with_content(waiting: DataFrame, images: DataFrame, max_image_bytes: int) -> DataFrame:
    """Inline bytes, but for those that are too many; `inline_bytes` tells how many there were."""
    size = F.coalesce(F.length("content"), F.lit(0))
    rows = waiting.join(images.select("image_id", "content"), on="image_id", how="left")
    content = F.when(size <= max_image_bytes, F.col("content"))
    return rows.withColumn("inline_bytes", size).withColumn("content", content)


def _place() -> Column:
    """The shard that holds the image (what stands behind the first `::` of its URL), else its URL, else its id."""
    shard = F.expr("substring(image_url, instr(image_url, '::') + 2)")
    outside = F.when(F.instr("image_url", "::") > 0, shard).otherwise(F.col("image_url"))
    return F.when(F.col("inline_bytes") > 0, F.col("image_id")).otherwise(F.coalesce(outside, F.col("image_id")))


def _slice(commits: int) -> Column:
    """Which commit a place belongs to: by hash, so that each has its share of every host and listing."""
    return F.pmod(F.xxhash64("place"), F.lit(commits)).cast("int")

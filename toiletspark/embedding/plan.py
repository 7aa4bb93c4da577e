"""What is to be tried, cut into commits: the images that wait, each with its place and its commit."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.workspace import Workspace

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
_BUCKETS_PER_COMMIT = 64  # more would make commits more even, fewer the list of buckets shorter


@dataclass(frozen=True)
class Plan:
    """What is to be tried.

    Attributes:
        rows: the columns of `PLAN`, partitioned by `commit`.
        rows_of: how many rows each commit has; commits count from 0.
    """

    rows: DataFrame
    rows_of: dict[int, int]


def plan(work: Workspace, waiting: DataFrame, images: DataFrame, count: int) -> Plan:
    """Sets the plan aside, so that each commit reads its own share of it alone.

    Inline bytes are copied into it, once, since the user's table cannot be read by commit.

    Args:
        waiting: image_id, image_version, image_url, attempts (null: none yet).
        images: image_id and content, from the user's table; read only where content is inline.
        count: rows of `waiting`.
    """
    rows = waiting.withColumn("attempts", F.coalesce("attempts", F.lit(0))).withColumn(
        "place", _place()
    )
    rows, rows_of = _cut(rows, count, work.config.embed.images_per_commit)
    inline = bool(work.config.images.columns.content)
    rows = (
        _with_content(rows, images, work.config.fetch.max_image_bytes)
        if inline
        else _without_content(rows)
    )
    laid_out = rows.repartition("commit", F.pmod(F.hash("place"), F.lit(_FILES_PER_COMMIT)))
    kept = frames.set_aside(
        laid_out.select(*PLAN.columns), work.store, work.run_id, PLAN.name, partition_by="commit"
    )
    return Plan(kept, rows_of)


def _without_content(rows: DataFrame) -> DataFrame:
    return rows.withColumn("content", F.lit(None).cast("binary")).withColumn(
        "inline_bytes", F.lit(0)
    )


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
    return F.coalesce(outside, F.col("image_id"))


def _cut(rows: DataFrame, count: int, images_per_commit: int) -> tuple[DataFrame, dict[int, int]]:
    """Adds `commit`, and counts. Places are dealt by hash, so that each commit has its share of every host."""
    buckets = math.ceil(count / images_per_commit) * _BUCKETS_PER_COMMIT
    if buckets == _BUCKETS_PER_COMMIT:
        return rows.withColumn("commit", F.lit(0)), {0: count}
    bucket = F.pmod(F.xxhash64("place"), F.lit(buckets)).alias("bucket")
    sizes = {row["bucket"]: row["count"] for row in rows.groupBy(bucket).count().collect()}
    packs = packed(sizes, images_per_commit)
    rows_of: Counter[int] = Counter()
    for one, commit in packs:
        rows_of[commit] += sizes[one]
    commit_of = frames.of_rows(rows.sparkSession, packs, {"bucket": "bigint", "commit": "int"})
    return rows.withColumn("bucket", bucket).join(
        F.broadcast(commit_of), on="bucket", how="inner"
    ), dict(rows_of)


def packed(sizes: dict[int, int], most: int) -> list[tuple[int, int]]:
    """Packs buckets into commits in order; none has more than `most` rows, but for a bucket that has them alone.

    >>> packed({0: 2, 1: 2, 2: 1, 5: 9, 6: 1}, most=4)
    [(0, 0), (1, 0), (2, 1), (5, 2), (6, 3)]
    """
    packs, commit, held = [], 0, 0
    for bucket, size in sorted(sizes.items()):
        if held and held + size > most:
            commit, held = commit + 1, 0
        packs.append((bucket, commit))
        held += size
    return packs

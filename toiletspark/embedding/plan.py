"""The plan of a run: the images that need an attempt, cut into commits."""

import math
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.tables import spark_io
from toiletspark.tables.schemas import Table
from toiletspark.tables.workspace import Workspace

# One row per image that needs an attempt. One task works on all rows of a `location`: equal URLs
# are then fetched once, and a shard is opened once for all its members.
PLAN = Table(
    "plan",
    ("image_id",),
    {
        "image_id": "string",
        "image_version": "string",
        "attempts": "int",
        "image_url": "string",
        "content": "binary",
        "inline_bytes": "bigint",
        "location": "string",
        "commit": "int",
    },
)
_FILES_PER_COMMIT = 8
_BUCKETS_PER_COMMIT = 64  # more make commits more even, fewer keep the list of buckets short


@dataclass(frozen=True)
class Plan:
    """The images that a run tries."""

    rows: DataFrame  # the columns of `PLAN`; of several commits each can be read alone
    rows_by_commit: dict[int, int]  # commits count from 0
    is_inline: bool  # the rows hold the bytes of the images


def make_plan(
    work: Workspace, waiting: DataFrame, images: DataFrame, count: int, *, is_inline: bool
) -> Plan:
    """Plans the attempts at `count` waiting images.

    Several commits are set aside, inline bytes with them, so that each reads its own rows alone; a
    single one is read where its rows are.

    Args:
        waiting: image_id, image_version, image_url, attempts (null: none yet).
        images: has the inline bytes, `content`, by image_id.
    """
    attempts = F.coalesce("attempts", F.lit(0))
    rows = waiting.withColumns({"attempts": attempts, "location": _location()})
    rows, rows_by_commit = _assign_commits(rows, count, work.config.embed.images_per_commit)
    if is_inline:
        rows = _with_content(rows, images, work.config.fetch.max_image_bytes)
    else:
        no_content = F.lit(None).cast("binary")
        rows = rows.withColumns({"content": no_content, "inline_bytes": F.lit(0)})
    rows = rows.select(*PLAN.columns)
    if len(rows_by_commit) > 1:
        file_number = F.pmod(F.hash("location"), F.lit(_FILES_PER_COMMIT))
        rows = rows.repartition("commit", file_number)
        rows = spark_io.set_aside(rows, work.store, work.run_id, PLAN.name, partition_by="commit")
    return Plan(rows, rows_by_commit, is_inline)


def _with_content(waiting: DataFrame, images: DataFrame, max_image_bytes: int) -> DataFrame:
    """Adds the inline bytes unless they exceed the limit, and `inline_bytes`, their number."""
    rows = waiting.join(images.select("image_id", "content"), "image_id", "left")
    size = F.coalesce(F.length("content"), F.lit(0))
    content = F.when(size <= max_image_bytes, F.col("content"))
    return rows.withColumns({"inline_bytes": size, "content": content})


def _location() -> Column:
    """The shard of the image (after the first `::` of its URL), else its URL, else its id."""
    shard = F.expr("substring(image_url, instr(image_url, '::') + 2)")
    outside = F.when(F.instr("image_url", "::") > 0, shard).otherwise(F.col("image_url"))
    return F.coalesce(outside, F.col("image_id"))


def _assign_commits(
    rows: DataFrame, count: int, images_per_commit: int
) -> tuple[DataFrame, dict[int, int]]:
    """Adds `commit`, and counts; by hash of the location, which spreads hosts over commits."""
    buckets = math.ceil(count / images_per_commit) * _BUCKETS_PER_COMMIT
    if buckets == _BUCKETS_PER_COMMIT:
        return rows.withColumn("commit", F.lit(0)), {0: count}
    bucket = F.pmod(F.xxhash64("location"), F.lit(buckets)).alias("bucket")
    sizes = {row["bucket"]: row["count"] for row in rows.groupBy(bucket).count().collect()}
    commits = pack_buckets(sizes, images_per_commit)
    rows_by_commit: dict[int, int] = {}
    for number, commit in commits.items():
        rows_by_commit[commit] = rows_by_commit.get(commit, 0) + sizes[number]
    columns = {"bucket": "bigint", "commit": "int"}
    commit_of_bucket = spark_io.of_rows(rows.sparkSession, list(commits.items()), columns)
    rows = rows.withColumn("bucket", bucket).join(F.broadcast(commit_of_bucket), "bucket")
    return rows, rows_by_commit


def pack_buckets(sizes: dict[int, int], most: int) -> dict[int, int]:
    """Returns the commit of each bucket; only a single bucket may exceed `most` rows.

    >>> pack_buckets({0: 2, 1: 2, 2: 1, 5: 9, 6: 1}, most=4)
    {0: 0, 1: 0, 2: 1, 5: 2, 6: 3}
    """
    commits: dict[int, int] = {}
    commit, rows = 0, 0
    for bucket, size in sorted(sizes.items()):
        if rows and rows + size > most:
            commit, rows = commit + 1, 0
        commits[bucket] = commit
        rows += size
    return commits

"""The exclusion list as frames: what leaves the feed, and what has no score. Which version counts: see `versions`."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import frames, tables
from toiletspark.versions import current, publish

__all__ = ["current", "decide", "publish", "read_current", "unscored"]


def decide(scores: DataFrame, operating_threshold: float, run_id: str) -> DataFrame:
    """The images that leave the feed: exclusion_score >= operating_threshold, both as float32.

    Returns:
        The columns of `tables.EXCLUSION_LIST`, one row per excluded image.
    """
    excluded = F.col("exclusion_score") >= F.lit(operating_threshold).cast("float")
    return scores.where(excluded).withColumn("reason", F.lit("model")).withColumn("run_id", F.lit(run_id))


def unscored(catalog: DataFrame) -> DataFrame:
    """The images of the catalog that have no score, and why; the columns of `tables.UNSCORED`."""
    return catalog.where(F.col("status") != "ok").select(*tables.UNSCORED.columns)


def read_current(spark: SparkSession, root: str) -> DataFrame:
    """The exclusion list that counts, complete, or an error; an honestly empty list is an empty frame.

    Args:
        spark: the session.
        root: the output root.

    Returns:
        The columns of `tables.EXCLUSION_LIST`.

    Raises:
        OutputError: see `versions.current`.
    """
    return frames.read_run(spark, current(root))

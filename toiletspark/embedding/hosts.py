"""Hosts that people must look at: they do not answer, or send the same bytes for many images."""

from __future__ import annotations

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812

_MIN_IMAGES = 3  # of a host that does not answer, or answers with something else
_MIN_SAME = 10  # images with one content; fewer are a photo that several listings share
_MIN_SHARE_SAME = 0.5  # of the images that were tried at the host
_MOST_HOSTS = 10


def alarms(attempts: DataFrame) -> list[str]:
    """Sentences about hosts, the one with most images first, from rows of `schemas.IMAGE_LEDGER`.

    Cost: one shuffle of the distinct pairs of host and content.
    """
    status = F.col("status")
    contents = attempts.where(F.col("host") != "").groupBy("host", "content_digest")
    counted = contents.agg(
        F.count("*").alias("images"),
        F.count_if(status == "timeout").alias("silent"),
        F.count_if(status == "bad_answer").alias("odd"),
    )
    same = F.max(F.when(F.col("content_digest").isNotNull(), F.col("images")))
    per_host = counted.groupBy("host").agg(
        F.sum("images").alias("images"),
        F.sum("silent").alias("silent"),
        F.sum("odd").alias("odd"),
        F.coalesce(same, F.lit(0)).alias("same"),
    )
    most_are_same = F.col("same") >= _MIN_SHARE_SAME * F.col("images")
    is_same = (F.col("same") >= _MIN_SAME) & most_are_same
    is_amiss = (F.col("silent") >= _MIN_IMAGES) | (F.col("odd") >= _MIN_IMAGES) | is_same
    named = per_host.withColumn("is_same", is_same).where(is_amiss)
    worst = named.orderBy(F.desc("images"), "host").limit(_MOST_HOSTS)
    return [_sentence(row) for row in worst.collect()]


def _sentence(row: Row) -> str:
    reasons = []
    if row["silent"] >= _MIN_IMAGES:
        reasons.append(f"{row['silent']} did not arrive (timeout)")
    if row["odd"] >= _MIN_IMAGES:
        odd = "were answered with something else, as with an HTML page (bad_answer)"
        reasons.append(f"{row['odd']} {odd}")
    if row["is_same"]:
        reasons.append(f"{row['same']} have the same content, as a placeholder has")
    return f"host {row['host']}: of {row['images']} images that were tried {', '.join(reasons)}"

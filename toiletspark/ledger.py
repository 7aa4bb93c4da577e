"""What is known of each image: the newest attempt wins. Reads no image and imports no torch."""

from __future__ import annotations

from typing import Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import tables


def newest_attempts(ledger: DataFrame) -> DataFrame:
    """The newest attempt per (image_id, image_version), in the ledger's columns. One shuffle."""
    others = [name for name in tables.IMAGE_LEDGER.columns if name not in tables.IMAGE_LEDGER.key]
    newest = F.max_by(F.struct(*others), "attempted_at").alias("newest")
    return ledger.groupBy(*tables.IMAGE_LEDGER.key).agg(newest).select(*tables.IMAGE_LEDGER.key, "newest.*")


def of_catalog(catalog: DataFrame, ledger: DataFrame) -> DataFrame:
    """The catalog's images with their newest attempt.

    Returns:
        image_id, image_version, listing_id, image_url, status, detail, content_digest, attempts; one row per
        image; the last four are null for an image that was never tried.
    """
    last = newest_attempts(ledger).select(*tables.IMAGE_LEDGER.key, "status", "detail", "content_digest", "attempts")
    images = catalog.select("image_id", "image_version", "listing_id", "image_url")
    return images.join(last, on=list(tables.IMAGE_LEDGER.key), how="left")


def digests_of(embeddings: DataFrame, backbone_id: str) -> DataFrame:
    """content_digest of what has an embedding of this backbone, each once."""
    return embeddings.where(F.col("backbone_id") == backbone_id).select("content_digest").distinct()


def to_embed(
    catalog: DataFrame,
    ledger: DataFrame,
    embeddings: DataFrame,
    backbone_id: str,
    retry: Literal["none", "transient", "failed"],
) -> DataFrame:
    """The images that have no embedding yet, or whose last attempt is to be repeated.

    Args:
        catalog: `tables.CATALOG`.
        ledger: `tables.IMAGE_LEDGER`, all runs.
        embeddings: `tables.EMBEDDINGS`, all runs and backbones.
        backbone_id: whose embeddings are wanted.
        retry: which failures to try again: none; transient ones (`tables.TRANSIENT`); all failed ones.

    Returns:
        image_id, image_version, image_url, attempts (those made so far). Cost: joins on ids, no image read.
    """
    kept = digests_of(embeddings, backbone_id).withColumn("kept", F.lit(True))
    known = of_catalog(catalog, ledger).join(kept, on="content_digest", how="left")
    again = {"none": (), "transient": tables.TRANSIENT, "failed": tables.STATUSES[1:]}[retry]
    never = F.col("status").isNull()
    not_kept = (F.col("status") == "ok") & F.col("kept").isNull()
    return known.where(never | not_kept | F.col("status").isin(*again)).select(
        "image_id", "image_version", "image_url", F.coalesce("attempts", F.lit(0)).alias("attempts")
    )

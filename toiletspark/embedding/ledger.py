"""What is known of each image: the newest attempt wins. Reads no image and imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import statuses
from toiletspark.config import Embed
from toiletspark.tables import schemas as tables

RETRIED: dict[str, Sequence[str]] = {
    "none": (),
    "transient": statuses.TRANSIENT,
    "failed": statuses.STATUSES[1:],
}


def newest_attempts(ledger: DataFrame) -> DataFrame:
    """The newest attempt per (image_id, image_version), in the ledger's columns. One shuffle."""
    others = [name for name in tables.IMAGE_LEDGER.columns if name not in tables.IMAGE_LEDGER.key]
    newest = F.max_by(F.struct(*others), "attempted_at").alias("newest")
    return (
        ledger.groupBy(*tables.IMAGE_LEDGER.key)
        .agg(newest)
        .select(*tables.IMAGE_LEDGER.key, "newest.*")
    )


def of_images(images: DataFrame, ledger: DataFrame, embedded: DataFrame) -> DataFrame:
    """The user's images with what is known of each.

    Args:
        images: `tables.IMAGES`.
        ledger: `tables.IMAGE_LEDGER`, all runs.
        embedded: where the contents lie that have an embedding, see `whereabouts.of_contents`.

    Returns:
        The columns of `tables.CATALOG`, attempts and attempted_at, all null for an image that was never tried. Cost:
        joins on ids, no image read.
    """
    facts = ["status", "detail", "content_digest", "attempts", "attempted_at"]
    last = newest_attempts(ledger).select(*tables.IMAGE_LEDGER.key, *facts)
    known = images.join(last, on=list(tables.IMAGE_LEDGER.key), how="left")
    known = known.join(embedded.hint("shuffle_hash"), on="content_digest", how="left")
    return known.select(*tables.CATALOG.columns, "attempts", "attempted_at")


def wanted(section: Embed) -> Column:
    """Whether an image of `of_images` is to be tried now, as [embed] says: boolean, never null."""
    if section.only_retry:
        return failed(section.only_retry)
    days = section.refetch_after_days
    return waits(section.retry, datetime.now(UTC) - timedelta(days=days) if days else None)


def waits(retry: str, refetch_before: datetime | None) -> Column:
    """Whether an image of `of_images` is to be tried.

    Args:
        retry: which failures to try again, a key of `RETRIED`.
        refetch_before: images last tried before this moment are fetched again; None: never for their age.

    Returns:
        A boolean, never null: the image was never tried, or it is sound but has no embedding, or its failure is
        to be tried again, or it is too old.
    """
    never = F.col("status").isNull()
    lost = (F.col("status") == "ok") & F.col("embedding_file").isNull()
    old = F.col("attempted_at") < F.lit(refetch_before) if refetch_before else F.lit(False)
    return never | lost | failed(retry) | old


def failed(retry: str) -> Column:
    """Whether the newest attempt failed in a way that `retry`, a key of `RETRIED`, asks to try again."""
    return F.coalesce(F.col("status").isin(*RETRIED[retry]), F.lit(False))


def brought_up(images: DataFrame, attempts: DataFrame, embedded: DataFrame) -> DataFrame:
    """The images of a run with what has become of them in it.

    Args:
        images: has the columns of `tables.CATALOG`, as the run found them.
        attempts: `tables.IMAGE_LEDGER`, of this run alone.
        embedded: where their contents lie, see `whereabouts.of_contents`.

    Returns:
        The columns of `tables.CATALOG`.
    """
    facts = ["status", "detail", "content_digest", "embedding_file", "embedding_row"]
    tried = attempts.join(embedded, on="content_digest", how="left")
    new = tried.select("image_id", *(F.col(name).alias(f"new_{name}") for name in facts))
    was_tried = F.col("new_status").isNotNull()
    now = {name: F.when(was_tried, F.col(f"new_{name}")).otherwise(F.col(name)) for name in facts}
    return (
        images.join(new, on="image_id", how="left").withColumns(now).select(*tables.CATALOG.columns)
    )

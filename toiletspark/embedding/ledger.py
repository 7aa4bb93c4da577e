"""The ledger of attempts: the newest attempt at each image counts."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Embed
from toiletspark.images import statuses
from toiletspark.tables import spark_io
from toiletspark.tables.runs import Store
from toiletspark.tables.schemas import CATALOG, EMBEDDINGS, IMAGE_LEDGER

RETRIED: dict[str, Sequence[str]] = {
    "none": (),
    "transient": statuses.TRANSIENT,
    "failed": statuses.STATUSES[1:],
}


def newest_attempts(ledger: DataFrame) -> DataFrame:
    """The newest attempt per (image_id, image_version), in the ledger's columns. One shuffle."""
    key = IMAGE_LEDGER.key
    others = [name for name in IMAGE_LEDGER.columns if name not in key]
    newest = F.max_by(F.struct(*others), "attempted_at").alias("newest")
    return ledger.groupBy(*key).agg(newest).select(*key, "newest.*")


def embedded_contents(spark: SparkSession, store: Store, backbone_id: str) -> DataFrame:
    """content_digest of each embedding of a backbone; one may stand twice."""
    stored = spark_io.read_all(spark, store, EMBEDDINGS)
    return stored.where(F.col("backbone_id") == backbone_id).select("content_digest")


def join_attempts(images: DataFrame, ledger: DataFrame, embedded: DataFrame) -> DataFrame:
    """Adds to `schemas.IMAGES` the newest attempt; `embedded` has each embedded content once.

    Returns the columns of `schemas.CATALOG`, attempts and attempted_at, all null for an image that
    was never tried; is_embedded, true or null; further columns of the images. Cost: joins on ids,
    no image read.
    """
    key = list(IMAGE_LEDGER.key)
    facts = ["status", "detail", "content_digest", "attempts", "attempted_at"]
    last = newest_attempts(ledger).select(*key, *facts)
    joined = images.join(last, key, "left")
    embedded = embedded.withColumn("is_embedded", F.lit(True)).hint("shuffle_hash")
    joined = joined.join(embedded, "content_digest", "left")
    further = [name for name in images.columns if name not in CATALOG.columns]
    return joined.select(*CATALOG.columns, "attempts", "attempted_at", "is_embedded", *further)


def needs_attempt(section: Embed) -> Column:
    """Returns whether [embed] asks to try an image of `join_attempts` now: boolean, never null."""
    if section.only_retry:
        return has_failed(section.only_retry)
    days = section.refetch_after_days
    return is_due(section.retry, datetime.now(UTC) - timedelta(days=days) if days else None)


def is_due(retry: str, refetch_before: datetime | None) -> Column:
    """Returns whether an image of `join_attempts` is to be tried: boolean, never null.

    It was never tried, or it is sound but has no embedding, or its failure is to be tried again
    (`retry`, a key of `RETRIED`), or its last attempt was before `refetch_before`.
    """
    is_new = F.col("status").isNull()
    is_lost = (F.col("status") == "ok") & F.col("is_embedded").isNull()
    is_old = F.col("attempted_at") < F.lit(refetch_before) if refetch_before else F.lit(False)
    return is_new | is_lost | has_failed(retry) | is_old


def has_failed(retry: str) -> Column:
    """Returns whether the newest attempt failed in a way that `retry` covers."""
    return F.coalesce(F.col("status").isin(*RETRIED[retry]), F.lit(False))


def update_catalog(images: DataFrame, attempts: DataFrame) -> DataFrame:
    """Updates `schemas.CATALOG` with the attempts of the run, `schemas.IMAGE_LEDGER`."""
    facts = ["status", "detail", "content_digest"]
    new = attempts.select("image_id", *(F.col(name).alias(f"new_{name}") for name in facts))
    was_tried = F.col("new_status").isNotNull()
    now = {name: F.when(was_tried, F.col(f"new_{name}")).otherwise(F.col(name)) for name in facts}
    return images.join(new, "image_id", "left").withColumns(now).select(*CATALOG.columns)

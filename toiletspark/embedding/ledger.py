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
    "transient": (*statuses.TRANSIENT, *statuses.DELAYED),
    "failed": statuses.STATUSES[1:],
}
_MAX_DELAY_DAYS = 16
_EARLIER_DAYS = 0.25  # so that a nightly run need not begin later than the one before


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

    Returns the columns of `schemas.CATALOG`, attempts, attempted_at and decoder, all null for an
    image that was never tried; is_embedded, true or null; further columns of the images. Cost:
    joins on ids, no image read.
    """
    key = list(IMAGE_LEDGER.key)
    facts = ["status", "detail", "content_digest", "attempts", "attempted_at", "decoder"]
    last = newest_attempts(ledger).select(*key, *facts)
    joined = images.join(last, key, "left")
    embedded = embedded.withColumn("is_embedded", F.lit(True)).hint("shuffle_hash")
    joined = joined.join(embedded, "content_digest", "left")
    last_columns = ["attempts", "attempted_at", "decoder", "is_embedded"]
    further = [name for name in images.columns if name not in CATALOG.columns]
    return joined.select(*CATALOG.columns, *last_columns, *further)


def needs_attempt(section: Embed, decoder: str) -> Column:
    """Returns whether [embed] asks to try an image of `join_attempts` now: boolean, never null."""
    if section.only_retry:
        return has_failed(section.only_retry)
    days = section.refetch_after_days
    refetch_before = datetime.now(UTC) - timedelta(days=days) if days else None
    return is_due(section.retry, refetch_before, decoder)


def is_due(retry: str, refetch_before: datetime | None, decoder: str) -> Column:
    """Returns whether an image of `join_attempts` is to be tried: boolean, never null.

    It was never tried, or it is sound but has no embedding, or its failure is to be tried again
    (`retry`, a key of `RETRIED`), or its last attempt was before `refetch_before`. With "transient"
    what the circumstances may explain waits for 1, 2, 4, ... days after each attempt, and a failure
    of its content until `decoder` (`decoding.decoder_id`) is another one.
    """
    is_new = F.col("status").isNull()
    is_lost = (F.col("status") == "ok") & F.col("is_embedded").isNull()
    is_old = F.col("attempted_at") < F.lit(refetch_before) if refetch_before else F.lit(False)
    if retry != "transient":
        return is_new | is_lost | has_failed(retry) | is_old
    is_changed = ~F.col("decoder").eqNullSafe(F.lit(decoder))
    depends = F.coalesce(F.col("status").isin(*statuses.CONTENT, *statuses.DELAYED), F.lit(False))
    waits = F.coalesce(F.col("status").isin(*statuses.DELAYED) & ~_delay_is_over(), F.lit(False))
    return is_new | is_lost | (has_failed(retry) & ~waits) | (depends & is_changed) | is_old


def _delay_is_over() -> Column:
    days = F.least(F.pow(F.lit(2.0), F.col("attempts") - 1), F.lit(_MAX_DELAY_DAYS))
    waited_s = F.current_timestamp().cast("double") - F.col("attempted_at").cast("double")
    return waited_s >= (days - _EARLIER_DAYS) * timedelta(days=1).total_seconds()


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

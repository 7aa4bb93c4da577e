"""Labels meet embeddings: the small table from which a head is fitted, without Spark, elsewhere."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812


def gather(
    labels: DataFrame,
    catalog: DataFrame,
    embeddings: DataFrame,
    sample: DataFrame,
    backbone_id: str,
) -> DataFrame:
    """Finds the embedding, the listing and the design weight of every label.

    A label belongs to the content that the labeller saw: its own content_digest, or, where it came without, the
    content that the image has now.

    Args:
        labels: `tables.LABELS`, one run.
        catalog: `tables.CATALOG`, one run.
        embeddings: `tables.EMBEDDINGS`, all runs.
        sample: `tables.SAMPLE`, one run, or no rows; images that were not drawn weigh 1.
        backbone_id: whose embeddings are wanted.

    Returns:
        The columns of `tables.TRAINING_SET`; labels whose content has no embedding are not in it.
    """
    now = catalog.select("image_id", "listing_id", F.col("content_digest").alias("digest_now"))
    kept = embeddings.where(F.col("backbone_id") == backbone_id).dropDuplicates(["content_digest"])
    named = (
        labels.withColumnRenamed("class", "label")
        .join(now, on="image_id", how="left")
        .join(sample.select("image_id", "weight"), on="image_id", how="left")
        .withColumn("content_digest", F.coalesce("content_digest", "digest_now"))
        .withColumn("listing_id", F.coalesce("listing_id", "image_id"))
        .withColumn("weight", F.coalesce("weight", F.lit(1.0)))
    )
    # labels are few: the embeddings stay where they are
    return kept.join(F.broadcast(named), on="content_digest", how="inner")

"""Decide for ever: a head over stored embeddings gives every image of the catalog its score.

No image is read here, and torch is not imported.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.functions import pandas_udf

from toiletspark import ledger, tables
from toiletspark.head import Head, from_stored


def scores_table(head: Head) -> tables.Table:
    """`tables.SCORES` with one probability column per class of this head."""
    return tables.SCORES.with_columns(tables.probability_columns(head.classes))


def score_catalog(
    catalog: DataFrame, image_ledger: DataFrame, embeddings: DataFrame, head: Broadcast[Head]
) -> DataFrame:
    """Scores every image of the catalog whose content has an embedding.

    Each distinct content is scored once; the scores, not the embeddings, then travel to the images.

    Args:
        catalog: `tables.CATALOG`.
        image_ledger: `tables.IMAGE_LEDGER`, all runs.
        embeddings: `tables.EMBEDDINGS`; rows of other backbones are left aside.
        head: broadcast once.

    Returns:
        The columns of `scores_table(head)`, one row per scored image, no nulls.
    """
    kept = embeddings.where(F.col("backbone_id") == head.value.backbone_id).dropDuplicates(["content_digest"])
    scored = score_embeddings(kept, head)
    contents = ledger.of_catalog(catalog, image_ledger).where(F.col("status") == "ok")
    return contents.join(scored, on="content_digest", how="inner").withColumn("head_id", F.lit(head.value.head_id))


def score_embeddings(embeddings: DataFrame, head: Broadcast[Head]) -> DataFrame:
    """content_digest, exclusion_score and one p_<class> per class, for columns content_digest and embedding."""
    names = list(tables.probability_columns(head.value.classes))
    kind = ", ".join(f"`{name}` float" for name in ["exclusion_score", *names])

    @pandas_udf(kind)  # type: ignore[call-overload, untyped-decorator]
    def score(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for stored in batches:
            probabilities = head.value.probabilities(from_stored(stored.tolist()))
            scores = pd.DataFrame(probabilities, columns=names)
            scores.insert(0, "exclusion_score", head.value.exclusion_scores(probabilities))
            yield scores

    once = score.asNondeterministic()  # see embedding.attempt_images
    return embeddings.select("content_digest", once("embedding").alias("score")).select("content_digest", "score.*")


def not_embedded(catalog: DataFrame, image_ledger: DataFrame, embeddings: DataFrame, backbone_id: str) -> DataFrame:
    """image_id of the images that were never tried, or are sound but have no embedding of this backbone."""
    known = ledger.of_catalog(catalog, image_ledger)
    untried = known.where(F.col("status").isNull())
    lacking = known.where(F.col("status") == "ok").join(
        ledger.digests_of(embeddings, backbone_id), on="content_digest", how="left_anti"
    )
    return untried.select("image_id").unionByName(lacking.select("image_id"))

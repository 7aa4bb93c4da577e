"""What a leak sample is drawn from: the sound contents of a version, each with how much its label may tell.

The draw itself is `active_learning.draw`: part of it even over all contents, so that what the head is sure of, and wrong
about, has its chance; the rest in proportion to size. A content that n images show, of exclusion score p, has the size
n x sqrt(p (1 - p)): the deviation of n coins that fall together, so that the draw is Neyman's allocation if scores are
probabilities. Near the threshold size is largest; in the kept tail it falls like sqrt(p), in the excluded one like
sqrt(1 - p).

Source: Neyman, On the two different aspects of the representative method (1934); for single units Särndal, Swensson
and Wretman, Model Assisted Survey Sampling (1992), 12.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.sampling import active_learning, inclusion_probabilities
from toiletspark.sampling.inclusion_probabilities import CERTAIN


def population(decisions: DataFrame) -> DataFrame:
    """The contents of the sound images that a version keeps or excludes, labelled or not.

    Args:
        decisions: `tables.DECISIONS`. An image without a score now is left out: nobody could look at it.

    Returns:
        content_digest, image_id, listing_id, stratum, of one image of the content chosen by hash; images, kept and
        excluded (int, how many show it), exclusion_score (float), size (bigint, in units of 2^-30). One row per
        content. One shuffle.
    """
    decided = F.col("decision").isin("keep", "exclude")
    sound = decisions.where(
        (F.col("status") == "ok") & F.col("content_digest").isNotNull() & decided
    )
    one = F.struct(
        F.xxhash64("image_id").alias("at"),
        "image_id",
        "listing_id",
        F.coalesce("stratum", F.lit("")),
    )
    score = F.coalesce("exclusion_score", F.lit(0.0)).cast("double")
    deviation = F.sqrt(F.greatest(F.lit(0.0), score * (1 - score)))
    per_content = sound.groupBy("content_digest").agg(
        F.min(
            one.cast("struct<at: bigint, image_id: string, listing_id: string, stratum: string>")
        ).alias("one"),
        F.count("*").cast("int").alias("images"),
        F.count_if(F.col("decision") == "keep").cast("int").alias("kept"),
        F.count_if(F.col("decision") == "exclude").cast("int").alias("excluded"),
        F.max("exclusion_score").alias("exclusion_score"),
        F.max(deviation).alias("deviation"),
    )
    return per_content.select(
        *(
            "content_digest",
            "one.image_id",
            "one.listing_id",
            "one.stratum",
            "images",
            "kept",
            "excluded",
        ),
        "exclusion_score",
        F.round(F.col("images") * F.col("deviation") * inclusion_probabilities.SIZE_ONE)
        .cast("bigint")
        .alias("size"),
    )


def ranked(
    drawn: Iterable[Mapping[str, Any]], known: Iterable[str], seed: int
) -> list[dict[str, Any]]:
    """The rows of `tables.LEAKS`: those to ask about first, by rank, in the order of a hash.

    Args:
        drawn: rows of `active_learning.draw`.
        known: the content_digests that nobody needs to be asked about.
        seed: shuffles.
    """
    known, rows = set(known), []
    for _, row in active_learning.shuffle(drawn, seed):
        chance = row["chance"] / CERTAIN
        rows.append(
            {**row, "inclusion_probability": chance, "known": row["content_digest"] in known}
        )
    rows.sort(key=lambda row: row["known"])
    return [{**row, "rank": None if row["known"] else rank} for rank, row in enumerate(rows, 1)]


def queue(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `tables.QUEUES` for those that have a rank; nothing is suggested, which would lead the eye.

    Their weights are those of images: 1 / inclusion_probability is how many images of the catalog a row stands for.
    """
    names = ("image_id", "listing_id", "content_digest", "rank", "reason")
    return [
        {
            **{name: row[name] for name in names},
            "inclusion_probability": row["inclusion_probability"] / row["images"],
        }
        for row in rows
        if row["rank"] is not None
    ]

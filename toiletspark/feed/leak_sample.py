"""The population of a leak sample: the sound contents of a version, with their sizes for the draw.

`active_learning.draw` draws a part with equal probability over all contents, so that images which
the head is sure of, and wrong about, can be drawn; the rest in proportion to size. A content that n
images show, of exclusion score p, has the size n x sqrt(p (1 - p)): the deviation of n coins that
fall together, so the draw is Neyman's allocation if scores are probabilities. Source: Neyman, On
the two different aspects of the representative method (1934); for single units Särndal, Swensson
and Wretman, Model Assisted Survey Sampling (1992), 12.2.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.sampling import active_learning, inclusion_probabilities
from toiletspark.sampling.inclusion_probabilities import CERTAIN

_EXAMPLE = "struct<hash: bigint, image_id: string, listing_id: string, stratum: string>"


def population(decisions: DataFrame) -> DataFrame:
    """The contents of the sound images that a version keeps or excludes, labelled or not.

    Images without a score now are left out: nobody could look at them. Returns content_digest,
    image_id, listing_id, stratum, of one image of the content chosen by hash; images, kept and
    excluded (int, how many show it), exclusion_score (float), size (bigint, in units of 2^-30). One
    row per content. One shuffle.
    """
    is_decided = F.col("decision").isin("keep", "exclude")
    is_sound = (F.col("status") == "ok") & F.col("content_digest").isNotNull()
    stratum = F.coalesce("stratum", F.lit(""))
    example = F.struct(F.xxhash64("image_id"), "image_id", "listing_id", stratum).cast(_EXAMPLE)
    score = F.coalesce("exclusion_score", F.lit(0.0)).cast("double")
    deviation = F.sqrt(F.greatest(F.lit(0.0), score * (1 - score)))
    contents = decisions.where(is_sound & is_decided).groupBy("content_digest")
    per_content = contents.agg(
        F.min(example).alias("example"),
        F.count("*").cast("int").alias("images"),
        F.count_if(F.col("decision") == "keep").cast("int").alias("kept"),
        F.count_if(F.col("decision") == "exclude").cast("int").alias("excluded"),
        F.max("exclusion_score").alias("exclusion_score"),
        F.max(deviation).alias("deviation"),
    )
    size = F.col("images") * F.col("deviation") * inclusion_probabilities.SIZE_ONE
    return per_content.select(
        "content_digest",
        "example.image_id",
        "example.listing_id",
        "example.stratum",
        "images",
        "kept",
        "excluded",
        "exclusion_score",
        F.round(size).cast("bigint").alias("size"),
    )


def ranked(
    drawn: Iterable[Mapping[str, Any]], known: Iterable[str], seed: int
) -> list[dict[str, Any]]:
    """The rows of `schemas.LEAKS`: first those to ask about, by rank, in the order of a hash.

    `drawn` are rows of `active_learning.draw`; `known` the content_digests that have a label.
    """
    known, rows = set(known), []
    for _, row in active_learning.shuffle(drawn, seed):
        probability = row["chance"] / CERTAIN
        is_known = row["content_digest"] in known
        rows.append({**row, "inclusion_probability": probability, "known": is_known})
    rows.sort(key=lambda row: row["known"])
    return [{**row, "rank": None if row["known"] else rank} for rank, row in enumerate(rows, 1)]


def queue(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of `schemas.QUEUES` for those with a rank, without suggestions, which would bias.

    Their weights are those of images: 1 / inclusion_probability is the number of images of the
    catalog that a row stands for.
    """
    names = ("image_id", "listing_id", "content_digest", "rank", "reason")
    queue_rows = []
    for row in rows:
        if row["rank"] is not None:
            probability = row["inclusion_probability"] / row["images"]
            copied = {name: row[name] for name in names}
            queue_rows.append({**copied, "inclusion_probability": probability})
    return queue_rows

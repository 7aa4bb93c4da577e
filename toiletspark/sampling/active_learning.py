"""What to label next: a queue that teaches the head most, and still stands for what it was drawn from.

The population are the contents of sound images that nobody has labelled and that do not look like a labelled one.
Each has a known chance of being drawn, part of it even and part growing with the head's uncertainty (`inclusion`), and
the draw is systematic: contents in the order of stratum and hash, one point in each stretch of probability 1. So every
stratum gets its share to within one, the number is fixed, and 1 / inclusion_probability is an unbiased weight.

Source: Madow, On the Theory of Systematic Sampling II (1949); in random order Hartley and Rao, Sampling with Unequal
Probabilities and without Replacement (1962); the estimate is Horvitz and Thompson's (1952).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import Broadcast
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.hashing import hash_fraction
from toiletspark.model.embedding_codec import from_stored, packed
from toiletspark.sampling import inclusion_probabilities as inclusion
from toiletspark.sampling import near_duplicates as lookalikes
from toiletspark.sampling.inclusion_probabilities import CERTAIN, CERTAIN_BITS, Chances
from toiletspark.tables import spark_io as frames


def candidates(
    catalog: DataFrame, suggested: DataFrame, settled: DataFrame, sharpness: float
) -> DataFrame:
    """The contents that nobody has labelled.

    Args:
        catalog: `tables.CATALOG`, the run that was scored.
        suggested: `scoring.suggested` of its scores.
        settled: `training_set.settle`; images with a labelled content are left out. One whose content was replaced
            since it was labelled is not.
        sharpness: size = uncertainty to this power.

    Returns:
        content_digest, image_id, listing_id, stratum, suggested, of one image of the content chosen by hash; images
        (int, how many show it), size (bigint, in units of 2^-30). One row per content, no nulls but in suggested. One
        shuffle by image_id and one by content.
    """
    size = F.pow(F.greatest(F.lit(0.0), "uncertainty"), F.lit(sharpness)) * inclusion.SIZE_ONE
    one = F.struct(
        F.xxhash64("image_id").alias("at"), "image_id", "listing_id", "stratum", "suggested"
    )
    sound = catalog.where(F.col("status") == "ok").join(suggested, on="image_id", how="inner")
    free = sound.join(
        F.broadcast(settled.select("content_digest")), on="content_digest", how="left_anti"
    )
    per_content = free.groupBy("content_digest").agg(
        F.min(one).alias("one"),
        F.count("*").cast("int").alias("images"),
        F.max(F.round(size)).alias("size"),
    )
    names = ("image_id", "listing_id", "stratum", "suggested")
    return per_content.select(
        "content_digest",
        *(F.col(f"one.{name}") for name in names),
        "images",
        F.col("size").cast("bigint"),
    )


def looking_like(
    embeddings: DataFrame, labelled: Broadcast[NDArray[np.float32]], min_cosine: float
) -> DataFrame:
    """The contents whose embedding is near a labelled one.

    Args:
        embeddings: content_digest, embedding; one backbone's.
        labelled: float32, (m, 512), on all workers.
        min_cosine: see `lookalikes.near`.

    Returns:
        content_digest, several times where it was embedded several times. One pass, no shuffle.
    """

    def near(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            vectors = from_stored(packed(batch.column(1)), batch.num_rows)
            found = pa.array(lookalikes.near(vectors, labelled.value, min_cosine))
            yield pa.RecordBatch.from_arrays(
                [batch.column(0).filter(found)], names=["content_digest"]
            )

    return embeddings.select("content_digest", "embedding").mapInArrow(
        near, "content_digest string"
    )


def vectors(embeddings: DataFrame, of: DataFrame) -> dict[str, NDArray[np.float32]]:
    """The embeddings (float32, (512,)) of the contents of a short frame by content_digest, on the driver."""
    wanted = F.broadcast(of.select("content_digest").distinct())
    found = embeddings.join(wanted, on="content_digest", how="left_semi").select(
        "content_digest", "embedding"
    )
    return {
        row["content_digest"]: from_stored(row["embedding"], 1)[0]
        for row in found.toLocalIterator()
    }


def stacked(embeddings: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """float32, (n, 512); (0, 1) where there is none."""
    rows = list(embeddings)
    return np.stack(rows) if rows else np.zeros((0, 1), np.float32)


def draw(population: DataFrame, wanted: int, random_share: float, seed: int) -> DataFrame:
    """Draws contents; the same ones whatever the partitioning.

    Args:
        population: as `candidates` returns it; read twice and once more, so better set aside.
        wanted: contents.
        random_share: of them evenly, see `inclusion.chances`.
        seed: chooses the draw: where the points lie and how each stratum is shuffled.

    Returns:
        The columns of `population`, with chance (bigint, inclusion probability of the content in units of 2^-40) and
        reason (random where its point lies in the even part of its chance, else uncertain). `wanted` rows, or one
        more or less where rounding wills it; all where there are no more. One shuffle by stratum.
    """
    largest = population.select("size").orderBy(F.desc("size")).limit(wanted)
    sizes = np.array([row["size"] for row in largest.collect()], dtype=np.int64)
    summed = population.agg(F.count("*"), F.coalesce(F.sum("size"), F.lit(0))).collect()[0]
    how = inclusion.chances(sizes, int(summed[1]), int(summed[0]), wanted, random_share)

    chanced = population.withColumn("chance", _chance(how))
    start = int(hash_fraction(seed, "suggest:start") * CERTAIN)
    shuffled = Window.partitionBy("stratum").orderBy(
        F.xxhash64(F.lit(seed), "content_digest"), "content_digest"
    )
    ends = F.col("stretch") + F.sum("chance").over(
        shuffled.rowsBetween(Window.unboundedPreceding, 0)
    )
    placed = chanced.join(F.broadcast(_stretches(chanced)), on="stratum", how="inner").withColumn(
        "ends", ends
    )
    passed = placed.withColumn("begins", F.col("ends") - F.col("chance"))
    passed = passed.withColumn("points", _points(F.col("begins"), start))
    hit = passed.where(_points(F.col("ends"), start) > F.col("points"))
    into = F.lit(start) + F.col("points") * CERTAIN - F.col("begins")
    reason = F.when(into < how.base, "random").otherwise("uncertain")
    return hit.withColumn("reason", reason).drop("stretch", "ends", "begins", "points")


def shuffled(
    drawn: Iterable[Mapping[str, Any]], seed: int
) -> list[tuple[float, Mapping[str, Any]]]:
    """What was drawn in the order of a hash of image_id, each with that hash, [0, 1), the highest first."""
    placed = [(hash_fraction(seed, f"suggest:{row['image_id']}"), row) for row in drawn]
    return sorted(placed, key=lambda one: (-one[0], one[1]["image_id"]))


def queue(
    drawn: Iterable[Mapping[str, Any]],
    vectors: Mapping[str, NDArray[np.float32]],
    min_cosine: float,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Puts what was drawn in order, and lets one picture stand for those that look like it.

    The order is by hash: whoever stops early has labelled a part that still stands for the whole. A row's weight,
    1 / inclusion_probability, is the sum over the drawn images that it stands for, itself included.

    Args:
        drawn: rows of `draw`.
        vectors: float32, (512,), by content_digest.
        min_cosine: see `lookalikes.first_alike`.
        seed: shuffles.

    Returns:
        Rows of `tables.QUEUES` by rank, and who stands for whom: image_id left out -> image_id in the queue.
    """
    placed = shuffled(drawn, seed)
    ranked = [row for _, row in placed]
    first = lookalikes.first_alike(
        stacked(vectors[row["content_digest"]] for row in ranked), min_cosine
    )
    weights = np.zeros(len(ranked))
    np.add.at(weights, first, [row["images"] * CERTAIN / row["chance"] for row in ranked])
    kept = [place for place in range(len(ranked)) if first[place] == place]
    named = ("image_id", "listing_id", "content_digest", "reason", "suggested")
    rows = [
        {
            **{name: ranked[place][name] for name in named},
            "rank": rank,
            "score": placed[place][0],
            "inclusion_probability": 1 / weights[place],
        }
        for rank, place in enumerate(kept, 1)
    ]
    twins = {
        ranked[place]["image_id"]: ranked[one]["image_id"]
        for place, one in enumerate(first.tolist())
        if one != place
    }
    return rows, twins


def _chance(how: Chances) -> Column:
    """`Chances.of` on the cluster."""
    grown = F.floor(
        F.least(F.lit(how.factor) * F.col("size").cast("double"), F.lit(float(CERTAIN)))
    )
    return F.least(F.lit(how.base) + grown, F.lit(CERTAIN)).cast("bigint")


def _stretches(chanced: DataFrame) -> DataFrame:
    """Where each stratum's stretch begins: the chances of all strata before it, by name."""
    sums = chanced.groupBy("stratum").agg(F.sum("chance").alias("chance")).collect()
    begins, found = 0, []
    for row in sorted(sums, key=lambda row: str(row["stratum"])):
        found.append((row["stratum"], begins))
        begins += int(row["chance"])
    return frames.of_rows(chanced.sparkSession, found, {"stratum": "string", "stretch": "bigint"})


def _points(place: Column, start: int) -> Column:
    """How many of the points start, start + 1, start + 2, ... (in units of CERTAIN) lie below a place."""
    return F.shiftright(place + (CERTAIN - 1 - start), CERTAIN_BITS)

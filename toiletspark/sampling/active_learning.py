"""Active learning: draws the images whose labels improve the head most.

The population are the contents of sound images that nobody has labelled and that are no
near-duplicate of a labelled one. The inclusion probability has an even part and one that grows with
the head's uncertainty (`inclusion_probabilities`). The draw is systematic: contents in the order of
stratum and hash, one point in each stretch of probability 1. So every stratum gets its share to
within one, the number is fixed, and 1 / inclusion_probability is an unbiased weight.

Source: Madow, On the Theory of Systematic Sampling II (1949); in random order Hartley and Rao,
Sampling with Unequal Probabilities and without Replacement (1962); Horvitz and Thompson (1952).
"""

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
from toiletspark.sampling import near_duplicates
from toiletspark.sampling.inclusion_probabilities import CERTAIN, SIZE_ONE, Chances, chances
from toiletspark.tables import spark_io


def candidates(
    catalog: DataFrame, suggested: DataFrame, settled: DataFrame, sharpness: float
) -> DataFrame:
    """The contents of the scored `schemas.CATALOG` that nobody has labelled.

    `suggested` is made by `scoring.tasks.suggest_classes` of its scores, and `settled` by
    `training_set.settle`. An image whose content was replaced since it was labelled stays in.

    Returns content_digest, image_id, listing_id, stratum, suggested, of one image of the content
    chosen by hash; images (int, how many show it), size (bigint, uncertainty to the power
    `sharpness` in units of 2^-30). One row per content, no nulls but in suggested. Cost: one
    shuffle by image_id and one by content.
    """
    sound = catalog.where(F.col("status") == "ok").join(suggested, "image_id")
    labelled = F.broadcast(settled.select("content_digest"))
    unlabelled = sound.join(labelled, "content_digest", "left_anti")
    size = F.pow(F.greatest(F.lit(0.0), "uncertainty"), F.lit(sharpness)) * SIZE_ONE
    names = ("image_id", "listing_id", "stratum", "suggested")
    by_hash = F.struct(F.xxhash64("image_id").alias("hash"), *names)
    by_content = unlabelled.groupBy("content_digest").agg(
        F.min(by_hash).alias("first"),
        F.count("*").cast("int").alias("images"),
        F.max(F.round(size)).cast("bigint").alias("size"),
    )
    columns = [F.col(f"first.{name}") for name in names]
    return by_content.select("content_digest", *columns, "images", "size")


def near_labelled(
    embeddings: DataFrame, labelled: Broadcast[NDArray[np.float32]], min_cosine: float
) -> DataFrame:
    """The contents whose embedding, of one backbone, is near a labelled one, float32, (m, 512).

    Returns content_digest, several times if it was embedded several times. One pass, no shuffle.
    """

    def compare(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            vectors = from_stored(packed(batch.column(1)), batch.num_rows)
            is_near = pa.array(near_duplicates.near(vectors, labelled.value, min_cosine))
            digests = batch.column(0).filter(is_near)
            yield pa.RecordBatch.from_arrays([digests], names=["content_digest"])

    stored = embeddings.select("content_digest", "embedding")
    return stored.mapInArrow(compare, "content_digest string")


def read_vectors(embeddings: DataFrame, contents: DataFrame) -> dict[str, NDArray[np.float32]]:
    """Collects embeddings, float32, (512,), by content_digest, for a short list of contents."""
    wanted = F.broadcast(contents.select("content_digest").distinct())
    stored = embeddings.select("content_digest", "embedding")
    rows = stored.join(wanted, "content_digest", "left_semi").toLocalIterator()
    return {row["content_digest"]: from_stored(row["embedding"], 1)[0] for row in rows}


def stack(vectors: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """float32, (n, 512); (0, 1) if there is none."""
    rows = list(vectors)
    return np.stack(rows) if rows else np.zeros((0, 1), np.float32)


def draw(population: DataFrame, wanted: int, random_share: float, seed: int) -> DataFrame:
    """Draws contents of `candidates`; the same ones with any partitioning.

    The population is read three times (better set aside), and shuffled once by stratum.
    `random_share` of the wanted contents are drawn evenly, see `inclusion_probabilities.chances`.

    Returns the columns of `population`, with chance (bigint, inclusion probability of the content
    in units of 2^-40) and reason (random if its point lies in the even part of its chance, else
    uncertain). `wanted` rows, or one more or less by rounding; all if there are no more.
    """
    largest = population.select("size").orderBy(F.desc("size")).limit(wanted).collect()
    sizes = np.array([row["size"] for row in largest], dtype=np.int64)
    total = F.coalesce(F.sum("size"), F.lit(0)).alias("total")
    sums = population.agg(F.count("*").alias("units"), total).collect()[0]
    chance_of_size = chances(sizes, int(sums["total"]), int(sums["units"]), wanted, random_share)

    with_chance = population.withColumn("chance", _chance(chance_of_size))
    start = int(hash_fraction(seed, "suggest:start") * CERTAIN)
    order = F.xxhash64(F.lit(seed), "content_digest")
    shuffled = Window.partitionBy("stratum").orderBy(order, "content_digest")
    up_to_here = shuffled.rowsBetween(Window.unboundedPreceding, 0)
    stretches = F.broadcast(_stretches(with_chance))
    end = F.col("stretch") + F.sum("chance").over(up_to_here)
    placed = with_chance.join(stretches, "stratum").withColumn("end", end)
    begin = F.col("end") - F.col("chance")
    placed = placed.withColumn("points", _points_below(begin, start))
    drawn = placed.where(_points_below(F.col("end"), start) > F.col("points"))
    offset = F.lit(start) + F.col("points") * CERTAIN - begin
    reason = F.when(offset < chance_of_size.base, "random").otherwise("uncertain")
    return drawn.withColumn("reason", reason).drop("stretch", "end", "points")


def shuffle(drawn: Iterable[Mapping[str, Any]], seed: int) -> list[tuple[float, Mapping[str, Any]]]:
    """Orders rows by a hash of image_id, [0, 1), highest first, which is returned with each."""
    hashed = [(hash_fraction(seed, f"suggest:{row['image_id']}"), row) for row in drawn]
    return sorted(hashed, key=lambda pair: (-pair[0], pair[1]["image_id"]))


def make_queue(
    drawn: Iterable[Mapping[str, Any]],
    vectors: Mapping[str, NDArray[np.float32]],
    min_cosine: float,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Orders drawn images, and lets one represent its near-duplicates.

    The order is by hash, so whoever stops early has labelled a random part of the queue. A row's
    weight, 1 / inclusion_probability, is the sum over the drawn images that it represents, itself
    included. `vectors` holds float32, (512,), by content_digest.

    Returns rows of `schemas.QUEUES` by rank, and the image_id in the queue that represents each
    image_id left out, see `near_duplicates.representatives`.
    """
    shuffled = shuffle(drawn, seed)
    rows = [row for _, row in shuffled]
    embeddings = stack(vectors[row["content_digest"]] for row in rows)
    representative = near_duplicates.representatives(embeddings, min_cosine)
    weights = np.zeros(len(rows))
    np.add.at(weights, representative, [row["images"] * CERTAIN / row["chance"] for row in rows])
    names = ("image_id", "listing_id", "content_digest", "reason", "suggested")
    queue: list[dict[str, Any]] = []
    represented_by: dict[str, str] = {}
    for number, (score, row) in enumerate(shuffled):
        first = int(representative[number])
        if first != number:
            represented_by[row["image_id"]] = rows[first]["image_id"]
            continue
        figures = {"score": score, "inclusion_probability": 1 / weights[number]}
        queue.append({**{name: row[name] for name in names}, "rank": len(queue) + 1, **figures})
    return queue, represented_by


def _chance(of_size: Chances) -> Column:
    """`Chances.of` on the cluster."""
    by_size = F.lit(of_size.factor) * F.col("size").cast("double")
    by_size = F.floor(F.least(by_size, F.lit(float(CERTAIN))))
    return F.least(F.lit(of_size.base) + by_size, F.lit(CERTAIN)).cast("bigint")


def _stretches(with_chance: DataFrame) -> DataFrame:
    """The start of each stratum's stretch: the sum of all chances before it."""
    sums = with_chance.groupBy("stratum").agg(F.sum("chance").alias("chance")).collect()
    start, rows = 0, []
    for row in sorted(sums, key=lambda row: str(row["stratum"])):
        rows.append((row["stratum"], start))
        start += int(row["chance"])
    columns = {"stratum": "string", "stretch": "bigint"}
    return spark_io.of_rows(with_chance.sparkSession, rows, columns)


def _points_below(position: Column, start: int) -> Column:
    """Counts the points start, start + 1, ... (in units of CERTAIN) below a position."""
    return F.shiftright(position + (CERTAIN - 1 - start), CERTAIN.bit_length() - 1)

"""Decide for ever: heads over stored embeddings give every image of the catalog its scores.

No image is read here, and torch is not imported. The embeddings pass once from Parquet to numpy, as Arrow, and are not
shuffled; only what the heads say of them is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import tables
from toiletspark.head import Head, from_stored
from toiletspark.refusals import Refusals

_proved: set[str] = set()  # the heads that give their golden scores in this worker


def score_embeddings(embeddings: DataFrame, heads: Broadcast[list[Head]], refusals: Refusals) -> DataFrame:
    """Scores every stored embedding of the heads' backbone with every head, in one pass without a shuffle.

    Args:
        embeddings: `tables.EMBEDDINGS`; rows of other backbones are left aside.
        heads: all for one backbone; broadcast once.
        refusals: where a worker says that a head does not give its golden scores there; its tasks then yield nothing.

    Returns:
        content_digest and, for each head, `h<number>_exclusion_score` and one `h<number>_p_<class>` per class, all
        float. A content that two runs have embedded stands there twice, with the same scores.
    """
    names = [name for number, head in enumerate(heads.value) for name in _columns(number, head)]

    def score(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        if refusals.accepts(lambda: _prove(heads.value)):
            for batch in batches:
                yield _scored(batch.column(0), batch.column(1), heads.value, names)

    kinds = ", ".join(["content_digest string", *(f"`{name}` float" for name in names)])
    ours = embeddings.where(F.col("backbone_id") == heads.value[0].backbone_id)
    return ours.select("content_digest", "embedding").mapInArrow(score, kinds)


def of_head(scored: DataFrame, number: int, head: Head) -> DataFrame:
    """content_digest, exclusion_score and the probabilities of one head, out of `score_embeddings`."""
    plain = [F.col(f"`{name}`").alias(name.partition("_")[2]) for name in _columns(number, head)]
    return scored.select("content_digest", *plain)


def score_catalog(catalog: DataFrame, scored: DataFrame, head: Head) -> DataFrame:
    """Brings the scores of the contents to the images.

    Args:
        catalog: `tables.CATALOG`.
        scored: see `of_head`.
        head: whose scores they are.

    Returns:
        The columns of `scores.table_of(head)`: every sound image, once for each row that `scored` has of its content,
        and with nulls for scores where there is none. One shuffle of either side.
    """
    sound = catalog.where(F.col("status") == "ok").select("image_id", "listing_id", "content_digest")
    found = scored.hint("shuffle_hash")  # sorting both sides would cost more
    return sound.join(found, on="content_digest", how="left").withColumn("head_id", F.lit(head.head_id))


def suggested(scores: DataFrame, classes: Iterable[str]) -> DataFrame:
    """What a head would say of each image, for people to confirm or to correct.

    Args:
        scores: a run of `tables.SCORES`, whatever its classes.
        classes: labels.classes; another class is not suggested.

    Returns:
        image_id, suggested (the most probable class, of equal ones the first; null if it is not among `classes`),
        certainty (its probability, double), uncertainty (double, [0, 1]: 1 - the lead of the most probable class over
        the second, so 1 where a head cannot tell two classes apart), head_id and scored_digest (content_digest of
        what was scored). One row per scored image.
        Source: Scheffer, Decomain and Wrobel, Active Hidden Markov Models (2001): sampling by margin.
    """
    names = [name for name in scores.columns if name.startswith("p_")]
    values = {name: F.col(f"`{name}`").cast("double") for name in names}
    first, second = (F.sort_array(F.array(*values.values()), asc=False)[place] for place in (0, 1))
    known = set(classes)
    words = {name: F.lit(name.removeprefix("p_") if name.removeprefix("p_") in known else None) for name in names}
    most_probable = F.coalesce(*(F.when(values[name] == first, F.struct(words[name].cast("string"))) for name in names))
    return scores.select(
        "image_id",
        most_probable["col1"].alias("suggested"),
        first.alias("certainty"),
        (1 - (first - second)).alias("uncertainty"),
        "head_id",
        F.col("content_digest").alias("scored_digest"),
    )


def _columns(number: int, head: Head) -> list[str]:
    return [f"h{number}_{name}" for name in ("exclusion_score", *tables.probability_columns(head.classes))]


def packed(embeddings: pa.BinaryArray) -> memoryview:
    """The bytes of all rows, one after the other as Arrow holds them, without a copy."""
    _, offsets, packed = embeddings.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[[embeddings.offset, embeddings.offset + len(embeddings)]]
    return memoryview(packed)[ends[0] : ends[1]] if packed else memoryview(b"")


def _prove(heads: Iterable[Head]) -> None:
    """Before the first batch of this worker: what was broadcast computes here what it computed where it was trained."""
    for head in heads:
        if head.head_id not in _proved:
            head.require_golden_scores(doing=f"checking the head {head.head_id} on a worker, before its first batch")
            _proved.add(head.head_id)


def _scored(digests: pa.StringArray, stored: pa.BinaryArray, heads: Iterable[Head], names: list[str]) -> pa.RecordBatch:
    embeddings = from_stored(packed(stored), len(stored))
    columns: list[NDArray[np.float32]] = []
    for head in heads:
        probabilities = head.probabilities(embeddings)
        columns += [head.exclusion_scores(probabilities), *probabilities.T]
    arrays = [digests, *(pa.array(np.ascontiguousarray(column), pa.float32()) for column in columns)]
    return pa.RecordBatch.from_arrays(arrays, names=["content_digest", *names])

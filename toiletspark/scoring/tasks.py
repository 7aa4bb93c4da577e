"""Decide for ever: heads over stored embeddings give every image of the catalog its scores.

No image is read here, and torch is not imported. Embeddings pass from Parquet to numpy where they lie, and no row of
anything is shuffled.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.embedding import locations as whereabouts
from toiletspark.embedding.worker_errors import Refusals
from toiletspark.model.head import Head
from toiletspark.scoring import pipeline as scored_files
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Run, Store

_proved: set[str] = (
    set()
)  # the heads that give their golden scores in this worker, and the stores that it reads


def score_images(
    spark: SparkSession,
    store: Store,
    seen: Run,
    heads: Broadcast[list[Head]],
    refusals: Refusals,
    rows_per_batch: int,
) -> DataFrame:
    """Scores every sound image of a catalog with every head, in one pass; a task has one file of the catalog.

    Args:
        spark: the session.
        store: where the embeddings are; workers read them, and the catalog, by fsspec.
        seen: a run of `tables.CATALOG`.
        heads: all for its backbone; broadcast once.
        refusals: where a worker says that it cannot read the store, or that a head does not give its golden scores
            there; its tasks then yield nothing.
        rows_per_batch: embeddings that a task holds at once.

    Returns:
        See `scored_files.scored`; one row per sound image.
    """
    files = [f"{seen.folder}/{file.name}" for file in seen.files]
    embeddings = [
        f"{store.root}/{tables.EMBEDDINGS.name}/{name}" for name in whereabouts.files_of(seen)
    ]

    def score(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        if refusals.accepts(lambda: _prove(store, heads.value)):
            for number in (number for batch in batches for number in batch.column(0).to_pylist()):
                yield from scored_files.scored(
                    files[number], embeddings, heads.value, rows_per_batch
                )

    names = [
        name
        for number, head in enumerate(heads.value)
        for name in scored_files.columns_of(number, head)
    ]
    kinds = [
        *(f"{name} string" for name in scored_files.IMAGE),
        *(f"`{name}` float" for name in names),
    ]
    return spark.range(0, len(files), 1, max(1, len(files))).mapInArrow(score, ", ".join(kinds))


def of_head(scored: DataFrame, number: int, head: Head) -> DataFrame:
    """The columns of `scores.table_of(head)`, out of `score_images`."""
    plain = [
        F.col(f"`{name}`").alias(name.partition("_")[2])
        for name in scored_files.columns_of(number, head)
    ]
    return scored.select(*scored_files.IMAGE, F.lit(head.head_id).alias("head_id"), *plain)


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
    words = {
        name: F.lit(name.removeprefix("p_") if name.removeprefix("p_") in known else None)
        for name in names
    }
    most_probable = F.coalesce(
        *(F.when(values[name] == first, F.struct(words[name].cast("string"))) for name in names)
    )
    return scores.select(
        "image_id",
        most_probable["col1"].alias("suggested"),
        first.alias("certainty"),
        (1 - (first - second)).alias("uncertainty"),
        "head_id",
        F.col("content_digest").alias("scored_digest"),
    )


def _prove(store: Store, heads: Iterable[Head]) -> None:
    """Before the first batch: this worker reads the store, and heads compute what they did where they were made."""
    if store.root not in _proved:
        store.require_here(doing="scoring on a worker, before its first batch")
        _proved.add(store.root)
    for head in heads:
        if head.head_id not in _proved:
            head.require_golden_scores(
                doing=f"checking the head {head.head_id} on a worker, before its first batch"
            )
            _proved.add(head.head_id)

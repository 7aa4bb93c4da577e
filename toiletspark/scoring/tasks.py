"""Carries scoring to the cluster: heads applied to stored embeddings give every image its scores.

Reads no image and does not import torch. Embeddings pass from Parquet to numpy without a copy, and
nothing is shuffled.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.model.head import Head
from toiletspark.scoring.pipeline import IMAGE_COLUMNS, score_columns, score_file
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import EMBEDDINGS, spark_schema
from toiletspark.tables.workspace import Workspace

_checked: set[str] = set()  # stores and heads that this worker can use


def score_images(
    work: Workspace, catalog: Run, heads: Broadcast[list[Head]], errors: WorkerErrors
) -> DataFrame:
    """Scores every sound image of a catalog with every head, in a task per catalog file.

    Args:
        work: workers read its store by fsspec.
        catalog: a run of `schemas.CATALOG`.
        heads: all for its backbone.
        errors: workers report here that they cannot read the store, or that a head does not compute
            its golden scores there; their tasks then yield nothing.

    Returns:
        See `pipeline.score_file`; one row per sound image.
    """
    spark, store, rows_per_batch = work.spark, work.store, work.config.score.rows_per_batch
    files = [f"{catalog.folder}/{file.name}" for file in catalog.files]
    embeddings = [
        f"{store.root}/{EMBEDDINGS.name}/{name}" for name in catalog.inputs.embeddings or []
    ]

    def score(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        if errors.run_check(lambda: _check_worker(store, heads.value)):
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    yield from score_file(files[number], embeddings, heads.value, rows_per_batch)

    columns = dict.fromkeys(IMAGE_COLUMNS, "string")
    for number, head in enumerate(heads.value):
        columns |= dict.fromkeys(score_columns(number, head), "float")
    tasks = spark.range(0, len(files), 1, max(1, len(files)))
    return tasks.mapInArrow(score, spark_schema(columns))


def select_head(scored: DataFrame, number: int, head: Head) -> DataFrame:
    """Selects the columns of `scores.table_of(head)` from the result of `score_images`."""
    names = score_columns(number, head)
    columns = [F.col(f"`{name}`").alias(name.partition("_")[2]) for name in names]
    return scored.select(*IMAGE_COLUMNS, F.lit(head.head_id).alias("head_id"), *columns)


def suggest_classes(scores: DataFrame, classes: Iterable[str]) -> DataFrame:
    """The most probable class of each image, for people to confirm or to correct.

    Args:
        scores: a run of `schemas.SCORES`, whatever its classes.
        classes: labels.classes; another class is not suggested.

    Returns:
        image_id, suggested (the most probable class, the first of equal ones; null if it is not
        among `classes`), certainty (its probability, double), uncertainty (double, [0, 1]: 1 - the
        lead of the most probable class over the second, so 1 if a head cannot distinguish two
        classes), head_id and scored_digest (content_digest when it was scored). One row per scored
        image.
        Source: Scheffer, Decomain and Wrobel, Active Hidden Markov Models (2001): sampling by
        margin.
    """
    names = [name for name in scores.columns if name.startswith("p_")]
    values = {name: F.col(f"`{name}`").cast("double") for name in names}
    ordered = F.sort_array(F.array(*values.values()), asc=False)
    first, second = ordered[0], ordered[1]
    allowed = set(classes)
    candidates = []
    for name in names:
        label = name.removeprefix("p_")
        suggestion = F.lit(label if label in allowed else None).cast("string")
        candidates.append(F.when(values[name] == first, F.struct(suggestion.alias("label"))))
    return scores.select(
        "image_id",
        F.coalesce(*candidates)["label"].alias("suggested"),
        first.alias("certainty"),
        (1 - (first - second)).alias("uncertainty"),
        "head_id",
        F.col("content_digest").alias("scored_digest"),
    )


def _check_worker(store: Store, heads: Iterable[Head]) -> None:
    """Checks that this worker reads the store and computes the golden scores; once."""
    if store.root not in _checked:
        store.require_here(doing="scoring on a worker, before its first batch")
        _checked.add(store.root)
    for head in heads:
        if head.head_id not in _checked:
            doing = f"checking the head {head.head_id} on a worker, before its first batch"
            head.require_golden_scores(doing=doing)
            _checked.add(head.head_id)

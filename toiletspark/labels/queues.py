"""Which images people are asked about: the newest sample, or the newest queue; and what a head suggests of them."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Labels
from toiletspark.errors import OutputError
from toiletspark.scoring import tasks as scoring
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Run, Store

_STEPS = {"suggest": "labels suggest", "second_look": "labels second-look", "leaks": "leaks draw"}


def newest(store: Store, section: Labels, *, doing: str) -> Run:
    """The run of the images that labels.of names.

    Raises:
        OutputError: there is none; the message names the step that makes one.
    """
    if section.of == "sample":
        return store.require(tables.SAMPLE, doing=doing, step="sample")
    for run in reversed(store.runs(tables.QUEUES)):
        if run.inputs.kind == section.of:
            return run
    raise OutputError(
        doing=doing,
        expected=f"a queue of kind {section.of} (labels.of) in {store.root}/{tables.QUEUES.name}",
        found="none",
        todo=f"run `toiletspark {_STEPS[section.of]}` with the same configuration first",
    )


def images(spark: SparkSession, run: Run) -> DataFrame:
    """image_id and rank (int, 1 = first; null in a sample), one row per image."""
    found = frames.read_run(spark, run)
    rank = F.col("rank") if run.table == tables.QUEUES.name else F.lit(None)
    return found.select("image_id", rank.cast("int").alias("rank"))


def suggestions(spark: SparkSession, scores: Run | None, section: Labels) -> DataFrame:
    """`scoring.suggest_classes` of a run of scores; no rows where there is none."""
    if scores is not None:
        return scoring.suggest_classes(frames.read_run(spark, scores), section.classes)
    columns = {
        "image_id": "string",
        "suggested": "string",
        "certainty": "double",
        "uncertainty": "double",
    }
    return frames.no_rows(spark, {**columns, "head_id": "string", "scored_digest": "string"})

"""Labelling queues: which images people label now, and the classes that a head suggests."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Labels
from toiletspark.errors import OutputError
from toiletspark.scoring.scores import suggest_classes
from toiletspark.tables import spark_io
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import QUEUES, SAMPLE

_STEPS = {"suggest": "labels suggest", "second_look": "labels second-look", "leaks": "leaks draw"}


def newest(store: Store, section: Labels, *, doing: str) -> Run:
    """The run of the images that labels.of names: the newest sample, or the newest queue of a kind.

    Raises an OutputError that names the step that makes one, if there is none.
    """
    if section.of == "sample":
        return store.require(SAMPLE, doing=doing, step="sample")
    for run in reversed(store.runs(QUEUES)):
        if run.inputs.kind == section.of:
            return run
    raise OutputError(
        doing=doing,
        expected=f"a queue of kind {section.of} (labels.of) in {store.root}/{QUEUES.name}",
        found="none",
        todo=f"run `toiletspark {_STEPS[section.of]}` with the same configuration first",
    )


def images(spark: SparkSession, run: Run) -> DataFrame:
    """image_id and rank (int, 1 = first; null in a sample), one row per image."""
    rank = F.col("rank") if run.table == QUEUES.name else F.lit(None)
    return spark_io.read_run(spark, run).select("image_id", rank.cast("int").alias("rank"))


def suggestions(spark: SparkSession, scores: Run | None, section: Labels) -> DataFrame:
    """`scores.suggest_classes` of a run of scores; no rows without one."""
    if scores is not None:
        return suggest_classes(spark_io.read_run(spark, scores), section.classes)
    columns = {"image_id": "string", "suggested": "string", "certainty": "double"}
    columns |= {"uncertainty": "double", "head_id": "string", "scored_digest": "string"}
    return spark_io.no_rows(spark, columns)

"""Draws what to label next: what the head is unsure of, and a random part over all strata.

spark-submit --py-files dist/*.whl jobs/suggest_labels.py --conf-file mytables.toml
"""

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import progress
from toiletspark.config.command_line import Summary
from toiletspark.errors import LabelsError, OutputError
from toiletspark.labels import queues
from toiletspark.labels.training_inputs import training_set
from toiletspark.launch.job import Job
from toiletspark.sampling import active_learning
from toiletspark.tables import arrow_io, spark_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import CATALOG, EMBEDDINGS, LABELS, QUEUES, SCORES
from toiletspark.tables.workspace import Workspace

DOING = "suggesting what to label next"


def step(work: Workspace) -> Summary:
    """Makes a queue without images that look like a labelled one, and with one of those alike."""
    store, section = work.store, work.config.suggest
    scores = store.require(SCORES, doing=DOING, step="score")
    labels = store.newest(LABELS)
    embeddings = spark_io.read_all(work.spark, store, EMBEDDINGS)
    embeddings = embeddings.where(F.col("backbone_id") == scores.inputs.backbone_id)

    free, population = _population(work, scores, labels, embeddings)
    counts = _counts(free, population)
    drawn = active_learning.draw(population, section.size, section.random_share, section.seed)
    drawn = spark_io.set_aside(drawn, store, work.run_id, "drawn")
    vectors = active_learning.read_vectors(embeddings, drawn)
    rows = [row.asDict() for row in drawn.collect()]
    min_cosine = work.config.lookalikes.min_cosine
    queue, stands_for = active_learning.make_queue(rows, vectors, min_cosine, section.seed)
    store.clear(work.run_id)
    if not queue:
        raise LabelsError(
            doing=DOING,
            expected="sound images that are not labelled and do not look like a labelled one",
            found=f"none; {counts['like_a_labelled_one']} contents look like a labelled one",
            todo="there is nothing to suggest; raise lookalikes.min_cosine if too much looks alike",
        )

    inputs = Inputs(
        kind="suggest",
        catalog=scores.inputs.catalog,
        scores=scores.run_id,
        labels=labels.run_id if labels else None,
        head_id=scores.inputs.head_id,
    )
    recorded = work.config.recorded()
    figures = {**counts, "drawn": len(rows), "stands_for": stands_for}
    run = arrow_io.write(
        store, QUEUES, work.run_id, queue, config=recorded, inputs=inputs, counts=figures
    )
    uncertain = sum(row["reason"] == "uncertain" for row in queue)
    summary = {"suggested": run.rows, "uncertain": uncertain, "random": run.rows - uncertain}
    return {**summary, "lookalikes": len(stands_for), **counts, "queue": run.folder}


def _population(
    work: Workspace, scores: Run, labels: Run | None, embeddings: DataFrame
) -> tuple[DataFrame, DataFrame]:
    """The unlabelled contents, and the ones that look like no labelled content; set aside."""
    spark, store, config = work.spark, work.store, work.config

    catalog = spark_io.read_run(spark, _scored_catalog(store, scores))
    label_rows = spark_io.read_if_any(spark, labels, LABELS)
    settled = training_set.settle(label_rows, catalog)
    settled = spark_io.set_aside(settled, store, work.run_id, "settled")
    suggested = queues.suggestions(spark, scores, config.labels)
    free = active_learning.candidates(catalog, suggested, settled, config.suggest.sharpness)
    free = spark_io.set_aside(free, store, work.run_id, "free")
    vectors = active_learning.read_vectors(embeddings, settled).values()
    labelled = spark.sparkContext.broadcast(active_learning.stack(vectors))
    count, every_s = free.count(), config.progress.line_every_s
    with (
        spark_io.arrow_batches(spark, config.score.rows_per_batch),
        progress.watch(spark, "comparing", count, unit="contents", line_every_s=every_s),
    ):
        min_cosine = config.lookalikes.min_cosine
        alike = active_learning.near_labelled(embeddings, labelled, min_cosine).distinct()
        unlike = free.join(alike, on="content_digest", how="left_anti")
        return free, spark_io.set_aside(unlike, store, work.run_id, "population")


def _scored_catalog(store: Store, scores: Run) -> Run:
    """The catalog that was scored: images that came later have no uncertainty yet."""
    run_id = scores.inputs.catalog
    if catalog := store.run(CATALOG, run_id):
        return catalog
    raise OutputError(
        doing=DOING,
        expected=f"the catalog {run_id}, to which the newest scores belong",
        found="no such run",
        todo="run `toiletspark score` again",
    )


def _counts(free: DataFrame, population: DataFrame) -> dict[str, Any]:
    images = population.agg(F.coalesce(F.sum("images"), F.lit(0))).collect()[0][0]
    contents = population.count()
    return {"contents": contents, "images": images, "like_a_labelled_one": free.count() - contents}


JOB = Job("suggest_labels", step, __doc__)

if __name__ == "__main__":
    JOB.submit()

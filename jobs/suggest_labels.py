"""Draws what to label next: what the head is unsure of, and a random part over all strata.

spark-submit --py-files dist/*.whl jobs/suggest_labels.py --conf-file mytables.toml
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import progress
from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.errors import LabelsError, OutputError
from toiletspark.labels import queues as asked
from toiletspark.labels.training_inputs import training_set
from toiletspark.launch import job as entry
from toiletspark.sampling import active_learning as suggestion
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Run, Store, new_run_id

DOING = "suggesting what to label next"


def step(spark: SparkSession, config: Config) -> Summary:
    """Images that look like a labelled one are left out; of drawn ones that look alike people are asked about one."""
    store, run_id, section = Store.open(config.output.root), new_run_id(), config.suggest
    scores = store.require(tables.SCORES, doing=DOING, step="score")
    labels = store.newest(tables.LABELS)
    embeddings = frames.read_all(spark, store, tables.EMBEDDINGS)
    embeddings = embeddings.where(F.col("backbone_id") == scores.manifest["inputs"]["backbone_id"])

    free, population = _population(spark, config, store, run_id, scores, labels, embeddings)
    counts = _counted(free, population)
    drawn = suggestion.draw(population, section.size, section.random_share, section.seed)
    drawn = frames.set_aside(drawn, store, run_id, "drawn")
    vectors = suggestion.vectors(embeddings, drawn)
    found = [row.asDict() for row in drawn.collect()]
    queue, stands_for = suggestion.queue(found, vectors, config.lookalikes.min_cosine, section.seed)
    store.clear(run_id)
    if not queue:
        raise LabelsError(
            doing=DOING,
            expected="sound images that are not labelled and do not look like a labelled one",
            found=f"none; {counts['like_a_labelled_one']} contents look like a labelled one",
            todo="there is nothing to suggest; raise lookalikes.min_cosine if too much looks alike",
        )

    inputs = {
        "kind": "suggest",
        "catalog": scores.manifest["inputs"]["catalog"],
        "scores": scores.run_id,
    }
    inputs |= {
        "labels": labels.run_id if labels else None,
        "head_id": scores.manifest["inputs"]["head_id"],
    }
    facts = {**counts, "drawn": len(found), "stands_for": stands_for}
    run = rows.write(
        store, tables.QUEUES, run_id, queue, config=config.recorded(), inputs=inputs, counts=facts
    )
    uncertain = sum(row["reason"] == "uncertain" for row in queue)
    told = {"suggested": run.rows, "uncertain": uncertain, "random": run.rows - uncertain}
    return {**told, "lookalikes": len(stands_for), **counts, "queue": run.folder}


def _population(
    spark: SparkSession,
    config: Config,
    store: Store,
    run_id: str,
    scores: Run,
    labels: Run | None,
    embeddings: DataFrame,
) -> tuple[DataFrame, DataFrame]:
    """The contents that nobody has labelled, and those of them that do not look like a labelled one; set aside."""
    catalog = frames.read_run(spark, _scored_catalog(store, scores))
    said = (
        frames.read_run(spark, labels) if labels else frames.no_rows(spark, tables.LABELS.columns)
    )
    settled = frames.set_aside(training_set.settle(said, catalog), store, run_id, "settled")
    suggested = asked.suggestions(spark, scores, config.labels)
    free = suggestion.candidates(catalog, suggested, settled, config.suggest.sharpness)
    free = frames.set_aside(free, store, run_id, "free")
    labelled = spark.sparkContext.broadcast(
        suggestion.stacked(suggestion.vectors(embeddings, settled).values())
    )
    with (
        frames.arrow_batches(spark, config.score.rows_per_batch),
        progress.watch(
            spark,
            "comparing",
            free.count(),
            unit="contents",
            line_every_s=config.progress.line_every_s,
        ),
    ):
        alike = suggestion.looking_like(
            embeddings, labelled, config.lookalikes.min_cosine
        ).distinct()
        unlike = free.join(alike, on="content_digest", how="left_anti")
        return free, frames.set_aside(unlike, store, run_id, "population")


def _scored_catalog(store: Store, scores: Run) -> Run:
    """The catalog that was scored: images that came later have no uncertainty yet."""
    if found := store.run(tables.CATALOG, scores.manifest["inputs"]["catalog"]):
        return found
    raise OutputError(
        doing=DOING,
        expected=f"the catalog {scores.manifest['inputs']['catalog']}, to which the newest scores belong",
        found="no such run",
        todo="run `toiletspark score` again",
    )


def _counted(free: DataFrame, population: DataFrame) -> dict[str, Any]:
    images = population.agg(F.coalesce(F.sum("images"), F.lit(0))).collect()[0][0]
    contents = population.count()
    return {"contents": contents, "images": images, "like_a_labelled_one": free.count() - contents}


if __name__ == "__main__":
    entry.submit(step)

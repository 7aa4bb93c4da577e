"""Scores every image of the catalog from stored embeddings: reads no image, needs no torch.

    spark-submit --py-files dist/*.whl jobs/score_catalog.py --conf-file mytables.toml

Several heads share one pass: score.head, whose scores are published, and score.more_heads, to
compare with.
"""

from toiletspark import progress
from toiletspark.config.command_line import Summary
from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.launch.job import Job
from toiletspark.model import registry
from toiletspark.scoring import scores, tasks
from toiletspark.tables import spark_io
from toiletspark.tables.schemas import CATALOG
from toiletspark.tables.workspace import Workspace


def step(work: Workspace) -> Summary:
    """Makes one run of scores per head; those of score.more_heads are never published."""
    spark, store, config = work.spark, work.store, work.config
    catalog = store.require(CATALOG, doing=scores.DOING, step="embed")
    chosen = [registry.load(folder) for folder in config.score.more_heads]
    chosen.append(registry.current(store, config.score.head, doing=scores.DOING))
    for head in chosen:
        registry.require_backbone(head, catalog.inputs.backbone_id, doing=scores.DOING)

    errors = WorkerErrors(spark.sparkContext)
    broadcast = spark.sparkContext.broadcast(chosen)
    scored = tasks.score_images(work, catalog, broadcast, errors)
    every_s = config.progress.line_every_s
    with progress.watch(spark, "scoring", catalog.rows, line_every_s=every_s):
        if len(chosen) > 1:
            scored = spark_io.set_aside(scored, store, work.run_id, "scored")
        writer = scores.ScoreWriter(work, catalog, errors)
        runs = []
        for number, head in enumerate(chosen):
            compared = number < len(chosen) - 1
            rows = tasks.select_head(scored, number, head)
            runs.append(writer.write(rows, head, compared=compared))
    store.clear(work.run_id)
    *others, published = runs
    summary: Summary = {
        "images": catalog.rows,
        "scored": published.rows,
        "head_id": chosen[-1].head_id,
        "scores": published.folder,
    }
    if others:
        summary["more_scores"] = {run.inputs.head_id: run.folder for run in others}
    return summary


JOB = Job("score_catalog", step, __doc__)

if __name__ == "__main__":
    JOB.submit()

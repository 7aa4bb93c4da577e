"""Scores every image of the catalog from stored embeddings: reads no image, needs no torch.

    spark-submit --py-files dist/*.whl jobs/score_catalog.py --conf-file mytables.toml

Several heads share one pass: score.head, whose scores are published, and score.more_heads, to compare with.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark import progress
from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.embedding.worker_errors import Refusals
from toiletspark.launch import job as entry
from toiletspark.model import head as heads
from toiletspark.scoring import scores
from toiletspark.scoring import tasks as scoring
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import COMPARED, Store, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """One run per head; those of score.more_heads say that they are to be compared with, and are never published."""
    store, run_id = Store.open(config.output.root), new_run_id()
    seen = scores.catalog(store)
    chosen = [
        *map(heads.load, config.score.more_heads),
        heads.current(store, config.score.head, doing=scores.DOING),
    ]
    for one in chosen:
        heads.require_backbone(one, seen.manifest["inputs"]["backbone_id"], doing=scores.DOING)

    refusals, broadcast = Refusals(spark.sparkContext), spark.sparkContext.broadcast(chosen)
    scored = scoring.score_images(
        spark, store, seen, broadcast, refusals, config.score.rows_per_batch
    )
    with progress.watch(spark, "scoring", seen.rows, line_every_s=config.progress.line_every_s):
        if len(chosen) > 1:
            scored = frames.set_aside(scored, store, run_id, "scored")
        keeper, runs = scores.Keeper(seen, store, config, refusals), []
        for number, one in enumerate(chosen):
            inputs = {COMPARED: True} if number < len(chosen) - 1 else {}
            runs.append(keeper.keep(scoring.of_head(scored, number, one), one, inputs))
    store.clear(run_id)
    others = (
        {"more_scores": {run.manifest["inputs"]["head_id"]: run.folder for run in runs[:-1]}}
        if runs[1:]
        else {}
    )
    told = {
        "images": seen.rows,
        "scored": runs[-1].rows,
        "head_id": chosen[-1].head_id,
        "scores": runs[-1].folder,
    }
    return {**told, **others}


if __name__ == "__main__":
    entry.submit(step)

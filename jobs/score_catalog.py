"""Scores every image of the catalog with a head, from stored embeddings: reads no image, needs no torch.

spark-submit --py-files dist/*.whl jobs/score_catalog.py --conf-file mytables.toml
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark import entry, frames, head, progress, scoring, session, tables
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.errors import OutputError
from toiletspark.runs import Store, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """One row per image whose content has an embedding of the head's backbone."""
    store, doing = Store.open(config.output.root), "scoring the catalog"
    chosen = head.current(store, config.score.head, doing=doing)
    seen = store.require(tables.CATALOG, doing=doing, step="embed")
    head.require_backbone(chosen, seen.manifest["inputs"]["backbone_id"], doing=doing)

    images = frames.read_run(spark, seen)
    ledger = frames.read_all(spark, store, tables.IMAGE_LEDGER)
    embeddings = frames.read_all(spark, store, tables.EMBEDDINGS)
    lacking = scoring.not_embedded(images, ledger, embeddings, chosen.backbone_id).count()
    if lacking:
        raise OutputError(
            doing=doing,
            expected=f"an attempt and, if sound, an embedding for each of the {seen.rows} images of the catalog",
            found=f"{lacking} images without; the embedding of run {seen.run_id} did not end",
            todo="run `toiletspark embed` (or `rescore`) again; it goes on with what is missing",
        )
    scores = scoring.score_catalog(images, ledger, embeddings, spark.sparkContext.broadcast(chosen))
    with (
        session.arrow_batches(spark, config.score.rows_per_batch),
        progress.watch(spark, "scoring", seen.rows, line_every_s=config.progress.line_every_s),
    ):
        run = frames.write_run(
            scores,
            store,
            scoring.scores_table(chosen),
            new_run_id(),
            config=config.recorded(),
            inputs={"catalog": seen.run_id, "head_id": chosen.head_id, "backbone_id": chosen.backbone_id},
            counts={"images": seen.rows},
        )
    return {"images": seen.rows, "scored": run.rows, "head_id": chosen.head_id, "scores": run.folder}


if __name__ == "__main__":
    entry.submit(step)

"""Gathers the labelled embeddings on the cluster, then fits a head to them in a process of its own on this machine.

    spark-submit --py-files dist/*.whl jobs/train_head.py --conf-file mytables.toml

`python -m training.train` alone fits again on what was gathered last, without Spark and without Java.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark import entry, frames, tables, trainer, training_set
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.errors import LabelsError
from toiletspark.runs import Store, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """Labels whose image has no embedding are counted, not used."""
    store, doing = Store.open(config.output.root), "gathering the training set"
    labels = store.require(tables.LABELS, doing=doing, step="labels import")
    seen = store.require(tables.CATALOG, doing=doing, step="embed")
    sample = store.newest(tables.SAMPLE)
    backbone_id = seen.manifest["inputs"]["backbone_id"]

    gathered = training_set.gather(
        frames.read_run(spark, labels),
        frames.read_run(spark, seen),
        frames.read_all(spark, store, tables.EMBEDDINGS),
        frames.read_run(spark, sample) if sample else frames.no_rows(spark, tables.SAMPLE.columns),
        backbone_id,
    )
    inputs = {"labels": labels.run_id, "catalog": seen.run_id, "backbone_id": backbone_id}
    run = frames.write_run(
        gathered.coalesce(1),
        store,
        tables.TRAINING_SET,
        new_run_id(),
        config=config.recorded(),
        inputs=inputs,
    )
    if not run.rows:
        raise LabelsError(
            doing=doing,
            expected="labelled images that have an embedding",
            found=f"{labels.rows} labels, none of whose images could be embedded",
            todo=f"see the column status in {store.root}/{tables.IMAGE_LEDGER.name}",
        )
    return {"labelled": labels.rows, "without_embedding": labels.rows - run.rows, **trainer.train(config)}


if __name__ == "__main__":
    entry.submit(step)

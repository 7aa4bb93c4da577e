"""Gathers labelled embeddings and golden images on the cluster, then fits a head to them in a process of its own here.

    spark-submit --py-files dist/*.whl jobs/train_head.py --conf-file mytables.toml

`python -m training.train` alone fits again on what was gathered last, without Spark and without Java.
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import entry, frames, golden_set, tables, trainer, training_images, training_set, training_views
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.errors import LabelsError, shown
from toiletspark.reports import evaluated
from toiletspark.runs import Store, new_run_id

DOING = "gathering the training set"


def step(spark: SparkSession, config: Config) -> Summary:
    """Labels whose image has no embedding are counted, not used; those in conflict as labels.conflicts says."""
    store, gathered = Store.open(config.output.root), gather(spark, config, tables.TRAINING_SET)
    source = store.require(tables.TRAINING_SET, doing=DOING, step="train")
    gathered |= golden_set.keep(spark, store, config, source)
    gathered |= training_views.gather(spark, config) | training_images.gather(spark, config)
    trained = trainer.train(config)
    return {**gathered, **trained, "head_report": evaluated.write_page(spark, config, trained["head"])}


def gather(spark: SparkSession, config: Config, table: tables.Table) -> Summary:
    """Keeps labelled embeddings as a run; tells how many images were labelled, and which of them had to be left out."""
    store, run_id = Store.open(config.output.root), new_run_id()
    labels = store.require(tables.LABELS, doing=DOING, step="labels import")
    seen = store.require(tables.CATALOG, doing=DOING, step="embed")
    backbone_id = seen.manifest["inputs"]["backbone_id"]
    settled = training_set.settle(frames.read_run(spark, labels), frames.read_run(spark, seen))
    settled = training_set.placed(settled, training_set.homes(spark, store))
    settled = frames.set_aside(settled, store, run_id, "settled")
    labelled, disputed = settled.count(), settled.where("in_conflict").count()
    usable = _undisputed(settled, disputed, config, store) if table is tables.TRAINING_SET else settled

    embeddings, drawn = frames.read_all(spark, store, tables.EMBEDDINGS), training_set.draws(spark, store)
    run = frames.write_run(
        training_set.gather(usable, embeddings, drawn, backbone_id).coalesce(1),
        store,
        table,
        run_id,
        config=config.recorded(),
        inputs={"labels": labels.run_id, "catalog": seen.run_id, "backbone_id": backbone_id},
    )
    without = usable.count() - run.rows
    store.clear(run_id)
    if not run.rows:
        raise LabelsError(
            doing=DOING,
            expected="labelled images that have an embedding",
            found=f"{labelled} labels, none of whose images could be embedded",
            todo=f"see the column status in {store.root}/{tables.IMAGE_LEDGER.name}",
        )
    return {"labelled": labelled, "without_embedding": without, "in_conflict": disputed}


def _undisputed(settled: DataFrame, disputed: int, config: Config, store: Store) -> DataFrame:
    """What is trained on, as labels.conflicts says."""
    how = config.labels.conflicts
    if not disputed:
        return settled
    ids = sorted(row["image_id"] for row in settled.where("in_conflict").select("image_id").collect())
    if how == "fail":
        raise LabelsError(
            doing=DOING,
            expected="labels that agree about each content (labels.conflicts is fail)",
            found=f"{disputed} images about whose content labels contradict each other: {shown(ids)}",
            todo=f"settle them, see {store.root}/{tables.CONFLICTS.name}; or set labels.conflicts=leave_out or newest",
        )
    print(f"toiletspark: labels contradict each other about the content of {shown(ids)}: {how}", file=sys.stderr)
    return settled.withColumn("label", F.col("newest")) if how == "newest" else settled.where(~F.col("in_conflict"))


if __name__ == "__main__":
    entry.submit(step)

"""Gathers the labelled embeddings on the cluster, then fits a head to them in a process of its own on this machine.

    spark-submit --py-files dist/*.whl jobs/train_head.py --conf-file mytables.toml

`python -m training.train` alone fits again on what was gathered last, without Spark and without Java.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import entry, frames, tables, trainer, training_set
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.errors import LabelsError
from toiletspark.runs import Store, new_run_id

DOING = "gathering the training set"


def step(spark: SparkSession, config: Config) -> Summary:
    """Labels whose image has no embedding are counted, not used; those in conflict as labels.conflicts says."""
    gathered = gather(spark, config)
    return {**gathered, **trainer.train(config)}


def gather(spark: SparkSession, config: Config) -> Summary:
    """Keeps the training set as a run; tells how many images were labelled, and which of them it had to leave out."""
    store, run_id = Store.open(config.output.root), new_run_id()
    labels = store.require(tables.LABELS, doing=DOING, step="labels import")
    seen = store.require(tables.CATALOG, doing=DOING, step="embed")
    backbone_id = seen.manifest["inputs"]["backbone_id"]
    settled = training_set.settle(frames.read_run(spark, labels), frames.read_run(spark, seen))
    settled = frames.set_aside(settled, store, run_id, "settled")
    labelled, disputed = settled.count(), settled.where("in_conflict").count()
    usable = _usable(settled, disputed, config, store)

    run = frames.write_run(
        training_set.gather(
            usable, frames.read_all(spark, store, tables.EMBEDDINGS), training_set.draws(spark, store), backbone_id
        ).coalesce(1),
        store,
        tables.TRAINING_SET,
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


def _usable(settled: DataFrame, disputed: int, config: Config, store: Store) -> DataFrame:
    """What is trained on, as labels.conflicts says."""
    how = config.labels.conflicts
    if how == "fail" and disputed:
        raise LabelsError(
            doing=DOING,
            expected="labels that agree about each content (labels.conflicts is fail)",
            found=f"{disputed} images about whose content labels contradict each other",
            todo=f"settle them, see {store.root}/{tables.CONFLICTS.name}; or set labels.conflicts=leave_out or newest",
        )
    return settled if how == "newest" else settled.where(~F.col("in_conflict"))


if __name__ == "__main__":
    entry.submit(step)

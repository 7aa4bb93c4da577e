"""Gathers labelled embeddings and golden images on the cluster, then fits a head to them in a process of its own here.

    spark-submit --py-files dist/*.whl jobs/train_head.py --conf-file mytables.toml

`python -m training.train` alone fits again on what was gathered last, without Spark and without Java.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark import entry, golden_set, tables, trainer, training_images, training_set, training_views
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.reports import evaluated
from toiletspark.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """Labels whose image has no embedding are counted, not used; those in conflict as labels.conflicts says."""
    store, gathered = Store.open(config.output.root), training_set.gather(spark, config, tables.TRAINING_SET)
    source = store.require(tables.TRAINING_SET, doing="training the head", step="train")
    gathered |= golden_set.keep(spark, store, config, source)
    gathered |= training_views.gather(spark, config) | training_images.gather(spark, config)
    trained = trainer.train(config)
    return {**gathered, **trained, "head_report": evaluated.write_page(spark, config, trained["head"])}


if __name__ == "__main__":
    entry.submit(step)

"""Gathers labelled embeddings and golden images on the cluster, then fits a head to them in a process of its own here.

    spark-submit --py-files dist/*.whl jobs/train_head.py --conf-file mytables.toml

`python -m training.train` alone fits again on what was gathered last, without Spark and without Java.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.labels.training_inputs import (
    golden_images as golden_set,
)
from toiletspark.labels.training_inputs import (
    training_images,
    training_set,
    training_views,
)
from toiletspark.launch import job as entry
from toiletspark.launch import trainer
from toiletspark.reports.head_page import gather as evaluated
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """Labels whose image has no embedding are counted, not used; those in conflict as labels.conflicts says."""
    store, gathered = (
        Store.open(config.output.root),
        training_set.gather(spark, config, tables.TRAINING_SET),
    )
    source = store.require(tables.TRAINING_SET, doing="training the head", step="train")
    gathered |= golden_set.keep(spark, store, config, source)
    gathered |= training_views.gather(spark, config) | training_images.gather(spark, config)
    trained = trainer.train(config)
    return {
        **gathered,
        **trained,
        "head_report": evaluated.write_page(spark, config, trained["head"]),
    }


if __name__ == "__main__":
    entry.submit(step)

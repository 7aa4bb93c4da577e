"""Gathers the labelled embeddings on the cluster, then ranks the labels that are most likely wrong.

    spark-submit --py-files dist/*.whl jobs/second_look.py --conf-file mytables.toml

The ranking itself is a process of its own on this machine (`python -m training.second_look`), as training is.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.labels.training_inputs import training_set
from toiletspark.launch import job as entry
from toiletspark.launch import trainer
from toiletspark.tables import schemas as tables


def step(spark: SparkSession, config: Config) -> Summary:
    """One queue over all labelled images, the most doubtful label first; also what is in conflict has its place."""
    return {
        **training_set.gather(spark, config, tables.SECOND_LOOK_SET),
        **trainer.second_look(config),
    }


if __name__ == "__main__":
    entry.submit(step)

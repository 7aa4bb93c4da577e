"""Reads what people say of the sampled images: from class folders, or from a table that already holds labels.

spark-submit --py-files dist/*.whl jobs/import_labels.py --conf-file mytables.toml
"""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession

from toiletspark import catalog, entry, label_table, labels
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """The newest import holds all labels that count; earlier ones stay as they are."""
    store = Store.open(config.output.root)
    if config.labels.table.path:
        source = config.labels.table.path
        found = label_table.import_table(spark, config.labels, catalog.read_catalog(spark, config))
    else:
        source = config.labels_folder
        found = labels.import_folder(Path(source), config.labels.classes)
    run = labels.write(store, found, config.labels.labeller, config.recorded(), source)
    return {"labelled": run.rows, "per_class": run.manifest["counts"]["per_class"], "labels": run.folder}


if __name__ == "__main__":
    entry.submit(step)

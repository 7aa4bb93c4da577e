"""Reads what people say of images: from class folders, from a table, or from a file (contact sheet, Label Studio).

    spark-submit --py-files dist/*.whl jobs/import_labels.py --conf-file mytables.toml

What is new is merged with all that was said before; see `toiletspark.labels` for the rules.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from jobs import import_overrides
from toiletspark import catalog, class_folders, entry, label_files, label_table, labels, tables
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.labels import Said
from toiletspark.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """Then also what the table of overrides says as labels, if there is one."""
    return {**of_people(spark, config), **import_overrides.step(spark, config)}


def of_people(spark: SparkSession, config: Config) -> Summary:
    """Tells what has changed since the last import, and who contradicts whom."""
    store, (said, source) = Store.open(config.output.root), _said(spark, config)
    run, merged = labels.keep(store, said, config.labels.labeller, config.recorded(), source)
    told, counts = merged.told(), run.manifest["counts"]
    disputed = labels.conflicts(merged.labels.values())
    print(f"toiletspark: labels: {told}", file=sys.stderr)
    for one in disputed[:5]:
        print(f"toiletspark: in conflict: {labels.shown_conflict(one)}", file=sys.stderr)
    return {
        "labelled": counts["images"],
        "per_class": counts["per_class"],
        "since_last": told,
        **merged.counts(),
        "conflicts": counts["conflicts"],
        "labels": run.folder,
        "conflicts_table": store.folder(tables.CONFLICTS, run.run_id),
    }


def _said(spark: SparkSession, config: Config) -> tuple[Said, str]:
    """What the source says, and its name: a file goes before a table, and a table before class folders."""
    section = config.labels
    if section.file:
        said = label_files.read(section.file, section.classes)
        label_table.require_known(spark, said.labels, catalog.read_catalog(spark, config), section.file)
        return said, section.file
    if section.table.path:
        return label_table.import_table(spark, section, catalog.read_catalog(spark, config)), section.table.path
    return class_folders.read(Path(config.labels_folder), section.classes, section.reviewed), config.labels_folder


if __name__ == "__main__":
    entry.submit(step)

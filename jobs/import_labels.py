"""Reads what people say of images: from class folders, from a table, or from a file (contact sheet, Label Studio); and
what the table of overrides says with its decisions.

    spark-submit --py-files dist/*.whl jobs/import_labels.py --conf-file mytables.toml

What is new is merged with all that was said before; see `toiletspark.labels` for the rules.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.labels import class_folders, label_files, label_table
from toiletspark.labels import merge as labels
from toiletspark.labels.merge import Said
from toiletspark.launch import job as entry
from toiletspark.publishing import overrides
from toiletspark.tables import schemas as tables
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.runs import Run, Store


def step(spark: SparkSession, config: Config) -> Summary:
    """Then also what the table of overrides says as labels, if there is one."""
    return {**of_people(spark, config), **of_overrides(spark, config)}


def of_people(spark: SparkSession, config: Config) -> Summary:
    """Tells what has changed since the last import, and who contradicts whom."""
    store, (said, source) = Store.open(config.output.root), _said(spark, config)
    run, merged = labels.keep(store, said, config.labels.labeller, config.recorded(), source)
    told = merged.told()
    disputed = labels.conflicts(merged.labels.values())
    print(f"toiletspark: labels: {told}", file=sys.stderr)
    for one in disputed[:5]:
        print(f"toiletspark: in conflict: {labels.shown_conflict(one)}", file=sys.stderr)
    return {**_kept(store, run), "since_last": told, **merged.counts()}


def of_overrides(spark: SparkSession, config: Config) -> Summary:
    """Nothing where there is no table of overrides, or nothing in it and there are no labels yet."""
    store, path = Store.open(config.output.root), config.overrides.path
    if not path:
        return {}
    said, missing = overrides.as_labels(spark, store, config)
    if not (said.labels or store.newest(tables.LABELS)):
        return {"labels_of_overrides": {"labels": 0, **missing}}
    run, merged = labels.keep(store, said, config.labels.labeller, config.recorded(), path)
    print(f"toiletspark: labels of overrides: {merged.told()}", file=sys.stderr)
    told = {"labels": len(said.labels), **missing, "since_last": merged.told()}
    return {**_kept(store, run), "labels_of_overrides": told}


def _kept(store: Store, run: Run) -> Summary:
    """What the labels are by now."""
    counts = run.manifest["counts"]
    return {
        "labelled": counts["images"],
        "per_class": counts["per_class"],
        "conflicts": counts["conflicts"],
        "labels": run.folder,
        "conflicts_table": store.folder(tables.CONFLICTS, run.run_id),
    }


def _said(spark: SparkSession, config: Config) -> tuple[Said, str]:
    """What the source says, and its name: a file goes before a table, and a table before class folders."""
    section = config.labels
    if section.file:
        said = label_files.read(section.file, section.classes)
        label_table.require_known(
            spark, said.labels, catalog.read_catalog(spark, config), section.file
        )
        return said, section.file
    if section.table.path:
        return label_table.import_table(
            spark, section, catalog.read_catalog(spark, config)
        ), section.table.path
    return class_folders.read(
        Path(config.labels_folder), section.classes, section.reviewed
    ), config.labels_folder


if __name__ == "__main__":
    entry.submit(step)

"""Every step in order: sample, labels, embed, train, score, publish, feed, report.

    spark-submit --py-files dist/*.whl jobs/run_chain.py --conf-file mytables.toml

The first run on a new catalog ends at the labels, which people make; the second goes on from there.
"""

from __future__ import annotations

import functools
from pathlib import Path

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.errors import LabelsError
from toiletspark.jobs import (
    build_feed,
    draw_sample,
    embed_images,
    export_labels,
    import_labels,
    publish_exclusions,
    rescore_catalog,
    score_catalog,
    train_head,
    write_report,
)
from toiletspark.labels import class_folders
from toiletspark.launch import job as entry
from toiletspark.publishing import approvals
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store


def begin(config: Config) -> None:
    """With score.head set the backbone comes first; else it may not be needed today."""
    if config.score.head:
        rescore_catalog.begin(config)


@entry.while_spark_starts(begin)
def step(spark: SparkSession, config: Config) -> Summary:
    """With score.head set there is nothing to sample, label or train."""
    if config.score.head:
        begun = entry.in_turn(
            [rescore_catalog.require_fitting_head, embed_images.step], spark, config
        )
        return to_feed(spark, config, begun)
    before: list[entry.Step] = [draw_sample.step]
    if not (config.labels.table.path or config.labels.file):
        before.append(export_labels.step)
    begun = entry.in_turn(before, spark, config)
    if _any_new_labels(config):
        return from_labels(spark, config, begun)
    return from_imported(spark, config, begun)


def from_labels(spark: SparkSession, config: Config, begun: Summary) -> Summary:
    """From labels to the feed."""
    return from_imported(
        spark, config, entry.merged(begun, entry.in_turn([import_labels.of_people], spark, config))
    )


def from_imported(spark: SparkSession, config: Config, begun: Summary) -> Summary:
    """From labels that were imported to the feed; overrides become labels once their images' contents are known."""
    overridden: list[entry.Step] = [import_labels.of_overrides] if config.overrides.path else []
    steps: list[entry.Step] = [embed_images.step, *overridden, train_head.step]
    return to_feed(spark, config, entry.merged(begun, entry.in_turn(steps, spark, config)))


def to_feed(spark: SparkSession, config: Config, begun: Summary) -> Summary:
    """From stored embeddings and a head to the feed and its page; while a plan waits, by the live version."""
    steps: list[entry.Step] = [score_catalog.step, publish_exclusions.step]
    summary = entry.merged(begun, entry.in_turn(steps, spark, config))
    approvals.require_live(summary.get("plan"), summary["version"])
    summary = entry.merged(summary, entry.in_turn([build_feed.step], spark, config))
    report = functools.partial(write_report.step, seconds=summary["seconds"])
    return entry.merged(summary, entry.timed(report, spark, config))


def _any_new_labels(config: Config) -> bool:
    """Whether there is something to import; if not, labels must have been imported before."""
    folder, section = config.labels_folder, config.labels
    begun = class_folders.any_labelled(Path(folder), section.classes) or section.reviewed
    if section.file or section.table.path or begun:
        return True
    if Store.open(config.output.root).newest(tables.LABELS):
        return False
    raise LabelsError(
        doing="going on from the sample to the training",
        expected=f"pictures in the class folders of {folder}: {', '.join(config.labels.classes)}",
        found=f"all of them still in {class_folders.UNLABELLED}",
        todo=f"drag them from {folder}/{class_folders.UNLABELLED} into the class folders and run this again; "
        "meanwhile `toiletspark embed` can embed the catalog",
    )


if __name__ == "__main__":
    entry.submit(step)

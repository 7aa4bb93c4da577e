"""Every step in order: sample, labels, embed, train, score, publish, feed, report.

    spark-submit --py-files dist/*.whl jobs/run_chain.py --conf-file mytables.toml

The first run on a new catalog ends at the labels, which people make; the second goes on from there.
"""

from __future__ import annotations

import functools
from pathlib import Path

from pyspark.sql import SparkSession

from jobs import (
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
from toiletspark import entry, labels
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.errors import LabelsError


def step(spark: SparkSession, config: Config) -> Summary:
    """With score.head set there is nothing to sample, label or train."""
    if config.score.head:
        begun = entry.in_turn([rescore_catalog.require_fitting_head, embed_images.step], spark, config)
        return to_feed(spark, config, begun)
    before: list[entry.Step] = [draw_sample.step]
    if not config.labels.table.path:
        before.append(export_labels.step)
    begun = entry.in_turn(before, spark, config)
    _require_labels(config)
    return from_labels(spark, config, begun)


def from_labels(spark: SparkSession, config: Config, begun: Summary) -> Summary:
    """From labels to the feed."""
    steps: list[entry.Step] = [import_labels.step, embed_images.step, train_head.step]
    return to_feed(spark, config, entry.merged(begun, entry.in_turn(steps, spark, config)))


def to_feed(spark: SparkSession, config: Config, begun: Summary) -> Summary:
    """From stored embeddings and a head to the feed, and the page that shows it."""
    steps: list[entry.Step] = [score_catalog.step, publish_exclusions.step, build_feed.step]
    summary = entry.merged(begun, entry.in_turn(steps, spark, config))
    report = functools.partial(write_report.step, seconds=summary["seconds"])
    return entry.merged(summary, entry.timed(report, spark, config))


def _require_labels(config: Config) -> None:
    folder = config.labels_folder
    if config.labels.table.path or labels.any_labelled(Path(folder), config.labels.classes):
        return
    raise LabelsError(
        doing="going on from the sample to the training",
        expected=f"pictures in the class folders of {folder}: {', '.join(config.labels.classes)}",
        found=f"all of them still in {labels.UNLABELLED}",
        todo=f"drag them from {folder}/{labels.UNLABELLED} into the class folders and run this again; "
        "meanwhile `toiletspark embed` can embed the catalog",
    )


if __name__ == "__main__":
    entry.submit(step)

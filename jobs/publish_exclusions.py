"""Publishes the exclusion list as a new version: decided, written, audited, and only then shown to readers.

    spark-submit --py-files dist/*.whl jobs/publish_exclusions.py --conf-file mytables.toml

Another operating threshold, or another policy that settles it, needs this step alone.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

from toiletspark import entry, publication
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """What fails its audits is kept for a look and changes nothing."""
    store = Store.open(config.output.root)
    made = publication.make(spark, store, config, publication.sources(store))
    for alarm in made.alarms:
        print(f"toiletspark: ALARM: {alarm}", file=sys.stderr)
    version = publication.ship(store, config, made)
    return {
        "version": version.number,
        **made.figures.counts,
        "scored": made.sources.scores.rows,
        "unscored": made.figures.statuses,
        "operating_threshold": made.settled.operating_threshold,
        "threshold_reason": made.settled.reason,
        "exclusion_list": made.listed.folder,
        "unscored_table": made.unscored.folder,
        "decisions": made.decisions.folder,
        "alarms": made.alarms,
    }


if __name__ == "__main__":
    entry.submit(step)

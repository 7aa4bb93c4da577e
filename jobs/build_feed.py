"""Builds the feed by one version of the exclusion list; with it, each listing's best image and alerts for agents.

    spark-submit --py-files dist/*.whl jobs/build_feed.py --conf-file mytables.toml

feed.mode says what the feed shows; docs/feed.md has each mode as SQL, for feeds that are built elsewhere.
"""

from __future__ import annotations

import sys
from typing import Any

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.feed import alerts, best_images, feed
from toiletspark.feed import readers as exclusions
from toiletspark.launch import job as entry
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.runs import Run, Store, described_files, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """All columns of the feed table stay; inline bytes of the images table do not belong into a feed."""
    store, run_id = Store.open(config.output.root), new_run_id()
    version = exclusions.resolve(config.output.root, allow_stale=config.feed.allow_stale)
    decided = frames.read_named(spark, version.run(tables.DECISIONS))
    rows, image_id = catalog.read_feed(spark, config)
    inputs = {
        "feed": config.feed.path or config.images.path,
        "version": version.number,
        "exclusion_list": version.listed.run_id,
    }
    facts: dict[str, Any] = {"config": config.recorded(), "inputs": inputs}

    images = frames.set_aside(feed.standings(rows, decided, image_id), store, run_id, "feed_images")
    counts = feed.count(images)
    feed.require_known(
        images,
        counts,
        image_id,
        table=config.feed.path or config.images.path,
        version=version.number,
    )
    kept = feed.build_feed(
        rows, frames.read_named(spark, version.listed), decided, image_id, config.feed.mode
    )
    table = tables.Table(tables.FEED.name, (image_id,), dict(kept.dtypes))
    folder = frames.write_files(kept, store, table, run_id)
    told = feed.told(
        counts, config.feed.mode, sum(file["rows"] for file in described_files(folder))
    )
    _say(f"the feed by version {version.number} ({config.feed.mode}): {feed.sentence(told)}")

    best = best_images.of_version(spark, config, version, images)
    best_run = frames.write_run(best, store, tables.BEST_IMAGES, run_id, **facts)
    looked_at = alerts.of_version(spark, config, version, decided)
    alerts_run = frames.write_run(looked_at, store, tables.ALERTS, run_id, **facts)
    more = {**_listings(spark, best_run), **_alerts(store, alerts_run)}
    run = store.commit(table, run_id, **facts, counts=told)
    store.clear(run_id)
    return {**told, "feed": run.folder, "feed_version": version.number, **more}


def _listings(spark: SparkSession, best: Run) -> Summary:
    none, first = best_images.left_with_none(frames.read_run(spark, best))
    if none:
        _say(f"{none} of {best.rows} listings have no image left: {best_images.named(first, none)}")
    return {"best_images": best.folder, "listings": best.rows, "listings_with_none": none}


def _alerts(store: Store, found: Run) -> Summary:
    if found.rows > alerts.MAX_CSV_ROWS:
        _say(
            f"the file for people has {alerts.MAX_CSV_ROWS} of {found.rows} alerts; the table has them all"
        )
    place = alerts.write_csv(found, f"{store.root}/reports/alerts-{found.run_id}.csv")
    return {"alerts": found.rows, "alerts_table": found.folder, "alerts_csv": place}


def _say(sentence: str) -> None:
    print(f"toiletspark: {sentence}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    entry.submit(step)

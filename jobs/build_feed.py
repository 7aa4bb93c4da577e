"""Builds the feed: the feed table without the images of the published exclusion list.

spark-submit --py-files dist/*.whl jobs/build_feed.py --conf-file mytables.toml
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark import catalog, entry, feed, frames, tables, versions
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.runs import Store, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """All columns of the feed table stay; inline bytes of the images table do not belong into a feed."""
    store = Store.open(config.output.root)
    version = versions.current(config.output.root)
    rows, image_id = catalog.read_feed(spark, config)
    kept = feed.build_feed(rows, frames.read_run(spark, version), image_id)

    run = frames.write_run(
        kept,
        store,
        tables.Table("feed", (image_id,), dict(kept.dtypes)),
        new_run_id(),
        config=config.recorded(),
        inputs={"feed": config.feed.path or config.images.path, "exclusion_list": version.run_id},
    )
    total = rows.count()
    return {"feed_in": total, "feed_out": run.rows, "feed_removed": total - run.rows, "feed": run.folder}


if __name__ == "__main__":
    entry.submit(step)

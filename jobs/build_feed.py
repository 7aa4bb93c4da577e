"""Builds the feed by the live version of the exclusion list, each listing's best image, and alerts.

    spark-submit --py-files dist/*.whl jobs/build_feed.py --conf-file mytables.toml

feed.mode says what the feed shows; docs/feed.md has each mode as SQL, for feeds built elsewhere.
"""

import logging
from typing import Any

from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config.command_line import Summary
from toiletspark.feed import alerts, best_images, feed, readers
from toiletspark.launch.job import Job
from toiletspark.tables import spark_io, user_tables
from toiletspark.tables.manifest import Inputs, TableInput
from toiletspark.tables.runs import Run, Store, described_files
from toiletspark.tables.schemas import ALERTS, BEST_IMAGES, DECISIONS, FEED, Table
from toiletspark.tables.workspace import Workspace

_log = logging.getLogger("toiletspark")


def step(work: Workspace) -> Summary:
    """Keeps all columns of the feed table, but for inline bytes of the images table."""
    spark, store, config = work.spark, work.store, work.config
    version = readers.resolve(config.output.root, allow_stale=config.feed.allow_stale)
    decisions = spark_io.read_named(spark, version.run(DECISIONS))
    rows, image_id = user_tables.read_feed(spark, config)
    source = config.feed_table
    mode = config.feed.mode
    inputs = Inputs(
        feed=TableInput.of(source),
        version=version.number,
        exclusion_list=version.exclusion_list.run_id,
    )

    images = feed.standings(rows, decisions, image_id)
    images = spark_io.set_aside(images, store, work.run_id, "feed_images")
    counts = feed.count(images)
    feed.require_known(
        images, counts, decisions, image_id, table=source.label, version=version.number
    )
    exclusion_list = spark_io.read_named(spark, version.exclusion_list)
    kept = feed.build_feed(rows, exclusion_list, decisions, image_id, mode)
    table = Table(FEED.name, (image_id,), dict(kept.dtypes))
    folder = spark_io.write_files(kept, store, table, work.run_id)
    rows_out = sum(file.rows for file in described_files(folder))
    summary = feed.summary(counts, mode, rows_out)
    _log.info("the feed by version %s (%s): %s", version.number, mode, feed.sentence(summary))

    best = best_images.of_version(spark, config, version, images)
    made_of: dict[str, Any] = {"config": config.recorded(), "inputs": inputs}
    best, counted = spark_io.counting(best, none=F.col("image_id").isNull())
    best_run = spark_io.write_run(best, store, BEST_IMAGES, work.run_id, **made_of)
    alert_rows = alerts.of_version(spark, config, version, decisions)
    alerts_run = spark_io.write_run(alert_rows, store, ALERTS, work.run_id, **made_of)
    more = {**_listings(work, best_run, counted()["none"]), **_alerts(store, alerts_run)}
    run = store.commit(table, work.run_id, counts=summary, **made_of)
    store.clear(work.run_id)
    return {**summary, "feed": run.folder, "feed_version": version.number, **more}


def _listings(work: Workspace, best: Run, count: int) -> Summary:
    """The best images in the summary; names listings that are among the `count` without one."""
    if count:
        first = best_images.first_with_none(spark_io.read_run(work.spark, best))
        names = best_images.named(first, count)
        _log.info("%s of %s listings have no image left: %s", count, best.rows, names)
    return {"best_images": best.folder, "listings": best.rows, "listings_with_none": count}


def _alerts(store: Store, run: Run) -> Summary:
    most = alerts.MAX_CSV_ROWS
    if run.rows > most:
        _log.info("the CSV file has %s of %s alerts; the table has them all", most, run.rows)
    file = alerts.write_csv(run, f"{store.root}/reports/alerts-{run.run_id}.csv")
    return {"alerts": run.rows, "alerts_table": run.folder, "alerts_csv": file}


JOB = Job("build_feed", step, __doc__)

if __name__ == "__main__":
    JOB.submit()

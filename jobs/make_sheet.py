"""Writes the contact sheet: one HTML file, or several, in which people label the sample or a queue in a browser.

spark-submit --py-files dist/*.whl jobs/make_sheet.py --conf-file mytables.toml
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark import progress
from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.labels import queues as asked
from toiletspark.launch import job as entry
from toiletspark.reports.contact_sheet import gather as sheet_tiles
from toiletspark.reports.contact_sheet import page as contact_sheet
from toiletspark.tables import spark_io as frames
from toiletspark.tables import storage
from toiletspark.tables.runs import Store, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """Works before anything was embedded or trained; broken images are left out and counted."""
    store, run_id = Store.open(config.output.root), new_run_id()
    run = asked.newest(store, config.labels, doing="making a contact sheet")
    with (
        frames.arrow_batches(spark, config.embed.images_per_batch),
        progress.watch(spark, "reducing", run.rows, line_every_s=config.progress.line_every_s),
    ):
        made = frames.set_aside(sheet_tiles.pictures(spark, config, run), store, run_id, "pictures")
    tiles = sheet_tiles.placed(spark, store, config, run, made)

    files = []
    for sheet in contact_sheet.cut(
        tiles, config.labels.of, config.labels.classes, config.sheet.max_images
    ):
        files.append(f"{store.root}/reports/sheet-{sheet.sheet_id}.html")
        page = contact_sheet.render(sheet_tiles.with_pictures(spark, made, sheet))
        storage.replace_bytes(files[-1], page.encode())
    store.clear(run_id)
    suggested = sum(tile.suggested is not None for tile in tiles)
    counts = {
        "asked": run.rows,
        "shown": len(tiles),
        "left_out": run.rows - len(tiles),
        "suggested": suggested,
    }
    return {**counts, "sheets": files}


if __name__ == "__main__":
    entry.submit(step)

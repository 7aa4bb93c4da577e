"""Writes the contact sheet: HTML files in which people label the sample or a queue in a browser.

spark-submit --py-files dist/*.whl jobs/make_sheet.py --conf-file mytables.toml
"""

import logging

from toiletspark import progress
from toiletspark.config.command_line import Summary
from toiletspark.labels import queues
from toiletspark.launch.job import Job
from toiletspark.reports.contact_sheet import gather, page
from toiletspark.tables import spark_io, storage
from toiletspark.tables.workspace import Workspace

_log = logging.getLogger("toiletspark")


def step(work: Workspace) -> Summary:
    """Works before anything was embedded or trained; broken images are left out and counted."""
    config, store = work.config, work.store
    queue = queues.newest(store, config.labels, doing="making a contact sheet")
    if not queue.rows:
        _log.info("nothing to label: each image of the queue has a label already")
        return {"asked": 0, "shown": 0, "left_out": 0, "suggested": 0, "sheets": []}
    every_s = config.progress.line_every_s
    with (
        spark_io.arrow_batches(work.spark, config.embed.images_per_batch),
        progress.watch(work.spark, "reducing", queue.rows, line_every_s=every_s),
    ):
        pictures = gather.pictures(work, queue)
        pictures = spark_io.set_aside(pictures, store, work.run_id, "pictures")
    tiles = gather.tiles(work, queue, pictures)

    files = []
    labels = config.labels
    for sheet in page.cut(tiles, labels.of, labels.classes, config.sheet.max_images):
        file = f"{store.root}/reports/sheet-{sheet.sheet_id}.html"
        html = page.render(gather.with_pictures(work, pictures, sheet))
        storage.replace_bytes(file, html.encode())
        files.append(file)
    store.clear(work.run_id)
    return {
        "asked": queue.rows,
        "shown": len(tiles),
        "left_out": queue.rows - len(tiles),
        "suggested": sum(tile.suggested is not None for tile in tiles),
        "sheets": files,
    }


JOB = Job("make_sheet", step, __doc__)

if __name__ == "__main__":
    JOB.submit()

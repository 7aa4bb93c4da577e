"""Exports images into a folder where people drag them into class folders.

    spark-submit --py-files dist/*.whl jobs/export_labels.py --conf-file mytables.toml

The images are those of the newest sample or queue (labels.of); with labels.presort they go into the
folder of the class that the newest scores suggest. The folder is on the driver's machine.
"""

from collections.abc import Iterator
from pathlib import Path

from pyspark.sql import DataFrame

from toiletspark import progress
from toiletspark.config.command_line import Summary
from toiletspark.images import thumbnails
from toiletspark.labels import class_folders, queues
from toiletspark.labels.class_folders import ExportedImage
from toiletspark.launch.job import Job
from toiletspark.tables import spark_io, user_tables
from toiletspark.tables.schemas import SCORES
from toiletspark.tables.workspace import Workspace

DOING = "exporting images for labelling"


def step(work: Workspace) -> Summary:
    """Exports new images; earlier ones stay where people put them, broken ones are left out."""
    config, section = work.config, work.config.labels
    folder = Path(config.labels_folder)
    queue = queues.newest(work.store, section, doing=DOING)
    scores = None
    if section.presort:
        scores = work.store.require(SCORES, doing=f"{DOING}, presorted", step="score")
    exported_ids = [(image_id,) for image_id in sorted(class_folders.exported_ids(folder))]
    exported = spark_io.of_rows(work.spark, exported_ids, {"image_id": "string"})
    queued = queues.images(work.spark, queue).select("image_id")
    new = queued.join(exported, "image_id", "left_anti")
    images = user_tables.read_catalog(work.spark, config).join(new, "image_id", "left_semi")

    suggestions = queues.suggestions(work.spark, scores, section).join(new, "image_id", "left_semi")
    rows = suggestions.select("image_id", "suggested").collect()
    suggested = {row["image_id"]: row["suggested"] for row in rows}
    small = thumbnails.thumbnails(images, config.fetch, config.decode, section.max_side_px)
    every_s = config.progress.line_every_s
    with (
        spark_io.arrow_batches(work.spark, config.embed.images_per_batch),
        progress.watch(work.spark, "exporting", queue.rows, line_every_s=every_s),
    ):
        count = class_folders.export(_exported(small, suggested), folder, section.classes)
    return {"sampled": queue.rows, "exported": count, "folder": str(folder)}


def _exported(small: DataFrame, suggested: dict[str, str]) -> Iterator[ExportedImage]:
    for row in small.toLocalIterator(prefetchPartitions=True):
        if row["jpeg"] is not None:
            image_id, digest = row["image_id"], row["content_digest"]
            yield ExportedImage(image_id, digest, bytes(row["jpeg"]), suggested.get(image_id))


JOB = Job("export_labels", step, __doc__)

if __name__ == "__main__":
    JOB.submit()

"""Exports images into a folder where people drag them into class folders.

    spark-submit --py-files dist/*.whl jobs/export_labels.py --conf-file mytables.toml

The images are those of the newest sample or queue (labels.of); with labels.presort they go into the folder of the
class that the newest scores suggest. The folder is one of the driver's machine.
"""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession

from toiletspark import progress
from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.images import thumbnails
from toiletspark.labels import class_folders
from toiletspark.labels import queues as asked
from toiletspark.launch import job as entry
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.runs import Store

DOING = "exporting images for labelling"


def step(spark: SparkSession, config: Config) -> Summary:
    """Pictures that were exported before stay where people have put them; broken images are left out."""
    store, folder, section = (
        Store.open(config.output.root),
        Path(config.labels_folder),
        config.labels,
    )
    wanted = asked.newest(store, section, doing=DOING)
    scores = (
        store.require(tables.SCORES, doing=f"{DOING}, presorted", step="score")
        if section.presort
        else None
    )
    ids = [(image_id,) for image_id in sorted(class_folders.exported_ids(folder))]
    known = frames.of_rows(spark, ids, {"image_id": "string"})
    new = asked.images(spark, wanted).select("image_id").join(known, on="image_id", how="left_anti")
    images = catalog.read_catalog(spark, config).join(new, on="image_id", how="left_semi")

    small = thumbnails.thumbnails(images, config.fetch, config.decode, section.max_side_px)
    suggestions = asked.suggestions(spark, scores, section).join(
        new, on="image_id", how="left_semi"
    )
    suggested = {
        row["image_id"]: row["suggested"]
        for row in suggestions.select("image_id", "suggested").collect()
    }
    with (
        frames.arrow_batches(spark, config.embed.images_per_batch),
        progress.watch(spark, "exporting", wanted.rows, line_every_s=config.progress.line_every_s),
    ):
        found = (
            class_folders.ExportedImage(
                row["image_id"],
                row["content_digest"],
                bytes(row["jpeg"]),
                suggested.get(row["image_id"]),
            )
            for row in small.toLocalIterator(prefetchPartitions=True)
            if row["jpeg"] is not None
        )
        exported = class_folders.export(found, folder, section.classes)
    return {"sampled": wanted.rows, "exported": exported, "folder": str(folder)}


if __name__ == "__main__":
    entry.submit(step)

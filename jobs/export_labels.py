"""Exports the sampled images into a folder where people drag them into class folders.

    spark-submit --py-files dist/*.whl jobs/export_labels.py --conf-file mytables.toml

The folder is one of the driver's machine.
"""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import SparkSession

from toiletspark import catalog, entry, frames, labels, progress, session, tables, thumbnails
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """Pictures that were exported before stay where people have put them; broken images are left out."""
    store, folder = Store.open(config.output.root), Path(config.labels_folder)
    sample = store.require(tables.SAMPLE, doing="exporting images for labelling", step="sample")
    known = spark.createDataFrame([(image_id,) for image_id in sorted(labels.exported_ids(folder))], "image_id string")
    new = frames.read_run(spark, sample).select("image_id").join(known, on="image_id", how="left_anti")
    images = catalog.read_catalog(spark, config).join(new, on="image_id", how="left_semi")

    small = thumbnails.thumbnails(images, config.fetch, config.decode, config.labels.max_side_px)
    with (
        session.arrow_batches(spark, config.embed.images_per_batch),
        progress.watch(spark, "exporting", sample.rows, line_every_s=config.progress.line_every_s),
    ):
        found = (
            labels.ExportedImage(row["image_id"], row["content_digest"], bytes(row["jpeg"]))
            for row in small.toLocalIterator(prefetchPartitions=True)
            if row["jpeg"] is not None
        )
        exported = labels.export(found, folder, config.labels.classes)
    return {"sampled": sample.rows, "exported": exported, "folder": str(folder)}


if __name__ == "__main__":
    entry.submit(step)

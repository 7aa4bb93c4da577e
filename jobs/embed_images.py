"""Embeds the images of the catalog that have no embedding yet; the only step that reads all images.

spark-submit --py-files dist/*.whl jobs/embed_images.py --conf-file mytables.toml
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark import catalog, embedding, entry, frames, ledger, tables, weights
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.runs import Store, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """Keeps the catalog as it is now, then brings ledger and embeddings up to it."""
    store, run_id = Store.open(config.output.root), new_run_id()
    catalog.check(spark, config)
    spec = weights.load_spec(config.backbone)

    images = catalog.read_catalog(spark, config)
    inputs = {"images": config.images.path, "listings": config.listings.path, "backbone_id": spec.backbone_id}
    seen = frames.write_run(images, store, tables.CATALOG, run_id, config=config.recorded(), inputs=inputs)

    waiting = ledger.to_embed(
        frames.read_run(spark, seen),
        frames.read_all(spark, store, tables.IMAGE_LEDGER),
        frames.read_all(spark, store, tables.EMBEDDINGS),
        spec.backbone_id,
        config.embed.retry,
    )
    counts = embedding.embed_new(spark, store, config, images, waiting, spec, run_id)
    return {"images": seen.rows, **counts, "backbone_id": spec.backbone_id, "catalog": seen.folder}


if __name__ == "__main__":
    entry.submit(step)

"""Draws the stratified sample that people label.

spark-submit --py-files dist/*.whl jobs/draw_sample.py --conf-file mytables.toml
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark import catalog, entry, frames, sampling, tables
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.errors import TableError
from toiletspark.runs import Store, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """Strata are location x listing type, weighed by active listings; one row per drawn image."""
    store = Store.open(config.output.root)
    counted = catalog.check(spark, config)
    images = catalog.read_catalog(spark, config)

    cells = sampling.strata(images)
    allocation = sampling.allocate(cells, config.sample.size, config.sample.min_per_stratum)
    drawn = sampling.draw(images, cells, allocation, config.sample.method, config.sample.seed)

    run = frames.write_run(
        drawn,
        store,
        tables.SAMPLE,
        new_run_id(),
        config=config.recorded(),
        inputs={"images": config.images.path, "listings": config.listings.path},
        counts={"asked": allocation, "strata": len(cells), **counted},
    )
    if not run.rows:
        raise TableError(
            doing="drawing the sample",
            expected="at least one image",
            found=f"none of {counted['images']} was drawn (method {config.sample.method}, size {config.sample.size})",
            todo="raise sample.size, or set sample.method=exact",
        )
    return {"images": counted["images"], "strata": len(cells), "sampled": run.rows, "sample": run.folder}


if __name__ == "__main__":
    entry.submit(step)

"""Draws the stratified sample that people label, and writes the page that says what it stands for.

spark-submit --py-files dist/*.whl jobs/draw_sample.py --conf-file mytables.toml
"""

from __future__ import annotations

from dataclasses import asdict

from pyspark.sql import DataFrame, SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.errors import TableError
from toiletspark.launch import job as entry
from toiletspark.reports.sample_page import gather as sampled
from toiletspark.sampling import allocation, strata
from toiletspark.sampling import draw as sampling
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.runs import Store, described_files, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """One row per drawn image; `jobs/preview_sample.py` shows the allocation alone."""
    store, run_id = Store.open(config.output.root), new_run_id()
    counted = catalog.check(spark, config)
    bands = strata.cut_bands(spark, config, counted["listings"])

    def keep(part: DataFrame, name: str) -> DataFrame:
        return frames.set_aside(part, store, run_id, name)

    frame = keep(strata.read_frame(spark, config, bands), "frame")
    cells = strata.measured(spark, config, frame, store)
    wanted = allocation.plan(cells, config.sample)
    drawn = sampling.draw(
        catalog.read_images(spark, config), frame, cells, wanted, config.sample, keep
    )

    folder = frames.write_files(drawn, store, tables.SAMPLE, run_id)
    if not sum(file["rows"] for file in described_files(folder)):
        raise _nothing(config, counted["images"])
    inputs = {
        "images": config.images.path,
        "listings": config.listings.path,
        "bands": [asdict(band) for band in bands],
    }
    counts = {
        "strata": len(cells),
        "asked": wanted,
        "units": {cell.name: cell.units for cell in cells},
        **counted,
    }
    run = store.commit(
        tables.SAMPLE, run_id, config=config.recorded(), inputs=inputs, counts=counts
    )
    page = sampled.write_page(spark, store, run, cells, wanted, config.sample)
    store.clear(run_id)
    return {
        "images": counted["images"],
        "strata": len(cells),
        "sampled": run.rows,
        "sample": run.folder,
        **page,
    }


def _nothing(config: Config, images: int) -> TableError:
    return TableError(
        doing="drawing the sample",
        expected="at least one image",
        found=f"none of {images} was drawn (method {config.sample.method}, size {config.sample.size})",
        todo="raise sample.size, or set sample.method=exact",
    )


if __name__ == "__main__":
    entry.submit(step)

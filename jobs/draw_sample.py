"""Draws the stratified sample that people label, and writes the page of what it stands for.

spark-submit --py-files dist/*.whl jobs/draw_sample.py --conf-file mytables.toml
"""

from dataclasses import asdict

from pyspark.sql import DataFrame

from toiletspark.config.command_line import Summary
from toiletspark.errors import TableError
from toiletspark.launch.job import Job
from toiletspark.reports.sample_page import gather
from toiletspark.sampling import allocation, draw, permanent_numbers, strata
from toiletspark.tables import listing_checks, spark_io, user_tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import described_files
from toiletspark.tables.schemas import SAMPLE, SAMPLE_UNITS
from toiletspark.tables.workspace import Workspace


def step(work: Workspace) -> Summary:
    """Draws and stores the sample; `jobs/preview_sample.py` shows the allocation alone."""
    config, store, run_id = work.config, work.store, work.run_id
    images_read, listings = listing_checks.check(work.spark, config)
    counted = {"images": images_read, "listings": listings.rows}
    bands = strata.cut_bands(work.spark, config, listings.rows)

    def set_aside(part: DataFrame, name: str) -> DataFrame:
        return spark_io.set_aside(part, store, run_id, name)

    frame = set_aside(strata.read_frame(work.spark, config, bands), "frame")
    cells = strata.measure_strata(work, frame)
    wanted = allocation.allocate_sample(cells, config.sample)
    images = user_tables.read_images(work.spark, config)
    last = permanent_numbers.last_numbers(store, config.sample)
    known = spark_io.read_run(work.spark, last) if last else None
    drawn = draw.draw(images, frame, cells, wanted, config.sample, set_aside, known)

    folder = spark_io.write_files(drawn.images, store, SAMPLE, run_id)
    if not sum(file.rows for file in described_files(folder)):
        section = config.sample
        settings = f"method {section.method}, size {section.size}"
        raise TableError(
            doing="drawing the sample",
            expected="at least one image",
            found=f"none of {counted['images']} was drawn ({settings})",
            todo="raise sample.size, or set sample.method=exact",
        )
    recorded = [asdict(band) for band in bands]
    inputs = Inputs.of_tables(config).updated(bands=recorded)
    if drawn.numbers is not None:
        inputs = inputs.updated(before=last.run_id if last else None)
        values = config.recorded()
        spark_io.write_run(drawn.numbers, store, SAMPLE_UNITS, run_id, config=values, inputs=inputs)
    units = {cell.name: cell.units for cell in cells}
    counts = {"strata": len(cells), "asked": wanted, "units": units, **counted}
    run = store.commit(SAMPLE, run_id, config=config.recorded(), inputs=inputs, counts=counts)
    page = gather.write_page(work, run, cells, wanted)
    store.clear(run_id)
    result = {"sampled": run.rows, "sample": run.folder}
    joined = {**strata.named(cells).summary, **listings.summary} if listings.rows else {}
    return {"images": counted["images"], **joined, "strata": len(cells), **result, **page}


JOB = Job("draw_sample", step, __doc__)

if __name__ == "__main__":
    JOB.submit()

"""Shows what each stratum would give to the sample, before anything is drawn; writes nothing.

spark-submit --py-files dist/*.whl jobs/preview_sample.py --conf-file mytables.toml
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.launch import job as entry
from toiletspark.reports.sample_page import preview
from toiletspark.sampling import allocation, strata
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """N units, n asked, sampling fraction and design weight per stratum."""
    counted = catalog.check(spark, config)
    bands = strata.cut_bands(spark, config, counted["listings"])
    frame = strata.read_frame(spark, config, bands)
    cells = strata.measured(spark, config, frame, Store(config.output.root))
    return preview.preview(cells, allocation.plan(cells, config.sample), config.sample)


if __name__ == "__main__":
    entry.submit(step, preview.show)

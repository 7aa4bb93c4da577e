"""Writes the run page: one HTML file with what is excluded, what is borderline and what has no score.

spark-submit --py-files dist/*.whl jobs/write_report.py --conf-file mytables.toml
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.launch import job as entry
from toiletspark.reports.run_page import gather as published
from toiletspark.tables.runs import Store


def step(spark: SparkSession, config: Config, seconds: dict[str, float] | None = None) -> Summary:
    """Shows the version that is published now; `seconds` are the times of the steps before."""
    store = Store.open(config.output.root)
    return {"report": str(published.write_page(spark, store, config, seconds or {}))}


if __name__ == "__main__":
    entry.submit(step)

"""Looks in a minute for what would fail or slow down hours of work on the cluster at hand.

    spark-submit --py-files dist/*.whl jobs/check_cluster.py --conf-file mytables.toml

Exit code 0: sound; 1: warnings; 2: errors. Nothing is left behind.
"""

import os
import time

from pyspark.sql import SparkSession

from toiletspark.config import Config, command_line, loading
from toiletspark.config.command_line import AsJson, ConfFiles, Sets, Summary
from toiletspark.launch.doctor import checks, report, visit


def step(spark: SparkSession, config: Config) -> Summary:
    """The findings, with a session that runs, as in a notebook."""
    started = time.monotonic()
    seen = visit.observe(spark, config, "PYSPARK_PYTHON" in os.environ)
    return report.summary(seen, checks.examine(seen), [], time.monotonic() - started)


def command(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:  # noqa: B006
    """Look in a minute for what would fail or slow down hours of work on the cluster at hand."""
    started = time.monotonic()
    is_named = "PYSPARK_PYTHON" in os.environ  # before the session names the driver's own
    # an old package of the driver is a finding among others
    with command_line.reported_errors(check_packages=False):
        seen = visit.visit(loading.load(conf, sets), is_named)
    files = [str(file) for file in conf]
    summary = report.summary(seen, checks.examine(seen), files, time.monotonic() - started)
    report.show(summary, as_json)
    raise SystemExit(summary["exit_code"])


if __name__ == "__main__":
    command_line.run_program(command)

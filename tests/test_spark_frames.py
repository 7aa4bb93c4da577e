"""Our tables as DataFrames: counting what is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import frames
from toiletspark.runs import Store, new_run_id


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_rows_are_counted_while_they_are_written(spark: SparkSession, tmp_path: Path, rows: int) -> None:
    odd = F.when(F.col("id") > 2, F.col("id") % 2 == 1)  # null below
    frame, counted = frames.counting(spark.range(0, rows, 1, 7), all=F.lit(True), odd=odd)
    kept = frames.set_aside(frame, Store.open(str(tmp_path / "output")), new_run_id(), "numbers")
    assert counted() == {"all": rows, "odd": len(range(3, rows, 2))}
    assert kept.count() == rows


def test_a_frame_that_is_known_to_be_empty_counts_nothing(spark: SparkSession, tmp_path: Path) -> None:
    empty = frames.no_rows(spark, {"id": "bigint"}).join(spark.range(3), on="id", how="inner")
    frame, counted = frames.counting(empty, all=F.lit(True))
    frames.set_aside(frame, Store.open(str(tmp_path / "output")), new_run_id(), "nothing")
    assert counted() == {"all": 0}

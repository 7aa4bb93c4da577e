"""The feed's other columns come out as they went in, for every reader and whatever their names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from tests.conftest import REPOSITORY, literal_config
from tests.support.feeds import decided, publish
from toiletspark.jobs import build_feed
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

FOR_EVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
ODD_NAMES = ("a`b", "a b", "a.b", "a:b", "a,b;(c)={d}", "ö", "per month", "line\nbreak")
# names that our own frames use
HELPERS = ("__decided_id", "listing_id", "decision", "reason", "rows", "standing", "id", "row")
READERS: dict[str, Callable[[str], Any]] = {
    "pandas": lambda files: pd.read_parquet(_only(files)).to_dict("list"),
    "pyarrow": lambda files: pq.read_table(_only(files), partitioning=None).to_pylist(),
    "polars": lambda files: polars.read_parquet(files).rows(),
    "DuckDB": lambda files: duckdb.sql(f"SELECT * FROM '{files}'").fetchall(),
}


def _only(files: str) -> Path:
    (file,) = Path(files).parent.glob("*.parquet")
    return file


def columns() -> pa.Table:
    """One row, of image a, with times of all units and zones, and names that are none in SQL."""
    when = {
        "for_ever": pa.array([FOR_EVER], pa.timestamp("us", "UTC")),
        "spreadsheet_zero": pa.array([datetime(1899, 12, 30)], pa.timestamp("us", "UTC")),
        "in_ms": pa.array([datetime(1, 1, 1)], pa.timestamp("ms", "UTC")),
        "without_zone": pa.array([datetime(2026, 3, 29, 2, 30)], pa.timestamp("us")),
        "day": pa.array([date(1, 1, 1)]),
        "days": pa.array([[datetime(1582, 10, 10)]], pa.list_(pa.timestamp("us", "UTC"))),
    }
    others = {
        "price": pa.array([Decimal("1250.50")]),
        "zip": pa.array(["02138"]),
        "thumbnail": pa.array([b"\x00\xff"]),
        "prices": pa.array([dict.fromkeys(ODD_NAMES, 1)]),
        "rooms": pa.array([[{"per month": [FOR_EVER]}]]),
    }
    named = {name: pa.array([name]) for name in (*ODD_NAMES, *HELPERS)}
    return pa.table({"image_id": ["a"], **when, **others, **named})


def built(spark: SparkSession, folder: Path, source: Path) -> Path:
    """The folder of the feed that is built from a Parquet file or folder."""
    root = folder / "output"
    publish(Store.open(str(root)), [decided("a"), decided("b", "exclude")])
    sets = {"output.root": root, "feed.path": source, "feed.format": "parquet"}
    config = literal_config({**sets, "feed.image_id": "image_id"})
    return Path(build_feed.step(Workspace.open(spark, config))["feed"])


def test_all_columns_come_out_as_they_went_in(spark: SparkSession, tmp_path: Path) -> None:
    source = tmp_path / "table" / "part-0.parquet"
    source.parent.mkdir()
    pq.write_table(columns(), source)
    feed = built(spark, tmp_path, source)
    for name, read in READERS.items():
        before, after = read(f"{source.parent}/*.parquet"), read(f"{feed}/*.parquet")
        assert repr(after) == repr(before), name
    frames = (spark.read.parquet(str(path)) for path in (source, feed))
    before, after = (frame.select(F.to_json(F.struct("*"))).collect() for frame in frames)
    assert after == before
    zones = {
        field.name: getattr(field.type, "tz", "") for field in pq.read_schema(_only(f"{feed}/*"))
    }
    assert (zones["for_ever"], zones["without_zone"]) == ("UTC", None)
    assert set(json.loads((feed / "_manifest.json").read_text())["columns"]) == set(zones)


def test_the_page_reads_the_feed(spark: SparkSession, tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "feed.md").read_text(encoding="utf-8")
    (printed,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    source = tmp_path / "feed.parquet"
    pq.write_table(pa.table({"image_id": ["a", "b"]}), source)
    feed = built(spark, tmp_path, source)
    names: dict[str, Any] = {"pandas": pd, "polars": polars, "duckdb": duckdb, "spark": spark}
    exec(printed.replace("/data/toiletspark/feed/RUN_ID", str(feed)), names)
    assert names["by_pandas"]["image_id"].tolist() == ["a"]
    assert names["by_polars"]["image_id"].to_list() == ["a"]
    assert names["by_duckdb"].fetchall() == names["by_spark"].collect() == [("a",)]


def test_the_values_of_folder_names_come_out_as_text(spark: SparkSession, tmp_path: Path) -> None:
    names = {"00123": "00123", "2026-01": "2026-01", "K%C3%B6ln": "Köln", "1e3": "1e3"}
    for folder in names:
        part = tmp_path / "table" / f"agency={folder}" / "part-0.parquet"
        part.parent.mkdir(parents=True)
        pq.write_table(pa.table({"image_id": ["a"]}), part)
    feed = built(spark, tmp_path, tmp_path / "table")
    assert sorted(polars.read_parquet(f"{feed}/*.parquet")["agency"]) == sorted(names.values())


def test_an_id_in_a_column_of_a_name_with_a_backtick(spark: SparkSession, tmp_path: Path) -> None:
    source = tmp_path / "feed.parquet"
    pq.write_table(pa.table({"image`id": ["a", "b"], "image_id": ["b", "a"]}), source)
    root = tmp_path / "output"
    publish(Store.open(str(root)), [decided("a"), decided("b", "exclude")])
    sets = {"output.root": root, "feed.path": source, "feed.image_id": "image`id"}
    step = build_feed.step(Workspace.open(spark, literal_config(sets)))
    assert polars.read_parquet(f"{step['feed']}/*.parquet").rows() == [("a", "b")]

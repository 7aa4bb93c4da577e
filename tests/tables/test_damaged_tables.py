"""Tables of the user's whose files cannot be read: four parts with the table, file and cause."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from tests.conftest import literal_config
from toiletspark.errors import TableError
from toiletspark.tables import failures, spark_io, table_reader, user_tables
from toiletspark.tables.runs import Store, new_run_id

SOUND = pa.table({"image_id": ["a", "b"], "listing_id": ["L1", "L1"], "image_url": ["/u", "/v"]})
MANY = "image_id,listing_id,image_url\n" + "".join(
    f"i{number},L{number * 7919},/{number}\n" for number in range(20000)
)
COLUMNS = {"images.columns.position": "", "images.columns.image_version": ""}


def settings(path: Path, table_format: str = "parquet", **sets: str) -> dict[str, Any]:
    own = {f"images.columns.{key}": name for key, name in sets.items()}
    return {"images.path": path, "images.format": table_format, **COLUMNS, **own}


def stopped(spark: SparkSession, sets: dict[str, Any]) -> TableError:
    """The error of a step that reads the images."""
    config = literal_config(sets)
    search = functools.partial(table_reader.damaged_file, spark)
    with (
        pytest.raises(TableError) as raised,
        failures.explained(config, "embed", search),
    ):
        user_tables.read_images(spark, config).write.format("noop").mode("overwrite").save()
    assert raised.value.doing == f"reading the images table {config.images.path}"
    return raised.value


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def zeroed(file: Path) -> None:
    content = file.read_bytes()
    middle = len(content) // 8
    file.write_bytes(content[:4] + bytes(middle) + content[4 + middle :])


def noted(file: Path) -> None:
    file.with_name("readme.txt").write_text("These are the photos of the portal.")


def of_other_type(file: Path) -> None:
    ids = pa.array([1, 2], pa.int64())
    pq.write_table(SOUND.set_column(0, "image_id", ids), file.with_name("0.parquet"))


@pytest.mark.parametrize(
    ("damage", "file", "words"),
    [
        (cut, "b.parquet", ["is not a Parquet file"]),
        (zeroed, "b.parquet", []),
        (noted, "readme.txt", ["is not a Parquet file"]),
        (of_other_type, "a.parquet", ["image_id", "bigint", "BINARY"]),
    ],
    ids=["cut", "zeros inside", "a note", "two types"],
)
def test_parquet(
    spark: SparkSession, tmp_path: Path, damage: Callable[[Path], None], file: str, words: list[str]
) -> None:
    for name in ("a", "b"):
        pq.write_table(SOUND, tmp_path / f"{name}.parquet", use_dictionary=False)
    damage(tmp_path / "b.parquet")
    error = stopped(spark, settings(tmp_path))
    assert file in error.found
    assert [word for word in words if word not in error.found] == []
    assert "again" in error.todo


def test_text_that_is_compressed_and_cut(spark: SparkSession, tmp_path: Path) -> None:
    """Spark does not name the file then."""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(MANY.encode()))
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(MANY.encode()))
    cut(tmp_path / "b.csv.gz")
    error = stopped(spark, settings(tmp_path, "csv"))
    assert error.found == "b.csv.gz: EOFException: Unexpected end of input stream"


def test_orc_that_is_cut(spark: SparkSession, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pyarrow.orc.write_table(SOUND, str(tmp_path / f"{name}.orc"))
    cut(tmp_path / "a.orc")
    assert stopped(spark, settings(tmp_path, "orc")).found.startswith("a.orc: ")


@pytest.mark.parametrize(
    ("column", "values", "kind", "key"),
    [
        ("image_id", [b"\xff", b"\x80"], pa.binary(), "image_id"),
        ("image_id", [b"\xff" * 16, b"\x80" * 16], pa.binary(16), "image_id"),
        ("listing_id", [True, False], pa.bool_(), "listing_id"),
        ("image_id", [1, 2], pa.date32(), "image_id"),
        ("image_url", [["/u"], ["/v"]], pa.list_(pa.string()), "image_url"),
        ("image_url", [{"href": "/u"}] * 2, pa.struct({"href": pa.string()}), "image_url"),
        ("image_url", [[1], [2]], pa.list_(pa.uint8()), "content"),
        ("image_url", ["aGFsbG8=", "aGFsbG8="], pa.string(), "content"),
    ],
)
def test_a_column_of_a_type_that_cannot_be_mapped(
    spark: SparkSession,
    tmp_path: Path,
    column: str,
    values: list[Any],
    kind: pa.DataType,
    key: str,
) -> None:
    table = SOUND.set_column(SOUND.column_names.index(column), column, pa.array(values, kind))
    pq.write_table(table, tmp_path / "a.parquet")
    others = {"image_url": ""} if key == "content" else {}
    error = stopped(spark, settings(tmp_path, **{**others, key: column}))
    assert f"in the column '{column}' (images.columns.{key})" in error.expected
    assert error.found.startswith(f"{column} is ")
    if key == "content" and kind == pa.string():
        assert error.todo == "if it is Base64, decode it: unbase64(image_url) in images.query"
    if kind == pa.binary():
        assert error.found == "image_id is binary" and "lower(hex(image_id))" in error.todo


def test_columns_of_types_that_spark_does_not_know_do_not_close_the_table(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moments = [1577840523000000001, -1]
    table = SOUND.append_column("local", pa.array(moments, pa.timestamp("ns")))
    table = table.append_column("a `moment`", pa.array(moments, pa.timestamp("ns", "UTC")))
    table = table.append_column("time", pa.array([1, 2], pa.time64("us")))
    table = table.append_column("big", pa.array([None, None], pa.decimal256(50, 2)))
    folder = tmp_path / "country=DE"
    folder.mkdir()
    pq.write_table(table, folder / "[a].parquet")
    read = table_reader.read_table(spark, literal_config(settings(tmp_path)).images, "images")
    assert dict(read.dtypes) == {
        **dict.fromkeys(("image_id", "listing_id", "image_url"), "string"),
        "local": "timestamp_ntz",
        "a `moment`": "timestamp",
        "country": "string",
    }
    micros = read.selectExpr("unix_micros(`a ``moment```) AS m", "cast(local AS string) AS t")
    rows = {row["m"]: row["t"] for row in micros.collect()}
    assert rows == {
        1577840523000000: "2020-01-01 01:02:03",
        -1: "1969-12-31 23:59:59.999999",
    }
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and "TIME(MICROS" in lines[0] and "DECIMAL(50,2)" in lines[1]


def test_the_ids_of_a_database_that_are_of_type_uuid(spark: SparkSession, tmp_path: Path) -> None:
    ids = ["8f14e45f-ceea-467f-a0e6-1c1a2b3c4d5e", "00000000-0000-0000-0000-00000000000a"]
    frame = pd.DataFrame({"image_id": ids})
    duckdb.sql(
        "COPY (SELECT image_id::UUID AS image_id, 'L' AS listing_id, 'u' AS image_url FROM frame) "
        f"TO '{tmp_path}/a.parquet'"
    )
    assert len(frame) == 2
    read = user_tables.read_images(spark, literal_config(settings(tmp_path)))
    assert sorted(row["image_id"] for row in read.collect()) == sorted(ids)


@pytest.mark.parametrize("name", ["a [b]*", "{a,b}?", "a#b%20", "a\\b", "a::ü"])
def test_a_path_is_taken_literally(spark: SparkSession, tmp_path: Path, name: str) -> None:
    """Ours and the user's: `a*` is no pattern, so its neighbour is not read."""
    for folder in (name, "ab", "a"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "i.csv").write_text(f"image_id,listing_id,image_url\n{folder[0]},L,u")
    read = user_tables.read_images(spark, literal_config(settings(tmp_path / name, "csv")))
    assert [row["image_id"] for row in read.collect()] == [name[0]]
    store = Store.open(str(tmp_path / name / "out"))
    aside = spark_io.set_aside(read, store, new_run_id(), "images", partition_by="listing_id")
    assert aside.count() == 1


# Text that is not UTF-8: Spark reads it, Python does not


def latin1(tmp_path: Path, **columns: list[bytes]) -> dict[str, Any]:
    arrays = {
        name: pa.array(values).cast(pa.binary()).view(pa.string())
        for name, values in {
            "image_id": [b"a", b"b"],
            "listing_id": [b"L1", b"L2"],
            "image_url": [b"/u", b"/v"],
            **columns,
        }.items()
    }
    pq.write_table(pa.table(arrays), tmp_path / "a.parquet")
    return settings(tmp_path)


def test_a_url_that_is_not_utf8_is_a_bad_url(spark: SparkSession, tmp_path: Path) -> None:
    urls = [b"/K\xfcche.jpg", "/Küche�.jpg".encode()]
    config = literal_config(latin1(tmp_path, image_url=urls))
    images = user_tables.read_images(spark, config)
    rows = {row["image_id"]: row["image_url"] for row in images.collect()}
    assert rows["a"].startswith(user_tables.NOT_UTF8)
    assert len(rows["a"]) == len(user_tables.NOT_UTF8) + 64
    assert rows["b"] == "/Küche�.jpg"
    assert user_tables.check_images(images, config) == 2


@pytest.mark.parametrize("key", ["image_id", "listing_id"])
def test_an_id_that_is_not_utf8_is_an_error_with_its_row(
    spark: SparkSession, tmp_path: Path, key: str
) -> None:
    config = literal_config(latin1(tmp_path, **{key: [b"K\xfc", b"x"]}))
    with pytest.raises(TableError) as raised:
        user_tables.check_images(user_tables.read_images(spark, config), config)
    assert raised.value.expected == "ids that are text in UTF-8"
    assert f"{key} 'K\N{REPLACEMENT CHARACTER}'" in raised.value.found
    assert "image_url '/u'" in raised.value.found


def test_a_location_that_is_not_utf8_is_shown_so(spark: SparkSession, tmp_path: Path) -> None:
    columns = {"listing_id": ["L1"], "location": [b"Z\xfcrich"], "type": ["rent"], "active": [True]}
    table = pa.table({**columns, "location": pa.array([b"Z\xfcrich"]).view(pa.string())})
    pq.write_table(table, tmp_path / "a.parquet")
    sets = {"listings.path": tmp_path, "listings.columns.listing_type": "type"}
    listings = user_tables.read_listings(spark, literal_config(sets)).toPandas()
    assert listings["location"].tolist() == ["Z\N{REPLACEMENT CHARACTER}rich"]


def test_the_log_of_spark_has_no_traces_of_errors_that_a_step_reports(spark: SparkSession) -> None:
    log = spark._jvm.org.apache.logging.log4j.LogManager  # type: ignore[union-attr]
    assert str(log.getLogger("org.apache.spark.executor.Executor").getLevel()) == "FATAL"
    assert str(log.getLogger("org.apache.spark.scheduler.X").getLevel()) == "ERROR"

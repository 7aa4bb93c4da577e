"""The readers of docs/readers.md, run as they are printed, on a real store."""

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from benchmarks import readers
from tests.support.small_versions import pointer_file
from toiletspark.publishing.versions import log
from toiletspark.tables import arrow_io, runs, spark_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import EXCLUSION_LIST

SPARK_FREE = ("pandas", "DuckDB", "polars")
WITH_SPARK = "PySpark and Spark SQL"


def published(store: Store, images: Iterable[str], *, valid_for_h: float = 0.0) -> Run:
    run_id = runs.new_run_id()
    excluded = [
        {"image_id": name, "listing_id": "L", "reason": "model", "run_id": run_id}
        for name in images
    ]
    listed = arrow_io.write(store, EXCLUSION_LIST, run_id, excluded, config={}, inputs=Inputs())
    log.publish(store, listed, valid_for_h=valid_for_h)
    return listed


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two versions, and a run that failed its audits: the second version counts."""
    store = Store.open(str(tmp_path / "output"))
    published(store, "zyx")
    published(store, "abc", valid_for_h=1)
    run_id = runs.new_run_id()
    arrow_io.write(
        store, EXCLUSION_LIST, run_id, [{"image_id": "never"}], config={}, inputs=Inputs()
    )
    return store


def ids(heading: str, store: Store) -> list[str]:
    """The list that a reader leaves in `excluded`."""
    names: dict[str, Any] = {}
    exec(readers.code(heading, store.root), names)
    found = names["excluded"]
    if heading in ("pandas", "polars"):
        return sorted(found["image_id"])
    if heading == "DuckDB":
        return sorted(image_id for (image_id,) in found.project("image_id").fetchall())
    return sorted(
        row["image_id"] for row in names["spark"].sql("SELECT image_id FROM excluded").collect()
    )


JOINS = {**dict.fromkeys(SPARK_FREE, "The feed is then"), WITH_SPARK: "In SQL:"}
IDS = {
    "text": pd.Series(["1", "2", "12345678", "x", None], dtype="object"),
    "int64": pd.Series([1, 2, 12345678]),
    "Int64": pd.Series([1, 2, 12345678, None], dtype="Int64"),
    "float64": pd.Series([1, 2, 12345678, None]),
}


def join(heading: str) -> str:
    """The join that the page prints below a reader."""
    _, _, section = readers.PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    printed = re.search(rf"^{JOINS[heading]} `(.+?)`", section, re.MULTILINE)
    assert printed
    return printed[1]


def feed(heading: str, store: Store, image_id: "pd.Series[Any]") -> list[str]:
    """The ids that a reader's join leaves of these, as texts without a point."""
    names: dict[str, Any] = {"images": pd.DataFrame({"image_id": image_id})}
    exec(readers.code(heading, store.root), names)
    if heading == WITH_SPARK:
        names["spark"].createDataFrame(names["images"]).createOrReplaceTempView("images")
        return texts(row["image_id"] for row in names["spark"].sql(join(heading)).collect())
    if heading == "polars":
        table = polars.from_pandas(names["images"])
        is_text = table["image_id"].dtype == polars.String
        names["images"] = table if is_text else eval(polars_cast(), {**names, "images": table})
        return texts(eval(join(heading), names)["image_id"])
    # DuckDB finds images and excluded there, as it does in a notebook
    left = eval(join(heading), names)
    return texts(left["image_id"] if heading == "pandas" else (row[0] for row in left.fetchall()))


def polars_cast() -> str:
    """What the page says to write for ids that are numbers."""
    (printed,) = re.findall(
        r"`(images\.with_columns\(.+?)`\.", readers.PAGE.read_text(encoding="utf-8")
    )
    return str(printed)


def texts(found: Iterable[Any]) -> list[str]:
    return sorted("none" if pd.isna(one) else str(one).removesuffix(".0") for one in found)


def part(store: Store) -> Path:
    return Path(log.current(store.root).folder) / "part-0.parquet"


def without_pointer(store: Store) -> None:
    pointer_file(store).unlink()


def expired(store: Store) -> None:
    said = json.loads(pointer_file(store).read_text())
    pointer_file(store).write_text(json.dumps({**said, "valid_until": "2026-01-01T00:00:00+00:00"}))


def without_its_file(store: Store) -> None:
    part(store).unlink()


def a_row_short(store: Store) -> None:
    path = part(store)
    pq.write_table(pq.read_table(path).slice(1), path)


def all_rows_short(store: Store) -> None:
    path = part(store)
    pq.write_table(pq.read_table(path).slice(0, 0), path)


HARMS = {
    without_pointer: r"_current\.json|list index out of range",  # the latter by DuckDB
    expired: "no longer valid",
    without_its_file: r"part-0\.parquet",
    a_row_short: "not complete",
    all_rows_short: "not complete",
}


def test_the_page_prints_four_readers_of_ten_lines_and_one_view() -> None:
    blocks = readers.printed()
    assert list(blocks) == [*SPARK_FREE, WITH_SPARK]
    for text in blocks.values():
        assert len(text.rpartition("\n\n")[2].splitlines()) <= 10 + text.count("TempView")
        assert "toiletspark." not in text


@pytest.mark.parametrize("heading", SPARK_FREE)
def test_a_reader_reads_the_files_of_the_version_that_counts_and_no_others(
    heading: str, store: Store
) -> None:
    assert ids(heading, store) == ["a", "b", "c"]
    published(store, "d")  # valid for ever
    assert ids(heading, store) == ["d"]
    part(store).with_name("part-1.parquet").write_bytes(part(store).read_bytes())
    assert ids(heading, store) == ["d"]


@pytest.mark.parametrize("heading", SPARK_FREE)
def test_an_honestly_empty_list_is_read(heading: str, store: Store) -> None:
    published(store, "", valid_for_h=1)
    assert ids(heading, store) == []


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("heading", SPARK_FREE)
def test_the_printed_join_removes_what_is_listed(heading: str, kind: str, store: Store) -> None:
    """Ids are texts in the list, often numbers in the table, and floats in pandas after a null."""
    published(store, ["1", "12345678"])
    rest = sorted({"text": ["2", "x", "none"], "int64": ["2"]}.get(kind, ["2", "none"]))
    assert feed(heading, store, IDS[kind]) == rest


def test_duckdb_refuses_numbers_where_the_list_has_words_and_the_page_says_what_to_write(
    store: Store,
) -> None:
    published(store, ["1", "12345678", "a"])
    for kind in ("int64", "float64"):
        with pytest.raises(duckdb.ConversionException, match="'a'"):
            feed("DuckDB", store, IDS[kind])
        images, excluded = (
            pd.DataFrame({"image_id": IDS[kind]}),
            pd.DataFrame({"image_id": ["1", "12345678", "a"]}),
        )
        page = readers.PAGE.read_text(encoding="utf-8")
        (condition,) = re.findall(
            r"`(ON images\.image_id::BIGINT::VARCHAR = excluded\.image_id)`", page
        )
        left = duckdb.sql(f"SELECT images.* FROM images ANTI JOIN excluded {condition}").fetchall()
        assert texts(row[0] for row in left) == sorted(
            ["2"] + ["none"] * (len(images) - len(excluded))
        )


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("heading", SPARK_FREE)
def test_a_reader_refuses(heading: str, harm: Callable[[Store], None], store: Store) -> None:
    harm(store)
    with pytest.raises(Exception, match=HARMS[harm]):
        ids(heading, store)


def test_the_reader_for_spark(spark: SparkSession, store: Store) -> None:
    """All its cases at once: a query takes as long as the others' whole tests."""
    assert ids(WITH_SPARK, store) == ["a", "b", "c"]
    empty = spark_io.no_rows(spark, EXCLUSION_LIST.columns)
    listed = spark_io.write_run(
        empty, store, EXCLUSION_LIST, runs.new_run_id(), config={}, inputs=Inputs()
    )
    log.publish(store, listed)
    # as the page says: Spark writes one file at least
    assert [file.rows for file in listed.files] == [0]
    assert ids(WITH_SPARK, store) == []
    assert ids("pandas", store) == ids("DuckDB", store) == []
    published(store, ["1", "12345678", "a"])
    for kind in ("text", "int64", "float64"):
        shown = IDS[kind].dropna()
        assert feed(WITH_SPARK, store, shown) == (["2", "x"] if kind == "text" else ["2"])
    for harm, message in HARMS.items():
        spark.catalog.dropTempView("excluded")
        published(store, "abc")
        harm(store)
        with pytest.raises(Exception, match=message):
            ids(WITH_SPARK, store)
        assert not spark.catalog.tableExists("excluded")


def test_the_pandas_reader_reads_s3(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials and endpoint come from the environment, as with people."""
    from tests.support.object_store import object_store

    with object_store() as s3:
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3.options["endpoint_url"])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.options["key"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.options["secret"])
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for folder, _, names in os.walk(store.root):
            for name in names:
                path = Path(folder) / name
                s3.put(f"output/{path.relative_to(store.root)}", path.read_bytes())
        assert ids("pandas", Store("s3://photos/output")) == ["a", "b", "c"]
        s3.client.delete_object(Bucket="photos", Key="output/exclusion_list/_current.json")
        with pytest.raises(FileNotFoundError):
            ids("pandas", Store("s3://photos/output"))

"""Locations of embeddings, from Spark and looked up by hand."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from tests.conftest import stored, vector
from toiletspark.embedding import locations
from toiletspark.tables import schemas, spark_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store, new_run_id


def rows_of(*digests: str, backbone_id: str = "ours") -> list[dict[str, object]]:
    return [
        {"content_digest": one, "backbone_id": backbone_id, "embedding": vector(1)}
        for one in digests
    ]


@pytest.fixture
def files(store: Store) -> list[str]:
    """Three runs, the first of two files with several row groups; `b` stands twice, `x` is another
    backbone's.
    """
    run_id = new_run_id()
    folder = Path(store.folder(schemas.EMBEDDINGS, run_id))
    folder.mkdir(parents=True)
    first = rows_of(*(f"a{number}" for number in range(25)), "b")
    pq.write_table(pa.Table.from_pylist(first), folder / "part-0.parquet", row_group_size=7)
    mixed = [
        *rows_of("x", backbone_id="another"),
        *rows_of("c"),
        *rows_of("x", backbone_id="another"),
        *rows_of("d"),
    ]
    pq.write_table(pa.Table.from_pylist(mixed), folder / "part-1.parquet")
    store.commit(schemas.EMBEDDINGS, run_id, config={}, inputs=Inputs())
    # no manifest names it
    pq.write_table(pa.Table.from_pylist(rows_of("stray")), folder / "part-2.parquet")
    later = [stored(store, schemas.EMBEDDINGS, rows) for rows in ([], rows_of("e", "b"))]
    names = [
        f"{run_id}/part-0.parquet",
        f"{run_id}/part-1.parquet",
        *(f"{run.run_id}/part-0.parquet" for run in later),
    ]
    assert locations.embedding_files(store) == names
    return names


def located(frame: object) -> dict[str, tuple[int, int]]:
    rows = frame.collect()  # type: ignore[attr-defined]
    result = {row["content_digest"]: (row["embedding_file"], row["embedding_row"]) for row in rows}
    assert len(result) == len(rows)
    return result


def test_each_content_of_the_backbone_has_one_location(
    spark: SparkSession, store: Store, files: list[str]
) -> None:
    result = located(locations.locate(spark, store, files, "ours"))
    assert result.pop("b") in [(0, 25), (3, 1)]
    once = {f"a{number}": (0, number) for number in range(25)}
    assert result == {**once, "c": (1, 1), "d": (1, 3), "e": (3, 0)}


def test_only_some_contents_are_looked_for_and_only_in_the_files_that_are_named(
    spark: SparkSession, store: Store, files: list[str]
) -> None:
    wanted = spark_io.of_rows(
        spark, [("a3",), ("e",), ("a3",), ("none",), ("x",), (None,)], {"content_digest": "string"}
    )
    assert located(locations.locate(spark, store, files, "ours", among=wanted)) == {
        "a3": (0, 3),
        "e": (3, 0),
    }
    assert located(locations.locate(spark, store, files[:2], "ours", among=wanted)) == {
        "a3": (0, 3)
    }


def test_files_keep_their_numbers_and_new_ones_follow(store: Store, files: list[str]) -> None:
    turned = files[::-1][:2]
    run = stored(store, schemas.EMBEDDINGS, rows_of("f"))
    now = locations.embedding_files(store, turned)
    assert now == [*turned, files[0], files[1], f"{run.run_id}/part-0.parquet"]


def test_a_store_without_embeddings_has_no_located(spark: SparkSession, store: Store) -> None:
    assert locations.embedding_files(store) == []
    assert located(locations.locate(spark, store, [], "ours")) == {}


def test_images_whose_embeddings_share_a_file_stand_together(
    spark: SparkSession, store: Store
) -> None:
    rows = [{"image_id": f"i{n}", "embedding_file": n % 7, "embedding_row": n} for n in range(70)]
    rows += [{"image_id": f"failed {n}"} for n in range(40)]
    snapshot = spark_io.read_run(spark, stored(store, schemas.CATALOG, rows)).repartition(5)
    # it would merge what is so small
    spark.conf.set("spark.sql.adaptive.coalescePartitions.enabled", "false")
    try:
        parts = locations.partition_by_file(snapshot).rdd.glom().collect()
    finally:
        spark.conf.unset("spark.sql.adaptive.coalescePartitions.enabled")
    of_file: dict[int, set[int]] = {}
    failed = set()
    for number, part in enumerate(parts):
        for row in part:
            if row["embedding_file"] is None:
                failed.add(number)
            else:
                of_file.setdefault(row["embedding_file"], set()).add(number)
    assert {len(there) for there in of_file.values()} == {1}
    assert sum(map(len, parts)) == 110
    assert len(failed) == len(parts) == 4  # they do not all go to one task

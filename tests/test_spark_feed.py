"""The feed: everything but what the list names, and nothing else lost on the way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs import build_feed as job
from tests.conftest import picture, stored
from toiletspark import tables, versions
from toiletspark.config import Config
from toiletspark.errors import OutputError, TableError
from toiletspark.feed import build_feed
from toiletspark.runs import Store, new_run_id

MakeConfig = Callable[..., Config]
FEED = [("a", 1), ("b", 2), ("b", 3), (None, 4), ("c", 5), ("A", 6), ("", 7)]


def feed_of(spark: SparkSession, rows: list[Any] = FEED, kind: str = "photo string, place int") -> DataFrame:
    return spark.createDataFrame(rows, kind)


def excluded(spark: SparkSession, *ids: str | None) -> DataFrame:
    return spark.createDataFrame([(image_id,) for image_id in ids], "image_id string")


def places(frame: DataFrame) -> list[int]:
    return sorted(row["place"] for row in frame.collect())


@pytest.mark.parametrize(
    ("ids", "left"),
    [
        (["b"], [1, 4, 5, 6, 7]),
        (["b", "b", "not in the feed"], [1, 4, 5, 6, 7]),
        (["b", None], [1, 4, 5, 6, 7]),
        ([], [1, 2, 3, 4, 5, 6, 7]),
        (["a", "b", "c", "A", ""], [4]),
        (["A"], [1, 2, 3, 4, 5, 7]),
    ],
    ids=["an id twice in the feed", "and in the list", "a null in the list", "an empty list", "all", "case counts"],
)
def test_what_is_left(spark: SparkSession, ids: list[str | None], left: list[int]) -> None:
    kept = build_feed(feed_of(spark), excluded(spark, *ids), "photo")
    assert kept.columns == ["photo", "place"]
    assert places(kept) == left


def test_null_ids_stay_where_not_in_would_empty_the_feed(spark: SparkSession) -> None:
    """The contrast that the left anti join is for."""
    feed_of(spark).createOrReplaceTempView("feed_of_the_contrast")
    excluded(spark, "b", None).createOrReplaceTempView("list_of_the_contrast")
    emptied = spark.sql(
        "SELECT * FROM feed_of_the_contrast WHERE photo NOT IN (SELECT image_id FROM list_of_the_contrast)"
    )
    assert emptied.count() == 0
    assert build_feed(feed_of(spark), excluded(spark, "b", None), "photo").count() == 5


@pytest.mark.parametrize("kind", ["bigint", "int"])
def test_numeric_ids_are_compared_as_texts(spark: SparkSession, kind: str) -> None:
    rows = [(7, 1), (8, 2), (70, 3), (None, 4)]
    kept = build_feed(feed_of(spark, rows, f"photo {kind}, place int"), excluded(spark, "7", "08"), "photo")
    assert places(kept) == [2, 3, 4]
    assert dict(kept.dtypes)["photo"] == kind


def test_a_column_with_dots_and_a_column_called_image_id(spark: SparkSession) -> None:
    rows = [("a", "b", 1), ("b", "a", 2)]
    frame = feed_of(spark, rows, "`photo.id` string, image_id string, place int")
    kept = build_feed(frame, excluded(spark, "a"), "photo.id")
    assert kept.columns == ["photo.id", "image_id", "place"]
    assert places(kept) == [2]


def test_a_missing_column_names_the_nearest(spark: SparkSession) -> None:
    with pytest.raises(TableError) as stopped:
        build_feed(feed_of(spark), excluded(spark, "a"), "photos")
    assert str(stopped.value) == (
        "while building the feed\n"
        "  expected: the column 'photos' (feed.image_id) in the feed table\n"
        "  found:    the columns 'photo', 'place' (did you mean 'photo'?)\n"
        "  do:       set feed.image_id to the column that names the image"
    )


# The job


def publish(config: Config, *ids: str) -> None:
    store, run_id = Store.open(config.output.root), new_run_id()
    listed = stored(store, tables.EXCLUSION_LIST, [{"image_id": image_id} for image_id in ids], run_id=run_id)
    stored(store, tables.UNSCORED, [], run_id=run_id)
    versions.publish(store, listed)


def test_the_job_counts_and_keeps_all_columns_of_a_feed_table(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    feed = pd.DataFrame(
        {
            "content": [b"x", b"y", b"z"],
            "my photo.id": [10, 11, 10],
            "price": [1.5, 2.5, None],
            "tags": [["a"], [], None],
        }
    )
    feed.to_parquet(tmp_path / "feed.parquet")
    config = make_config({"feed.path": tmp_path / "feed.parquet", "feed.image_id": "my photo.id"})
    publish(config, "10")
    told = job.step(spark, config)
    assert told == {"feed_in": 3, "feed_out": 1, "feed_removed": 2, "feed": told["feed"]}
    built = pd.read_parquet(told["feed"])
    assert list(built.columns) == ["content", "my photo.id", "price", "tags"]
    assert (built.loc[0, "my photo.id"], built.loc[0, "content"], built.loc[0, "price"]) == (11, b"y", 2.5)
    assert list(built.loc[0, "tags"]) == []


def test_inline_bytes_of_the_images_table_stay_out_of_the_feed(spark: SparkSession, make_config: MakeConfig) -> None:
    images = pd.DataFrame(
        {"image_id": ["a", "b", "c"], "listing_id": "L1", "bytes": [picture()] * 3, "caption": ["x", "y", "z"]}
    )
    config = make_config({"images.columns.image_url": "", "images.columns.content": "bytes"}, images=images)
    publish(config, "b", "gone since")
    told = job.step(spark, config)
    assert (told["feed_in"], told["feed_out"], told["feed_removed"]) == (3, 2, 1)
    built = pd.read_parquet(told["feed"]).sort_values("image_id")
    assert built.to_dict("list") == {"image_id": ["a", "c"], "listing_id": ["L1", "L1"], "caption": ["x", "z"]}


def test_without_a_published_list_there_is_no_feed(spark: SparkSession, make_config: MakeConfig) -> None:
    config = make_config()
    with pytest.raises(OutputError, match="an unreadable list must not be taken for an empty one"):
        job.step(spark, config)
    assert Store(config.output.root).runs(tables.Table("feed", (), {})) == []


def test_the_feed_names_the_version_that_it_was_cleaned_with(spark: SparkSession, make_config: MakeConfig) -> None:
    config = make_config()
    publish(config, "L1-3", "L2-3")
    job.step(spark, config)
    store = Store(config.output.root)
    run = store.newest(tables.Table("feed", (), {}))
    assert run is not None
    assert run.manifest["inputs"] == {
        "feed": config.images.path,
        "exclusion_list": versions.current(config.output.root).run_id,
    }
    assert run.rows == 16

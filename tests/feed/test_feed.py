"""The feed in its three modes: a plain join each, null-safe, and its counts add up."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from tests.conftest import drawn_images, picture
from tests.support.feeds import DECIDED, FEED, decided, list_reason, publish
from toiletspark.config import Config
from toiletspark.errors import OutputError, TableError
from toiletspark.feed import feed, readers
from toiletspark.feed.feed import Counts
from toiletspark.jobs import build_feed
from toiletspark.tables import schemas, storage
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
MODES = ("open", "mixed", "closed")


def feed_of(
    spark: SparkSession, rows: list[Any] = FEED, kind: str = "photo string, place int"
) -> DataFrame:
    return spark.createDataFrame(rows, kind)


def version_of(spark: SparkSession, rows: list[dict[str, Any]]) -> tuple[DataFrame, DataFrame]:
    """The exclusion list, each row twice, and the decisions."""
    listed = [(row["image_id"], list_reason(row)) for row in rows if row["decision"] == "exclude"]
    columns = ("image_id", "listing_id", "decision", "reason")
    decisions = [tuple(row[name] for name in columns) for row in rows]
    return (
        spark.createDataFrame(listed * 2, "image_id string, reason string"),
        spark.createDataFrame(decisions, ", ".join(f"{name} string" for name in columns)),
    )


def places(frame: DataFrame) -> list[int]:
    return sorted(row["place"] for row in frame.collect())


def built(
    spark: SparkSession, rows: list[Any], version: list[dict[str, Any]]
) -> dict[str, list[int]]:
    """The rows that each mode leaves, which are those of the counts."""
    listed, decisions = version_of(spark, version)
    frame = feed_of(spark, rows)
    counts = feed.count(feed.standings(frame, decisions, "photo"))
    left = {
        mode: places(feed.build_feed(frame, listed, decisions, "photo", mode)) for mode in MODES
    }
    assert counts.feed_in == len(rows)
    for mode, kept in left.items():
        assert len(kept) == len(rows) - sum(counts.removed(mode).values())
    return left


def test_what_each_mode_leaves_and_what_the_counts_say_of_it(spark: SparkSession) -> None:
    """Both rows of b go; the row without an id and the later image stay unless only decided may."""
    listed, decisions = version_of(spark, DECIDED)
    frame = feed_of(spark)
    twice = decisions.union(decisions)
    kept = {mode: feed.build_feed(frame, listed, twice, "photo", mode) for mode in MODES}
    assert {mode: left.columns for mode, left in kept.items()} == {
        mode: ["photo", "place"] for mode in MODES
    }
    assert {mode: places(left) for mode, left in kept.items()} == {
        "open": [1, 4, 5, 6, 7, 8, 9],
        "mixed": [1, 4, 6, 7, 8, 9],
        "closed": [1, 6, 7],
    }
    assert feed.count(feed.standings(frame, decisions, "photo")) == Counts(
        {
            "keep": 3,
            "excluded_model": 2,
            "excluded_override": 1,
            "excluded_unscored": 1,
            "unscored": 1,
            "unknown_id": 1,
            "null_id": 1,
        },
        repeated_ids=1,
        repeated_rows=2,
    )


def test_an_empty_list_and_a_list_with_every_image(spark: SparkSession) -> None:
    ids = sorted({image_id for image_id, _ in FEED if image_id is not None})
    everything = [place for _, place in FEED]
    assert built(spark, FEED, [decided(image_id) for image_id in ids]) == {
        "open": everything,
        "mixed": everything,
        "closed": [place for place in everything if place != 4],
    }
    none = built(spark, FEED, [decided(image_id, "exclude") for image_id in ids])
    assert none == {"open": [4], "mixed": [4], "closed": []}


def test_null_ids_stay_where_not_in_would_empty_the_feed(spark: SparkSession) -> None:
    """The contrast that the left anti join is for; here the null stands in the list itself."""
    listed, decisions = version_of(spark, [decided("b", "exclude"), decided("a")])
    listed = listed.union(
        spark.createDataFrame([(None, "model")], "image_id string, reason string")
    )
    feed_of(spark).createOrReplaceTempView("feed_of_the_contrast")
    listed.createOrReplaceTempView("list_of_the_contrast")
    emptied = spark.sql(
        "SELECT * FROM feed_of_the_contrast "
        "WHERE photo NOT IN (SELECT image_id FROM list_of_the_contrast)"
    )
    assert emptied.count() == 0
    assert places(feed.build_feed(feed_of(spark), listed, decisions, "photo", "mixed")) == [
        1,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
    ]


def slowly(rows: list[Any], version: list[dict[str, Any]], mode: str) -> list[int]:
    """The same, row by row in Python."""
    found = {row["image_id"]: row for row in version}
    left = []
    for image_id, place in rows:
        row = found.get(image_id) if image_id is not None else None
        excluded = row is not None and row["decision"] == "exclude"
        if mode == "open" and not (excluded and row["reason"] != "unscored"):
            left.append(place)
        if mode == "mixed" and not excluded:
            left.append(place)
        if mode == "closed" and row is not None and row["decision"] == "keep":
            left.append(place)
    return left


def drawn(seed: int) -> tuple[list[Any], list[dict[str, Any]]]:
    """A feed with nulls, repeated and unknown ids, and a version, by chance."""
    chance = np.random.default_rng(seed)
    reasons = {"keep": ["model", "override", "last_score"], "unscored": ["unscored"]}
    reasons["exclude"] = ["model", "hysteresis", "override", "unscored", "last_score"]
    version = []
    for number in range(120):
        decision = str(chance.choice(list(reasons)))
        version.append(decided(f"i{number}", decision, str(chance.choice(reasons[decision]))))
    ids = [None if chance.random() < 0.1 else f"i{chance.integers(180)}" for _ in range(400)]
    return [(image_id, place) for place, image_id in enumerate(ids)], version


@pytest.mark.parametrize("seed", [1, 2])
def test_every_mode_is_what_a_loop_over_the_rows_gives(spark: SparkSession, seed: int) -> None:
    rows, version = drawn(seed)
    assert built(spark, rows, version) == {mode: slowly(rows, version, mode) for mode in MODES}


def test_counts_that_do_not_add_up_are_refused() -> None:
    counts = Counts({**dict.fromkeys(feed.STANDINGS, 0), "keep": 5, "excluded_model": 2}, 0, 0)
    told = feed.summary(counts, "open", 5)
    assert (told["feed_in"], told["feed_out"], told["feed_removed"]) == (7, 5, 2)
    with pytest.raises(OutputError) as stopped:
        feed.summary(counts, "open", 4)
    assert str(stopped.value) == (
        "while building the feed, mode open\n"
        "  expected: 7 rows of the feed table less 2 removed ones\n"
        "  found:    4 rows\n"
        "  do:       build the feed again while nobody writes to its table; if this stays, "
        "run `toiletspark publish`"
    )


def test_the_sentence_names_what_was_removed_and_the_holes() -> None:
    rows = dict.fromkeys(feed.STANDINGS, 0) | {
        "keep": 5,
        "excluded_model": 2,
        "unknown_id": 3,
        "null_id": 1,
    }
    told = feed.summary(Counts(rows, 0, 0), "mixed", 9)
    assert feed.sentence(told) == (
        "11 rows in, 9 out, 2 removed (2 excluded by score); let through though nobody has "
        "decided: 3 with an id that the version does not know, 1 without an id"
    )
    assert feed.sentence(feed.summary(Counts(rows, 0, 0), "closed", 5)) == (
        "11 rows in, 5 out, 6 removed "
        "(2 excluded by score, 3 with an id that the version does not know, 1 without an id)"
    )


def test_numeric_ids_are_compared_as_texts(spark: SparkSession) -> None:
    rows = [(7, 1), (8, 2), (70, 3), (None, 4)]
    listed, decisions = version_of(
        spark, [decided("7", "exclude"), decided("08", "exclude"), decided("70")]
    )
    for kind in ("bigint", "int"):
        frame = feed_of(spark, rows, f"photo {kind}, place int")
        kept = feed.build_feed(frame, listed, decisions, "photo", "mixed")
        assert places(kept) == [2, 3, 4]
        assert dict(kept.dtypes)["photo"] == kind


@pytest.mark.parametrize("kind", ["double", "float", "decimal(20,2)"])
def test_ids_that_have_become_floats_are_found_all_the_same(spark: SparkSession, kind: str) -> None:
    """Integers of pandas with a null; Spark's own cast would give 7.0 and 1.2345678E7."""
    rows = [("7", 1), ("12345678", 2), ("70", 3), (None, 4)]
    frame = feed_of(spark, rows).withColumn("photo", F.col("photo").cast(kind))
    listed, decisions = version_of(
        spark, [decided("7", "exclude"), decided("12345678", "exclude"), decided("70")]
    )
    kept = {
        mode: places(feed.build_feed(frame, listed, decisions, "photo", mode)) for mode in MODES
    }
    assert kept == {"open": [3, 4], "mixed": [3, 4], "closed": [3]}
    counts = feed.count(feed.standings(frame, decisions, "photo"))
    assert counts.rows == dict.fromkeys(feed.STANDINGS, 0) | {
        "keep": 1,
        "excluded_model": 2,
        "null_id": 1,
    }


def test_a_column_with_dots_and_a_column_called_image_id(spark: SparkSession) -> None:
    rows = [("a", "b", 1), ("b", "a", 2)]
    frame = feed_of(spark, rows, "`photo.id` string, image_id string, place int")
    listed, decisions = version_of(spark, [decided("a", "exclude")])
    kept = feed.build_feed(frame, listed, decisions, "photo.id", "mixed")
    assert kept.columns == ["photo.id", "image_id", "place"]
    assert places(kept) == [2]
    counts = feed.count(feed.standings(frame, decisions, "photo.id"))
    assert (counts.rows["excluded_model"], counts.rows["unknown_id"]) == (1, 1)


def test_a_missing_column_names_the_nearest(spark: SparkSession) -> None:
    listed, decisions = version_of(spark, [decided("a", "exclude")])
    with pytest.raises(TableError) as stopped:
        feed.build_feed(feed_of(spark), listed, decisions, "photos", "mixed")
    assert str(stopped.value) == (
        "while building the feed\n"
        "  expected: the column 'photos' (feed.image_id) in the feed table\n"
        "  found:    the columns 'photo', 'place' (did you mean 'photo'?)\n"
        "  do:       set feed.image_id to the column that names the image"
    )


# The job


def publish_excluding(config: Config, *ids: str, kept: Iterable[str] = ()) -> None:
    rows = [decided(image_id, "exclude") for image_id in ids] + [
        decided(image_id) for image_id in kept
    ]
    publish(Store.open(config.output.root), rows)


def test_the_job_counts_and_keeps_all_columns_of_a_feed_table(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = pd.DataFrame(
        {
            "content": [b"x", b"y", b"z"],
            "my photo.id": [10, 11, 10],
            "price": [1.5, 2.5, None],
            "tags": [["a"], [], None],
        }
    )
    table.to_parquet(tmp_path / "feed.parquet")
    config = make_config({"feed.path": tmp_path / "feed.parquet", "feed.image_id": "my photo.id"})
    publish_excluding(config, "10")
    told = build_feed.step(Workspace.open(spark, config))
    assert (told["feed_in"], told["feed_out"], told["feed_removed"]) == (3, 1, 2)
    assert told["feed_rows"] == dict.fromkeys(feed.STANDINGS, 0) | {
        "excluded_model": 2,
        "unknown_id": 1,
    }
    assert told["feed_removed_rows"] == {
        "excluded_model": 2,
        "excluded_override": 0,
        "excluded_unscored": 0,
    }
    assert told["feed_repeated"] == {"ids": 1, "rows": 2}
    assert (told["feed_mode"], told["feed_version"]) == ("mixed", 1)
    assert (told["listings"], told["listings_with_none"], told["alerts"]) == (1, 1, 1)
    assert caplog.messages == [
        "the feed by version 1 (mixed): 3 rows in, 1 out, 2 removed (2 excluded by score); "
        "let through though nobody has decided: 1 with an id that the version does not know",
        "1 of 1 listings have no image left: 'L1'",
    ]
    kept = pd.read_parquet(told["feed"])
    assert list(kept.columns) == ["content", "my photo.id", "price", "tags"]
    assert (kept.loc[0, "my photo.id"], kept.loc[0, "content"], kept.loc[0, "price"]) == (
        11,
        b"y",
        2.5,
    )
    assert list(kept.loc[0, "tags"]) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_feed_of_which_the_version_knows_no_image_is_refused(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path, mode: str
) -> None:
    """Ids that pandas has turned into floats would exclude nothing, and look like success."""
    pd.DataFrame({"photo": ["10.0", "11.0", "11.0", None]}).to_parquet(tmp_path / "feed.parquet")
    sets = {"feed.path": tmp_path / "feed.parquet", "feed.image_id": "photo", "feed.mode": mode}
    config = make_config(sets)
    publish_excluding(config, "10", kept=["11"])
    with pytest.raises(TableError) as stopped:
        build_feed.step(Workspace.open(spark, config))
    assert stopped.value.exit_code == 2
    assert str(stopped.value) == (
        f"while building the feed from {config.feed.path}\n"
        "  expected: ids in the column 'photo' (feed.image_id) that version 1 knows\n"
        "  found:    3 rows with an id, all of them unknown, for instance '10.0' here and "
        "'10' there\n"
        "  do:       set feed.image_id to the column that holds the ids of the images table, "
        "written as there; if all images are new, run `toiletspark rescore` first"
    )
    assert Store(config.output.root).runs(schemas.FEED) == []


def test_a_feed_without_any_id_or_any_row_is_built(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"photo": pd.array([None, None], "string")})
    sets = {"feed.path": tmp_path / "feed.parquet", "feed.image_id": "photo"}
    for rows in (2, 0):
        frame.head(rows).to_parquet(tmp_path / "feed.parquet")
        config = make_config(sets)
        publish_excluding(config, "10")
        assert build_feed.step(Workspace.open(spark, config))["feed_out"] == rows


def test_inline_bytes_of_the_images_table_stay_out_of_the_feed(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    images = pd.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "listing_id": "L1",
            "bytes": [picture()] * 3,
            "caption": ["x", "y", "z"],
        }
    )
    config = make_config(
        {"images.columns.image_url": "", "images.columns.content": "bytes"}, images=images
    )
    publish_excluding(config, "b", "gone since")
    told = build_feed.step(Workspace.open(spark, config))
    assert (told["feed_in"], told["feed_out"], told["feed_removed"]) == (3, 2, 1)
    kept = pd.read_parquet(told["feed"]).sort_values("image_id")
    assert kept.to_dict("list") == {
        "image_id": ["a", "c"],
        "listing_id": ["L1", "L1"],
        "caption": ["x", "z"],
    }


def test_without_a_published_list_there_is_no_feed(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config()
    with pytest.raises(OutputError, match="an unreadable list must not be taken for an empty one"):
        build_feed.step(Workspace.open(spark, config))
    assert Store(config.output.root).runs(schemas.FEED) == []


def test_closed_by_a_stale_version_if_that_is_said_and_all_of_one_run(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config({"feed.mode": "closed"})
    rows = [
        decided("L1-1"),
        decided("L1-2", "exclude"),
        decided("L2-1", "unscored", "unscored", status="timeout"),
    ]
    publish(Store.open(config.output.root), rows, valid_for_h=1e-9)
    with pytest.raises(OutputError, match="a version that is still valid"):
        build_feed.step(Workspace.open(spark, config))
    stale = make_config(
        {"feed.mode": "closed", "feed.allow_stale": "true"}, images=drawn_images(tmp_path / "again")
    )
    told = build_feed.step(Workspace.open(spark, stale))
    assert (told["feed_in"], told["feed_out"], told["feed_removed"]) == (18, 1, 17)
    assert pd.read_parquet(told["feed"])["image_id"].tolist() == ["L1-1"]

    store = Store(config.output.root)
    runs = [store.newest(table) for table in (schemas.FEED, schemas.BEST_IMAGES, schemas.ALERTS)]
    assert [run and run.run_id for run in runs] == [Path(told["feed"]).name] * 3
    listed = store.newest(schemas.EXCLUSION_LIST)
    for run in runs:
        assert run is not None
        assert run.inputs.as_json() == {
            "feed": {"path": config.images.path},
            "version": 1,
            "exclusion_list": listed and listed.run_id,
        }
    assert storage.entries(f"{store.root}/_work") == []


# One version


def test_what_is_published_meanwhile_does_not_mix_versions(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "output"))
    publish(store, [decided("a", "exclude")])
    version = readers.resolve(store.root)
    publish(store, [decided("b")])
    runs = [
        version.run(table)
        for table in (schemas.EXCLUSION_LIST, schemas.DECISIONS, schemas.UNSCORED)
    ]
    assert {run.run_id for run in runs} == {version.exclusion_list.run_id}
    assert [run.rows for run in runs] == [1, 1, 0]
    seen = version.source(schemas.CATALOG)
    assert seen is not None
    assert seen.rows == 1
    newer = readers.resolve(store.root)
    assert (version.number, newer.number) == (1, 2)
    assert newer.run(schemas.EXCLUSION_LIST).rows == 0


def test_the_pointer_is_read_once_so_that_no_publisher_comes_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path / "output"))
    publish(store, [decided("a", "exclude")])
    looks: list[str] = []
    read_json = storage.read_json

    def read_and_publish(location: str) -> Any:
        found = read_json(location)
        if location.endswith("_current.json"):
            looks.append(location)
            if len(looks) == 1:
                publish(store, [decided("b")])
        return found

    monkeypatch.setattr(storage, "read_json", read_and_publish)
    version = readers.resolve(store.root)
    assert len(looks) == 1
    assert version.number == 1
    assert version.exclusion_list.rows == 1
    assert version.run(schemas.DECISIONS).run_id == version.exclusion_list.run_id


def test_a_companion_that_is_gone_or_altered_is_not_read(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "output"))
    publish(store, [decided("a", "exclude")])
    version = readers.resolve(store.root)
    for file in Path(version.run(schemas.DECISIONS).folder).glob("*.parquet"):
        file.unlink()
    with pytest.raises(OutputError, match="the 1 files of the manifest"):
        version.run(schemas.DECISIONS)
    storage.remove_folder(store.folder(schemas.UNSCORED, version.exclusion_list.run_id))
    with pytest.raises(OutputError, match="the version with all its tables"):
        version.run(schemas.UNSCORED)

"""The page about the feed: its SQL runs as it is printed, and its tables match the code."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.conftest import REPOSITORY, literal_config
from tests.support.feeds import DECIDED, FEED, publish
from toiletspark.feed import feed, readers
from toiletspark.feed.readers import Current
from toiletspark.images.statuses import FAILURE_CLASSES
from toiletspark.tables import schemas, spark_io
from toiletspark.tables.runs import Store

PAGE = (REPOSITORY / "docs" / "feed.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```sql\n-- ([^\n]+)\n(.+?)^```$", PAGE, re.MULTILINE | re.DOTALL))
MODES = ("open", "mixed", "closed")
ROWS = pd.DataFrame(FEED, columns=["image_id", "place"])


@pytest.fixture
def version(tmp_path: Path) -> Current:
    store = Store.open(str(tmp_path / "output"))
    publish(store, DECIDED)
    return readers.resolve(store.root)


def of(version: Current, block: str) -> list[str]:
    """The statements of a block, about this version."""
    told = (
        BLOCKS[block]
        .replace("/data/toiletspark", version.root)
        .replace("RUN_ID", version.exclusion_list.run_id)
    )
    return [statement for statement in told.split(";") if statement.strip()]


def places(frame: pd.DataFrame) -> list[int]:
    return sorted(frame["place"].tolist())


def by_feed(spark: SparkSession, rows: DataFrame, version: Current, mode: str) -> list[int]:
    listed, decided = (
        spark_io.read_run(spark, version.run(table))
        for table in (schemas.EXCLUSION_LIST, schemas.DECISIONS)
    )
    return places(feed.build_feed(rows, listed, decided, "image_id", mode).toPandas())


def test_the_page_has_each_mode_in_both_dialects() -> None:
    modes = list(map(", ".join, itertools.product(MODES, ("Spark SQL", "any database"))))
    assert list(BLOCKS) == ["tables, Spark SQL", "tables, DuckDB", *modes, "counts, any database"]
    assert len(BLOCKS) == PAGE.count("```sql")
    assert not re.search(r"NOT IN", "".join(BLOCKS.values()), re.IGNORECASE)


def test_every_block_gives_what_the_feed_gives(spark: SparkSession, version: Current) -> None:
    rows = spark.createDataFrame(FEED, "image_id string, place int")
    rows.createOrReplaceTempView("feed")
    warehouse = duckdb.connect()
    warehouse.register("feed", ROWS)
    for statement in of(version, "tables, Spark SQL"):
        spark.sql(statement)
    for statement in of(version, "tables, DuckDB"):
        warehouse.execute(statement)

    left = {}
    for mode in MODES:
        wanted = left[mode] = by_feed(spark, rows, version, mode)
        assert places(spark.sql(*of(version, f"{mode}, Spark SQL")).toPandas()) == wanted
        assert places(spark.sql(*of(version, f"{mode}, any database")).toPandas()) == wanted
        assert places(warehouse.execute(*of(version, f"{mode}, any database")).df()) == wanted
    assert left == {"open": [1, 4, 5, 6, 7, 8, 9], "mixed": [1, 4, 6, 7, 8, 9], "closed": [1, 6, 7]}

    counted = feed.count(
        feed.standings(rows, spark_io.read_run(spark, version.run(schemas.DECISIONS)), "image_id")
    ).rows
    for found in (
        spark.sql(*of(version, "counts, any database")).toPandas(),
        warehouse.execute(BLOCKS["counts, any database"]).df(),
    ):
        assert dict(zip(found["standing"], found["feed_rows"], strict=True)) == counted


def test_a_null_in_the_list_is_why_the_page_has_no_not_in() -> None:
    warehouse = duckdb.connect()
    warehouse.register("feed", ROWS)
    warehouse.execute(
        "CREATE TABLE exclusion_list AS SELECT * FROM (VALUES ('b', 'model'), (NULL, 'model')) "
        "t(image_id, reason)"
    )
    emptied = warehouse.execute(
        "SELECT * FROM feed WHERE image_id NOT IN (SELECT image_id FROM exclusion_list)"
    ).df()
    assert places(emptied) == []
    for mode in ("open", "mixed"):
        assert places(warehouse.execute(BLOCKS[f"{mode}, any database"]).df()) == [
            1,
            4,
            5,
            6,
            7,
            8,
            9,
            10,
        ]


def cells(first: str) -> list[list[str]]:
    """The rows of the page's table whose header begins so."""
    _, _, rest = PAGE.partition(f"| {first} |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_failures_is_what_the_defaults_do() -> None:
    failures = literal_config({"images.path": "none"}).publish.failures.model_dump()
    told: dict[str, str] = {}
    for image, names, made, *shown in cells("image"):
        named = re.match(r"`(\w+)`", image)
        if named is None:
            continue
        told |= dict.fromkeys(names.split(", "), named[1])
        assert made == failures[named[1]]
        standing = "excluded_unscored" if made == "exclude" else made
        assert shown == ["gone" if standing in feed.REMOVED[mode] else "shown" for mode in MODES]
    assert told == FAILURE_CLASSES


def test_the_table_of_counts_is_what_the_modes_remove() -> None:
    told = {}
    for names, *stays in cells("rows"):
        told.update(dict.fromkeys(names.replace("`", "").split(", "), stays))
    assert told == {
        standing: ["go" if standing in feed.REMOVED[mode] else "stay" for mode in MODES]
        for standing in feed.STANDINGS
    }


@pytest.mark.parametrize("table", [schemas.BEST_IMAGES, schemas.ALERTS])
def test_the_columns_of_the_tables_beside_the_feed_are_told(table: schemas.Table) -> None:
    _, _, section = PAGE.partition(f"\n`{table.name}`: ")
    first_cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    names = re.findall(r"`(\w+)`", " ".join(first_cells))
    assert names[: len(table.columns)] == list(table.columns)

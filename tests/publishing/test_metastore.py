"""The table of Spark's catalog follows the live version; whose it is not, it leaves alone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.support.small_versions import published
from toiletspark.config import loading
from toiletspark.errors import ConfigError, OutputError
from toiletspark.publishing.versions import log, metastore, rollback
from toiletspark.tables.runs import Store

DATABASE = "toiletspark_tests"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "out'put"))  # a quote in the path is a letter as any other


@pytest.fixture
def database(spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    spark.sql(f"CREATE DATABASE {DATABASE} LOCATION 'file://{tmp_path}/warehouse'")
    yield DATABASE
    spark.sql(f"DROP DATABASE {DATABASE} CASCADE")


def images(spark: SparkSession, table: str) -> list[str]:
    return sorted(row["image_id"] for row in spark.table(table).select("image_id").collect())


def test_the_table_is_made_and_moved_with_each_version(
    spark: SparkSession, store: Store, database: str
) -> None:
    name, shown = f"{database}.order", f"{database}.`order`"  # a word of SQL
    metastore.require_ours(spark, name, store.root)
    metastore.follow(spark, name, store.root)
    assert not spark.catalog.tableExists(shown)  # nothing was published yet
    published(store, 0)
    metastore.follow(spark, name, store.root)
    assert images(spark, shown) == []
    assert spark.table(shown).columns == [
        "image_id",
        "listing_id",
        "reason",
        "exclusion_score",
        "head_id",
        "run_id",
    ]
    published(store, 2)
    metastore.follow(spark, name, store.root)
    assert images(spark, shown) == ["i0", "i1"]
    rollback.roll_back(store, loading.load().publish)
    assert images(spark, shown) == ["i0", "i1"]
    folder = store.root + "/exclusion_list/" + log.read_all(store)[0].run_id
    for statement in metastore.statements(name, folder):
        spark.sql(statement)
    assert images(spark, shown) == []
    spark.sql(f"DROP TABLE {shown}")
    # external: the version is not the table's to remove
    assert (Path(folder) / "_manifest.json").exists()


def test_a_table_of_somebody_else_is_left_alone(
    spark: SparkSession, store: Store, database: str
) -> None:
    spark.sql(f"CREATE TABLE {database}.listings USING parquet AS SELECT 'mine' AS image_id")
    spark.sql(f"CREATE VIEW {database}.seen AS SELECT 'mine' AS image_id")
    published(store)
    for name in ("listings", "seen"):
        with pytest.raises(OutputError) as stopped:
            metastore.follow(spark, f"{database}.{name}", store.root)
        assert stopped.value.found == "a table or view that toiletspark did not make"
        assert images(spark, f"{database}.{name}") == ["mine"]
    metastore.follow(spark, f"{database}.ours", store.root)
    with pytest.raises(OutputError) as stopped:
        metastore.require_ours(spark, f"{database}.ours", "/another/root")
    assert stopped.value.found == f"one for {store.root}"


def test_a_database_that_is_not_there_is_told_with_what_to_run(
    spark: SparkSession, store: Store
) -> None:
    published(store)
    metastore.require_ours(spark, "", store.root)
    with pytest.raises(OutputError) as stopped:
        metastore.follow(spark, "nowhere.exclusions", store.root)
    text = str(stopped.value)
    assert text.startswith(
        f"while pointing the table nowhere.exclusions to {store.root}/exclusion_list/"
    )
    assert "nowhere" in stopped.value.found
    assert "ALTER TABLE `nowhere`.`exclusions` SET LOCATION 'file:///" in stopped.value.todo
    assert r"out\'put/exclusion_list/" in stopped.value.todo


@pytest.mark.parametrize(
    "name", ["exclusions", "a.b.c.d", "a..b", "a.b c", "a.`b`", "a.b;", ".b", "a.", "ä.b", "a.b\n"]
)
def test_what_is_no_name_of_a_table(name: str) -> None:
    with pytest.raises(ConfigError) as stopped:
        metastore.quoted(name)
    assert re.match(
        "while reading publish.catalog_table\n  expected: database.table, of letters",
        str(stopped.value),
    )
    assert stopped.value.found == repr(name)


def test_names_are_quoted() -> None:
    assert metastore.quoted("main.portal.2nd-list") == "`main`.`portal`.`2nd-list`"

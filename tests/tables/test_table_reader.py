"""The user's tables by path, table and query: what is read, which version, and early errors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import literal_config
from toiletspark.config import Config, Table
from toiletspark.errors import TableError
from toiletspark.jobs import draw_sample
from toiletspark.tables import listing_checks, schemas, table_reader, user_tables
from toiletspark.tables.manifest import Inputs, TableInput
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
PHOTOS = [
    ("a", "L1", "u", "DE"),
    ("b", "L1", "u", "DE"),
    ("c", "L5", "u", "AT"),
    ("d", "", "u", ""),
]
DERBY = {"url": "jdbc:derby:memory:portal", "driver": "org.apache.derby.jdbc.EmbeddedDriver"}


@pytest.fixture(scope="module")
def photos(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The photos as tables and views of every type that a plain session's catalog has."""
    folder = tmp_path_factory.mktemp("catalog")
    frame = spark.createDataFrame(
        pd.DataFrame(PHOTOS, columns=["image_id", "listing_id", "image_url", "country"])
    )
    spark.sql(f"CREATE DATABASE portal LOCATION 'file://{folder}/portal'")
    frame.coalesce(1).write.format("orc").partitionBy("country").saveAsTable("portal.photos")
    spark.sql("CREATE VIEW portal.german AS SELECT * FROM portal.photos WHERE country = 'DE'")
    spark.table("portal.photos").createTempView("my_photos")
    spark.table("portal.photos").createGlobalTempView("all_photos")
    yield
    spark.sql("DROP DATABASE portal CASCADE")
    spark.catalog.dropTempView("my_photos")
    spark.catalog.dropGlobalTempView("all_photos")


def images(sets: dict[str, Any]) -> Table:
    return literal_config({f"images.{key}": value for key, value in sets.items()}).images


def ids(spark: SparkSession, **sets: Any) -> list[str]:
    frame = table_reader.read_table(spark, images(sets), "images")
    return sorted(row["image_id"] for row in frame.select("image_id").collect())


def stopped(spark: SparkSession, **sets: Any) -> TableError:
    with pytest.raises(TableError) as raised:
        table_reader.read_table(spark, images(sets), "images")
    return raised.value


# Sources


@pytest.mark.parametrize(
    ("sets", "wanted"),
    [
        ({"table": "portal.photos"}, "abcd"),
        ({"table": "portal.photos", "where": "country = 'DE' OR image_id = 'd'"}, "abd"),
        ({"table": "spark_catalog.portal.german"}, "ab"),
        ({"table": "my_photos", "where": "listing_id = 'L5'"}, "c"),
        ({"table": "global_temp.all_photos"}, "abcd"),
        ({"query": "SELECT p.* FROM portal.photos p JOIN portal.german USING (image_id);\n"}, "ab"),
        (
            {
                "query": "WITH q AS (TABLE my_photos) SELECT * FROM q -- all",
                "where": "image_id > ''",
            },
            "abcd",
        ),
    ],
    ids=["orc", "orc where", "view", "temp view", "global temp view", "join", "with"],
)
def test_tables_views_and_queries(
    spark: SparkSession, photos: None, sets: dict[str, str], wanted: str
) -> None:
    assert ids(spark, **sets) == list(wanted)


def test_a_folder_of_another_format(spark: SparkSession, photos: None) -> None:
    file = spark.table("portal.photos").inputFiles()[0]
    folder = Path(file.removeprefix("file://")).parent.parent
    assert ids(spark, path=folder, format="ORC") == list("abcd")


def test_a_table_and_a_query_of_a_database(spark: SparkSession, tmp_path: Path) -> None:
    """Derby, whose driver comes with Spark: the database runs the query, in its own SQL."""
    spark._jvm.System.setProperty("derby.stream.error.file", str(tmp_path / "derby.log"))  # type: ignore[union-attr]
    frame = spark.createDataFrame([("a", 1), ("b", 2)], "image_id string, width int")
    url = f"{DERBY['url']};create=true"
    frame.write.format("jdbc").options(**{**DERBY, "url": url, "dbtable": "photos"}).save()
    options = ", ".join(f'{key} = "{value}"' for key, value in DERBY.items())
    database = {"format": "jdbc", "options": f"{{ {options} }}"}
    assert ids(spark, table="photos", **database) == ["a", "b"]
    assert ids(spark, table="photos", where="width > 1", **database) == ["b"]
    query = 'SELECT "image_id" FROM photos WHERE "width" = 1'
    assert ids(spark, query=query, **database) == ["a"]
    error = stopped(spark, table="rooms", **database)
    assert error.doing == "reading the images table rooms"
    assert "'ROOMS' does not exist" in error.found
    assert error.todo.startswith("check images.table and images.options (url, driver, user); ")


def test_a_step_records_what_it_has_read(
    spark: SparkSession, photos: None, make_config: MakeConfig
) -> None:
    query = "SELECT 'L1' AS listing_id, 'Harbour' AS location, 'rent' AS listing_type, 1 AS active"
    sets = {"images.path": "", "images.table": "portal.photos", "images.where": "country > ''"}
    of_query = {"listings.path": "", "listings.query": query}
    more = {"images.columns.image_version": "", "sample.method": "exact"}
    config = make_config({**sets, **of_query, **more})
    work = Workspace.open(spark, config)
    assert work.config == config
    assert draw_sample.step(work)["images"] == 3
    run = Store(config.output.root).newest(schemas.SAMPLE)
    assert run is not None
    assert run.inputs.as_json() == {
        "images": {"table": "portal.photos", "where": "country > ''"},
        "listings": {"query": query},
        "bands": [],
    }
    assert run.inputs.images == TableInput(table="portal.photos", where="country > ''")


def test_the_feed_is_read_from_a_table(spark: SparkSession, photos: None) -> None:
    config = literal_config({"feed.table": "portal.german", "images.path": "none"})
    assert config.feed_table is config.feed
    assert user_tables.read_feed(spark, config)[0].count() == 2
    config = literal_config({"images.table": "portal.german"})
    assert config.feed_table is config.images
    assert user_tables.read_feed(spark, config)[0].count() == 2


# Mistakes


def test_a_table_that_is_not_there(spark: SparkSession, make_config: MakeConfig) -> None:
    wanted = (
        "while reading the images table portal.rooms\n"
        "  expected: a table that this Spark session can read\n"
        "  found:    [TABLE_OR_VIEW_NOT_FOUND] The table or view `portal`.`rooms` cannot be found."
    )
    error = stopped(spark, table="portal.rooms")
    assert str(error).startswith(wanted)
    todo = "check images.table, and the settings spark.sql.catalog... of the session"
    assert (error.todo, error.exit_code) == (todo, 2)
    config = make_config({"images.path": "", "images.table": "portal.rooms"})
    with pytest.raises(TableError) as raised:
        Workspace.open(spark, config)
    assert str(raised.value).startswith(wanted)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT image_id FROM nowhere", "[TABLE_OR_VIEW_NOT_FOUND]"),
        ("DROP TABLE portal.photos", "[PARSE_SYNTAX_ERROR] Syntax error at or near 'portal'"),
        ("SELEC image_id FROM portal.photos", "[PARSE_SYNTAX_ERROR]"),
    ],
)
def test_a_query_that_cannot_be_read(
    spark: SparkSession, photos: None, query: str, found: str
) -> None:
    error = stopped(spark, query=query)
    assert error.doing == f"reading the images table ({query})"
    assert error.expected == "a query that this Spark session can read"
    assert error.found.startswith(found)
    assert error.todo.startswith("check images.query")
    assert spark.catalog.tableExists("portal.photos")


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("land = 'DE'", "[UNRESOLVED_COLUMN.WITH_SUGGESTION]"),
        ("country =", "[PARSE_SYNTAX_ERROR]"),
        ("country", "[DATATYPE_MISMATCH.FILTER_NOT_BOOLEAN]"),
    ],
)
def test_a_where_that_is_no_condition(
    spark: SparkSession, photos: None, where: str, found: str
) -> None:
    error = stopped(spark, table="portal.photos", where=where)
    columns = "'image_id', 'listing_id', 'image_url', 'country'"
    assert error.doing == "reading the images table portal.photos"
    assert error.expected == f"a condition on its columns ({columns}) in images.where"
    assert error.found.startswith(f"{where!r}: {found}")
    assert error.todo.startswith("correct images.where; it is SQL, as in ")


@pytest.mark.parametrize("table_format", ["delta", "iceberg", "avro", "nobodys"])
def test_a_format_that_the_session_lacks(
    spark: SparkSession, tmp_path: Path, table_format: str
) -> None:
    """The version of such a table is not asked for: the format is missing first."""
    sets = {"images.path": tmp_path, "images.format": table_format}
    with pytest.raises(TableError) as raised:
        table_reader.read_table(spark, literal_config(sets).images, "images")
    error = raised.value
    assert error.doing == f"reading the images table {tmp_path}"
    assert error.expected == f"a {table_format} file or folder with at least one row"
    assert f"data source: {table_format}." in error.found
    todo = "give Spark the format's package: spark.jars.packages, or --packages of spark-submit"
    assert error.todo == todo
    if table_format != "avro":
        with pytest.raises(TableError, match=f"data source: {table_format}"):
            listing_checks.check(spark, Workspace.open(spark, literal_config(sets)).config)


def test_a_database_without_its_driver(spark: SparkSession) -> None:
    options = '{ url = "jdbc:postgresql://db/portal" }'
    error = stopped(spark, table="photos", format="jdbc", options=options)
    assert (error.expected, error.found) == (
        "a table or query of the database that images.options names",
        "No suitable driver",
    )
    assert error.todo.endswith(
        "give Spark the database's driver: spark.jars, or --jars of spark-submit"
    )


# Folders that are more than their files


@pytest.mark.parametrize(
    ("mark", "below", "table_format", "true_format"),
    [
        ("_delta_log/00000000000000000000.json", "", "parquet", "delta"),
        ("_delta_log/00000000000000000000.json", "/country=DE/part-0.parquet", "orc", "delta"),
        ("_delta_log/00000000000000000000.json", "/country=*", "parquet", "delta"),
        ("_delta_log/00000000000000000000.json", "/{[?]}", "avro", "delta"),
        ("metadata/v1.metadata.json", "/data", "parquet", "iceberg"),
        ("metadata/00000-ab.metadata.json", "", "JSON", "iceberg"),
        (".hoodie/hoodie.properties", "/2026", "parquet", "hudi"),
    ],
)
def test_files_of_a_table_with_deleted_rows_are_refused_by_name(
    spark: SparkSession,
    tmp_path: Path,
    mark: str,
    below: str,
    table_format: str,
    true_format: str,
) -> None:
    folder = tmp_path / "a, b"
    (folder / mark).parent.mkdir(parents=True)
    (folder / mark).write_text("{}")
    sets = {"overrides.path": f"{folder}{below}", "overrides.format": table_format}
    with pytest.raises(TableError) as raised:
        table_reader.pin_versions(spark, literal_config(sets))
    assert raised.value.doing == f"reading the overrides table {folder}{below}"
    assert raised.value.expected == f"files of {table_format} that are the table themselves"
    assert raised.value.found.startswith(f"a table of {true_format} (")
    assert raised.value.todo == (
        f'set overrides.format = "{true_format}" and overrides.path to the table\'s folder, '
        "or overrides.table to its name in Spark's catalog in place of overrides.path"
    )


@pytest.mark.parametrize(
    ("files", "below", "found"),
    [
        (["_temporary/0/_temporary/attempt_1/part-1"], "", "_temporary with files in it"),
        (["_temporary/0/task_1/part-1", "_SUCCESS"], "/day=1", "_temporary with files in it"),
        (["_temporary/0/task_1/part-1"], "/day=1/country=DE", "_temporary with files in it"),
        (["_started_7", "_committed_6"], "", "'_started_7' without _committed_7"),
        (["_started_7", "_started_8", "_committed_7"], "", "'_started_8' without _committed_8"),
    ],
)
def test_a_table_that_is_still_being_written_is_refused(
    spark: SparkSession, tmp_path: Path, files: list[str], below: str, found: str
) -> None:
    folder = tmp_path / "a [b], c"
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    with pytest.raises(TableError) as raised:
        table_reader.pin_versions(spark, literal_config({"images.path": f"{folder}{below}"}))
    assert raised.value.doing == f"reading the images table {folder}{below}"
    assert raised.value.found == f"{found}: a job is still writing it, or died while it did"


def test_a_table_that_was_written_is_not_refused(spark: SparkSession, tmp_path: Path) -> None:
    """With what jobs leave behind: an empty _temporary, and a foreign one in a folder above."""
    for name in ("images/_temporary/0", "_temporary/0/task_1/part-1"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("_started_7", "_committed_7", "_SUCCESS", "part-0.parquet"):
        (tmp_path / "images" / name).write_text("")
    config = literal_config({"images.path": tmp_path / "images"})
    assert table_reader.pin_versions(spark, config) == config


def test_a_plain_folder_is_not_refused(spark: SparkSession, tmp_path: Path) -> None:
    """Nor one beside such a table, nor a location that cannot be asked."""
    for name in ("metadata/notes.json", "beside/_delta_log/0.json", "images/part-0.parquet"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}")
    sets = {"images.path": tmp_path / "images", "listings.path": "nobodys://bucket/listings"}
    config = literal_config(sets)
    assert table_reader.pin_versions(spark, config) == config


# Versions. tests/tables/test_iceberg.py asks a real Iceberg; nothing here has asked a real Delta


class DeltaSession:
    """A session in which every table is one of Delta, at version 12; it keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.read = self

    def sql(self, text: str) -> Any:
        self.asked.append(text)
        return self

    def collect(self) -> list[Any]:
        if self.asked[-1].startswith("DESCRIBE HISTORY"):
            return [(12,)]
        rows = [("Provider", "text"), ("# Detailed Table Information", ""), ("Provider", "delta")]
        return [{"col_name": name, "data_type": data_type} for name, data_type in rows]

    def select(self, *names: str) -> Any:
        return self

    def format(self, name: str) -> Any:
        return self

    def options(self, **options: str) -> Any:
        self.asked.append(str(options))
        return self

    def load(self, path: str) -> Any:
        self.asked.append(path)
        return self

    def table(self, name: str) -> Any:
        self.asked.append(name)
        return self


def test_delta_is_asked_for_its_newest_version_and_read_at_it() -> None:
    session: Any = DeltaSession()
    sets = {"images.table": "portal.photos", "feed.path": "/lake/f`d", "feed.format": "Delta"}
    config = table_reader.pin_versions(session, literal_config(sets))
    assert (config.images.version, config.feed.version, config.listings.version) == ("12", "12", "")
    assert "DESCRIBE TABLE EXTENDED portal.photos" in session.asked
    assert "DESCRIBE HISTORY portal.photos LIMIT 1" in session.asked
    assert "DESCRIBE HISTORY delta.`file:///lake/f``d` LIMIT 1" in session.asked
    assert Inputs.of_tables(config).as_json() == {
        "images": {"table": "portal.photos", "version": "12"},
        "listings": None,
    }

    session.asked.clear()
    table_reader.read_table(session, config.images, "images")
    table_reader.read_table(session, config.feed, "feed")
    assert session.asked == [
        "SELECT * FROM portal.photos VERSION AS OF 12",
        "{'versionAsOf': '12'}",
        "file:///lake/f`d",
    ]


def test_a_version_that_the_user_names_stays() -> None:
    sets = {"images.table": "portal.photos", "images.version": 3}
    config = literal_config(sets)
    nobody: Any = SimpleNamespace()  # is asked nothing
    assert table_reader.pin_versions(nobody, config).images.version == "3"


def test_a_table_without_versions_cannot_be_read_at_one(spark: SparkSession, photos: None) -> None:
    error = stopped(spark, table="portal.photos", version=3)
    assert "Time travel on the relation" in error.found

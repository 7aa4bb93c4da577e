"""The user's tables as Spark reads them: files, tables of a catalog, queries, databases.

A table that keeps versions (Delta, Iceberg) is read at one version in a whole run: `pin_versions`
asks for the newest when the run starts, and every read then names it.
"""

import functools
import re
from collections.abc import Collection
from typing import TypeAlias
from urllib.parse import unquote

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import VERSIONED, Config, Table
from toiletspark.errors import TableError, shown
from toiletspark.tables import failures, spark_io, storage
from toiletspark.tables.formats import csv_files, folder_marks, parquet_columns
from toiletspark.tables.schemas import quoted

_PLAIN = ("parquet", "orc", "csv", "json", "avro", "text")  # formats of files
_NO_SUCH_FORMAT = re.compile(r"Failed to find (the )?data source")
_MARKED_NAME = re.compile(r"[\[\]{}*?\\]|:(?!//)")  # has characters of patterns or of URIs
_MOST_TRIED = 200  # files
_SparkError: TypeAlias = PySparkException | Py4JJavaError


def read_table(
    spark: SparkSession, table: Table, name: str, mapped: Collection[str] = ()
) -> DataFrame:
    """One of the user's tables, with all its columns, and the rows that its `where` keeps.

    Args:
        name: the table's section in the configuration, such as "images", for messages.
        mapped: the columns that we use ourselves, see `csv_files.check`.

    Raises:
        TableError: it does not exist or cannot be read, or `where` is no condition on it.
    """
    if not table.is_set:
        raise TableError(
            doing=f"reading the {name} table",
            expected=f"one of {name}.path, {name}.table and {name}.query",
            found="nothing",
            todo=f"add `[{name}]` with `path = ...` to your configuration "
            "(see conf/mytables.example.toml)",
        )
    try:
        frame = _load(spark, table, name)
        if csv_files.is_csv(table):
            csv_files.check(frame, table, name, mapped)
    except (PySparkException, Py4JJavaError) as error:
        known = csv_files.explained(table, name, error) if csv_files.is_csv(table) else None
        raise known or _unreadable(spark, table, name, error) from None
    if table.path and table.format.lower() in _PLAIN:
        frame = _with_decoded_folder_names(frame)
    try:
        return frame.where(table.where) if table.where else frame
    except (PySparkException, Py4JJavaError) as error:
        raise TableError(
            doing=f"reading the {name} table {table.label}",
            expected=f"a condition on its columns ({shown(frame.columns, 20)}) in {name}.where",
            found=f"{table.where!r}: {_reason(error)}",
            todo=f"correct {name}.where; it is SQL, as in \"country = 'DE' AND width > 100\"",
        ) from None


def pin_versions(spark: SparkSession, config: Config) -> Config:
    """Returns the configuration with the newest version of each table that keeps versions.

    A version that the user has named stays. Tables without versions, and queries, stay as they are.
    Cost: no job of Spark, except for Delta and Iceberg a query of their log.

    Raises:
        TableError: a folder of Delta, Iceberg or Hudi would be read as plain files; a table of
            the catalog is missing; its newest version cannot be asked for.
    """
    pinned = {
        name: _pin_version(spark, getattr(config, name), name)
        for name in ("listings", "images", "overrides", "feed")
    }
    label_table = _pin_version(spark, config.labels.table, "labels.table")
    labels = config.labels.model_copy(update={"table": label_table})
    return config.model_copy(update={**pinned, "labels": labels})


def _load(spark: SparkSession, table: Table, name: str) -> DataFrame:
    if table.is_database:
        of_table = {"dbtable": table.table} if table.table else {"query": table.query}
        return spark.read.format("jdbc").options(**{**table.options, **of_table}).load()
    if table.query:  # inside another query, so that it can only read
        query = table.query.rstrip().rstrip(";")
        return spark.sql(f"SELECT * FROM (\n{query}\n)")  # noqa: S608 - the user's own
    if table.table and table.version:
        # the reader's option versionAsOf would be ignored for a table of a catalog
        return spark.sql(f"SELECT * FROM {table.table} VERSION AS OF {table.version}")  # noqa: S608
    if table.table:
        return spark.read.table(table.table)
    options = dict(csv_files.OPTIONS) if csv_files.is_csv(table) else {}
    if table.version:
        options["versionAsOf"] = table.version
    options |= table.options
    reader = spark.read.format(table.format).options(**options)
    try:
        if csv_files.is_csv(table) and _MARKED_NAME.search(table.path):
            # where it infers columns over several lines, Spark takes names of files for patterns
            of_lines = spark.read.format("csv").options(**options).option("multiLine", "false")
            reader = reader.schema(of_lines.load(_path(table)).schema)
        return reader.load(_path(table))
    except (PySparkException, Py4JJavaError) as error:
        is_unknown_type = parquet_columns.UNKNOWN_TYPE.search(failures.causes(error)[-1])
        if table.format.lower() != "parquet" or not is_unknown_type:
            raise
        label = f"the {name} table {table.label}"
        return parquet_columns.load(spark, _path(table), options, label)


def _path(table: Table) -> str:
    """The table's path for Spark's reader: only readers of files take it for a pattern."""
    is_managed = table.format.lower() in folder_marks.MANAGED
    return storage.spark_path(table.path) if is_managed else storage.spark_files(table.path)


def damaged_file(spark: SparkSession, table: Table) -> str:
    """The name of the first file of a table by path that cannot be read; "" if all can.

    Cost: reads the files one by one, at most `_MOST_TRIED`: for an error that names none.
    """
    location = ""
    try:
        files = spark.read.format("binaryFile").options(**table.options).load(_path(table))
        for uri in sorted(files.inputFiles())[:_MOST_TRIED]:
            location = unquote(uri)
            frame = _load(spark, table.model_copy(update={"path": location}), "")
            frame.write.format("noop").mode("overwrite").save()
    except (PySparkException, Py4JJavaError):
        return location.rpartition("/")[2]
    return ""


def _with_decoded_folder_names(frame: DataFrame) -> DataFrame:
    """Decodes the values that Spark has read from the names of folders, as in `city=K%C3%B6ln`.

    Spark takes each %XX for a character; pandas, Arrow, polars and DuckDB write UTF-8 that way.
    """
    decoded = {}
    for name in spark_io.folder_columns(frame):
        value = F.col(quoted(name))
        utf8 = F.decode(F.encode(value, "ISO-8859-1"), "UTF-8")
        if dict(frame.dtypes)[name] == "string":
            is_encoded = csv_files.is_utf8_as_latin1(value)
            decoded[name] = F.when(is_encoded, utf8).otherwise(value)
    return frame.withColumns(decoded) if decoded else frame


def _pin_version(spark: SparkSession, table: Table, name: str) -> Table:
    if table.path:
        folder_marks.require_plain(spark, table, name)
    if table.version or table.query or not table.is_set or table.is_database:
        return table
    table_format = table.format.lower() if table.path else _format_of(spark, table, name)
    if table_format not in VERSIONED:
        return table
    read_table(spark, table, name)  # says in its own words if there is no such table or format
    try:
        rows = _newest_version(spark, table, table_format).collect()
    except (PySparkException, Py4JJavaError) as error:
        raise TableError(
            doing=f"asking the {name} table {table.label} for its newest version",
            expected=f"an answer of the format {table_format}, so that all steps read one version",
            found=_reason(error),
            todo="set spark.sql.extensions and spark.sql.catalog... as the format's own pages ask "
            f"for, and write the whole name of a table; or name the version in {name}.version",
        ) from None
    # an Iceberg table into which nobody has written yet has no version
    return table.model_copy(update={"version": str(rows[0][0])}) if rows else table


def _newest_version(spark: SparkSession, table: Table, table_format: str) -> DataFrame:
    """The newest version in one row: Delta's log and Iceberg's branch `main` name it."""
    if table_format == "delta":
        path = storage.spark_path(table.path).replace("`", "``")
        named = table.table or f"delta.`{path}`"
        return spark.sql(f"DESCRIBE HISTORY {named} LIMIT 1").select("version")
    if table.table:
        refs = spark.read.table(f"{table.table}.refs")
    else:
        refs = spark.read.format("iceberg").load(f"{storage.spark_path(table.path)}#refs")
    return refs.where("name = 'main'").select("snapshot_id")


def _format_of(spark: SparkSession, table: Table, name: str) -> str:
    """The format of a table in Spark's catalog, in lower case; "" for a view."""
    try:
        rows = spark.sql(f"DESCRIBE TABLE EXTENDED {table.table}").collect()
    except (PySparkException, Py4JJavaError) as error:
        raise _unreadable(spark, table, name, error) from error
    names = [row["col_name"] for row in rows]
    heading = "# Detailed Table Information"  # columns of the table stand above it
    details = rows[names.index(heading) :] if heading in names else []
    formats = [row["data_type"] for row in details if row["col_name"] == "Provider"]
    return str(formats[0]).lower() if formats else ""


def _unreadable(spark: SparkSession, table: Table, name: str, error: _SparkError) -> TableError:
    search = functools.partial(damaged_file, spark)
    if table.path and (known := failures.of_table(error, table, name, search)):
        return known
    reason = _reason(error)
    todo = f"check {name}.{table.key} and {name}.format"
    if table.is_database:
        expected = f"a table or query of the database that {name}.options names"
        todo = (
            f"check {name}.{table.key} and {name}.options (url, driver, user); give Spark the "
            "database's driver: spark.jars, or --jars of spark-submit"
        )
    elif table.path:
        expected = f"a {table.format} file or folder with at least one row"
        todo += f", and {name}.options" if table.options else ""
    else:
        expected = f"a {table.key} that this Spark session can read"
        todo = f"check {name}.{table.key}, and the settings spark.sql.catalog... of the session"
    if _NO_SUCH_FORMAT.search(reason):
        todo = "give Spark the format's package: spark.jars.packages, or --packages of spark-submit"
    return TableError(
        doing=f"reading the {name} table {table.label}", expected=expected, found=reason, todo=todo
    )


def _reason(error: _SparkError) -> str:
    """The first line of Spark's message, or of the cause at the bottom of Java's stack."""
    text = failures.causes(error)
    no_such_format = [line for line in text if _NO_SUCH_FORMAT.search(line)]
    return (no_such_format or (text[-1:] if isinstance(error, Py4JJavaError) else text))[0]

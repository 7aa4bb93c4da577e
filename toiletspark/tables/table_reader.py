"""The user's tables as Spark reads them: files, tables of a catalog, queries, databases.

A table that keeps versions (Delta, Iceberg) is read at one version in a whole run: `pin_versions`
asks for the newest when the run starts, and every read then names it.
"""

import re
from collections.abc import Collection, Iterable
from typing import TypeAlias

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import VERSIONED, Config, Table
from toiletspark.errors import TableError, shown
from toiletspark.tables import csv_files, storage
from toiletspark.tables.schemas import quoted

_PLAIN = ("parquet", "orc", "csv", "json", "avro", "text")  # formats that know no deleted rows
_MARKS = {  # the files, below a table's folder, that name its true format
    "delta": "_delta_log",
    "iceberg": "metadata/*.metadata.json",
    "hudi": ".hoodie",
}
_NO_SUCH_FORMAT = re.compile(r"Failed to find (the )?data source")
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
        frame = _load(spark, table)
        if csv_files.is_csv(table):
            csv_files.check(frame, table, name, mapped)
    except (PySparkException, Py4JJavaError) as error:
        known = csv_files.explained(table, name, error) if csv_files.is_csv(table) else None
        raise known or _unreadable(table, name, error) from None
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


def _load(spark: SparkSession, table: Table) -> DataFrame:
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
    reader = spark.read.format(table.format).options(**{**options, **table.options})
    return reader.load(storage.spark_path(table.path))


def _with_decoded_folder_names(frame: DataFrame) -> DataFrame:
    """Decodes the values that Spark has read from the names of folders, as in `city=K%C3%B6ln`.

    Spark takes each %XX for a character; pandas, Arrow, polars and DuckDB write UTF-8 that way.
    """
    schema = frame._jdf.queryExecution().analyzed().relation().partitionSchema()
    decoded = {}
    for name in schema.fieldNames():
        value = F.col(quoted(name))
        utf8 = F.decode(F.encode(value, "ISO-8859-1"), "UTF-8")
        if dict(frame.dtypes)[name] == "string":
            is_encoded = csv_files.is_utf8_as_latin1(value)
            decoded[name] = F.when(is_encoded, utf8).otherwise(value)
    return frame.withColumns(decoded) if decoded else frame


def _pin_version(spark: SparkSession, table: Table, name: str) -> Table:
    if table.path:
        _require_true_format(spark, table, name)
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
        raise _unreadable(table, name, error) from None
    names = [row["col_name"] for row in rows]
    heading = "# Detailed Table Information"  # columns of the table stand above it
    details = rows[names.index(heading) :] if heading in names else []
    formats = [row["data_type"] for row in details if row["col_name"] == "Provider"]
    return str(formats[0]).lower() if formats else ""


def _require_true_format(spark: SparkSession, table: Table, name: str) -> None:
    """Refuses files of a Delta, Iceberg or Hudi table that would be read as plain ones.

    Deleted and replaced rows are in the files still. The folders above are looked at too: a path
    may name the data folder, a partition or a file of such a table.
    """
    location = storage.spark_path(table.path)
    if table.format.lower() not in _PLAIN or not _is_marked(spark, location, _MARKS.values()):
        return
    for true_format, mark in _MARKS.items():
        if _is_marked(spark, location, [mark]):
            raise TableError(
                doing=f"reading the {name} table {table.path}",
                expected=f"files of {table.format} that are the table themselves",
                found=f"a table of {true_format} ({mark}): rows that were deleted or replaced in "
                "it would come back",
                todo=f'set {name}.format = "{true_format}" and {name}.path to the table\'s folder, '
                f"or {name}.table to its name in Spark's catalog in place of {name}.path",
            )


def _is_marked(spark: SparkSession, location: str, marks: Iterable[str]) -> bool:
    """Returns True if a folder, or one above it, has one of these files.

    Spark looks for them, as the driver's Python need not be allowed to read there.
    """
    scheme, _, rest = location.partition("://")
    host, _, path = rest.rstrip("/").partition("/")
    parts = [part if "{" in part else part.replace(",", "\\,") for part in path.split("/")]
    own, *above = ["/".join([*parts[:count], ""]) for count in range(len(parts), -1, -1)]
    for folders in ([own], above):
        pattern = f"{scheme}://{host}/{{{','.join(folders)}}}{{{','.join(marks)}}}"
        try:
            spark.read.format("text").option("recursiveFileLookup", "true").load(pattern)
        except (PySparkException, Py4JJavaError):
            continue  # no such file, or none that may be looked at
        return True
    return False


def _unreadable(table: Table, name: str, error: _SparkError) -> TableError:
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
    if not isinstance(error, Py4JJavaError):
        return _first_line(str(error))
    cause = error.java_exception
    while cause.getCause() is not None and not _NO_SUCH_FORMAT.search(str(cause.getMessage())):
        cause = cause.getCause()
    return _first_line(str(cause.getMessage()))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]

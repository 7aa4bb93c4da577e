"""A table of Spark's catalog, for those who read by name: its location follows the live version.

It is external: its files are the version's own. A session that has read it must REFRESH TABLE. It
knows neither valid_until nor the manifest's digests; read by the pointer if you need those.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from toiletspark.errors import ConfigError, OutputError
from toiletspark.publishing.versions import log
from toiletspark.tables import storage
from toiletspark.tables.schemas import EXCLUSION_LIST

if TYPE_CHECKING:  # a rollback shows the statements, and starts no Spark
    from pyspark.sql import SparkSession

_NAME = re.compile(r"[\w-]+(\.[\w-]+){1,2}", re.ASCII)
_ROOT_PROPERTY = "toiletspark.root"


def quoted(name: str) -> str:
    """The name of a table for SQL, whatever words it is made of; a ConfigError if it is no name.

    >>> quoted("portal.order")
    '`portal`.`order`'
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            doing="reading publish.catalog_table",
            expected='database.table, of letters, digits, _ and -, as in "portal.exclusions"',
            found=repr(name),
            todo='name a table that only toiletspark writes, or set publish.catalog_table=""',
        )
    return ".".join(f"`{part}`" for part in name.split("."))


def statements(name: str, folder: str) -> list[str]:
    """The SQL that points the table to a version's folder, for a person to run."""
    table = quoted(name)
    return [
        f"ALTER TABLE {table} SET LOCATION {_text(storage.spark_path(folder))}",
        f"REFRESH TABLE {table}",
    ]


def require_ours(spark: SparkSession, name: str, root: str) -> None:
    """Stops before anything is written if the table belongs to somebody else; "" = no table.

    Raises OutputError if others made the table, or toiletspark for another output root.
    """
    if not name:
        return
    owner = _root_of(spark, quoted(name))
    if owner not in (None, root):
        raise OutputError(
            doing=f"pointing the table {name} to the next version",
            expected=f"no such table yet, or one that toiletspark made for {root} "
            f"(its property {_ROOT_PROPERTY})",
            found=f"one for {owner}" if owner else "a table or view that toiletspark did not make",
            todo="set publish.catalog_table to another name, or drop that table first",
        )


def follow(spark: SparkSession, name: str, root: str) -> None:
    """Points the table to the live version, and makes it if there is none; "" = nothing to do.

    Raises OutputError if the catalog refuses; the version stays published.
    """
    moved, exclusion_list = None, log.published(root) if name else None
    while exclusion_list and exclusion_list.folder != moved:  # the pointer may move meanwhile
        require_ours(spark, name, root)
        _point(spark, name, root, exclusion_list.folder)
        moved, exclusion_list = exclusion_list.folder, log.published(root)


def _point(spark: SparkSession, name: str, root: str, folder: str) -> None:
    from pyspark.errors import PySparkException

    columns = EXCLUSION_LIST.schema  # so that an empty list is a table too
    create = (
        f"CREATE TABLE IF NOT EXISTS {quoted(name)} ({columns}) USING parquet "
        f"LOCATION {_text(storage.spark_path(folder))} "
        f"TBLPROPERTIES ({_text(_ROOT_PROPERTY)} = {_text(root)})"
    )
    try:
        for statement in [create, *statements(name, folder)]:
            spark.sql(statement)
    except PySparkException as error:
        raise OutputError(
            doing=f"pointing the table {name} to {folder}, which is published",
            expected="a catalog and a database in which tables can be made and altered",
            found=str(error).strip().partition("\n")[0],
            todo="correct that, then publish again or run: " + "; ".join(statements(name, folder)),
        ) from None


def _root_of(spark: SparkSession, table: str) -> str | None:
    """The output root of a table, "" if it has none, None if there is no such table."""
    from pyspark.errors import PySparkException

    try:
        if not spark.catalog.tableExists(table):
            return None
        rows = spark.sql(f"SHOW TBLPROPERTIES {table}").collect()
    except PySparkException:
        return None if not spark.catalog.tableExists(table) else ""
    return str({row["key"]: row["value"] for row in rows}.get(_ROOT_PROPERTY, ""))


def _text(value: str) -> str:
    """A literal of SQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

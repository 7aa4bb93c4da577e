"""A table of Spark's catalog for those who read by name: its location follows the live version, in one step.

It is external: its files are the version's own. A session that has read it before asks again after REFRESH TABLE. It
knows neither valid_until nor whether the files are those of the manifest: those who need that read by the pointer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from toiletspark.errors import ConfigError, OutputError
from toiletspark.publishing.versions import log as versions
from toiletspark.tables import storage
from toiletspark.tables.schemas import EXCLUSION_LIST

if TYPE_CHECKING:  # a rollback shows the statements, and starts no Spark
    from pyspark.sql import SparkSession

_NAME = re.compile(r"[\w-]+(\.[\w-]+){1,2}", re.ASCII)
_OURS = "toiletspark.root"  # of the table's properties


def quoted(name: str) -> str:
    """The name of a table as SQL takes it, whatever words it is made of.

    Args:
        name: database.table, or catalog.database.table.

    Raises:
        ConfigError: it is something else.

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
    """Stops before anything is written where the name is not one, or is somebody else's table; "" = none is wanted.

    Raises:
        ConfigError: see `quoted`.
        OutputError: the table was made by somebody else, or for another output root.
    """
    if not name:
        return
    found = _root_of(spark, quoted(name))
    if found not in (None, root):
        raise OutputError(
            doing=f"pointing the table {name} to the next version",
            expected=f"no such table yet, or one that toiletspark made for {root} (its property {_OURS})",
            found=f"one for {found}" if found else "a table or view that toiletspark did not make",
            todo="set publish.catalog_table to another name, or drop that table first",
        )


def follow(spark: SparkSession, name: str, root: str) -> None:
    """Points the table to the version that is live, and makes it if there is none; "" = nothing to do.

    Args:
        spark: the session, whose catalog it is.
        name: see `quoted`.
        root: the output root.

    Raises:
        OutputError: the catalog refuses; the version stays published.
    """
    moved, listed = None, versions.published(root) if name else None
    while listed and listed.folder != moved:  # another publisher's pointer may have moved meanwhile
        require_ours(spark, name, root)
        _point(spark, name, root, listed.folder)
        moved, listed = listed.folder, versions.published(root)


def _point(spark: SparkSession, name: str, root: str, folder: str) -> None:
    from pyspark.errors import PySparkException

    try:
        for statement in [_made(name, root, folder), *statements(name, folder)]:
            spark.sql(statement)
    except PySparkException as error:
        raise OutputError(
            doing=f"pointing the table {name} to {folder}, which is published",
            expected="a catalog and a database in which tables can be made and altered",
            found=str(error).strip().partition("\n")[0],
            todo=f"mend that, then publish again or run: {'; '.join(statements(name, folder))}",
        ) from None


def _made(name: str, root: str, folder: str) -> str:
    """With its columns, so that an honestly empty list is a table too."""
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(name)} ({EXCLUSION_LIST.schema}) USING parquet "
        f"LOCATION {_text(storage.spark_path(folder))} TBLPROPERTIES ({_text(_OURS)} = {_text(root)})"
    )


def _root_of(spark: SparkSession, table: str) -> str | None:
    """The output root for which a table was made, "" where it does not tell, None where there is no such table."""
    from pyspark.errors import PySparkException

    try:
        if not spark.catalog.tableExists(table):
            return None
        told = {
            row["key"]: row["value"] for row in spark.sql(f"SHOW TBLPROPERTIES {table}").collect()
        }
    except PySparkException:
        return None if not spark.catalog.tableExists(table) else ""
    return str(told.get(_OURS, ""))


def _text(value: str) -> str:
    """A literal of SQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"

"""Folders whose files are not the table: another format manages them, or a job still writes them.

Hadoop looks at the folders, as the driver's Python need not be allowed to read there.
"""

from collections.abc import Iterable

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from toiletspark.config import Table
from toiletspark.errors import TableError, shown
from toiletspark.tables import storage

MANAGED = {  # formats that keep deleted rows, and the file below a table's folder that names them
    "delta": "_delta_log",
    "iceberg": "metadata/*.metadata.json",
    "hudi": ".hoodie",
}
_UNFINISHED = ("_temporary/*/*/*", "_started_*", "_committed_*")
_STARTED, _COMMITTED = "_started_", "_committed_"  # Databricks: a transaction and its end


def require_plain(spark: SparkSession, table: Table, name: str) -> None:
    """Refuses files of a table by path that are not the table themselves.

    Those of Delta, Iceberg or Hudi hold deleted and replaced rows still. A folder into which a job
    writes holds a part of the rows. The folders above are looked at too: a path may name the data
    folder, a partition or a file of such a table.

    Raises:
        TableError: it names the mark that was there, and the way to read the table.
    """
    if table.format.lower() in MANAGED:
        return
    folders = _folders(storage.spark_path(table.path))
    for path in _matches(spark, folders, MANAGED.values()):
        raise _managed(table, name, path)
    marks = _matches(spark, _of_partitions(folders), _UNFINISHED)
    if mark := _unfinished(marks):
        raise TableError(
            doing=f"reading the {name} table {table.path}",
            expected="a folder that was written to its end",
            found=f"{mark}: a job is still writing it, or died while it did",
            todo="run this again when that job has ended; if none is at work, write the table "
            "again, or remove what that job has left (its files, then the mark)",
        )


def _managed(table: Table, name: str, path: str) -> TableError:
    endings = {"_delta_log": "delta", ".hoodie": "hudi"}
    true_format = endings.get(_name(path), "iceberg")
    return TableError(
        doing=f"reading the {name} table {table.path}",
        expected=f"files of {table.format} that are the table themselves",
        found=f"a table of {true_format} ({MANAGED[true_format]}): rows that were deleted or "
        "replaced in it would come back",
        todo=f'set {name}.format = "{true_format}" and {name}.path to the table\'s folder, '
        f"or {name}.table to its name in Spark's catalog in place of {name}.path",
    )


def _unfinished(paths: list[str]) -> str:
    """The mark of a job that has not ended, in words; "" if there is none."""
    names = {_name(path) for path in paths}
    committed = {name.removeprefix(_COMMITTED) for name in names if name.startswith(_COMMITTED)}
    started = {name.removeprefix(_STARTED) for name in names if name.startswith(_STARTED)}
    if any("/_temporary/" in path for path in paths):
        return "_temporary with files in it"
    if open_ids := sorted(started - committed):
        names_of = shown([f"{_STARTED}{number}" for number in open_ids], 2)
        return f"{names_of} without {_COMMITTED}{open_ids[0]}"
    return ""


def _folders(location: str) -> list[str]:
    """The location and the folders above it, innermost first."""
    scheme, _, rest = location.partition("://")
    host, _, path = rest.rstrip("/").partition("/")
    parts = path.split("/")
    counts = range(len(parts), 0, -1)
    return [f"{scheme}://{host}/{'/'.join(parts[:count])}" for count in counts]


def _of_partitions(folders: list[str]) -> list[str]:
    """The innermost folder and, if it is a partition, those above it up to the table's own."""
    count = 1
    while "=" in _name(folders[count - 1]):
        count += 1
    return folders[:count]


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _matches(spark: SparkSession, folders: Iterable[str], marks: Iterable[str]) -> list[str]:
    """The paths of these marks in these folders; none of a folder that may not be looked at."""
    paths: list[str] = []
    for folder in folders:
        pattern = f"{storage.spark_files(folder)}/{{{','.join(marks)}}}"
        path = spark._jvm.org.apache.hadoop.fs.Path(pattern)  # type: ignore[union-attr]
        try:
            files = path.getFileSystem(spark._jsc.hadoopConfiguration())
            paths += [str(status.getPath().toString()) for status in files.globStatus(path) or []]
        except (PySparkException, Py4JJavaError):
            continue
    return paths

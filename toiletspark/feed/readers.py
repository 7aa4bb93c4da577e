"""The published list for readers: one complete version, or an error.

Only the files that a manifest names are read: Spark would read any file in a folder.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from toiletspark.errors import OutputError
from toiletspark.publishing.versions import log
from toiletspark.tables import spark_io
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import Table


@dataclass(frozen=True)
class Current:
    """The live version, resolved once: later publications and rollbacks do not change it."""

    root: str  # the output root
    number: int
    exclusion_list: Run  # verified

    def run(self, table: Table) -> Run:
        """Another table of this version, verified; an OutputError if it is gone or was altered."""
        run_id = self.exclusion_list.run_id
        if table.name == self.exclusion_list.table:
            return self.exclusion_list
        doing = f"reading {table.name} of the version {run_id}"
        run = Store(self.root).run(table, run_id)
        if run is None:
            raise OutputError(
                doing=doing,
                expected=f"the version with all its tables ({self.root}/{table.name}/{run_id})",
                found="none of this name",
                todo="run `toiletspark publish` again",
            )
        run.verify(doing=doing)
        return run

    def source(self, table: Table) -> Run | None:
        """The run of CATALOG or SCORES that it was decided on; None if it is gone."""
        run_id = getattr(self.exclusion_list.inputs, table.name)
        return Store(self.root).run(table, run_id) if run_id else None


def resolve(root: str, *, allow_stale: bool = False) -> Current:
    """The live version, to read more than one of its tables; see `log.current_version`."""
    version, exclusion_list = log.current_version(root, allow_stale=allow_stale)
    return Current(root, version.number, exclusion_list)


def read_current(spark: SparkSession, root: str, *, allow_stale: bool = False) -> DataFrame:
    """The live exclusion list, complete, or an error; a truly empty list is an empty frame.

    Args:
        root: the output root.
        allow_stale: True accepts a version that has expired (publish.valid_for_h).

    Returns the columns of `schemas.EXCLUSION_LIST`. For errors see `log.current_version`.
    """
    return spark_io.read_named(spark, resolve(root, allow_stale=allow_stale).exclusion_list)

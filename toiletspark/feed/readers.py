"""The published list, for feeds: one complete version, or an error. Which version counts: see `versions`.

Only the files that a manifest names are read: Spark would take whatever else lies in a folder for rows of the list.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.errors import OutputError
from toiletspark.publishing.versions import log as versions
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import DECISIONS, UNSCORED, Table


@dataclass(frozen=True)
class Current:
    """The version that counted when it was asked for, resolved once.

    Whatever is published, or rolled back, afterwards: the list and its companions stay those of one run.

    Attributes:
        root: the output root.
        number: of the version; 0 where its publisher kept no log yet.
        listed: its exclusion list, verified.
    """

    root: str
    number: int
    listed: Run

    def run(self, table: Table) -> Run:
        """Another table of this version, verified as the list itself.

        Raises:
            OutputError: the version, an early one, has no such table, or its files are not those of its manifest.
        """
        if table.name == self.listed.table:
            return self.listed
        doing = f"reading {table.name} of the version {self.listed.run_id}"
        found = Store(self.root).run(table, self.listed.run_id)
        if found is None:
            raise OutputError(
                doing=doing,
                expected=f"the version with all its tables ({self.root}/{table.name}/{self.listed.run_id})",
                found="none of this name",
                todo="run `toiletspark publish` again",
            )
        versions.require_unchanged(found, doing=doing)
        return found

    def source(self, table: Table) -> Run | None:
        """The run of `catalog` or `scores` that it was decided on; None where it is gone."""
        run_id = self.listed.inputs.as_json().get(table.name)
        return Store(self.root).run(table, run_id) if run_id else None


def resolve(root: str, *, allow_stale: bool = False) -> Current:
    """The version that counts now, to read more than one of its tables.

    Raises:
        OutputError: see `versions.current`.
    """
    store = Store(root)
    while True:
        live = versions.live(store)
        listed = versions.current(root, allow_stale=allow_stale)
        if live is not None and live.run_id == listed.run_id:  # else a publisher came in between
            return Current(root, live.number, listed)


def read_current(spark: SparkSession, root: str, *, allow_stale: bool = False) -> DataFrame:
    """The exclusion list that counts, complete, or an error; an honestly empty list is an empty frame.

    Args:
        spark: the session.
        root: the output root.
        allow_stale: take a version that is no longer valid (publish.valid_for_h).

    Returns:
        The columns of `tables.EXCLUSION_LIST`.

    Raises:
        OutputError: see `versions.current`.
    """
    return frames.read_named(spark, versions.current(root, allow_stale=allow_stale))


def read_unscored(spark: SparkSession, root: str, *, allow_stale: bool = False) -> DataFrame:
    """The images of that version that have no score, and what it makes of them: the columns of `tables.UNSCORED`.

    Raises:
        OutputError: see `versions.current`.
    """
    return frames.read_named(spark, companion(root, UNSCORED, allow_stale=allow_stale))


def read_kept(spark: SparkSession, root: str, *, allow_stale: bool = False) -> DataFrame:
    """What that version decided to keep: the columns of `tables.DECISIONS`. For feeds that show nothing else.

    Raises:
        OutputError: see `versions.current`.
    """
    decisions = frames.read_named(spark, companion(root, DECISIONS, allow_stale=allow_stale))
    return decisions.where(F.col("decision") == "keep")


def companion(root: str, table: Table, *, allow_stale: bool = False) -> Run:
    """Another table of the version that counts. Those who read several take them from one `resolve`.

    Raises:
        OutputError: see `resolve` and `Current.run`.
    """
    return resolve(root, allow_stale=allow_stale).run(table)

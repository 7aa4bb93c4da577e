"""The published list, for feeds: one complete version, or an error. Which version counts: see `versions`."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import frames, versions
from toiletspark.errors import OutputError
from toiletspark.runs import Run, Store
from toiletspark.tables import DECISIONS, UNSCORED, Table


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
    return frames.read_run(spark, versions.current(root, allow_stale=allow_stale))


def read_unscored(spark: SparkSession, root: str, *, allow_stale: bool = False) -> DataFrame:
    """The images of that version that have no score, and what it makes of them: the columns of `tables.UNSCORED`.

    Raises:
        OutputError: see `versions.current`.
    """
    return frames.read_run(spark, companion(root, UNSCORED, allow_stale=allow_stale))


def read_kept(spark: SparkSession, root: str, *, allow_stale: bool = False) -> DataFrame:
    """What that version decided to keep: the columns of `tables.DECISIONS`. For feeds that show nothing else.

    Raises:
        OutputError: see `versions.current`.
    """
    decisions = frames.read_run(spark, companion(root, DECISIONS, allow_stale=allow_stale))
    return decisions.where(F.col("decision") == "keep")


def companion(root: str, table: Table, *, allow_stale: bool = False) -> Run:
    """Another table of the version that counts, verified as the list itself.

    Raises:
        OutputError: see `versions.current`; or the version, an early one, has no such table.
    """
    listed = versions.current(root, allow_stale=allow_stale)
    doing = f"reading {table.name} of the current version {listed.run_id}"
    run = Store(root).run(table, listed.run_id)
    if run is None:
        raise OutputError(
            doing=doing,
            expected=f"the version with all its tables ({root}/{table.name}/{listed.run_id})",
            found="none of this name",
            todo="run `toiletspark publish` again",
        )
    versions.require_unchanged(run, doing=doing)
    return run

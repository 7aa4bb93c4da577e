"""The things that every step works with, in one value."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from toiletspark.config import Config
from toiletspark.tables.runs import Store, moment_of, new_run_id
from toiletspark.tables.table_reader import pin_versions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


_CLOCKS_DIFFER = timedelta(minutes=1)  # of machines that are in order
_log = logging.getLogger("toiletspark")


@dataclass(frozen=True)
class Workspace:
    """A session, a store, a configuration, and the id of the run that a step makes."""

    spark: SparkSession
    store: Store
    config: Config
    run_id: str = field(default_factory=new_run_id)

    @classmethod
    def open(cls, spark: SparkSession, config: Config, *, read_only: bool = False) -> Workspace:
        """A workspace at the configuration's output root, for one run of one or more steps.

        All steps read one version of each table that keeps versions, see `pin_versions`. The output
        root is made (see `Store.open`) unless `read_only`.
        """
        store = (Store if read_only else Store.open)(config.output.root)
        _report_future(store.newest_id())
        return cls(spark, store, pin_versions(spark, config), store.new_run_id())

    def for_next_step(self) -> Workspace:
        """The same workspace with a new run id: no two steps write the same run."""
        return replace(self, run_id=self.store.new_run_id())


def _report_future(run_id: str) -> None:
    """Warns if the newest run began later than now: a clock was wrong then, or is now."""
    now = datetime.now(UTC)
    if run_id and moment_of(run_id) > now + _CLOCKS_DIFFER:
        _log.warning(
            "ALARM: the newest run %s is from the future: it is %s by this machine's clock. Set "
            "the clocks right; new runs get ids after it, so that each step reads the one before",
            run_id,
            now.isoformat(timespec="seconds"),
        )

"""The things that every step works with, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from toiletspark.config import Config
from toiletspark.tables.runs import Store, new_run_id
from toiletspark.tables.table_reader import pin_versions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


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
        store_at = Store if read_only else Store.open
        return cls(spark, store_at(config.output.root), pin_versions(spark, config))

    def for_next_step(self) -> Workspace:
        """The same workspace with a new run id: no two steps write the same run."""
        return replace(self, run_id=new_run_id())

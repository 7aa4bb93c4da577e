"""The things that every step works with, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from toiletspark.config import Config
from toiletspark.tables.runs import Store, new_run_id

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
    def open(cls, spark: SparkSession, config: Config) -> Workspace:
        """A workspace at the configuration's output root, see `Store.open`."""
        return cls(spark, Store.open(config.output.root), config)

    def for_next_step(self) -> Workspace:
        """The same workspace with a new run id: no two steps write the same run."""
        return replace(self, run_id=new_run_id())

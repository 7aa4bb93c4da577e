"""Stores the scores of a catalog as a run, if every sound image has one.

Not part of `tasks`, because workers import that module and load only what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.errors import OutputError
from toiletspark.model.head import Head
from toiletspark.tables import spark_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, described_files, new_run_id
from toiletspark.tables.schemas import SCORES, Table, probability_columns
from toiletspark.tables.workspace import Workspace

DOING = "scoring the catalog"


def table_of(head: Head) -> Table:
    """`schemas.SCORES` with one probability column per class of this head."""
    return SCORES.with_columns(probability_columns(head.classes))


@dataclass(frozen=True)
class ScoreWriter:
    """Stores the scores of one catalog, a run per head.

    Attributes:
        errors: what workers reported against a head, known once its scores are written.
    """

    work: Workspace
    catalog: Run
    errors: WorkerErrors

    def write(self, scored: DataFrame, head: Head, *, compared: bool = False) -> Run:
        """Stores the scores of one head.

        Args:
            scored: see `tasks.select_head`.
            compared: True if the scores are only made to be compared with, never published.

        Raises:
            HeadError: the head does not compute its golden scores on a worker.
            OutputError: a sound image has no embedding.
        """
        store, table, run_id = self.work.store, table_of(head), new_run_id()
        sound_images = int(self.catalog.counts["sound"])
        scored, counted = spark_io.counting(scored, missing=F.col("exclusion_score").isNull())
        files = described_files(spark_io.write_files(scored, store, table, run_id))
        self.errors.raise_first()
        rows, missing = sum(file.rows for file in files), counted()["missing"]
        if missing or rows != sound_images:
            raise OutputError(
                doing=DOING,
                expected=f"an embedding for each of the {sound_images} sound images of the catalog "
                f"{self.catalog.run_id}",
                found=f"{rows - missing} scores",
                todo="run `toiletspark embed` (or `rescore`) again; it embeds what is missing",
            )
        inputs = Inputs(
            catalog=self.catalog.run_id, head_id=head.head_id, backbone_id=head.backbone_id
        )
        if compared:
            inputs = inputs.updated(compared=True)
        counts, config = {"images": self.catalog.rows}, self.work.config.recorded()
        return store.commit(table, run_id, config=config, inputs=inputs, counts=counts)

"""The scores of a catalog become a run: visible only where every sound image has one.

Apart from `scoring`, which workers import: what they load, they load before their first row.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.embedding.worker_errors import Refusals
from toiletspark.errors import OutputError
from toiletspark.model.head import Head
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, described_files, new_run_id

DOING = "scoring the catalog"


def table_of(head: Head) -> tables.Table:
    """`tables.SCORES` with one probability column per class of this head."""
    return tables.SCORES.with_columns(tables.probability_columns(head.classes))


def catalog(store: Store) -> Run:
    """The catalog that is to be scored.

    Raises:
        OutputError: there is none, or one that does not say where the embeddings of its images lie.
    """
    seen = store.require(tables.CATALOG, doing=DOING, step="embed")
    if seen.inputs.embeddings is None or "sound" not in seen.counts:
        raise OutputError(
            doing=DOING,
            expected=f"a catalog that says where the embeddings of its sound images lie ({seen.folder})",
            found=f"one that an earlier toiletspark made ({seen.made_at})",
            todo="run `toiletspark embed` again: it makes a new one, and embeds nothing twice",
        )
    return seen


@dataclass(frozen=True)
class Keeper:
    """Keeps the scores of one catalog, whichever the head.

    Attributes:
        seen: the catalog.
        store: where scores are kept.
        config: for their manifests.
        refusals: what workers had against a head, known once its scores are written.
    """

    seen: Run
    store: Store
    config: Config
    refusals: Refusals

    def keep(self, scored: DataFrame, head: Head, *, compared: bool = False) -> Run:
        """Writes the scores of one head.

        Args:
            scored: see `scoring.of_head`.
            head: whose scores they are.
            compared: True if the scores are made to be compared with, never to be published.

        Raises:
            HeadError: a worker has refused the head.
            OutputError: a sound image has no embedding.
        """
        run_id, images = new_run_id(), int(self.seen.counts["sound"])
        scored, counted = frames.counting(scored, missing=F.col("exclusion_score").isNull())
        files = described_files(frames.write_files(scored, self.store, table_of(head), run_id))
        self.refusals.require_none()
        rows, missing = sum(file.rows for file in files), counted()["missing"]
        if missing or rows != images:
            raise self._not_each(images, rows - missing)
        inputs = Inputs(
            catalog=self.seen.run_id, head_id=head.head_id, backbone_id=head.backbone_id
        )
        if compared:
            inputs = inputs.updated(compared=True)
        counts = {"images": self.seen.rows}
        recorded = self.config.recorded()
        return self.store.commit(
            table_of(head), run_id, config=recorded, inputs=inputs, counts=counts
        )

    def _not_each(self, images: int, found: int) -> OutputError:
        return OutputError(
            doing=DOING,
            expected=f"an embedding for each of the {images} sound images of the catalog {self.seen.run_id}",
            found=f"{found} scores",
            todo="run `toiletspark embed` (or `rescore`) again; it embeds what is missing",
        )

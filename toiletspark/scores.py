"""The scores of a catalog become a run: visible only where every sound image has one.

Apart from `scoring`, which workers import: what they load, they load before their first row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import frames, scoring, storage, tables
from toiletspark.config import Config
from toiletspark.errors import OutputError
from toiletspark.head import Head
from toiletspark.refusals import Refusals
from toiletspark.runs import Run, Store, described_files, new_run_id

DOING = "scoring the catalog"
_TWICE = "content_twice"  # true among a run's counts: it met a content that stands in the store twice


def table_of(head: Head) -> tables.Table:
    """`tables.SCORES` with one probability column per class of this head."""
    return tables.SCORES.with_columns(tables.probability_columns(head.classes))


@dataclass(frozen=True)
class Keeper:
    """Keeps the scores of one catalog, whichever the head.

    Attributes:
        catalog: its rows, `tables.CATALOG`.
        seen: its run.
        store: where scores are kept.
        config: for their manifests.
        refusals: what workers had against a head, known once its scores are written.
    """

    catalog: DataFrame
    seen: Run
    store: Store
    config: Config
    refusals: Refusals

    def keep(self, scored: DataFrame, head: Head, inputs: dict[str, Any]) -> Run:
        """Writes the scores of one head.

        Two runs that embed at the same time may both embed a content, which then stands in the store twice for good. To
        look for such contents is a tenth of all scoring, so they are looked for where the last scores met one, or
        where an image was just given two rows.

        Args:
            scored: see `scoring.of_head`.
            head: whose scores they are.
            inputs: more of them, for the manifest.

        Raises:
            HeadError: a worker has refused the head.
            OutputError: a sound image has no embedding.
        """
        images, twice = _sound_images(self.seen), _met_twice(self.store)
        run_id, rows = self._write(_once(scored) if twice else scored, head, images)
        if rows > images:
            storage.remove_folder(self.store.folder(tables.SCORES, run_id))  # nobody has seen it
            twice = True
            run_id, rows = self._write(_once(scored), head, images)
        if rows > images:
            raise self._not_each(images, rows)
        made_of = {"catalog": self.seen.run_id, "head_id": head.head_id, "backbone_id": head.backbone_id, **inputs}
        counts = {"images": self.seen.rows, _TWICE: twice}
        recorded = self.config.recorded()
        return self.store.commit(table_of(head), run_id, config=recorded, inputs=made_of, counts=counts)

    def _write(self, scored: DataFrame, head: Head, images: int) -> tuple[str, int]:
        """Writes scores that nobody sees yet, at least one for each image; returns their run and how many they are."""
        run_id, found = new_run_id(), scoring.score_catalog(self.catalog, scored, head)
        found, counted = frames.counting(found, missing=F.col("exclusion_score").isNull())
        files = described_files(frames.write_files(found, self.store, table_of(head), run_id))
        self.refusals.require_none()
        rows, missing = sum(file["rows"] for file in files), counted()["missing"]
        if missing or rows < images:
            raise self._not_each(images, min(rows, images) - missing)
        return run_id, rows

    def _not_each(self, images: int, found: int) -> OutputError:
        return OutputError(
            doing=DOING,
            expected=f"an embedding for each of the {images} sound images of the catalog {self.seen.run_id}",
            found=f"{found} scores",
            todo="run `toiletspark embed` (or `rescore`) again; it embeds what is missing",
        )


def _once(scored: DataFrame) -> DataFrame:
    return scored.dropDuplicates(["content_digest"])


def _met_twice(store: Store) -> bool:
    """Whether the last scores met a content that stands in the store twice."""
    last = store.newest(tables.SCORES)
    return bool(last and last.manifest["counts"].get(_TWICE))


def _sound_images(seen: Run) -> int:
    """How many images of the catalog must have a score; the first catalogs did not tell."""
    if "sound" in seen.manifest["counts"]:
        return int(seen.manifest["counts"]["sound"])
    raise OutputError(
        doing=DOING,
        expected=f"a catalog whose manifest counts its sound images ({seen.folder})",
        found=f"one that an earlier toiletspark made ({seen.manifest['made_at']})",
        todo="run `toiletspark embed` again: it makes a new one, and embeds nothing twice",
    )

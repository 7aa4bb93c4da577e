"""The scores of a catalog become a run: visible only where every sound image has one.

Apart from `scoring`, which workers import: what they load, they load before their first row.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame

from toiletspark import frames, tables
from toiletspark.config import Config
from toiletspark.errors import OutputError
from toiletspark.head import Head
from toiletspark.refusals import Refusals
from toiletspark.runs import Run, Store, described_files, new_run_id

DOING = "scoring the catalog"


def table_of(head: Head) -> tables.Table:
    """`tables.SCORES` with one probability column per class of this head."""
    return tables.SCORES.with_columns(tables.probability_columns(head.classes))


def keep(
    scores: DataFrame,
    store: Store,
    config: Config,
    seen: Run,
    head: Head,
    refusals: Refusals,
    inputs: dict[str, Any],
) -> Run:
    """Writes the scores of one head.

    Args:
        scores: see `score_catalog`.
        store: where.
        config: for the manifest.
        seen: the catalog.
        head: whose scores they are.
        refusals: what workers had against the head, known once the scores are written.
        inputs: more of them, for the manifest.

    Raises:
        HeadError: a worker has refused the head.
        OutputError: a sound image has no embedding.
    """
    table, run_id = table_of(head), new_run_id()
    rows = _sound_images(seen)
    found = sum(file["rows"] for file in described_files(frames.write_files(scores, store, table, run_id)))
    refusals.require_none()
    if found != rows:
        raise OutputError(
            doing=DOING,
            expected=f"an embedding for each of the {rows} sound images of the catalog {seen.run_id}",
            found=f"{found} scores",
            todo="run `toiletspark embed` (or `rescore`) again; it embeds what is missing",
        )
    inputs = {"catalog": seen.run_id, "head_id": head.head_id, "backbone_id": head.backbone_id, **inputs}
    return store.commit(table, run_id, config=config.recorded(), inputs=inputs, counts={"images": seen.rows})


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

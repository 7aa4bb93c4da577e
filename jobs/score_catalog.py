"""Scores every image of the catalog from stored embeddings: reads no image, needs no torch.

    spark-submit --py-files dist/*.whl jobs/score_catalog.py --conf-file mytables.toml

Several heads share one pass: score.head, whose scores are published, and score.more_heads, to compare with.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame, SparkSession

from toiletspark import entry, frames, progress, scoring, session, tables
from toiletspark import head as heads
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.errors import OutputError
from toiletspark.head import Head
from toiletspark.refusals import Refusals
from toiletspark.runs import COMPARED, Run, Store, described_files, new_run_id

DOING = "scoring the catalog"


def step(spark: SparkSession, config: Config) -> Summary:
    """One run per head; those of score.more_heads say that they are to be compared with, and are never published."""
    store, run_id = Store.open(config.output.root), new_run_id()
    seen = store.require(tables.CATALOG, doing=DOING, step="embed")
    chosen = [*map(heads.load, config.score.more_heads), heads.current(store, config.score.head, doing=DOING)]
    for one in chosen:
        heads.require_backbone(one, seen.manifest["inputs"]["backbone_id"], doing=DOING)

    images, broadcast = frames.read_run(spark, seen), spark.sparkContext.broadcast(chosen)
    refusals = Refusals(spark.sparkContext)
    scored = scoring.score_embeddings(frames.read_all(spark, store, tables.EMBEDDINGS), broadcast, refusals)
    with (
        session.arrow_batches(spark, config.score.rows_per_batch),
        progress.watch(spark, "scoring", seen.rows, line_every_s=config.progress.line_every_s),
    ):
        if len(chosen) > 1:
            scored = frames.set_aside(scored, store, run_id, "scored")
        runs = []
        for number, one in enumerate(chosen):
            scores = scoring.score_catalog(images, scoring.of_head(scored, number, one), one)
            inputs = {COMPARED: True} if number < len(chosen) - 1 else {}
            runs.append(_write(scores, store, config, seen, one, refusals, inputs))
    store.clear(run_id)
    others = {"more_scores": {run.manifest["inputs"]["head_id"]: run.folder for run in runs[:-1]}} if runs[1:] else {}
    told = {"images": seen.rows, "scored": runs[-1].rows, "head_id": chosen[-1].head_id, "scores": runs[-1].folder}
    return {**told, **others}


def _write(
    scores: DataFrame,
    store: Store,
    config: Config,
    seen: Run,
    head: Head,
    refusals: Refusals,
    inputs: dict[str, Any],
) -> Run:
    """The scores of one head; they become visible only where every sound image has one."""
    table, run_id = scoring.scores_table(head), new_run_id()
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


if __name__ == "__main__":
    entry.submit(step)

"""Scores every image of the catalog from stored embeddings: reads no image, needs no torch.

    spark-submit --py-files dist/*.whl jobs/score_catalog.py --conf-file mytables.toml

The scores of score.head are published, those of score.more_heads are there to compare with.
"""

from toiletspark import progress
from toiletspark.config.command_line import Summary
from toiletspark.launch.job import Job
from toiletspark.model import registry
from toiletspark.scoring import scores
from toiletspark.tables.schemas import CATALOG
from toiletspark.tables.workspace import Workspace


def step(work: Workspace) -> Summary:
    """Makes one run of scores per head; those of score.more_heads are never published."""
    spark, store, config = work.spark, work.store, work.config
    catalog = store.require(CATALOG, doing=scores.DOING, step="embed")
    chosen = [registry.load(folder) for folder in config.score.more_heads]
    chosen.append(registry.current(store, config.score.head, doing=scores.DOING))
    for head in chosen:
        registry.require_backbone(head, catalog.inputs.backbone_id, doing=scores.DOING)

    runs = []
    every_s = config.progress.line_every_s
    for number, head in enumerate(chosen, start=1):
        with progress.watch(spark, "scoring", catalog.rows, line_every_s=every_s):
            runs.append(scores.write(work, catalog, head, compared=number < len(chosen)))
    *others, published = runs
    summary: Summary = {
        "images": catalog.rows,
        "scored": published.rows,
        "head_id": chosen[-1].head_id,
        "scores": published.folder,
    }
    if others:
        summary["more_scores"] = {run.inputs.head_id: run.folder for run in others}
    return summary


JOB = Job("score_catalog", step, __doc__)

if __name__ == "__main__":
    JOB.submit()

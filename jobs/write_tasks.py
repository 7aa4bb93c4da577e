"""Writes tasks for Label Studio, with a head's suggestions, and the labelling configuration.

    spark-submit --py-files dist/*.whl jobs/write_tasks.py --conf-file mytables.toml

The images are those of the newest sample or queue (labels.of). The labels come back with
`toiletspark labels import --file EXPORT.json`.
"""

import json
from typing import Any

from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config.command_line import Summary
from toiletspark.errors import LabelsError, shown
from toiletspark.labels import label_studio, queues
from toiletspark.launch.job import Job
from toiletspark.tables import spark_io, storage, user_tables
from toiletspark.tables.runs import Run
from toiletspark.tables.schemas import CATALOG, SCORES
from toiletspark.tables.workspace import Workspace

DOING = "writing tasks for Label Studio"


def step(work: Workspace) -> Summary:
    """Writes two files into a new folder; Label Studio opens the images by their URLs."""
    section = work.config.label_studio
    queue = queues.newest(work.store, work.config.labels, doing=DOING)
    rows = _rows(work, queue)
    root = section.document_root
    urls = {row["image_id"]: label_studio.shown_url(row["image_url"], root) for row in rows}
    _require_urls(urls, root)
    tasks = [label_studio.task(row, str(urls[row["image_id"]])) for row in rows]

    folder = f"{work.store.root}/label_studio/{work.run_id}"
    settings = label_studio.labelling_config(work.config.labels.classes)
    storage.replace_bytes(f"{folder}/labelling.xml", settings.encode())
    storage.replace_bytes(f"{folder}/tasks.json", json.dumps(tasks, indent=1).encode())
    with_suggestion = sum("predictions" in task for task in tasks)
    return {"tasks": len(tasks), "pre_annotated": with_suggestion, "folder": folder}


def _rows(work: Workspace, queue: Run) -> list[dict[str, Any]]:
    """The images of the queue in its order, with digest and suggestion."""
    spark, store, section = work.spark, work.store, work.config.labels
    # no suggestions for a leak sample: it measures the head's own mistakes
    scores = store.newest(SCORES) if section.of != "leaks" else None
    catalog = spark_io.read_if_any(spark, store.newest(CATALOG), CATALOG)
    joined = (
        user_tables.read_catalog(spark, work.config)
        .select("image_id", "listing_id", "image_url")
        .join(F.broadcast(queues.images(spark, queue)), on="image_id", how="inner")
        .join(catalog.select("image_id", "content_digest"), on="image_id", how="left")
        .join(queues.suggestions(spark, scores, section), on="image_id", how="left")
        .orderBy("rank", "image_id")
    )
    return [row.asDict() for row in joined.collect()]


def _require_urls(urls: dict[str, str | None], document_root: str) -> None:
    hidden = sorted(image_id for image_id, url in urls.items() if url is None)
    if hidden:
        raise LabelsError(
            doing=DOING,
            expected=f"images whose URL Label Studio can open: {', '.join(label_studio.REMOTE)}, "
            f"or files below label_studio.document_root ({document_root or 'not set'})",
            found=f"{len(hidden)} of {len(urls)} images elsewhere: {shown(hidden)}",
            todo="set label_studio.document_root; or take the contact sheet "
            "(`toiletspark labels sheet`), which holds its pictures",
        )


JOB = Job("write_tasks", step, __doc__)

if __name__ == "__main__":
    JOB.submit()

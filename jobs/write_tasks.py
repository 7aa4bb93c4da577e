"""Writes tasks for Label Studio, with a head's suggestions as pre-annotations, and the labelling configuration.

    spark-submit --py-files dist/*.whl jobs/write_tasks.py --conf-file mytables.toml

The images are those of the newest sample or queue (labels.of). What people say there comes back with
`toiletspark labels import --file EXPORT.json`.
"""

from __future__ import annotations

import json

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.errors import LabelsError, shown
from toiletspark.labels import label_studio
from toiletspark.labels import queues as asked
from toiletspark.launch import job as entry
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import storage
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.runs import Store, new_run_id

DOING = "writing tasks for Label Studio"


def step(spark: SparkSession, config: Config) -> Summary:
    """Two files in a new folder; the pictures stay where they are, so Label Studio must be able to open their URLs."""
    store = Store.open(config.output.root)
    wanted = asked.newest(store, config.labels, doing=DOING)
    seen = store.newest(tables.CATALOG)
    # what a head says would lead the eye where its own mistakes are to be counted
    scores = store.newest(tables.SCORES) if config.labels.of != "leaks" else None
    known = frames.read_run(spark, seen) if seen else frames.no_rows(spark, tables.CATALOG.columns)
    rows = (
        catalog.read_catalog(spark, config)
        .select("image_id", "listing_id", "image_url")
        .join(F.broadcast(asked.images(spark, wanted)), on="image_id", how="inner")
        .join(known.select("image_id", "content_digest"), on="image_id", how="left")
        .join(asked.suggestions(spark, scores, config.labels), on="image_id", how="left")
        .orderBy("rank", "image_id")
        .collect()
    )
    root = config.label_studio.document_root
    urls = {row["image_id"]: label_studio.shown_url(row["image_url"], root) for row in rows}
    _require_shown(urls, root)
    tasks = [label_studio.task(row.asDict(), str(urls[row["image_id"]])) for row in rows]

    folder = f"{store.root}/label_studio/{new_run_id()}"
    settings = label_studio.labelling_config(config.labels.classes)
    storage.replace_bytes(f"{folder}/labelling.xml", settings.encode())
    storage.replace_bytes(f"{folder}/tasks.json", json.dumps(tasks, indent=1).encode())
    suggested = sum("predictions" in one for one in tasks)
    return {"tasks": len(tasks), "pre_annotated": suggested, "folder": folder}


def _require_shown(urls: dict[str, str | None], document_root: str) -> None:
    hidden = sorted(image_id for image_id, url in urls.items() if url is None)
    if hidden:
        raise LabelsError(
            doing=DOING,
            expected=f"images whose URL Label Studio can open: {', '.join(label_studio.REMOTE)}, or files below "
            f"label_studio.document_root ({document_root or 'not set'})",
            found=f"{len(hidden)} of {len(urls)} images elsewhere: {shown(hidden)}",
            todo="set label_studio.document_root; or take the contact sheet (`toiletspark labels sheet`), which holds "
            "its pictures",
        )


if __name__ == "__main__":
    entry.submit(step)

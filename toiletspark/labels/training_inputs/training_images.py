"""The files behind labels, fetched again on the cluster: for fine-tuning, and for views.

A label belongs to a content, so a file counts only where it is still the one that was labelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Fetch
from toiletspark.errors import LabelsError
from toiletspark.hashing import content_digest
from toiletspark.images.fetching import Fetcher
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run
from toiletspark.tables.workspace import Workspace

DOING = "gathering the labelled images"
_NAMED = [name for name in tables.TRAINING_IMAGES.columns if name != "content"]
_ARROW = {"string": pa.string(), "double": pa.float64(), "binary": pa.binary()}
_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in tables.TRAINING_IMAGES.columns.items()])


def gather(work: Workspace) -> dict[str, int]:
    """Keeps the files of the newest training set as a run of `tables.TRAINING_IMAGES`, if `train.finetune` asks for it.

    Returns:
        images_gathered, and images_without_file (gone, replaced since, or not to be had); {} where nobody asks.

    Raises:
        LabelsError: not one of them could be had.

    Cost: each labelled image is fetched once; the table is as large as the files are.
    """
    if work.config.train.finetune == "none":
        return {}
    store = work.store
    labelled = store.require(tables.TRAINING_SET, doing=DOING, step="train")
    rows = located(work, frames.read_run(work.spark, labelled).select(*_NAMED))
    run = frames.write_run(
        fetched(rows, work.config.fetch),
        store,
        tables.TRAINING_IMAGES,
        work.run_id,
        config=work.config.recorded(),
        inputs=Inputs(training_set=labelled.run_id, backbone_id=labelled.inputs.backbone_id),
    )
    _require_some(run, labelled)
    return {"images_gathered": run.rows, "images_without_file": labelled.rows - run.rows}


def located(work: Workspace, labelled: DataFrame) -> DataFrame:
    """Where a labelled content lies now.

    Args:
        spark: the session.
        config: the user's images table, for bytes that stand in it.
        store: has the catalog.
        labelled: content_digest and any other columns; few rows.

    Returns:
        The same rows with image_url and inline (binary, null where there is a URL); rows whose content no image of
        the catalog has any more are left out. The catalog stays where it is.
    """
    seen = frames.read_run(
        work.spark, work.store.require(tables.CATALOG, doing=DOING, step="embed")
    )
    wanted = F.broadcast(labelled.select("content_digest").distinct())
    places = seen.join(wanted, on="content_digest", how="left_semi").dropDuplicates(
        ["content_digest"]
    )
    places = places.select("content_digest", F.col("image_id").alias("at"), "image_url")
    if work.config.images.columns.content:
        inline = catalog.read_images(work.spark, work.config).select(
            F.col("image_id").alias("at"), "content"
        )
        places = inline.join(F.broadcast(places), on="at", how="right").withColumnRenamed(
            "content", "inline"
        )
    else:
        places = places.withColumn("inline", F.lit(None).cast("binary"))
    return labelled.join(F.broadcast(places.drop("at")), on="content_digest", how="inner")


def fetched(rows: DataFrame, limits: Fetch) -> DataFrame:
    """The columns of `tables.TRAINING_IMAGES`, one row per file that could be had and is the labelled one.

    Args:
        rows: those columns without content, and image_url and inline, see `located`.
        limits: what one fetch may cost.
    """

    def fetch(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for whole in contents(batches, limits):
            yield pa.RecordBatch.from_pylist(whole, schema=_SCHEMA)

    tasks = max(rows.sparkSession.sparkContext.defaultParallelism, 1)
    laid_out = rows.select(*_NAMED, "image_url", "inline").repartition(tasks)
    return laid_out.mapInArrow(fetch, tables.TRAINING_IMAGES.schema)


def contents(batches: Iterable[pa.RecordBatch], limits: Fetch) -> Iterator[list[dict[str, Any]]]:
    """Rows with their content, as many at a time as can be fetched at once; those that are not sound are left out."""
    fetcher = Fetcher(limits)
    rows = (row for batch in batches for row in batch.to_pylist())
    while some := list(islice(rows, limits.threads_per_task)):
        files = fetcher.fetch_all(
            [row.pop("image_url") for row in some], [row.pop("inline") for row in some]
        )
        pairs = [
            (row, file.content)
            for row, file in zip(some, files, strict=True)
            if file.content is not None
        ]
        yield [
            {**row, "content": file}
            for row, file in pairs
            if content_digest(file) == row["content_digest"]
        ]


def _require_some(run: Run, labelled: Run) -> None:
    if not run.rows:
        raise LabelsError(
            doing=DOING,
            expected="files of labelled images",
            found=f"{labelled.rows} labelled images, none of which lies where the catalog says, as it was labelled",
            todo="run `toiletspark embed` to see what has become of them, or set train.finetune=none",
        )

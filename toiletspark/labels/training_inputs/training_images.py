"""The files behind labels, fetched again on the cluster: for fine-tuning, and for views.

A label belongs to a content, so a file counts only where it is still the one that was labelled.
"""

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
from toiletspark.labels import pictures
from toiletspark.tables import spark_io, user_tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.schemas import CATALOG, TRAINING_IMAGES, TRAINING_SET
from toiletspark.tables.workspace import Workspace

DOING = "gathering the labelled images"
_NAMED = [name for name in TRAINING_IMAGES.columns if name != "content"]


def gather(work: Workspace) -> dict[str, int]:
    """Stores the files of the newest training set, if `train.finetune` asks for it.

    Returns:
        images_gathered, and images_without_file (gone, replaced since, or not to be had); or {}.

    Raises:
        LabelsError: not one of them could be had.

    Cost: each labelled image is fetched once; the table is as large as the files are.
    """
    if work.config.train.finetune == "none":
        return {}
    labelled = work.store.require(TRAINING_SET, doing=DOING, step="train")
    rows = located(work, spark_io.read_run(work.spark, labelled).select(*_NAMED))
    files = fetched(rows, work.config.fetch)
    inputs = Inputs(training_set=labelled.run_id, backbone_id=labelled.inputs.backbone_id)
    recorded = work.config.recorded()
    run = spark_io.write_run(
        files, work.store, TRAINING_IMAGES, work.run_id, config=recorded, inputs=inputs
    )
    if not run.rows:
        raise LabelsError(
            doing=DOING,
            expected="files of labelled images",
            found=f"{labelled.rows} labelled images, none of which lies where the catalog says, as "
            "it was labelled",
            todo="run `toiletspark embed` to see what has become of them, or set "
            "train.finetune=none",
        )
    return {"images_gathered": run.rows, "images_without_file": labelled.rows - run.rows}


def located(work: Workspace, labelled: DataFrame) -> DataFrame:
    """Adds the URL or the bytes under which the catalog, or a kept picture, has each content now.

    Args:
        labelled: content_digest and any other columns; few rows.

    Returns:
        The rows whose content is still there, with image_url and inline (binary, null where there
        is a URL). The catalog is not shuffled.
    """
    run = work.store.require(CATALOG, doing=DOING, step="embed")
    digests = F.broadcast(labelled.select("content_digest").distinct())
    snapshot = spark_io.read_run(work.spark, run)
    sources = snapshot.join(digests, on="content_digest", how="left_semi")
    sources = sources.dropDuplicates(["content_digest"])
    source_id = F.col("image_id").alias("source_id")
    sources = sources.select("content_digest", source_id, "image_url")
    if work.config.images.columns.content:
        images = user_tables.read_images(work.spark, work.config)
        inline = images.select(source_id, F.col("content").alias("inline"))
        sources = inline.join(F.broadcast(sources), on="source_id", how="right")
    else:
        sources = sources.withColumn("inline", F.lit(None).cast("binary"))
    sources = sources.drop("source_id")
    kept = pictures.stored(work).join(digests, on="content_digest", how="left_semi")
    kept = kept.join(sources, on="content_digest", how="left_anti")
    kept = kept.dropDuplicates(["content_digest"])
    kept = kept.select("content_digest", F.col("content").alias("inline"))
    sources = sources.unionByName(kept, allowMissingColumns=True)
    return sources.join(F.broadcast(labelled), on="content_digest")


def fetched(rows: DataFrame, limits: Fetch) -> DataFrame:
    """The columns of `TRAINING_IMAGES` for the rows of `located`, see `contents`."""

    def fetch(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for complete in contents(batches, limits):
            yield pa.RecordBatch.from_pylist(complete, schema=TRAINING_IMAGES.arrow_schema)

    return spread(rows, *_NAMED).mapInArrow(fetch, TRAINING_IMAGES.schema)


def spread(rows: DataFrame, *columns: str) -> DataFrame:
    """These columns of the rows of `located`, over all cores."""
    partitions = max(rows.sparkSession.sparkContext.defaultParallelism, 1)
    return rows.select(*columns, "image_url", "inline").repartition(partitions)


def contents(batches: Iterable[pa.RecordBatch], limits: Fetch) -> Iterator[list[dict[str, Any]]]:
    """Rows with their content, as many at a time as can be fetched at once.

    Rows whose file cannot be had, or is not the labelled one any more, are left out.
    """
    fetcher = Fetcher(limits)
    rows = (row for batch in batches for row in batch.to_pylist())
    while some := list(islice(rows, limits.threads_per_task)):
        urls = [row.pop("image_url") for row in some]
        inline = [row.pop("inline") for row in some]
        complete = []
        for row, file in zip(some, fetcher.fetch_all(urls, inline), strict=True):
            if file.content and content_digest(file.content) == row["content_digest"]:
                complete.append({**row, "content": file.content})
        yield complete

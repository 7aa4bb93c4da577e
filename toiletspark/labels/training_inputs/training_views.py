"""Views of labelled images, embedded on the cluster beside the training set; each content and view once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import package_floors as floors
from toiletspark.config import Decode, Fetch
from toiletspark.embedding import int8
from toiletspark.embedding import tasks as embedding
from toiletspark.errors import BackboneError
from toiletspark.labels.training_inputs import training_images
from toiletspark.model import augmentation as views
from toiletspark.model.embedding_codec import to_stored
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

DOING = "embedding views of the labelled images"
_SCHEMA = pa.schema(
    [("content_digest", pa.string()), ("view", pa.string()), ("embedding", pa.binary())]
)


@dataclass(frozen=True)
class Given:
    """What every task is given: the backbone, which views, and what fetching and decoding may cost."""

    spec: Broadcast[BackboneSpec]
    views: Sequence[str]
    fetch: Fetch
    limits: Decode


def gather(work: Workspace) -> dict[str, int]:
    """Adds the views that `train.views` asks for and that the newest training set's contents do not have yet.

    Returns:
        views_embedded: how many were added; {} where nobody asks.

    Raises:
        BackboneError: the training set belongs to another backbone than the configured one.

    Cost: a forward pass a view; nothing for contents that have theirs.
    """
    wanted = views.view_names(work.config.train.views)
    if not wanted:
        return {}
    store = work.store
    labelled = store.require(tables.TRAINING_SET, doing=DOING, step="train")
    spec = int8.load(store, work.config.backbone)
    _require_same(spec.backbone_id, labelled.inputs.backbone_id)
    missing = _missing(
        work.spark, store, frames.read_run(work.spark, labelled), wanted, spec.backbone_id
    )
    rows = training_images.located(work, missing)
    given = Given(
        work.spark.sparkContext.broadcast(spec), wanted, work.config.fetch, work.config.decode
    )
    run = frames.write_run(
        _embedded(rows, given).withColumn("backbone_id", F.lit(spec.backbone_id)),
        store,
        tables.TRAINING_VIEWS,
        work.run_id,
        config=work.config.recorded(),
        inputs=Inputs(training_set=labelled.run_id, backbone_id=spec.backbone_id),
    )
    return {"views_embedded": run.rows}


def _missing(
    spark: SparkSession, store: Store, labelled: DataFrame, wanted: Sequence[str], backbone_id: str
) -> DataFrame:
    """content_digest and the views that it lacks (an array, never empty), one row per content."""
    there = frames.read_all(spark, store, tables.TRAINING_VIEWS).where(
        F.col("backbone_id") == backbone_id
    )
    asked = labelled.select("content_digest").distinct()
    asked = asked.withColumn("view", F.explode(F.array(*(F.lit(name) for name in wanted))))
    lacking = asked.join(F.broadcast(there), on=["content_digest", "view"], how="left_anti")
    return lacking.groupBy("content_digest").agg(F.collect_list("view").alias("views"))


def _embedded(rows: DataFrame, given: Given) -> DataFrame:
    """content_digest, view and embedding; files that cannot be had, or are no sound image, have no rows."""

    def embed(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        floors.require(doing="checking the packages of a worker, before its first view")
        backbone = embedding.worker_backbone(given.spec.value)
        for some in training_images.contents(batches, given.fetch):
            of_files = views.embed_views(
                [row["content"] for row in some], given.views, backbone, given.limits
            )
            found = [
                {
                    "content_digest": row["content_digest"],
                    "view": view,
                    "embedding": to_stored(vector[None])[0],
                }
                for row, of_file in zip(some, of_files, strict=True)
                for view, vector in of_file.items()
                if view in row["views"]
            ]
            yield pa.RecordBatch.from_pylist(found, schema=_SCHEMA)

    tasks = max(rows.sparkSession.sparkContext.defaultParallelism, 1)
    schema = "content_digest string, view string, embedding binary"
    return (
        rows.select("content_digest", "views", "image_url", "inline")
        .repartition(tasks)
        .mapInArrow(embed, schema)
    )


def _require_same(configured: str, labelled: str) -> None:
    if configured != labelled:
        raise BackboneError(
            doing=DOING,
            expected=f"the backbone {labelled}, with which the catalog is embedded",
            found=f"the configured one, {configured}",
            todo="run `toiletspark embed` with this configuration first, or set [backbone] to what the catalog has",
        )

"""Views of labelled images, embedded on the cluster; each content and view once."""

from collections.abc import Iterable, Sequence

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import package_floors
from toiletspark.embedding import int8, tasks
from toiletspark.labels.training_inputs import training_images
from toiletspark.model import augmentation
from toiletspark.model.embedding_codec import to_stored
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import spark_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.schemas import TRAINING_SET, TRAINING_VIEWS
from toiletspark.tables.workspace import Workspace

DOING = "embedding views of the labelled images"
_SCHEMA = pa.schema(
    [("content_digest", pa.string()), ("view", pa.string()), ("embedding", pa.binary())]
)


def gather(work: Workspace) -> dict[str, int]:
    """Embeds the views of `train.views` that the newest training set does not have yet.

    Returns views_embedded; {} where `train.views` is empty. Raises a BackboneError if the training
    set belongs to another backbone than the configured one.

    Cost: a forward pass for each new view.
    """
    views = augmentation.view_names(work.config.train.views)
    if not views:
        return {}
    labelled = work.store.require(TRAINING_SET, doing=DOING, step="train")
    spec = int8.load(work.store, work.config.backbone)
    spec.require_id(labelled.inputs.backbone_id, doing=DOING)
    missing = _missing(work, spark_io.read_run(work.spark, labelled), views, spec.backbone_id)
    embedded = _embedded(work, training_images.located(work, missing), spec, views)
    rows = embedded.withColumn("backbone_id", F.lit(spec.backbone_id))
    inputs = Inputs(training_set=labelled.run_id, backbone_id=spec.backbone_id)
    recorded = work.config.recorded()
    run = spark_io.write_run(
        rows, work.store, TRAINING_VIEWS, work.run_id, config=recorded, inputs=inputs
    )
    return {"views_embedded": run.rows}


def _missing(
    work: Workspace, labelled: DataFrame, views: Sequence[str], backbone_id: str
) -> DataFrame:
    """content_digest and the views that it lacks (an array, never empty), one row per content."""
    stored = spark_io.read_all(work.spark, work.store, TRAINING_VIEWS)
    stored = F.broadcast(stored.where(F.col("backbone_id") == backbone_id))
    names = F.array(*(F.lit(name) for name in views))
    wanted = labelled.select("content_digest").distinct().withColumn("view", F.explode(names))
    missing = wanted.join(stored, on=["content_digest", "view"], how="left_anti")
    return missing.groupBy("content_digest").agg(F.collect_list("view").alias("views"))


def _embedded(
    work: Workspace, rows: DataFrame, spec: BackboneSpec, views: Sequence[str]
) -> DataFrame:
    """content_digest, view and embedding; unsound images and missing files have no rows."""
    broadcast = work.spark.sparkContext.broadcast(spec)
    fetch, decode = work.config.fetch, work.config.decode

    def embed(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        package_floors.require(doing="checking the packages of a worker, before its first view")
        backbone = tasks.worker_backbone(broadcast.value)
        for some in training_images.contents(batches, fetch):
            files = [row["content"] for row in some]
            embeddings = augmentation.embed_views(files, views, backbone, decode)
            embedded = []
            for row, by_view in zip(some, embeddings, strict=True):
                for view in [view for view in row["views"] if view in by_view]:
                    values = row["content_digest"], view, *to_stored(by_view[view][None])
                    embedded.append(dict(zip(_SCHEMA.names, values, strict=True)))
            yield pa.RecordBatch.from_pylist(embedded, schema=_SCHEMA)

    rows = training_images.spread(rows, "content_digest", "views")
    return rows.mapInArrow(embed, "content_digest string, view string, embedding binary")

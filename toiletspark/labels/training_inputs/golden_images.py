"""Makes the golden images: labelled pictures, reduced on the cluster, embedded there exactly as the catalog is."""

from __future__ import annotations

import dataclasses
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.embedding import int8
from toiletspark.embedding import plan as plans
from toiletspark.embedding import tasks as embedding
from toiletspark.embedding.dedup import KnownContents
from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.errors import BackboneError
from toiletspark.hashing import content_digest
from toiletspark.images.thumbnails import thumbnails
from toiletspark.model import golden
from toiletspark.model.golden import GoldenImage
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace

DOING = "making golden images"
_MOST_TASKS = 4  # a worker that has not embedded yet must start the backbone first


def keep(work: Workspace, gathered: Run) -> dict[str, int]:
    """Keeps golden images of a training set as the run of `golden_images` that has its run_id.

    Args:
        spark: the session.
        store: where.
        config: how many, and what fetching and decoding may cost.
        gathered: the training set.

    Returns:
        golden_images: how many; golden_left_out: those that cannot be had any more, or have changed since.

    Raises:
        BackboneError: the configuration's backbone is not the one of the training set.

    Cost: a look through the images table for the drawn ones, and a forward pass for each.
    """
    spec = _backbone(work.store, work.config, gathered)
    names = ("image_id", "content_digest", "label")
    labelled = [
        tuple(row) for row in frames.read_run(work.spark, gathered).select(*names).collect()
    ]
    drawn = golden.choose(labelled, work.config.train.golden_images, work.config.train.seed)
    jpegs = _jpegs(work.spark, work.config, drawn) if drawn else {}
    stored = (
        _embedded(work.spark, work.config, spec, list(jpegs.values()), f"{gathered.run_id}-golden")
        if jpegs
        else {}
    )
    made = [
        GoldenImage(image_id, digest, label, jpegs[digest], stored[content_digest(jpegs[digest])])
        for image_id, digest, label in drawn
        if digest in jpegs and content_digest(jpegs[digest]) in stored
    ]
    inputs = Inputs(
        training_set=gathered.run_id, backbone_id=spec.backbone_id, backbone=spec.description
    )
    counts = {"left_out": len(drawn) - len(made)}
    rows.write(
        work.store,
        tables.GOLDEN_IMAGES,
        gathered.run_id,
        map(dataclasses.asdict, made),
        config=work.config.recorded(),
        inputs=inputs,
        counts=counts,
    )
    return {"golden_images": len(made), "golden_left_out": counts["left_out"]}


def _backbone(store: Store, config: Config, gathered: Run) -> BackboneSpec:
    """The backbone of the configuration, with which the training set was embedded."""
    spec, wanted = (
        int8.load(store, config.backbone),
        gathered.inputs.backbone_id,
    )
    if spec.backbone_id == wanted:
        return spec
    raise BackboneError(
        doing=DOING,
        expected=f"the backbone {wanted}, with which the newest catalog is embedded",
        found=f"[backbone] for {spec.backbone_id}",
        todo="run `toiletspark embed` with this configuration first, or set [backbone] to what the catalog has",
    )


def _jpegs(
    spark: SparkSession, config: Config, drawn: list[tuple[str, str, str]]
) -> dict[str, bytes]:
    """The reduced pictures, by digest of the labelled content; only of images that still have that content."""
    wanted = frames.of_rows(spark, [row[:1] for row in drawn], {"image_id": "string"})
    images = catalog.read_catalog(spark, config).join(
        F.broadcast(wanted), on="image_id", how="left_semi"
    )
    laid_out = images.select("image_id", "image_url", "content").repartition(
        spark.sparkContext.defaultParallelism
    )
    side_px = golden.side_px(config.backbone.resize_px)
    with frames.arrow_batches(spark, config.embed.images_per_batch):
        made = thumbnails(
            laid_out, config.fetch, config.decode, side_px, golden.JPEG_QUALITY
        ).collect()
    labelled = {(image_id, digest) for image_id, digest, _ in drawn}
    return {
        row["content_digest"]: bytes(row["jpeg"])
        for row in made
        if row["jpeg"] is not None and (row["image_id"], row["content_digest"]) in labelled
    }


def _embedded(
    spark: SparkSession, config: Config, spec: BackboneSpec, jpegs: list[bytes], name: str
) -> dict[str, bytes]:
    """Stored embeddings of JPEGs by their digest, made as those of the catalog are."""
    context, tasks = spark.sparkContext, min(spark.sparkContext.defaultParallelism, _MOST_TASKS)
    given = embedding.TaskInputs(
        context.broadcast(spec),
        (context.broadcast(KnownContents.from_parts([], [])),),
        config.fetch,
        golden.decode_limits(config.decode),
        config.embed,
        name,
        WorkerErrors(context),
    )
    with frames.arrow_batches(spark, config.embed.images_per_batch):
        done = embedding.attempt_images(_plan(spark, jpegs), tasks, given).select(
            "content_digest", "embedding"
        )
        found = done.where(F.col("embedding").isNotNull()).collect()
    given.errors.raise_first()
    return {row["content_digest"]: bytes(row["embedding"]) for row in found}


def _plan(spark: SparkSession, jpegs: list[bytes]) -> DataFrame:
    """The columns of `plans.PLAN`, with the bytes inline."""
    planned: list[dict[str, Any]] = [
        {
            "image_id": str(number),
            "content": jpeg,
            "inline_bytes": len(jpeg),
            "location": str(number),
        }
        for number, jpeg in enumerate(jpegs)
    ]
    same = {"image_version": "", "attempts": 0, "image_url": None, "commit": 0}
    ordered = [tuple({**row, **same}[column] for column in plans.PLAN.columns) for row in planned]
    return spark.createDataFrame(ordered, plans.PLAN.schema)

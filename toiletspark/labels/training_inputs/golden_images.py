"""Golden images: labelled pictures, reduced on the cluster, embedded there as the catalog is."""

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.embedding import int8, plan, tasks
from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.hashing import content_digest
from toiletspark.images.thumbnails import thumbnails
from toiletspark.labels import pictures
from toiletspark.model import golden
from toiletspark.model.golden import GoldenImage
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import arrow_io, spark_io, user_tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run
from toiletspark.tables.schemas import GOLDEN_IMAGES
from toiletspark.tables.workspace import Workspace

DOING = "making golden images"
_MAX_TASKS = 4  # a worker that has not embedded yet must start the backbone first


def keep(work: Workspace, training_set: Run) -> dict[str, int]:
    """Writes the golden images of a training set as the run of `golden_images` with its run_id.

    Returns golden_images, and golden_left_out (gone, or changed since). Raises a BackboneError for
    another configured backbone than that of the training set.

    Cost: a pass over the images table, and a forward pass for each golden image.
    """
    spec = int8.load(work.store, work.config.backbone)
    spec.require_id(training_set.inputs.backbone_id, doing=DOING)
    columns = ("image_id", "content_digest", "label")
    rows = spark_io.read_run(work.spark, training_set).select(*columns).collect()
    section = work.config.train
    chosen = golden.choose([tuple(row) for row in rows], section.golden_images, section.seed)
    jpegs = _jpegs(work, chosen) if chosen else {}
    name = f"{training_set.run_id}-golden"
    embeddings = _embeddings(work, spec, list(jpegs.values()), name) if jpegs else {}
    images = []
    for image_id, digest, label in chosen:
        jpeg = jpegs.get(digest, b"")
        embedding = embeddings.get(content_digest(jpeg))
        if embedding is not None:
            images.append(GoldenImage(image_id, digest, label, jpeg, embedding))
    counts = {"left_out": len(chosen) - len(images)}
    run_id = training_set.run_id
    recorded = work.config.recorded()
    inputs = Inputs(training_set=run_id, backbone_id=spec.backbone_id, backbone=spec.description)
    kept = map(vars, images)
    arrow_io.write(
        work.store, GOLDEN_IMAGES, run_id, kept, config=recorded, inputs=inputs, counts=counts
    )
    return {"golden_images": len(images), "golden_left_out": counts["left_out"]}


def _jpegs(work: Workspace, chosen: list[tuple[str, str, str]]) -> dict[str, bytes]:
    """The reduced pictures by digest of the labelled content, of images that still have it."""
    spark, config = work.spark, work.config
    wanted = spark_io.of_rows(spark, [row[:1] for row in chosen], {"image_id": "string"})
    catalog = user_tables.read_catalog(spark, config)
    images = catalog.join(F.broadcast(wanted), on="image_id", how="left_semi")
    images = images.select("image_id", "image_url", "content")
    kept = pictures.stored(work).join(F.broadcast(wanted), on="image_id", how="left_semi")
    images = images.unionByName(kept.drop("content_digest"), allowMissingColumns=True)
    images = images.repartition(spark.sparkContext.defaultParallelism)
    side_px = golden.side_px(config.backbone.resize_px)
    with spark_io.arrow_batches(spark, config.embed.images_per_batch):
        small = thumbnails(images, config.fetch, config.decode, side_px, golden.JPEG_QUALITY)
        rows = [row for row in small.collect() if row["jpeg"] is not None]
    labelled = {(image_id, digest) for image_id, digest, _ in chosen}
    same = [row for row in rows if (row["image_id"], row["content_digest"]) in labelled]
    return {row["content_digest"]: bytes(row["jpeg"]) for row in same}


def _embeddings(
    work: Workspace, spec: BackboneSpec, jpegs: list[bytes], name: str
) -> dict[str, bytes]:
    """Stored embeddings of JPEGs by their digest, made as those of the catalog are."""
    config, context = work.config, work.spark.sparkContext
    inputs = tasks.TaskInputs(
        spec=context.broadcast(spec),
        fetch=config.fetch,
        limits=golden.decode_limits(config.decode),
        embed=config.embed,
        claims=name,
    )
    errors = WorkerErrors(context)
    partitions = min(context.defaultParallelism, _MAX_TASKS)
    with spark_io.arrow_batches(work.spark, config.embed.images_per_batch):
        attempts = tasks.attempt_images(_plan(work.spark, jpegs), partitions, inputs, errors)
        rows = attempts.select("content_digest", "embedding").dropna().collect()
    errors.raise_first()
    return {row["content_digest"]: bytes(row["embedding"]) for row in rows}


def _plan(spark: SparkSession, jpegs: list[bytes]) -> DataFrame:
    """The columns of `plan.PLAN`, with the bytes inline."""
    rows = []
    for number, jpeg in enumerate(jpegs):
        row = {"image_id": str(number), "location": str(number), "image_version": "", "attempts": 0}
        row |= {"image_url": None, "commit": 0, "content": jpeg, "inline_bytes": len(jpeg)}
        rows.append(tuple(row[column] for column in plan.PLAN.columns))
    return spark.createDataFrame(rows, plan.PLAN.schema)

"""Gathers a contact sheet: its images, their small pictures, suggestions and labels. With Spark."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.images.thumbnails import thumbnails
from toiletspark.labels import queues
from toiletspark.model.embedding_codec import from_stored
from toiletspark.reports.contact_sheet import order
from toiletspark.reports.contact_sheet.page import ContactSheet, Tile
from toiletspark.tables import spark_io, user_tables
from toiletspark.tables.runs import Run
from toiletspark.tables.schemas import CATALOG, EMBEDDINGS, LABELS, SAMPLE, SCORES
from toiletspark.tables.workspace import Workspace


def pictures(work: Workspace, queue: Run) -> DataFrame:
    """Fetches and reduces the images of a sample or queue that the images table still has.

    Returns image_id, content_digest, and jpeg (null if it is no sound image).
    """
    config, section = work.config, work.config.sheet
    ids = spark_io.read_run(work.spark, queue).select("image_id")
    images = user_tables.read_catalog(work.spark, config).join(ids, "image_id", "left_semi")
    images = images.repartition(work.spark.sparkContext.defaultParallelism)
    side_px, quality = section.max_side_px, section.jpeg_quality
    return thumbnails(images, config.fetch, config.decode, side_px, quality)


def tiles(work: Workspace, queue: Run, small: DataFrame) -> list[Tile]:
    """The tiles of all sound pictures in the sheet's order; the pictures are not loaded.

    Scores and earlier labels belong to the content that they were given to: they are left out where
    the image has changed since.

    Args:
        queue: a sample or queue, see `queues.newest`.
        small: see `pictures`, written somewhere, since it is read more than once.
    """
    config = work.config
    sound = small.where(F.col("jpeg").isNotNull()).select("image_id", "content_digest")
    is_sample = queue.table == SAMPLE.name
    known = _of_sample(work, queue, sound) if is_sample else _of_queue(work, queue, sound)
    position = user_tables.read_catalog(work.spark, config).select("image_id", "position")
    rows = known.join(position, on="image_id", how="left")
    rows = rows.orderBy("rank", "listing_id", "position", "image_id").drop("rank", "position")
    classes = config.labels.classes
    unordered = []
    for row in rows.collect():
        tile = Tile(**row.asDict(), jpeg=b"")
        if tile.suggested not in classes:  # nobody could accept it
            # the score of a sample is that of the suggestion, the one of a queue its own
            tile = replace(tile, suggested=None, score=None if is_sample else tile.score)
        unordered.append(tile)
    embeddings = _embeddings(work, unordered, sound)
    if is_sample:
        return order.arranged(unordered, embeddings, classes, config.lookalikes.min_cosine)
    return order.grouped(unordered, embeddings, config.lookalikes.min_cosine)


def with_pictures(work: Workspace, small: DataFrame, sheet: ContactSheet) -> ContactSheet:
    """The sheet with the jpegs of its tiles, about 7 kB each."""
    ids = [(tile.image_id,) for tile in sheet.tiles]
    wanted = F.broadcast(spark_io.of_rows(work.spark, ids, {"image_id": "string"}))
    rows = small.join(wanted, "image_id", "left_semi").select("image_id", "jpeg").collect()
    jpegs = {row["image_id"]: bytes(row["jpeg"]) for row in rows}
    complete = [replace(tile, jpeg=jpegs[tile.image_id]) for tile in sheet.tiles]
    return replace(sheet, tiles=tuple(complete))


def _of_sample(work: Workspace, sample: Run, sound: DataFrame) -> DataFrame:
    """The fields of `Tile`, and rank (null); one row per sound image."""
    listings = spark_io.read_run(work.spark, sample).select("image_id", "listing_id")
    scores = work.store.newest(SCORES)
    suggestions = queues.suggestions(work.spark, scores, work.config.labels)
    certainty = F.col("certainty").cast("float").alias("score")
    suggestions = suggestions.select("image_id", "suggested", certainty, "scored_digest")
    known = sound.join(listings, on="image_id", how="inner")
    for other in (suggestions, _labels(work)):
        known = known.join(other, on="image_id", how="left")
    rank = F.lit(None).cast("int").alias("rank")
    scored = [_if_same_content(name, "scored_digest") for name in ("score", "suggested")]
    label = _if_same_content("label", "labelled_digest")
    return known.select("image_id", "listing_id", "content_digest", rank, *scored, label)


def _of_queue(work: Workspace, queue: Run, sound: DataFrame) -> DataFrame:
    """The same columns as `_of_sample`."""
    rows = spark_io.read_run(work.spark, queue)
    rows = rows.withColumnRenamed("content_digest", "queued_digest")
    names = ("score", "suggested", "label")
    checked = [_if_same_content(name, "queued_digest") for name in names]
    joined = sound.join(rows, on="image_id", how="inner")
    return joined.select("image_id", "listing_id", "content_digest", "rank", *checked)


def _if_same_content(name: str, digest: str) -> Column:
    """A column, or null where it belongs to another content; without a digest it is taken."""
    same = F.col(digest).isNull() | (F.col(digest) == F.col("content_digest"))
    return F.when(same, F.col(name)).alias(name)


def _labels(work: Workspace) -> DataFrame:
    """image_id, label, labelled_digest: the last label of each image in the newest run."""
    run = work.store.newest(LABELS)
    if run is None:
        columns = dict.fromkeys(("image_id", "label", "labelled_digest"), "string")
        return spark_io.no_rows(work.spark, columns)
    label, age = F.struct("class", "content_digest"), F.struct("labelled_at", "labeller")
    last = F.max_by(label, age).alias("last")
    return (
        spark_io.read_run(work.spark, run)
        .groupBy("image_id")
        .agg(last)
        .selectExpr("image_id", "last.class AS label", "last.content_digest AS labelled_digest")
    )


def _embeddings(work: Workspace, tiles: list[Tile], sound: DataFrame) -> NDArray[np.float32]:
    """float32, (n, d): the embeddings of the newest catalog's backbone; zeros where it has none."""
    run = work.store.newest(CATALOG)
    if run is None or not tiles:
        return np.zeros((len(tiles), 1), np.float32)
    digests = F.broadcast(sound.select("content_digest").distinct())
    rows = spark_io.read_all(work.spark, work.store, EMBEDDINGS)
    rows = rows.where(F.col("backbone_id") == run.inputs.backbone_id)
    rows = rows.join(digests, on="content_digest", how="left_semi")
    unique = rows.dropDuplicates(["content_digest"]).collect()
    stored = {row["content_digest"]: bytes(row["embedding"]) for row in unique}
    zeros = bytes(len(next(iter(stored.values()), b"\0\0")))
    packed = b"".join(stored.get(tile.content_digest or "", zeros) for tile in tiles)
    return from_stored(packed, len(tiles))

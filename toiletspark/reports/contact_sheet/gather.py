"""Gathers what a contact sheet shows: whose images, their small pictures, and what is known of them. The Spark side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.images.thumbnails import thumbnails
from toiletspark.labels import queues as asked
from toiletspark.model.embedding_codec import from_stored
from toiletspark.reports.contact_sheet import order as sheet_order
from toiletspark.reports.contact_sheet.page import ContactSheet, Tile
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace


def pictures(work: Workspace, run: Run) -> DataFrame:
    """Fetches and reduces the images of a sample or queue.

    Returns:
        image_id, content_digest, jpeg (null if it is no sound image); images that the images table no longer has
        are not in it.
    """
    wanted = frames.read_run(work.spark, run).select("image_id")
    images = catalog.read_catalog(work.spark, work.config).join(
        wanted, on="image_id", how="left_semi"
    )
    sheet, laid_out = (
        work.config.sheet,
        images.repartition(work.spark.sparkContext.defaultParallelism),
    )
    return thumbnails(
        laid_out, work.config.fetch, work.config.decode, sheet.max_side_px, sheet.jpeg_quality
    )


def placed(work: Workspace, run: Run, made: DataFrame) -> list[Tile]:
    """What is known of each picture, in the sheet's order; the pictures themselves are not loaded.

    Scores and earlier labels count for the content that they were given to: where the image has changed since,
    they are left aside.

    Args:
        spark: the session.
        store: where the tables lie.
        config: classes, and how alike near-duplicates are.
        run: the sample or queue, see `asked.newest`.
        made: see `pictures`, written somewhere, since it is read more than once.

    Returns:
        Tiles without their jpeg, one per sound picture.
    """
    seen = made.where(F.col("jpeg").isNotNull()).select("image_id", "content_digest")
    known = (
        _of_sample(work, run, seen) if run.table == "sample" else _of_queue(work.spark, run, seen)
    )
    position = catalog.read_catalog(work.spark, work.config).select("image_id", "position")
    rows = known.join(position, on="image_id", how="left").orderBy(
        "rank", "listing_id", "position", "image_id"
    )
    tiles = [
        Tile(
            row["image_id"],
            row["listing_id"],
            row["content_digest"],
            b"",
            row["score"],
            row["suggested"],
            row["label"],
        )
        for row in rows.collect()
    ]
    classes = work.config.labels.classes
    tiles = [tile if tile.suggested in classes else _unsuggested(tile, run) for tile in tiles]
    embeddings, min_cosine = (
        _embeddings(work.spark, work.store, tiles, seen),
        work.config.lookalikes.min_cosine,
    )
    if run.table == "sample":
        return sheet_order.arranged(tiles, embeddings, classes, min_cosine)
    return sheet_order.ranked(tiles, embeddings, min_cosine)


def with_pictures(spark: SparkSession, made: DataFrame, sheet: ContactSheet) -> ContactSheet:
    """The sheet with the jpegs of its tiles, about 7 kB each."""
    wanted = frames.of_rows(
        spark, [(tile.image_id,) for tile in sheet.tiles], {"image_id": "string"}
    )
    rows = (
        made.join(F.broadcast(wanted), on="image_id", how="left_semi")
        .select("image_id", "jpeg")
        .collect()
    )
    jpegs = {row["image_id"]: bytes(row["jpeg"]) for row in rows}
    return replace(
        sheet, tiles=tuple(replace(tile, jpeg=jpegs[tile.image_id]) for tile in sheet.tiles)
    )


def _unsuggested(tile: Tile, run: Run) -> Tile:
    """Without a suggestion that nobody can accept; a sample's score is that of the suggestion, a queue's its own."""
    return replace(tile, suggested=None, score=None if run.table == "sample" else tile.score)


def _of_sample(work: Workspace, sample: Run, seen: DataFrame) -> DataFrame:
    """image_id, listing_id, content_digest, rank (null), score, suggested, label; one row per image of `seen`."""
    known = seen.join(
        frames.read_run(work.spark, sample).select("image_id", "listing_id"),
        on="image_id",
        how="inner",
    )
    suggested = asked.suggestions(
        work.spark, work.store.newest(tables.SCORES), work.config.labels
    ).select(
        "image_id", "suggested", F.col("certainty").cast("float").alias("score"), "scored_digest"
    )
    for said in (suggested, _labels(work.spark, work.store)):
        known = known.join(said, on="image_id", how="left")
    return known.select(
        "image_id",
        "listing_id",
        "content_digest",
        F.lit(None).cast("int").alias("rank"),
        _of_this_content("score", "scored_digest"),
        _of_this_content("suggested", "scored_digest"),
        _of_this_content("label", "labelled_digest"),
    )


def _of_queue(spark: SparkSession, queue: Run, seen: DataFrame) -> DataFrame:
    """The same columns as `_of_sample`."""
    said = frames.read_run(spark, queue).withColumnRenamed("content_digest", "queued_digest")
    plain = ["image_id", "listing_id", "content_digest", "rank"]
    what = [_of_this_content(name, "queued_digest") for name in ("score", "suggested", "label")]
    return seen.join(said, on="image_id", how="inner").select(*plain, *what)


def _of_this_content(name: str, digest: str) -> Column:
    """A column that is null where it was said of another content; what came without a digest is taken."""
    same = F.col(digest).isNull() | (F.col(digest) == F.col("content_digest"))
    return F.when(same, F.col(name)).alias(name)


def _labels(spark: SparkSession, store: Store) -> DataFrame:
    """image_id, label, labelled_digest of the newest run, of several labellers the last one; no rows where none is."""
    run = store.newest(tables.LABELS)
    if run is None:
        return frames.no_rows(
            spark, {"image_id": "string", "label": "string", "labelled_digest": "string"}
        )
    last = F.max_by(F.struct("class", "content_digest"), F.struct("labelled_at", "labeller")).alias(
        "last"
    )
    each = frames.read_run(spark, run).groupBy("image_id").agg(last)
    return each.select(
        "image_id",
        F.col("last.class").alias("label"),
        F.col("last.content_digest").alias("labelled_digest"),
    )


def _embeddings(
    spark: SparkSession, store: Store, tiles: list[Tile], seen: DataFrame
) -> NDArray[np.float32]:
    """float32, (n, d): the embedding of each tile by the newest catalog's backbone; zeros where there is none."""
    run = store.newest(tables.CATALOG)
    if run is None:
        return np.zeros((len(tiles), 1), np.float32)
    every, digests = (
        frames.read_all(spark, store, tables.EMBEDDINGS),
        seen.select("content_digest").distinct(),
    )
    ours = every.where(F.col("backbone_id") == run.inputs.backbone_id)
    kept = ours.join(F.broadcast(digests), on="content_digest", how="left_semi").dropDuplicates(
        ["content_digest"]
    )
    stored = {row["content_digest"]: bytes(row["embedding"]) for row in kept.collect()}
    nothing = bytes(len(next(iter(stored.values()), b"\0\0")))
    packed = b"".join(stored.get(tile.content_digest or "", nothing) for tile in tiles)
    return from_stored(packed, len(tiles))

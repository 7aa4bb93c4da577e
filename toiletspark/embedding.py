"""Embed once: carries the backbone to the images.

One pass of an iterator pandas UDF: URL or bytes in; status, digest and 1 kB of embedding out. Pixels never
travel through the JVM.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.functions import pandas_udf

from toiletspark import frames, ledger, progress, session, storage, tables
from toiletspark.backbone import Backbone, BackboneSpec, threads_of_task, to_stored
from toiletspark.config import Config, Decode, Fetch
from toiletspark.digests import content_digest
from toiletspark.images import Decoded, decode
from toiletspark.runs import Store
from toiletspark.runtimes import convert
from toiletspark.sources import Fetcher

# What one attempt at an image gives: the ledger's columns, and the embedding of content seen first in its task.
ATTEMPTS = tables.Table("image_attempts", ("image_id",), {**tables.IMAGE_LEDGER.columns, "embedding": "binary"})
_OUTCOME = "status string, detail string, content_digest string, width int, height int, bytes bigint, embedding binary"
_OUTCOME_COLUMNS = [column.split()[0] for column in _OUTCOME.split(", ")]

_built: dict[str, Backbone] = {}  # one per Python worker and backbone_id; Spark reuses workers across tasks


def embed_new(
    spark: SparkSession,
    store: Store,
    config: Config,
    images: DataFrame,
    waiting: DataFrame,
    spec: BackboneSpec,
    run_id: str,
) -> dict[str, int]:
    """Attempts the waiting images and keeps what came of it, as runs of `image_ledger` and `embeddings`.

    The attempts are first written to a folder that no reader sees, so that an image is worked on once; the two
    tables are then split off. Embeddings are committed before the ledger says that they are there.

    Args:
        spark: the session.
        store: where.
        config: limits and batch sizes.
        images: image_id and content, from the user's table.
        waiting: see `ledger.to_embed`.
        spec: the backbone.
        run_id: of this run.

    Returns:
        `attempted` images and `embedded` contents.
    """
    waiting = waiting.persist()
    count = waiting.count()
    if not count:
        return {"attempted": 0, "embedded": 0}
    inline = images.select("image_id", "content")
    todo = (
        waiting.join(inline, on="image_id", how="left")
        if config.images.columns.content
        else waiting.withColumn("content", F.lit(None).cast("binary"))
    )
    partitions = max(spark.sparkContext.defaultParallelism, math.ceil(count / config.embed.images_per_task))
    broadcast = spark.sparkContext.broadcast(convert.prepared(spec))
    attempts = attempt_images(todo, partitions, broadcast, config.fetch, config.decode)
    doing = f"embedding with {spec.backbone_id}"
    with (
        session.arrow_batches(spark, config.embed.images_per_batch),
        progress.watch(spark, doing, count, line_every_s=config.progress.line_every_s),
    ):
        folder = frames.write_files(attempts, store, ATTEMPTS, run_id)
    waiting.unpersist()
    done = spark.read.schema(ATTEMPTS.schema).parquet(storage.spark_path(folder))
    embedded = _keep(done, store, config, spec.backbone_id, run_id)
    storage.remove_folder(folder)
    return {"attempted": count, "embedded": embedded}


def _keep(done: DataFrame, store: Store, config: Config, backbone_id: str, run_id: str) -> int:
    """Splits attempts into new embeddings and ledger rows; returns the number of new embeddings."""
    stored = frames.read_all(done.sparkSession, store, tables.EMBEDDINGS)
    new = (
        done.where(F.col("embedding").isNotNull())
        .dropDuplicates(["content_digest"])
        .join(ledger.digests_of(stored, backbone_id), on="content_digest", how="left_anti")
        .withColumn("backbone_id", F.lit(backbone_id))
    )
    facts: dict[str, Any] = {"config": config.recorded(), "inputs": {"backbone_id": backbone_id}}
    embeddings = frames.write_run(new, store, tables.EMBEDDINGS, run_id, **facts)
    frames.write_run(done, store, tables.IMAGE_LEDGER, run_id, **facts)
    return embeddings.rows


def attempt_images(
    images: DataFrame, partitions: int, backbone: Broadcast[BackboneSpec], fetch: Fetch, limits: Decode
) -> DataFrame:
    """Fetches, decodes and embeds images on the cluster.

    Args:
        images: image_id, image_version, attempts, image_url, content (binary, wins over the URL if not null).
        partitions: Spark tasks to spread them over.
        backbone: broadcast once, built once per Python worker.
        fetch: what one fetch may cost.
        limits: what is decoded.

    Returns:
        The columns of `ATTEMPTS`, one row per image, whatever the image is. Lazy: write it, do not filter it.
    """

    @pandas_udf(_OUTCOME)  # type: ignore[call-overload, untyped-decorator]
    def attempt(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.DataFrame]:
        built, fetcher = _build(backbone.value), Fetcher(fetch)
        seen: dict[str, Decoded] = {}
        for urls, contents in batches:
            yield attempt_batch(urls, contents, built, fetcher, limits, seen)

    # Otherwise Spark may run it once for a filter and once for the result: 100 rows, 200 calls
    once = attempt.asNondeterministic()
    laid_out = images.repartition(partitions)
    return laid_out.withColumn("outcome", once("image_url", "content")).select(
        "image_id",
        "image_version",
        "outcome.*",
        (F.col("attempts") + 1).alias("attempts"),
        F.current_timestamp().alias("attempted_at"),
    )


def attempt_batch(
    urls: Iterable[str | None],
    contents: Iterable[bytes | None],
    backbone: Backbone,
    fetcher: Fetcher,
    limits: Decode,
    seen: dict[str, Decoded],
) -> pd.DataFrame:
    """One batch from URLs or bytes to outcomes; plain Python, no Spark.

    Args:
        urls: where images lie; not read where `contents` has bytes.
        contents: inline bytes, or None.
        backbone: embeds.
        fetcher: fetches.
        limits: for decoding.
        seen: outcomes by content digest, kept by the caller for as long as equal contents need no second look.

    Returns:
        Columns status, detail, content_digest, width, height, bytes, embedding; one row per input, in order.
        Only the first row of a content has its embedding.
    """
    fetched = fetcher.fetch_all(urls, contents)
    digests = [content_digest(one.content) if one.content is not None else None for one in fetched]
    first: dict[str, bytes] = {}
    for digest, one in zip(digests, fetched, strict=True):
        if digest is not None and one.content is not None and digest not in seen:
            first.setdefault(digest, one.content)
    decoded = dict(zip(first, decode(first.values(), limits, backbone.spec.preprocessing), strict=True))
    embedded = _embed(decoded, backbone)
    seen.update({digest: Decoded(d.status, d.detail, d.width, d.height) for digest, d in decoded.items()})
    rows = []
    for digest, one in zip(digests, fetched, strict=True):
        outcome = seen[digest] if digest is not None else Decoded(one.status, one.detail)
        size = len(one.content) if one.content is not None else None
        embedding = embedded.pop(digest, None) if digest is not None else None
        rows.append((outcome.status, outcome.detail, digest, outcome.width, outcome.height, size, embedding))
    return pd.DataFrame(rows, columns=_OUTCOME_COLUMNS).astype({"bytes": "Int64"})


def _embed(decoded: dict[str, Decoded], backbone: Backbone) -> dict[str, bytes]:
    """Stored embeddings by content digest, for those that were decoded."""
    pixels = {digest: outcome.pixels for digest, outcome in decoded.items() if outcome.pixels is not None}
    if not pixels:
        return {}
    return dict(zip(pixels, to_stored(backbone.embed(np.stack(list(pixels.values())))), strict=True))


def _build(spec: BackboneSpec) -> Backbone:
    if spec.backbone_id not in _built:
        _built.clear()  # another backbone's weights would only take memory
        _built[spec.backbone_id] = Backbone(spec, threads_of_task())
    return _built[spec.backbone_id]

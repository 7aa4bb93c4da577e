"""Carries the attempts at images to the cluster: URL or bytes in; status, digest and 1 kB of embedding out.

One pass of `mapInArrow`. Pixels never travel through the JVM, and a filter on the result does not run it twice.
"""

from __future__ import annotations

import gc
import itertools
import zipimport
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import Broadcast, SparkFiles, TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Decode, Embed, Fetch
from toiletspark.embedding.dedup import Claims, Known
from toiletspark.embedding.pipeline import Attempt, Source, Work, attempt_all
from toiletspark.embedding.worker_errors import Refusals
from toiletspark.hashing import content_digest
from toiletspark.images import sandbox as decoding
from toiletspark.images.fetching import Fetcher
from toiletspark.model import golden
from toiletspark.model.backbone import Backbone, threads_of_task
from toiletspark.model.golden import GoldenImage
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import schemas as tables

# What one attempt at an image gives: the ledger's columns, the embedding of a content seen first, and whether it was
# fetched for this row. status is "" where another task embeds the same content.
ATTEMPTS = tables.Table(
    "attempts",
    ("image_id",),
    {**tables.IMAGE_LEDGER.columns, "embedding": "binary", "fetched": "boolean"},
)
_OUTCOME = {name: kind for name, kind in ATTEMPTS.columns.items() if name != "attempted_at"}
_ARROW = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "binary": pa.binary(),
    "boolean": pa.bool_(),
}
_SCHEMA = pa.schema([(name, _ARROW[kind]) for name, kind in _OUTCOME.items()])

_built: dict[
    str, Backbone
] = {}  # one per Python worker and backbone_id; Spark reuses workers across tasks
_proved: set[str] = (
    set()
)  # digests of the golden JPEGs that the backbone of this worker sees as it must
_fetchers: dict[str, Fetcher] = {}  # one per Python worker: stores keep connections


@dataclass(frozen=True)
class Given:
    """What every task of a commit is given.

    Attributes:
        spec: the backbone, broadcast once and built once per Python worker.
        known: the contents that have an embedding.
        fetch: what one fetch may cost.
        limits: what is decoded.
        embed: batch sizes.
        claims: names the commit; tasks of one machine share its contents out under this name.
        refusals: where a worker says why it does not work; its tasks then yield nothing.
        golden: what a worker must embed as it was before, before its first batch; None: there is no head yet, or it
            has no golden images.
    """

    spec: Broadcast[BackboneSpec]
    known: tuple[Broadcast[Known], ...]
    fetch: Fetch
    limits: Decode
    embed: Embed
    claims: str
    refusals: Refusals
    golden: Broadcast[GoldenImage] | None = None


def attempt_images(plan: DataFrame, partitions: int, given: Given) -> DataFrame:
    """Fetches, decodes and embeds images on the cluster.

    Args:
        plan: the columns of `plans.PLAN`.
        partitions: Spark tasks to spread them over; rows of one place stay together.
        given: what to work with.

    Returns:
        The columns of `ATTEMPTS`, one row per image, whatever the image is. Lazy: a second action works twice.
        After the action, `given.refusals.require_none()` tells whether the workers did work.
    """
    laid_out = plan.repartition(partitions, "place").sortWithinPartitions("place", "image_url")
    names = ["image_id", "image_version", "attempts", "image_url", "content", "inline_bytes"]

    def attempt(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        if given.refusals.accepts(lambda: _prepare(given)):
            for done in attempt_all(sources(batches), _work(given)):
                yield _record_batch(done)

    schema = ", ".join(f"{name} {kind}" for name, kind in _OUTCOME.items())
    attempted = laid_out.select(*names).mapInArrow(attempt, schema)
    return attempted.withColumn("attempted_at", F.current_timestamp()).select(*ATTEMPTS.columns)


def sources(batches: Iterable[pa.RecordBatch]) -> Iterator[Source]:
    """The sources behind planned rows: neighbours with the same URL are one, inline bytes are always their own."""
    rows = (row for batch in batches for row in batch.to_pylist())
    for _, group in itertools.groupby(rows, key=_source_key):
        same = list(group)
        named = tuple((row["image_id"], row["image_version"], row["attempts"]) for row in same)
        yield Source(named, same[0]["image_url"], same[0]["content"], same[0]["inline_bytes"])


def _source_key(row: dict[str, Any]) -> tuple[str | None, str | None]:
    alone = row["content"] is not None or row["inline_bytes"] or not row["image_url"]
    return (row["image_id"], None) if alone else (None, row["image_url"])


def _work(given: Given) -> Work:
    """What this worker works with; built once for all its tasks, but for the claims, which are this task's."""
    task = TaskContext.get()
    folder = Path(SparkFiles.getRootDirectory()) / given.claims
    claims = Claims(folder, str(task.partitionId() if task else 0))
    known = _AnyOf([one.value for one in given.known])
    return Work(
        backbone=built(given.spec.value),
        fetcher=_fetcher(given.fetch),
        limits=given.limits,
        images_per_batch=given.embed.images_per_batch,
        bytes_per_batch=given.embed.bytes_per_batch,
        known=known,
        claim=claims.claim,
    )


def settle() -> None:
    """Spares this worker, which is there to stay, what Spark does around each task: 0.1 s of computing.

    Before a task, Spark lets Python forget what lies in the archives on its path, and Spark's own jar, with 5,000
    names, is one of them. What is on the path stays as it is, and an archive that comes later has an importer of its
    own. After a task, Spark collects garbage, and goes through all that is loaded to find none in it.
    """
    zipimport.zipimporter.invalidate_caches = lambda self: None  # type: ignore[method-assign]
    gc.freeze()


class _AnyOf:
    """What is in one of several."""

    def __init__(self, parts: list[Known]) -> None:
        self._parts = parts

    def __contains__(self, digest: object) -> bool:
        return any(digest in part for part in self._parts)


def _record_batch(done: list[Attempt]) -> pa.RecordBatch:
    """One row per image; of the images of one source, the first has the embedding and the fetch."""
    rows: list[tuple[Any, ...]] = []
    for one in done:
        outcome = one.decoded
        for number, (image_id, image_version, attempts) in enumerate(one.source.images):
            named = (
                image_id,
                image_version,
                outcome.status,
                outcome.detail,
                one.digest,
                outcome.width,
                outcome.height,
            )
            rows.append(
                (*named, one.size, attempts + 1, None if number else one.embedding, number == 0)
            )
    columns = zip(*rows, strict=True)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, _SCHEMA.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)


def _prepare(given: Given) -> None:
    """Builds backbone and decode child, if this worker has not; and lets them prove themselves on a golden image."""
    decoding.start_children(given.limits)
    backbone = built(given.spec.value)
    decoding.require_children(given.limits)
    if given.golden is None:
        return
    image = given.golden.value
    name = content_digest(image.jpeg + image.embedding)
    if name not in _proved:
        golden.require_embedding(
            backbone, image, given.limits, doing="checking a worker before its first image"
        )
        _proved.add(name)


def built(spec: BackboneSpec) -> Backbone:
    """The backbone of this Python worker, built once for all its tasks."""
    if spec.backbone_id not in _built:
        _built.clear()  # another backbone's weights would only take memory
        _proved.clear()
        _built[spec.backbone_id] = Backbone(spec, threads_of_task(), _gpu())
        settle()
    return _built[spec.backbone_id]


def _gpu() -> str:
    """torch's name of the GPU that Spark gave this task, or "" where it deals out none."""
    task = TaskContext.get()
    gpu = task.resources().get("gpu") if task else None
    return f"cuda:{gpu.addresses[0]}" if gpu else ""


def _fetcher(limits: Fetch) -> Fetcher:
    key = limits.model_dump_json()
    if key not in _fetchers:
        _fetchers[key] = Fetcher(limits)
    return _fetchers[key]

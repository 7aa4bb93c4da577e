"""Carries attempts at images to the cluster: URL or bytes in, status and embedding out.

One pass of `mapInArrow`: no pixels in the JVM, and a filter on the result does not run it twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import Broadcast, SparkFiles, TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Decode, Embed, Fetch
from toiletspark.embedding.dedup import Claims, KnownContents
from toiletspark.embedding.pipeline import Attempt, Pipeline, Source, attempt_all
from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.hashing import content_digest
from toiletspark.images import sandbox
from toiletspark.images.fetching import Fetcher
from toiletspark.model import golden
from toiletspark.model.backbone import Backbone, threads_of_task
from toiletspark.model.golden import GoldenImage
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables.schemas import IMAGE_LEDGER, Table

# One attempt: the ledger's columns, the embedding of a new content, and whether the image was
# fetched for this row. status is "" if another task embeds the same content.
ATTEMPTS = Table(
    "attempts",
    ("image_id",),
    {**IMAGE_LEDGER.columns, "embedding": "binary", "fetched": "boolean"},
)
_WORKER_COLUMNS = {name: kind for name, kind in ATTEMPTS.columns.items() if name != "attempted_at"}
_FROM_WORKER = Table("attempts of a worker", ATTEMPTS.key, _WORKER_COLUMNS)

# Caches of one Python worker; Spark reuses it for many tasks.
_backbones: dict[str, Backbone] = {}  # by backbone_id, at most one
_checked: set[str] = set()  # digests of the golden images that this backbone has reproduced
_fetchers: dict[str, Fetcher] = {}  # they keep connections


@dataclass(frozen=True)
class TaskInputs:
    """The inputs of all tasks of a commit.

    Workers report in `errors` why they do not work; their tasks then yield nothing. `golden` is an
    image whose embedding a worker must reproduce before its first batch; None: there is no head
    yet, or it has no golden images.
    """

    spec: Broadcast[BackboneSpec]
    known: tuple[Broadcast[KnownContents], ...]  # the contents that have an embedding
    fetch: Fetch
    limits: Decode
    embed: Embed
    claims: str  # names the commit; tasks of one machine divide its contents under this name
    errors: WorkerErrors
    golden: Broadcast[GoldenImage] | None = None


def attempt_images(plan: DataFrame, partitions: int, inputs: TaskInputs) -> DataFrame:
    """Fetches, decodes and embeds the images of a `plan.PLAN` on the cluster.

    Rows of one location stay together. Returns `ATTEMPTS`, one row per image, also for bad images.
    Lazy: a second action works twice. Call `inputs.errors.raise_first()` after the action.
    """
    together = plan.repartition(partitions, "location")
    in_order = together.sortWithinPartitions("location", "image_url")

    def attempt(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        if inputs.errors.run_check(lambda: _check_worker(inputs)):
            for attempts in attempt_all(group_sources(batches), _pipeline(inputs)):
                yield _record_batch(attempts)

    names = ["image_id", "image_version", "attempts", "image_url", "content", "inline_bytes"]
    attempted = in_order.select(*names).mapInArrow(attempt, _FROM_WORKER.schema)
    return attempted.withColumn("attempted_at", F.current_timestamp()).select(*ATTEMPTS.columns)


def group_sources(batches: Iterable[pa.RecordBatch]) -> Iterator[Source]:
    """The sources of planned rows: neighbours with one URL share a source, inline bytes do not."""
    rows = (row for batch in batches for row in batch.to_pylist())
    for _, group in itertools.groupby(rows, key=_source_key):
        same = list(group)
        images = tuple((row["image_id"], row["image_version"], row["attempts"]) for row in same)
        yield Source(images, same[0]["image_url"], same[0]["content"], same[0]["inline_bytes"])


def _source_key(row: dict[str, Any]) -> tuple[str | None, str | None]:
    is_alone = row["content"] is not None or row["inline_bytes"] or not row["image_url"]
    return (row["image_id"], None) if is_alone else (None, row["image_url"])


def _pipeline(inputs: TaskInputs) -> Pipeline:
    """The pipeline of this task; backbone and fetcher are those of the worker."""
    task = TaskContext.get()
    folder = Path(SparkFiles.getRootDirectory()) / inputs.claims
    claims = Claims(folder, str(task.partitionId() if task else 0))
    key = inputs.fetch.model_dump_json()
    if key not in _fetchers:
        _fetchers[key] = Fetcher(inputs.fetch)
    return Pipeline(
        backbone=worker_backbone(inputs.spec.value),
        fetcher=_fetchers[key],
        limits=inputs.limits,
        images_per_batch=inputs.embed.images_per_batch,
        bytes_per_batch=inputs.embed.bytes_per_batch,
        is_known=lambda digest: any(digest in part.value for part in inputs.known),
        claim=claims.claim,
    )


def _record_batch(attempts: list[Attempt]) -> pa.RecordBatch:
    """One row per image; the first image of a source has the embedding and the fetch."""
    rows = []
    for attempt in attempts:
        for number, (image_id, image_version, earlier) in enumerate(attempt.source.images):
            row = {
                "image_id": image_id,
                "image_version": image_version,
                "status": attempt.decoded.status,
                "detail": attempt.decoded.detail,
                "content_digest": attempt.digest,
                "width": attempt.decoded.width,
                "height": attempt.decoded.height,
                "bytes": attempt.size,
                "attempts": earlier + 1,
                "embedding": None if number else attempt.embedding,
                "fetched": number == 0,
            }
            rows.append(row)
    return pa.RecordBatch.from_pylist(rows, schema=_FROM_WORKER.arrow_schema)


def _check_worker(inputs: TaskInputs) -> None:
    """Builds the worker's backbone and decoding process; checks them with a golden image."""
    sandbox.start_children(inputs.limits)
    backbone = worker_backbone(inputs.spec.value)
    sandbox.require_children(inputs.limits)
    if inputs.golden is None:
        return
    image = inputs.golden.value
    digest = content_digest(image.jpeg + image.embedding)
    if digest not in _checked:
        doing = "checking a worker before its first image"
        golden.require_embedding(backbone, image, inputs.limits, doing=doing)
        _checked.add(digest)


def worker_backbone(spec: BackboneSpec) -> Backbone:
    """The backbone of this Python worker, built once for all its tasks."""
    if spec.backbone_id not in _backbones:
        _backbones.clear()  # the weights of another backbone would only take memory
        _checked.clear()
        _backbones[spec.backbone_id] = Backbone(spec, threads_of_task(), _gpu())
    return _backbones[spec.backbone_id]


def _gpu() -> str:
    """torch's name of the GPU that Spark assigned to this task, or ""."""
    task = TaskContext.get()
    gpu = task.resources().get("gpu") if task else None
    return f"cuda:{gpu.addresses[0]}" if gpu else ""

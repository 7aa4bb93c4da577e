"""Carries attempts at images to the cluster: a pandas UDF, URL or bytes in, embedding out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from pyspark import Broadcast, SparkFiles, TaskContext
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.udf import UserDefinedFunction

from toiletspark.config import Decode, Embed, Fetch
from toiletspark.embedding.dedup import Claims, KnownContents
from toiletspark.embedding.pipeline import Attempt, Pipeline, Source, attempt_rows
from toiletspark.embedding.worker_errors import WorkerErrors, check_worker
from toiletspark.errors import UserError
from toiletspark.hashing import content_digest
from toiletspark.images import sandbox
from toiletspark.images.decoding import decoder_id
from toiletspark.images.fetching import Fetcher, host_of
from toiletspark.model import golden
from toiletspark.model.backbone import Backbone, threads_of_task
from toiletspark.model.golden import GoldenImage
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables.schemas import IMAGE_LEDGER, Table, spark_schema

# One attempt: the ledger's columns, the embedding of a new content, and whether the image was
# fetched for this row. status is "" if another task embeds the same content.
ATTEMPTS = Table(
    "attempts",
    ("image_id",),
    {**IMAGE_LEDGER.columns, "embedding": "binary", "fetched": "boolean"},
)
RESULTS = (
    "status",
    "detail",
    "content_digest",
    "width",
    "height",
    "bytes",
    "host",
    "embedding",
    "fetched",
)

# Caches of one Python worker; Spark reuses it for many tasks.
_backbones: dict[str, Backbone] = {}  # by backbone_id, at most one
_checked: set[str] = set()  # digests of the golden images that this backbone has reproduced
_fetchers: dict[str, Fetcher] = {}  # they keep connections


@dataclass(frozen=True)
class TaskInputs:
    """The inputs of all tasks of a commit, or of a public UDF.

    `claims` names a commit: tasks of one machine divide its contents under this name, and each is
    embedded once. Without it each row gets its embedding. `golden` is an image whose embedding a
    worker must reproduce before its first batch; None: there is no head yet, or it has no golden
    images.
    """

    spec: Broadcast[BackboneSpec]
    fetch: Fetch
    limits: Decode
    embed: Embed
    known: tuple[Broadcast[KnownContents], ...] = ()  # the contents that have an embedding
    claims: str = ""
    golden: Broadcast[GoldenImage] | None = None


def attempt_images(
    plan: DataFrame, partitions: int, inputs: TaskInputs, errors: WorkerErrors
) -> DataFrame:
    """Fetches, decodes and embeds the images of a `plan.PLAN` on the cluster.

    Rows of one location stay together. Returns `ATTEMPTS`, one row per image, also for bad images.
    Lazy: a second action works twice. Workers report in `errors` why they do not work, and their
    tasks then yield nulls: call `errors.raise_first()` after the action.
    """
    together = plan.repartition(partitions, "location")
    in_order = together.sortWithinPartitions("location", "image_url")
    attempt = _attempt_udf(inputs, errors)("image_url", "content", "inline_bytes")
    results = in_order.withColumns({"result": attempt, "attempts": F.col("attempts") + 1})
    columns = ["image_id", "image_version", "attempts", "result.*"]
    decoder = decoder_id(inputs.limits, inputs.fetch.max_image_bytes)
    attempted_at = F.current_timestamp().alias("attempted_at")
    attempted = results.select(*columns, attempted_at, F.lit(decoder).alias("decoder"))
    return attempted.select(*ATTEMPTS.columns)


def _attempt_udf(inputs: TaskInputs, errors: WorkerErrors) -> UserDefinedFunction:
    """A pandas UDF: image_url, content and inline_bytes in, a struct of `RESULTS` out.

    It is not deterministic for Spark, so that a filter on the result does not run it twice.
    """

    def attempt(
        batches: Iterator[tuple[pd.Series, pd.Series, pd.Series]],
    ) -> Iterator[pd.DataFrame]:
        if not errors.run_check(lambda: _check_worker(inputs)):
            for urls, _, _ in batches:
                yield pd.DataFrame(None, urls.index, list(RESULTS), object)
            return
        rows = ([Source(*row) for row in zip(*columns, strict=True)] for columns in batches)
        for attempts in attempt_rows(rows, _pipeline(inputs)):
            yield _frame(attempts)

    schema = spark_schema({name: ATTEMPTS.columns[name] for name in RESULTS})
    return pandas_udf(attempt, schema).asNondeterministic()  # type: ignore[call-overload, no-any-return]


def attempt_column(images: Iterator[pd.Series], inputs: TaskInputs) -> Iterator[pd.DataFrame]:
    """Attempts the images of a column, URLs (str) or files (bytes), in batches; on a worker.

    Yields `RESULTS` in the order of the rows.

    Raises:
        UserError: the worker cannot embed, or the column has another type.
    """
    check_worker(lambda: _check_worker(inputs))
    rows = ([_source(image) for image in batch] for batch in images)
    for attempts in attempt_rows(rows, _pipeline(inputs)):
        yield _frame(attempts)


def _source(image: object) -> Source:
    if isinstance(image, bytes):
        return Source(None, image, len(image))
    if image is None or isinstance(image, str):
        return Source(image)
    raise UserError(
        doing="embedding the images of a column",
        expected="URLs as text, or files as binary",
        found=f"a value of the type {type(image).__name__}",
        todo="give the column with the images' URLs or bytes",
    )


def _frame(attempts: list[Attempt]) -> pd.DataFrame:
    """The `RESULTS` of each row."""
    rows = []
    for attempt in attempts:
        decoded = attempt.decoded
        facts = (decoded.status, decoded.detail, attempt.digest, decoded.width, decoded.height)
        host = host_of(attempt.source.url or "")
        rows.append((*facts, attempt.size, host, attempt.embedding, attempt.fetched))
    return pd.DataFrame(rows, columns=list(RESULTS), dtype=object)


def _pipeline(inputs: TaskInputs) -> Pipeline:
    """The pipeline of this task; backbone and fetcher are those of the worker."""
    key = inputs.fetch.model_dump_json()
    if key not in _fetchers:
        _fetchers[key] = Fetcher(inputs.fetch)
    pipeline = Pipeline(
        backbone=worker_backbone(inputs.spec.value),
        fetcher=_fetchers[key],
        limits=inputs.limits,
        images_per_batch=inputs.embed.images_per_batch,
        bytes_per_batch=inputs.embed.bytes_per_batch,
        deduplicates=bool(inputs.claims),
    )
    if not inputs.claims:
        return pipeline
    task = TaskContext.get()
    folder = Path(SparkFiles.getRootDirectory()) / inputs.claims
    claims = Claims(folder, str(task.partitionId() if task else 0))
    known = [part.value for part in inputs.known]
    return replace(
        pipeline,
        is_known=lambda digest: any(digest in part for part in known),
        claim=claims.claim,
    )


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

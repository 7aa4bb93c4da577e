"""The pipeline of one task: fetch, deduplicate, decode, embed. Does not know Spark.

While the backbone embeds one batch, a thread fetches and decodes the next one. Rows and bytes in
memory are bounded, whatever the images are.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from toiletspark.config import Decode
from toiletspark.hashing import content_digest
from toiletspark.images import sandbox
from toiletspark.images.decoding import Decoded
from toiletspark.images.fetching import Fetched, Fetcher
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import to_stored

_Batch = TypeVar("_Batch")


@dataclass(frozen=True)
class Source:
    """A source of bytes, and the images that it stands for; several images may share a URL."""

    images: tuple[tuple[str, str, int], ...]  # image_id, image_version, attempts so far
    url: str | None  # not read if there is content
    content: bytes | None = None  # inline bytes
    inline_bytes: int = 0  # their size, even if they were too many to be passed on


@dataclass(frozen=True)
class Attempt:
    """The result for one source: the ledger's columns, and the embedding of a new content.

    `decoded.status` is "" if another task, whose row has the status, embeds the same content.
    """

    source: Source
    decoded: Decoded
    digest: str | None = None
    size: int | None = None
    embedding: bytes | None = None


@dataclass(frozen=True)
class Pipeline:
    """The parts and limits of a task's pipeline.

    `is_known` returns True for the digest of a content that has an embedding, `claim` if this task
    is to embed a content that has none.
    """

    backbone: Backbone
    fetcher: Fetcher
    limits: Decode
    images_per_batch: int  # of one forward pass
    bytes_per_batch: int  # of image files that wait for decoding
    is_known: Callable[[str], bool] = field(default=lambda _: False)
    claim: Callable[[str], bool] = field(default=lambda _: True)


def attempt_all(sources: Iterable[Source], pipeline: Pipeline) -> Iterator[list[Attempt]]:
    """Attempts every source once, and equal contents together; reads ahead in the sources.

    Yields batches in the order in which the bytes arrived, each source in exactly one of them. A
    bad image is a row, never an exception. The first of equal contents has the embedding.
    """
    for batch in _ahead(_decoded_batches(sources, pipeline)):
        _embed(batch, pipeline.backbone)
        yield batch


def _ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """Yields from `batches` while a thread makes the next one."""
    with ThreadPoolExecutor(1, "ahead") as thread:
        following = thread.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, batches, None)
            yield batch


def _embed(batch: list[Attempt], backbone: Backbone) -> None:
    """Replaces the pixels in a batch by embeddings, in one forward pass."""
    decoded = [(row, attempt.decoded.pixels) for row, attempt in enumerate(batch)]
    pixels = {row: image for row, image in decoded if image is not None}
    if not pixels:
        return
    embeddings = to_stored(backbone.embed(np.stack(list(pixels.values()))))
    for row, embedding in zip(pixels, embeddings, strict=True):
        small = batch[row].decoded.without_pixels()
        batch[row] = replace(batch[row], decoded=small, embedding=embedding)


def _decoded_batches(sources: Iterable[Source], pipeline: Pipeline) -> Iterator[list[Attempt]]:
    """Yields batches with at most images_per_batch new contents."""
    outcomes: dict[str, Decoded] = {}  # without pixels, by content of this task
    batch: list[Attempt] = []
    new: dict[str, bytes] = {}
    for source, fetched in _fetched(sources, pipeline):
        attempt = Attempt(source, Decoded(fetched.status, fetched.detail))
        if (content := fetched.content) is not None:
            digest = content_digest(content)
            attempt = replace(attempt, digest=digest, size=len(content))
            if digest in outcomes or digest in new:
                pass
            elif pipeline.is_known(digest):
                outcomes[digest] = sandbox.measure(content, pipeline.limits)
            elif pipeline.claim(digest):
                new[digest] = content
            else:
                outcomes[digest] = Decoded("")
        batch.append(attempt)
        if _is_full(batch, new, pipeline):
            yield _decode(batch, new, outcomes, pipeline)
            batch, new = [], {}
    if batch:
        yield _decode(batch, new, outcomes, pipeline)


def _is_full(batch: list[Attempt], new: dict[str, bytes], pipeline: Pipeline) -> bool:
    waiting_bytes = sum(len(content) for content in new.values())
    return (
        len(new) == pipeline.images_per_batch
        or waiting_bytes >= pipeline.bytes_per_batch
        or len(batch) >= 8 * pipeline.images_per_batch
    )


def _decode(
    batch: list[Attempt], new: dict[str, bytes], outcomes: dict[str, Decoded], pipeline: Pipeline
) -> list[Attempt]:
    """Adds the outcome of decoding to a batch; the first of each new content carries its pixels."""
    images = pipeline.backbone.decode(new.values(), pipeline.limits)
    decoded = dict(zip(new, images, strict=True))
    outcomes.update({digest: image.without_pixels() for digest, image in decoded.items()})
    attempts = []
    for attempt in batch:
        if attempt.digest is not None:
            outcome = decoded.pop(attempt.digest, outcomes[attempt.digest])
            attempt = replace(attempt, decoded=outcome)
        attempts.append(attempt)
    return attempts


def _fetched(sources: Iterable[Source], pipeline: Pipeline) -> Iterator[tuple[Source, Fetched]]:
    """Yields each source with its bytes as they arrive: a slow host does not delay other images."""
    pending: dict[Future[Fetched], Source] = {}
    largest, window = 0.0, pipeline.fetcher.limits.threads_per_task
    for source in sources:
        if source.content is not None or source.inline_bytes:
            yield source, pipeline.fetcher.inline(source.content)
            continue
        pending[pipeline.fetcher.start(source.url)] = source
        while len(pending) >= window:
            for arrived, fetched in _arrived(pending):
                yield arrived, fetched
                largest = max(len(fetched.content or b""), 0.9 * largest)
            window = _window(largest, pipeline)
    while pending:
        yield from _arrived(pending)


def _window(largest: float, pipeline: Pipeline) -> int:
    """Fetches that may be pending: arrived images wait in memory, and large ones come in series."""
    fitting = int(pipeline.bytes_per_batch // max(largest, 1))
    return min(2 * pipeline.fetcher.limits.threads_per_task, max(1, fitting))


def _arrived(pending: dict[Future[Fetched], Source]) -> list[tuple[Source, Fetched]]:
    done, _ = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
    return [(pending.pop(future), future.result()) for future in done]

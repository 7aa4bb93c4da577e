"""The pipeline of one task: fetch, deduplicate, decode, embed. Does not know Spark.

While the backbone embeds one batch, a thread fetches and decodes the next one. Rows and bytes in
memory are bounded, whatever the images are.
"""

from __future__ import annotations

import concurrent.futures
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from toiletspark.config import Decode
from toiletspark.hashing import content_digest
from toiletspark.images import sandbox, statuses
from toiletspark.images.decoding import Decoded
from toiletspark.images.fetching import Fetched, Fetcher
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import to_stored

_Batch = TypeVar("_Batch")


@dataclass(frozen=True, eq=False)
class Source:
    """A source of bytes; neighbouring rows with one URL share it."""

    url: str | None  # not read if there is content
    content: bytes | None = None  # inline bytes
    inline_bytes: int = 0  # their size, even if they were too many to be passed on

    def shares_url(self, other: Source) -> bool:
        """Returns True if one fetch is enough for both."""
        is_inline = any(each.content is not None or each.inline_bytes for each in (self, other))
        return not is_inline and bool(self.url) and self.url == other.url


@dataclass(frozen=True)
class Attempt:
    """The result for one source: the ledger's columns, and the embedding of a new content.

    `decoded.status` is "" if another task, whose row has the status, embeds the same content.
    """

    source: Source
    decoded: Decoded
    digest: str | None = None
    size: int | None = None
    doubt: str = ""  # see `fetching.answers`
    embedding: bytes | None = None
    fetched: bool = True  # False: the row before has the same source


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
    deduplicates: bool = True  # False: each of equal contents gets its embedding


def attempt_rows(
    batches: Iterable[Iterable[Source]], pipeline: Pipeline
) -> Iterator[list[Attempt]]:
    """Attempts the rows of batches; yields each batch in the order of its rows.

    Neighbours with one URL are fetched once, also where two batches meet. See `attempt_all`.
    """
    waiting: deque[list[Source]] = deque()
    attempts: dict[Source, Attempt] = {}
    last: Source | None = None  # of the batch that was yielded last
    for done in itertools.chain(attempt_all(_shared(batches, waiting), pipeline), [[]]):
        attempts |= {attempt.source: attempt for attempt in done}
        while waiting and all(source in attempts for source in waiting[0]):
            rows = waiting.popleft()
            pairs = zip([last, *rows], rows, strict=False)
            yield [_of_row(attempts[row], row is previous, pipeline) for previous, row in pairs]
            newest = rows[-1] if rows else last
            finished = {last, *rows} - {newest}
            attempts = {row: attempts[row] for row in attempts if row not in finished}
            last = newest


def _shared(batches: Iterable[Iterable[Source]], waiting: deque[list[Source]]) -> Iterator[Source]:
    """Yields the sources of rows, neighbours with one URL once; adds each batch to `waiting`."""
    last: Source | None = None
    for batch in batches:
        rows: list[Source] = []
        new: list[Source] = []
        for source in batch:
            if last is None or not source.shares_url(last):
                last = source
                new.append(source)
            rows.append(last)
        waiting.append(rows)
        yield from new


def _of_row(attempt: Attempt, is_repeated: bool, pipeline: Pipeline) -> Attempt:
    """The attempt of a row; without the embedding and the fetch if the row before has them."""
    if is_repeated and pipeline.deduplicates:
        return replace(attempt, embedding=None, fetched=False)
    return attempt


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
            attempt = replace(attempt, digest=digest, size=len(content), doubt=fetched.doubt)
            if digest in new or (pipeline.deduplicates and digest in outcomes):
                pass
            elif pipeline.is_known(digest):
                outcomes[digest] = sandbox.measure(content, pipeline.limits)
            elif fetched.doubt or pipeline.claim(digest):  # others' bytes may be beyond doubt
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
    take = decoded.pop if pipeline.deduplicates else decoded.get
    attempts = []
    for attempt in batch:
        if attempt.digest is not None:
            outcome = take(attempt.digest, outcomes[attempt.digest])
            attempt = _believed(replace(attempt, decoded=outcome))
        attempts.append(attempt)
    return attempts


def _believed(attempt: Attempt) -> Attempt:
    """The attempt; if its bytes are no image and came in a doubtful answer, without its content."""
    decoded = attempt.decoded
    if not attempt.doubt or decoded.status not in statuses.DOUBTFUL:
        return attempt
    outcome = Decoded("bad_answer", f"{attempt.doubt}: {decoded.status}")
    return replace(attempt, decoded=outcome, digest=None)


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

"""Attempts at images: fetched, told apart by content, decoded, embedded. Plain Python that knows no Spark.

While the backbone works on one batch, the next one is fetched and decoded in a thread beside it. What is held at
once is bounded in rows and in bytes, whatever the images are.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from toiletspark.config import Decode
from toiletspark.hashing import content_digest
from toiletspark.images import sandbox as decoding
from toiletspark.images.decoding import Decoded
from toiletspark.images.fetching import Fetched, Fetcher
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import to_stored

_Batch = TypeVar("_Batch")


@dataclass(frozen=True)
class Source:
    """Where one image's bytes come from, and the images that it stands for.

    Attributes:
        images: image_id, image_version and the number of attempts so far; several images where they share a URL.
        url: where the image lies; not read if there is content.
        content: inline bytes, or None.
        inline_bytes: the size of the inline bytes, also where they were too many to be passed on; 0 without.
    """

    images: tuple[tuple[str, str, int], ...]
    url: str | None
    content: bytes | None = None
    inline_bytes: int = 0

    @property
    def is_inline(self) -> bool:
        """Whether its bytes stood in the table: none at all, some, or too many."""
        return self.content is not None or self.inline_bytes > 0


@dataclass(frozen=True)
class Attempt:
    """What came of one source: the ledger's columns, and the embedding of content that is new.

    `decoded.status` is "" where another task embeds the same content: what becomes of it, that one's row tells.
    """

    source: Source
    decoded: Decoded
    digest: str | None = None
    size: int | None = None
    embedding: bytes | None = None


@dataclass(frozen=True)
class Work:
    """What a task works with.

    Attributes:
        backbone: embeds.
        fetcher: fetches.
        limits: for decoding.
        images_per_batch: of one forward pass.
        bytes_per_batch: of image files that wait for decoding.
        known: digests of the contents that have an embedding.
        claim: whether this task is to embed a content that has none.
    """

    backbone: Backbone
    fetcher: Fetcher
    limits: Decode
    images_per_batch: int
    bytes_per_batch: int
    known: Container[str] = ()
    claim: Callable[[str], bool] = field(default=lambda _: True)


def attempt_all(sources: Iterable[Source], work: Work) -> Iterator[list[Attempt]]:
    """Attempts every source once, and equal contents together.

    Args:
        sources: read ahead as far as they can be fetched at once.
        work: what to work with.

    Yields:
        Batches of attempts in the order in which the bytes arrived, each source in exactly one of them; a bad
        image is a row in them, never an exception. Of equal contents, the first has the embedding.
    """
    for batch in _ahead(_decoded_batches(sources, work)):
        yield _embedded(batch, work.backbone)


def _ahead(batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """Yields from `batches` while the next one is being made in a thread."""
    with ThreadPoolExecutor(1, "ahead") as thread:
        following = thread.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, batches, None)
            yield batch


def _embedded(batch: list[Attempt], backbone: Backbone) -> list[Attempt]:
    """One forward pass over the pixels of a batch, which are not held any longer than that."""
    places = [place for place, one in enumerate(batch) if one.decoded.pixels is not None]
    if not places:
        return batch
    vectors = to_stored(
        backbone.embed(
            np.stack([pixels for one in batch if (pixels := one.decoded.pixels) is not None])
        )
    )
    for place, vector in zip(places, vectors, strict=True):
        one = batch[place]
        batch[place] = Attempt(
            one.source, one.decoded.without_pixels(), one.digest, one.size, vector
        )
    return batch


def _decoded_batches(sources: Iterable[Source], work: Work) -> Iterator[list[Attempt]]:
    """Batches with at most images_per_batch pictures to embed; what needs no picture goes with them."""
    seen: dict[str, Decoded] = {}  # without pixels: what became of the contents of this task
    batch: list[Attempt] = []
    new: dict[str, bytes] = {}
    for source, fetched in _fetched(sources, work):
        digest = content_digest(fetched.content) if fetched.content is not None else None
        size = len(fetched.content) if fetched.content is not None else None
        batch.append(Attempt(source, Decoded(fetched.status, fetched.detail), digest, size))
        if (
            digest is not None
            and fetched.content is not None
            and digest not in seen
            and digest not in new
        ):
            if digest in work.known:
                seen[digest] = decoding.measure(fetched.content, work.limits)
            elif work.claim(digest):
                new[digest] = fetched.content
            else:
                seen[digest] = Decoded("")
        full = (
            sum(map(len, new.values())) >= work.bytes_per_batch
            or len(batch) >= 8 * work.images_per_batch
        )
        if full or len(new) == work.images_per_batch:
            yield _decoded(batch, new, seen, work)
            batch, new = [], {}
    if batch:
        yield _decoded(batch, new, seen, work)


def _decoded(
    batch: list[Attempt], new: dict[str, bytes], seen: dict[str, Decoded], work: Work
) -> list[Attempt]:
    """The batch with what decoding says of each content; the first of each new content carries its pixels."""
    pictures = dict(zip(new, work.backbone.decode(new.values(), work.limits), strict=True))
    seen.update({digest: picture.without_pixels() for digest, picture in pictures.items()})
    return [
        one
        if one.digest is None
        else Attempt(one.source, pictures.pop(one.digest, seen[one.digest]), one.digest, one.size)
        for one in batch
    ]


def _fetched(sources: Iterable[Source], work: Work) -> Iterator[tuple[Source, Fetched]]:
    """Each source with its bytes, as they arrive: a slow host holds up nobody else's images."""
    under_way: dict[Future[Fetched], Source] = {}
    largest, window = 0.0, work.fetcher.limits.threads_per_task
    for source in sources:
        if source.is_inline:
            yield source, _inline(source, work.fetcher)
            continue
        under_way[work.fetcher.start(source.url)] = source
        while len(under_way) >= window:
            for arrived, fetched in _arrived(under_way):
                yield arrived, fetched
                largest = max(len(fetched.content or b""), 0.9 * largest)
            window = _window(largest, work)
    while under_way:
        yield from _arrived(under_way)


def _window(largest: float, work: Work) -> int:
    """How many fetches may be under way: what arrives waits in memory, and large images come in series."""
    return int(
        min(
            2 * work.fetcher.limits.threads_per_task,
            max(1, work.bytes_per_batch // max(largest, 1)),
        )
    )


def _arrived(under_way: dict[Future[Fetched], Source]) -> list[tuple[Source, Fetched]]:
    done, _ = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED)
    return [(under_way.pop(one), one.result()) for one in done]


def _inline(source: Source, fetcher: Fetcher) -> Fetched:
    if source.content is not None:
        return fetcher.inline(source.content)
    return Fetched("too_large", f"over {fetcher.limits.max_image_bytes} bytes")

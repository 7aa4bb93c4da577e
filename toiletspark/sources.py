"""Fetching: an image's URL in, its bytes or a status out. Knows nothing of decoding, Spark or tables."""

from __future__ import annotations

import concurrent.futures
import errno
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec

from toiletspark import storage
from toiletspark.config import Fetch

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Fetched:
    """`content` if status is ok, else None. detail is a short code and never holds a URL: URLs carry secrets."""

    status: str
    detail: str = ""
    content: bytes | None = None


class _CutOffError(Exception):
    """A fetch that was cut off by one of the limits."""

    def __init__(self, status: str, detail: str) -> None:
        self.outcome = Fetched(status, detail)
        super().__init__(detail)


class Fetcher:
    """Fetches batches with a few threads; made once per Python worker, because stores keep connections."""

    def __init__(self, limits: Fetch) -> None:
        self.limits = limits
        self._threads = concurrent.futures.ThreadPoolExecutor(limits.threads_per_task, "fetch")

    def fetch(self, urls: Sequence[str | None]) -> list[Fetched]:
        """Fetches each URL; a URL that cannot be had is a status, never an exception.

        Args:
            urls: paths, or URLs that fsspec opens; None and "" are missing.

        Returns:
            One outcome per URL, in order.
        """
        return [one.result() for one in [self.start(url) for url in urls]]

    def start(self, url: str | None) -> concurrent.futures.Future[Fetched]:
        """Begins to fetch a URL; its outcome is what `fetch` gives."""
        return self._threads.submit(fetch_one, url, self.limits)

    def fetch_all(self, urls: Iterable[str | None], contents: Iterable[bytes | None]) -> list[Fetched]:
        """Takes inline bytes as they are, under the same cap, and fetches where there are none.

        Args:
            urls: one per image.
            contents: one per image, None where the URL is to be fetched.

        Returns:
            One outcome per image, in order.
        """
        pairs = list(zip(urls, contents, strict=True))
        fetched = iter(self.fetch([url for url, content in pairs if content is None]))
        return [next(fetched) if content is None else self.inline(content) for _, content in pairs]

    def inline(self, content: bytes) -> Fetched:
        """Inline bytes as they are, under the same cap as fetched ones."""
        limit = self.limits.max_image_bytes
        return Fetched("ok", "", content) if len(content) <= limit else Fetched("too_large", f"over {limit} bytes")


def fetch_one(url: str | None, limits: Fetch) -> Fetched:
    """Fetches one image's bytes."""
    if not url:
        return Fetched("missing", "no image_url")
    try:
        return Fetched("ok", "", _read(url, limits))
    except _CutOffError as ended:
        return ended.outcome
    except Exception as error:  # noqa: BLE001 - every store's client raises its own kinds; each is a row
        return Fetched(*_status_of(error))


def _read(url: str, limits: Fetch) -> bytes:
    deadline = time.monotonic() + limits.timeout_s
    filesystem, path, options = _open_filesystem(url, limits)
    pieces: list[bytes] = []
    size = 0
    with filesystem.open(path, "rb", **options) as file:
        while piece := file.read(_CHUNK_BYTES):
            size += len(piece)
            if size > limits.max_image_bytes:
                raise _CutOffError("too_large", f"over {limits.max_image_bytes} bytes")
            if time.monotonic() > deadline:
                raise _CutOffError("timeout", f"over {limits.timeout_s:g} s")
            pieces.append(piece)
    return b"".join(pieces)


def _open_filesystem(url: str, limits: Fetch) -> tuple[Any, str, dict[str, Any]]:
    """The file system of a URL, the path there, and how to open it: http is streamed, without a HEAD before."""
    if not url.startswith(("http://", "https://")):
        return *storage.open_filesystem(url), {}
    import aiohttp  # only where images come by http

    timeout = aiohttp.ClientTimeout(total=limits.timeout_s)
    filesystem = fsspec.filesystem("http", client_kwargs={"timeout": timeout})
    return filesystem, url, {"block_size": 0, "size": 1}


def _status_of(error: Exception) -> tuple[str, str]:
    """The status for what a store's client raised; what is unknown counts as transient and is tried again."""
    http_status = getattr(error, "status", None)
    if isinstance(http_status, int):
        status = {401: "denied", 403: "denied", 404: "missing", 410: "missing"}.get(http_status, "timeout")
        return status, f"http {http_status}"
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return "missing", type(error).__name__
    if isinstance(error, PermissionError):
        return "denied", type(error).__name__
    if isinstance(error, (ValueError, ImportError)) or getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return "missing", "not a URL that can be opened here"
    return "timeout", type(error).__name__

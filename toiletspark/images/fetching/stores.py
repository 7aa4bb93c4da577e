"""Reads one image once: from local files, http(s), buckets or shards that are allowed."""

import os
import stat
import threading
import time
from typing import IO, Any, cast

import fsspec
import fsspec.asyn

from toiletspark.config import Fetch
from toiletspark.config.allowed_places import WEB
from toiletspark.images.fetching import answers
from toiletspark.images.fetching.allow_rules import AllowRules, Location
from toiletspark.images.fetching.answers import Answer
from toiletspark.images.fetching.failures import FetchError, failure_of
from toiletspark.images.fetching.ip_addresses import Networks
from toiletspark.images.fetching.reading import DEADLINE, read_range
from toiletspark.images.fetching.shards import Shards, shard_of
from toiletspark.tables import storage

_CHUNK_BYTES = 1 << 20
_EMPTY_OBJECT = "http 416"  # S3's answer to a ranged read of an empty object


class Stores:
    """Opens what URLs name. Connections are kept, for all threads of the process."""

    def __init__(self, limits: Fetch) -> None:
        self._limits = limits
        self._options = {**limits.storage_options, "s3": _s3_options(limits)}
        self._networks = Networks(limits.allow_private)
        self._rules = AllowRules(limits.allow, self._networks)
        self._shard_rules = AllowRules(limits.allow, self._networks, for_shards=True)
        self._shards = Shards(limits, self._open_shard)
        self._lock = threading.Lock()
        self._http_filesystems: dict[AllowRules, Any] = {}

    def read(self, url: str, deadline: float) -> Answer:
        """Reads an image's bytes until the deadline, on `time.monotonic`'s clock.

        Raises FetchError if it is refused, too large, too slow or not in its shard; or any error of
        the store's client.
        """
        DEADLINE.set(deadline)
        if shard_of(url):
            return Answer(self._shards.read(url, deadline))
        location = self._rules.check(url)
        if not location.scheme:
            return Answer(self._read_local(location.path, deadline))
        if location.scheme in WEB:
            http = self._http(self._rules)
            return cast(Answer, fsspec.asyn.sync(http.loop, self._get, http, location.path))
        filesystem, path = self._open_store(location)
        if filesystem.async_impl:
            return Answer(self._read_object(filesystem, path, deadline))
        with filesystem.open(path, "rb") as file:
            return Answer(self._drain(file, deadline))

    def _open_shard(self, url: str) -> tuple[fsspec.AbstractFileSystem, str]:
        location = self._shard_rules.check(url)
        if not location.scheme:
            _require_regular(location.path)
            return fsspec.filesystem("file"), location.path
        if location.scheme in WEB:
            return self._http(self._shard_rules), location.path
        return self._open_store(location)

    def _open_store(self, location: Location) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            filesystem, path = storage.open_filesystem(location.path, self._options)
        except (ImportError, ValueError):
            raise FetchError("bad_url", f"no file system for {location.scheme}") from None
        if hasattr(filesystem, "retries"):
            filesystem.retries = 1  # s3fs and gcsfs would also retry, within each of our tries
        return filesystem, path

    def _http(self, rules: AllowRules) -> Any:
        """One session for images and one for shards, because redirects obey the same rules."""
        with self._lock:
            if rules not in self._http_filesystems:
                # aiohttp is loaded only where images come by http
                from toiletspark.images.fetching import http_session

                filesystem = http_session.filesystem(self._limits, rules, self._networks)
                self._http_filesystems[rules] = filesystem
            return self._http_filesystems[rules]

    def _read_local(self, path: str, deadline: float) -> bytes:
        """Reads without fsspec, which takes longer than the file."""
        _require_regular(path)
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return self._drain(file, deadline)

    def _read_object(
        self, filesystem: fsspec.AbstractFileSystem, path: str, deadline: float
    ) -> bytes:
        """Reads with one request, which asks for one byte more than the cap."""
        try:
            content = read_range(filesystem, path, 0, self._limits.max_image_bytes + 1, deadline)
        except Exception as error:
            if failure_of(error).detail == _EMPTY_OBJECT:
                return b""
            raise
        self._require_size(len(content))
        return content

    async def _get(self, filesystem: Any, location: str) -> Answer:
        """Reads over a connection that is kept for the next image, within DEADLINE."""
        session = await filesystem.set_session()
        content = bytearray()
        async with session.get(location, **filesystem.kwargs) as response:
            response.raise_for_status()
            self._require_size(response.content_length or 0)
            async for chunk in response.content.iter_any():
                content += chunk
                self._require_size(len(content))
        answer = answers.of_response(
            response.status, response.headers, bytes(content), self._limits.max_image_bytes
        )
        self._require_size(len(answer.content))
        return answer

    def _drain(self, file: IO[bytes], deadline: float) -> bytes:
        content = bytearray()
        while chunk := file.read(_CHUNK_BYTES):
            content += chunk
            self._require_size(len(content))
            if time.monotonic() > deadline:
                raise FetchError("timeout", f"over {self._limits.timeout_s:g} s")
        return bytes(content)

    def _require_size(self, size: int) -> None:
        if size > self._limits.max_image_bytes:
            raise FetchError("too_large", f"over {self._limits.max_image_bytes} bytes")


def _require_regular(path: str) -> None:
    """Refuses pipes, which would never open, and devices, which never end."""
    mode = os.stat(path).st_mode  # noqa: PTH116 - Path is slow a billion times
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FetchError("missing", "not a regular file")


def _s3_options(limits: Fetch) -> dict[str, Any]:
    """The user's options for s3fs, with our own timeouts and no retries within a try."""
    options = limits.storage_options.get("s3", {})
    config = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": limits.silence_timeout_s,
        "read_timeout": limits.silence_timeout_s,
        "max_pool_connections": limits.threads_per_task,
        **options.get("config_kwargs", {}),
    }
    return {**options, "config_kwargs": config}

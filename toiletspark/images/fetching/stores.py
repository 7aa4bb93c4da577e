"""Reading one image, once, from where images may come from: local files, http(s), buckets, and members of shards."""

from __future__ import annotations

import os
import stat
import threading
import time
import zlib
from typing import IO, Any, cast

import fsspec
import fsspec.asyn

from toiletspark.config import Fetch
from toiletspark.config.allowed_places import WEB
from toiletspark.images.fetching.allow_rules import AllowRules, Location
from toiletspark.images.fetching.failures import FetchError, failure_of
from toiletspark.images.fetching.ip_addresses import Networks
from toiletspark.images.fetching.reading import DEADLINE, read_range
from toiletspark.images.fetching.shards import Shards, shard_of
from toiletspark.tables import storage

_CHUNK_BYTES = 1 << 20
_RANGE_OF_NOTHING = 416  # what S3 says when an empty object is asked for its first bytes


class Stores:
    """Opens what URLs name, if images may come from there. Connections are kept, for all threads of the process."""

    def __init__(self, limits: Fetch) -> None:
        self._limits = limits
        self._options = {**limits.storage_options, "s3": _s3_options(limits)}
        self._networks = Networks(limits.allow_private)
        self._places = AllowRules(limits.allow, self._networks)
        self._places_of_shards = AllowRules(limits.allow, self._networks, of_shards=True)
        self._shards = Shards(limits, self._open_shard)
        self._opening = threading.Lock()
        self._web_filesystems: dict[AllowRules, Any] = {}

    def read(self, url: str, deadline: float) -> bytes:
        """An image's bytes.

        Args:
            url: a path, a URL, or a shard's member.
            deadline: on `time.monotonic`'s clock.

        Raises:
            FetchError: it is refused, over the byte cap or too slow, or a shard has it not.
            Exception: whatever the store's client raises.
        """
        DEADLINE.set(deadline)
        if shard_of(url):
            return self._shards.read(url, deadline)
        place = self._places.judge(url)
        if not place.scheme:
            return self._read_local(place.location, deadline)
        if place.scheme in WEB:
            filesystem = self._web(self._places)
            return cast(
                bytes, fsspec.asyn.sync(filesystem.loop, self._get, filesystem, place.location)
            )
        filesystem, path = self._open_store(place)
        if filesystem.async_impl:
            return self._read_object(filesystem, path, deadline)
        with filesystem.open(path, "rb") as file:
            return self._drain(file, deadline)

    def _open_shard(self, location: str) -> tuple[fsspec.AbstractFileSystem, str]:
        place = self._places_of_shards.judge(location)
        if not place.scheme:
            _require_regular(place.location)
            return fsspec.filesystem("file"), place.location
        if place.scheme in WEB:
            return self._web(self._places_of_shards), place.location
        return self._open_store(place)

    def _open_store(self, place: Location) -> tuple[fsspec.AbstractFileSystem, str]:
        filesystem, path = storage.open_filesystem(place.location, self._options)
        if hasattr(filesystem, "retries"):
            filesystem.retries = 1  # s3fs and gcsfs would also try again, each try of ours anew
        return filesystem, path

    def _web(self, places: AllowRules) -> Any:
        """Sessions of their own for images and for shards, since redirects are judged as what is asked for."""
        with self._opening:
            if places not in self._web_filesystems:
                from toiletspark.images.fetching import (
                    http_session,  # aiohttp only where images come by http
                )

                self._web_filesystems[places] = http_session.filesystem(
                    self._limits, places, self._networks
                )
            return self._web_filesystems[places]

    def _read_local(self, path: str, deadline: float) -> bytes:
        """Without fsspec, which takes longer than reading the file."""
        _require_regular(path)
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return self._drain(file, deadline)

    def _read_object(
        self, filesystem: fsspec.AbstractFileSystem, path: str, deadline: float
    ) -> bytes:
        """One request, which asks for no more than the byte cap and one."""
        try:
            content = read_range(filesystem, path, 0, self._limits.max_image_bytes + 1, deadline)
        except Exception as error:
            if failure_of(error).detail == f"http {_RANGE_OF_NOTHING}":
                return b""
            raise
        return self._capped(content)

    async def _get(self, filesystem: Any, location: str) -> bytes:
        """One image over a connection that is kept for the next one, within DEADLINE."""
        try:
            url = filesystem.encode_url(location)
        except ValueError:
            raise FetchError("refused", "url") from None
        session = await filesystem.set_session()
        pieces: list[bytes] = []
        size = 0
        async with session.get(url, **filesystem.kwargs) as response:
            response.raise_for_status()
            if (response.content_length or 0) > self._limits.max_image_bytes:
                raise self._too_large()
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > self._limits.max_image_bytes:
                    raise self._too_large()
                pieces.append(piece)
        return self._unpacked(
            b"".join(pieces), response.headers.get("Content-Encoding", "").lower()
        )

    def _unpacked(self, content: bytes, encoding: str) -> bytes:
        """What a server has compressed, though it was asked not to; the cap holds for what comes out."""
        if encoding not in ("gzip", "x-gzip", "deflate"):
            return content
        try:
            return self._capped(
                zlib.decompressobj(47).decompress(content, self._limits.max_image_bytes + 1)
            )
        except zlib.error:
            return content  # as it is, which is no image

    def _drain(self, file: IO[bytes], deadline: float) -> bytes:
        content = bytearray()
        while piece := file.read(_CHUNK_BYTES):
            content += piece
            if len(content) > self._limits.max_image_bytes:
                raise self._too_large()
            if time.monotonic() > deadline:
                raise FetchError("timeout", f"over {self._limits.timeout_s:g} s")
        return bytes(content)

    def _capped(self, content: bytes) -> bytes:
        if len(content) > self._limits.max_image_bytes:
            raise self._too_large()
        return content

    def _too_large(self) -> FetchError:
        return FetchError("too_large", f"over {self._limits.max_image_bytes} bytes")


def _require_regular(path: str) -> None:
    """A pipe would never open, a device never end."""
    mode = os.stat(path).st_mode  # noqa: PTH116 - no Path for each of a billion files
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FetchError("missing", "not a regular file")


def _s3_options(limits: Fetch) -> dict[str, Any]:
    """What s3fs is told: the user's options, and that retries and silences are ours to judge."""
    told = limits.storage_options.get("s3", {})
    config = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": limits.silence_timeout_s,
        "read_timeout": limits.silence_timeout_s,
        "max_pool_connections": limits.threads_per_task,
        **told.get("config_kwargs", {}),
    }
    return {**told, "config_kwargs": config}

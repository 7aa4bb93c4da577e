"""A tar as a shard: its headers are read once, then each member with one ranged read."""

import posixpath
import tarfile
import time
from typing import Any

import fsspec

from toiletspark.config import Fetch
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.reading import read_range

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
_READ_AHEAD_BYTES = 4 << 20  # more than most photos, so that few reads bring many headers
_BLOCK = tarfile.BLOCKSIZE


class TarShard:
    """The positions of a tar's members. Holds no file open.

    Raises FetchError if it is compressed (then members have no positions), no tar, or too slow.
    Cost: reads through the whole tar once if its members are small, else only the headers.
    """

    def __init__(
        self, filesystem: fsspec.AbstractFileSystem, path: str, limits: Fetch, deadline: float
    ) -> None:
        self._filesystem, self._path, self._limits = filesystem, path, limits
        with filesystem.open(path, "rb", block_size=_READ_AHEAD_BYTES) as file:
            if file.read(6).startswith(_COMPRESSED):
                raise FetchError("bad_url", "compressed tar: its members have no positions")
            file.seek(0)
            self._positions, self._is_complete = _read_headers(file, deadline)

    def read(self, member: str, deadline: float) -> bytes:
        """Reads a member with its header, which shows if the tar was replaced meanwhile."""
        position = self._positions.get(_plain(member))
        if position is None:
            raise (
                FetchError("missing", "no such member")
                if self._is_complete
                else FetchError("bad_answer", "damaged shard")
            )
        start, size = position
        if size > self._limits.max_image_bytes:
            raise FetchError("too_large", f"over {self._limits.max_image_bytes} bytes")
        end = start + size
        content = read_range(self._filesystem, self._path, start - _BLOCK, end, deadline)
        if not _is_header(content[:_BLOCK], size) or len(content) < _BLOCK + size:
            raise FetchError("timeout", "shard changed while it was read", retryable=True)
        return content[_BLOCK : _BLOCK + size]  # a store may send more than was requested


def _read_headers(file: Any, deadline: float) -> tuple[dict[str, tuple[int, int]], bool]:
    """Offset and size in bytes of each regular member, and True if the tar is sound to its end."""
    positions: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while member := tar.next():
                if member.isreg() and not member.issparse():
                    positions[_plain(member.name)] = (member.offset_data, member.size)
                elif member.islnk() and _plain(member.linkname) in positions:
                    positions[_plain(member.name)] = positions[_plain(member.linkname)]
                tar.members.clear()  # type: ignore[attr-defined]  # a tar may have millions
                if time.monotonic() > deadline:
                    raise FetchError("timeout", "reading the tar's headers took too long")
            # tarfile takes a broken header for the end, which really is a block of zeros
            file.seek(tar.offset)
            return positions, file.read(_BLOCK) == tarfile.NUL * _BLOCK
    except (tarfile.TarError, ValueError, OverflowError):  # a hostile header raises any of them
        return positions, False


def _plain(name: str) -> str:
    """Normalises names: `tar cf x.tar .` and `tar cf x.tar *` write them differently."""
    return posixpath.normpath(name).lstrip("/")


def _is_header(block: bytes, size: int) -> bool:
    try:
        header = tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return header.size == size

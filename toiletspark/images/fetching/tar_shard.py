"""A tar as a shard: its headers are read once, a member is one ranged read."""

from __future__ import annotations

import posixpath
import tarfile
import time
from typing import Any

import fsspec

from toiletspark.config import Fetch
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.reading import read_range

_COMPRESSED = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",
)  # gzip, bzip2, xz, zstandard
_READ_AHEAD_BYTES = (
    4 << 20
)  # photos are smaller, so headers are found in few large reads instead of many small ones


class TarShard:
    """Where each member of a tar lies. Holds no file open.

    Args:
        filesystem: where the tar lies.
        path: there.
        limits: the byte cap.
        deadline: for reading the headers, on `time.monotonic`'s clock.

    Raises:
        FetchError: it is compressed (then nothing has a place), is no tar, or the deadline has passed.

    Cost: reads through the whole tar once if its members are small, else only the headers.
    """

    def __init__(
        self, filesystem: fsspec.AbstractFileSystem, path: str, limits: Fetch, deadline: float
    ) -> None:
        self._filesystem, self._path, self._limits = filesystem, path, limits
        with filesystem.open(path, "rb", block_size=_READ_AHEAD_BYTES) as file:
            if file.read(6).startswith(_COMPRESSED):
                raise FetchError(
                    "missing", "compressed tar: its members have no place of their own"
                )
            file.seek(0)
            self._places, self._whole = _read_headers(file, deadline)

    def read(self, member: str, deadline: float) -> bytes:
        """One member's bytes; its header is read with it and shows whether the tar was replaced meanwhile."""
        place = self._places.get(_plain(member))
        if place is None:
            raise FetchError("missing", "no such member" if self._whole else "damaged shard")
        start, size = place
        if size > self._limits.max_image_bytes:
            raise FetchError("too_large", f"over {self._limits.max_image_bytes} bytes")
        block = read_range(
            self._filesystem, self._path, start - tarfile.BLOCKSIZE, start + size, deadline
        )
        if (
            not _is_header(block[: tarfile.BLOCKSIZE], size)
            or len(block) < tarfile.BLOCKSIZE + size
        ):
            raise FetchError("missing", "shard changed while it was read", again=True)
        return block[
            tarfile.BLOCKSIZE : tarfile.BLOCKSIZE + size
        ]  # a store may send more than it was asked for


def _read_headers(file: Any, deadline: float) -> tuple[dict[str, tuple[int, int]], bool]:
    """Offset and size in bytes of each regular member, and whether the tar is sound to its end."""
    places: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while member := tar.next():
                if member.isreg() and not member.issparse():
                    places[_plain(member.name)] = (member.offset_data, member.size)
                elif member.islnk() and _plain(member.linkname) in places:
                    places[_plain(member.name)] = places[_plain(member.linkname)]
                tar.members.clear()  # type: ignore[attr-defined]  # a tar may have millions
                if time.monotonic() > deadline:
                    raise FetchError("timeout", "reading the tar's headers took too long")
            file.seek(
                tar.offset
            )  # tarfile takes a broken header for the end, which really is a block of zeros
            return places, file.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE
    except (
        tarfile.TarError,
        ValueError,
        OverflowError,
    ):  # all three from what a hostile header may say
        return places, False


def _plain(name: str) -> str:
    """Names as `tar cf x.tar .` and `tar cf x.tar *` write them are the same."""
    return posixpath.normpath(name).lstrip("/")


def _is_header(block: bytes, size: int) -> bool:
    try:
        return tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape").size == size
    except tarfile.HeaderError:
        return False

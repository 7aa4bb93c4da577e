"""Images packed in tar or Parquet files, called shards: stores are slow with billions of files.

A member is named as fsspec chains names: `tar://path/in/it.jpg::s3://bucket/0001.tar`, and
`parquet://KEY::/photos/0001.parquet` for the row with that key. The positions of a shard's members
are read once per worker, and kept for the few shards used last.
"""

import time
from typing import Protocol

from toiletspark.config import Fetch
from toiletspark.images.fetching.failures import FetchError, failure_of
from toiletspark.images.fetching.parquet_shard import ParquetShard, RowGroups
from toiletspark.images.fetching.reading import Cache, OpenFilesystem
from toiletspark.images.fetching.tar_shard import TarShard

_FORMATS = ("tar", "parquet")
_RETRY_FAILED_S = 60.0  # until a shard that could not be read is opened again


def shard_of(url: str) -> str:
    """Location of the shard that holds a member; "" if the URL is not a shard's member.

    >>> shard_of("tar://kitchen/1.jpg::s3://bucket/0001.tar")
    's3://bucket/0001.tar'
    >>> shard_of("s3://bucket/kitchen/1.jpg")
    ''
    """
    return _parse(url)[2]


class Shard(Protocol):
    """An open shard."""

    def read(self, member: str, deadline: float) -> bytes:
        """Reads a member's bytes; FetchError if there is none, or it is over the byte cap."""


class FailedShard:
    """A shard that cannot be read: all its members fail alike, and it is not opened for each."""

    def __init__(self, failure: FetchError) -> None:
        self._status, self._detail = failure.status, failure.detail
        self.expires_at = time.monotonic() + _RETRY_FAILED_S

    def read(self, member: str, deadline: float) -> bytes:
        """Raises the shard's failure."""
        raise FetchError(self._status, self._detail)


class Shards:
    """The shards that are open in this worker."""

    def __init__(self, limits: Fetch, open_filesystem: OpenFilesystem) -> None:
        self._limits = limits
        self._open_filesystem = open_filesystem
        self._shards: Cache[tuple[str, str], Shard] = Cache(limits.open_shards)
        self._row_groups: RowGroups = Cache(limits.open_row_groups)

    def read(self, url: str, deadline: float) -> bytes:
        """Reads a member's bytes until the deadline, which includes opening the shard.

        Raises FetchError, also if the shard is damaged, or any error of the store's client.
        """
        file_format, member, location = _parse(url)
        key = (file_format, location)
        shard = self._shards.get(key, lambda: self._open(*key, deadline), deadline)
        if isinstance(shard, FailedShard) and time.monotonic() > shard.expires_at:
            self._shards.forget(key)
            shard = self._shards.get(key, lambda: self._open(*key, deadline), deadline)
        try:
            return shard.read(member, deadline)
        except Exception as error:
            if not isinstance(error, FetchError) or error.retryable:
                self._shards.forget(key)  # what is known of the shard may be stale
            raise

    def _open(self, file_format: str, location: str, deadline: float) -> Shard:
        try:
            filesystem, path = self._open_filesystem(location)
            if file_format == "tar":
                return TarShard(filesystem, path, self._limits, deadline)
            return ParquetShard(filesystem, path, self._limits, self._row_groups)
        except Exception as error:  # noqa: BLE001 - every store's client has its own errors
            failure = failure_of(error)
            if failure.retryable:
                raise failure from None
            return FailedShard(failure)


def _parse(url: str) -> tuple[str, str, str]:
    """Format, member and location of a shard's member; three times "" for another URL."""
    name, _, location = url.partition("::")
    file_format, mark, member = name.partition("://")
    if mark and file_format in _FORMATS and location:
        return file_format, member, location
    return "", "", ""

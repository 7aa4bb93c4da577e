"""Packed shards: images that lie in a tar or a Parquet file, because billions of small files are no good on any store.

A member is named as fsspec chains names: `tar://path/in/it.jpg::s3://bucket/0001.tar`, and
`parquet://KEY::/photos/0001.parquet` for the row with that key. What a shard holds is read once per worker and
kept for the few shards used last; members are then read by their place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from toiletspark.config import Fetch
from toiletspark.images.fetching.failures import FetchError, failure_of
from toiletspark.images.fetching.parquet_shard import ParquetShard, RowGroups
from toiletspark.images.fetching.reading import Cache, OpenFilesystem
from toiletspark.images.fetching.tar_shard import TarShard

_KINDS = ("tar", "parquet")
_REFUSED_FOR_S = 60.0  # then a shard that could not be read is looked at again


def shard_of(url: str) -> str:
    """Where the shard lies that has this member; "" if the URL is no member of a shard.

    >>> shard_of("tar://kitchen/1.jpg::s3://bucket/0001.tar")
    's3://bucket/0001.tar'
    >>> shard_of("s3://bucket/kitchen/1.jpg")
    ''
    """
    return _parts(url)[2]


class Shard(Protocol):
    """An open shard."""

    def read(self, member: str, deadline: float) -> bytes:
        """One member's bytes.

        Raises:
            FetchError: there is no such member, or it is over the byte cap.
        """


class Refused:
    """A shard that cannot be read: all its members fail as it did, and it is not opened for each of them."""

    def __init__(self, failure: FetchError) -> None:
        self._status, self._detail = failure.status, failure.detail
        self._until = time.monotonic() + _REFUSED_FOR_S

    @property
    def over(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() > self._until

    def read(self, member: str, deadline: float) -> bytes:
        """Fails as the shard did."""
        raise FetchError(self._status, self._detail)


class Shards:
    """The shards that are open in this worker."""

    def __init__(self, limits: Fetch, open_filesystem: OpenFilesystem) -> None:
        self._limits = limits
        self._open_filesystem = open_filesystem
        self._open: Cache[tuple[str, str], Shard] = Cache(limits.open_shards)
        self._row_groups: RowGroups = Cache(limits.open_row_groups)

    def read(self, url: str, deadline: float) -> bytes:
        """A member's bytes.

        Args:
            url: see the module's text.
            deadline: on `time.monotonic`'s clock. Opening is part of the work of whoever comes first.

        Raises:
            FetchError: as `Shard.read`, or the shard is damaged.
            Exception: whatever the store's client raises.
        """
        kind, member, location = _parts(url)
        place = (kind, location)
        shard = self._open.get(place, lambda: self._opened(kind, location, deadline), deadline)
        if isinstance(shard, Refused) and shard.over:
            self._open.forget(place)
            shard = self._open.get(place, lambda: self._opened(kind, location, deadline), deadline)
        try:
            return shard.read(member, deadline)
        except FetchError as failure:
            if failure.again:
                self._open.forget(place)
            raise
        except Exception:
            self._open.forget(place)  # whatever it was, what is known of the shard may be stale
            raise

    def _opened(self, kind: str, location: str, deadline: float) -> Shard:
        kinds: dict[str, Callable[[], Shard]] = {
            "tar": lambda: TarShard(*self._open_filesystem(location), self._limits, deadline),
            "parquet": lambda: ParquetShard(
                *self._open_filesystem(location), self._limits, self._row_groups
            ),
        }
        try:
            return kinds[kind]()
        except Exception as error:  # noqa: BLE001 - every store's client raises its own kinds
            failure = failure_of(error)
            if failure.again:
                raise failure from None
            return Refused(failure)


def _parts(url: str) -> tuple[str, str, str]:
    """Kind, member and location of a shard's member; three times "" for another URL."""
    name, separator, location = url.partition("::")
    kind, mark, member = name.partition("://")
    return (
        (kind, member, location)
        if separator and mark and kind in _KINDS and location
        else ("", "", "")
    )

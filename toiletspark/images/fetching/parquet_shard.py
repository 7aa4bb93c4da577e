"""A Parquet file as a shard: its keys are read once, images by the row group."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from toiletspark.config import Fetch
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.reading import Cache

RowGroups = Cache[tuple["ParquetShard", int], pa.ChunkedArray]
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
_CONTENTS_AT_ONCE, _KEYS_AT_ONCE = (
    16,
    256,
)  # rows at most, for they are decoded before they are counted


class ParquetShard:
    """Where each key of a Parquet file is.

    Args:
        filesystem: where the file lies.
        path: there.
        limits: the byte caps and the names of the columns.
        row_groups: those in memory, of all shards.

    Raises:
        FetchError: it is no Parquet file, or has not these columns.

    Cost: reads the footer and the column of keys. Each new row group is read as a whole.
    """

    def __init__(
        self, filesystem: fsspec.AbstractFileSystem, path: str, limits: Fetch, row_groups: RowGroups
    ) -> None:
        self._limits, self._columns, self._row_groups = limits, limits.shard_columns, row_groups
        self._lock = threading.Lock()  # one file, one position
        with _damage_told():
            self._file = pq.ParquetFile(filesystem.open(path, "rb", cache_type="none"))
            types = {field.name: field.type for field in self._file.schema_arrow}
            content = types.get(self._columns.content, pa.null())
            if self._columns.key not in types or not any(is_kind(content) for is_kind in _BYTES):
                raise FetchError("missing", "a shard without the columns of fetch.shard_columns")
            self._places = self._read_keys()

    def read(self, member: str, deadline: float) -> bytes:
        """The bytes in the row with that key."""
        place = self._places.get(member)
        if place is None:
            raise FetchError("missing", "no such member")
        group, row = place
        contents = self._row_groups.get(
            (self, group), lambda: self._read_row_group(group), deadline
        )
        content = contents[row].as_buffer()
        if content is None:
            raise FetchError("missing", "the member is null")
        if content.size > self._limits.max_image_bytes:
            raise FetchError("too_large", f"over {self._limits.max_image_bytes} bytes")
        return cast(bytes, content.to_pybytes())

    def _read_keys(self) -> dict[str, tuple[int, int]]:
        """Row group and row in it of each key; a key that is there twice is its last row."""
        places: dict[str, tuple[int, int]] = {}
        size = 0
        for group in range(self._file.num_row_groups):
            row = 0
            for keys in self._decoded(group, self._columns.key, "its keys are", _KEYS_AT_ONCE):
                size += keys.nbytes
                self._require_small(size, "its keys are")
                named = enumerate(keys.cast(pa.string()).to_pylist(), row)
                places.update({key: (group, number) for number, key in named})
                row += len(keys)
        return places

    def _read_row_group(self, group: int) -> pa.ChunkedArray:
        contents, size = [], 0
        with self._lock, _damage_told():
            for some in self._decoded(
                group, self._columns.content, "its row group is", _CONTENTS_AT_ONCE
            ):
                size += some.nbytes
                self._require_small(size, "its row group is")
                contents.append(some)
            return pa.chunked_array(contents)

    def _decoded(self, group: int, column: str, whose: str, most_rows: int) -> Iterator[pa.Array]:
        """A column, few rows at a time: a dictionary may make much out of little, and no footer tells how much.

        So few that rows which all are as long as the column's pages would still fit.
        """
        described = self._file.metadata.row_group(group)
        columns = [described.column(number) for number in range(described.num_columns)]
        told = [
            (one.total_uncompressed_size, one.total_compressed_size)
            for one in columns
            if one.path_in_schema == column
        ]
        size = max((max(sizes) for sizes in told), default=0)
        self._require_small(size, whose)
        rows = max(1, min(most_rows, self._limits.max_row_group_bytes // max(size, 1)))
        for batch in self._file.iter_batches(rows, [group], [column]):
            yield batch.column(0)

    def _require_small(self, size: int, whose: str) -> None:
        if size > self._limits.max_row_group_bytes:
            raise FetchError("too_large", f"{whose} over {self._limits.max_row_group_bytes} bytes")


@contextmanager
def _damage_told() -> Iterator[None]:
    """Arrow has two ways to say that a file is damaged; what a store says comes through as it is."""
    try:
        yield
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        raise FetchError("missing", "damaged shard") from None
    except pa.ArrowException:
        raise FetchError("missing", "damaged shard") from None

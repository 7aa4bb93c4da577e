"""A Parquet file as a shard: its keys are read once, images by row group."""

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
_BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
_CONTENTS_PER_BATCH, _KEYS_PER_BATCH = 16, 256  # rows are decoded before their bytes are counted


class ParquetShard:
    """The positions of a Parquet file's keys; FetchError if damaged or without the columns.

    Cost: reads the footer and the column of keys. Each new row group is read as a whole.
    """

    def __init__(
        self, filesystem: fsspec.AbstractFileSystem, path: str, limits: Fetch, row_groups: RowGroups
    ) -> None:
        self._limits, self._columns, self._row_groups = limits, limits.shard_columns, row_groups
        self._lock = threading.Lock()  # the file has one position
        with _damage_as_failure():
            self._file = pq.ParquetFile(filesystem.open(path, "rb", cache_type="none"))
            types = {field.name: field.type for field in self._file.schema_arrow}
            content = types.get(self._columns.content, pa.null())
            if self._columns.key not in types or not any(is_type(content) for is_type in _BINARY):
                raise FetchError("bad_url", "a shard without the columns of fetch.shard_columns")
            self._positions = self._read_keys()

    def read(self, member: str, deadline: float) -> bytes:
        """Reads the bytes in the row with that key."""
        position = self._positions.get(member)
        if position is None:
            raise FetchError("missing", "no such member")
        group, row = position
        key = (self, group)
        contents = self._row_groups.get(key, lambda: self._read_row_group(group), deadline)
        content = contents[row].as_buffer()
        if content is None:
            raise FetchError("missing", "the member is null")
        if content.size > self._limits.max_image_bytes:
            raise FetchError("too_large", f"over {self._limits.max_image_bytes} bytes")
        return cast(bytes, content.to_pybytes())

    def _read_keys(self) -> dict[str, tuple[int, int]]:
        """Row group and row in it of each key; of a key that stands twice, the last row."""
        positions: dict[str, tuple[int, int]] = {}
        size = 0
        for group in range(self._file.num_row_groups):
            row = 0
            for keys in self._batches(group, self._columns.key, "its keys are", _KEYS_PER_BATCH):
                size += keys.nbytes
                self._require_small(size, "its keys are")
                for key in keys.cast(pa.string()).to_pylist():
                    positions[key] = (group, row)
                    row += 1
        return positions

    def _read_row_group(self, group: int) -> pa.ChunkedArray:
        contents, size, column = [], 0, self._columns.content
        with self._lock, _damage_as_failure():
            for batch in self._batches(group, column, "its row group is", _CONTENTS_PER_BATCH):
                size += batch.nbytes
                self._require_small(size, "its row group is")
                contents.append(batch)
            return pa.chunked_array(contents)

    def _batches(self, group: int, column: str, what: str, max_rows: int) -> Iterator[pa.Array]:
        """Reads a column in small batches, because a dictionary page can expand without any hint.

        The batches are so small that they fit even if every row were as long as the column's pages.
        """
        metadata = self._file.metadata.row_group(group)
        size = 0
        for number in range(metadata.num_columns):
            chunk = metadata.column(number)
            if chunk.path_in_schema == column:
                size = max(size, chunk.total_uncompressed_size, chunk.total_compressed_size)
        self._require_small(size, what)
        rows = max(1, min(max_rows, self._limits.max_row_group_bytes // max(size, 1)))
        for batch in self._file.iter_batches(rows, [group], [column]):
            yield batch.column(0)

    def _require_small(self, size: int, what: str) -> None:
        if size > self._limits.max_row_group_bytes:
            raise FetchError("too_large", f"{what} over {self._limits.max_row_group_bytes} bytes")


@contextmanager
def _damage_as_failure() -> Iterator[None]:
    """Turns both of Arrow's errors for damaged files into a failure; a store's errors pass."""
    try:
        yield
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        raise FetchError("bad_answer", "damaged shard") from None
    except pa.ArrowException:
        raise FetchError("bad_answer", "damaged shard") from None

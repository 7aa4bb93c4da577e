"""Reads the files of a run by row groups: by petastorm in AdamW's epochs, else by pyarrow.

Both give the same rows in the same order; without petastorm, pyarrow feeds the epochs too. No other
file imports petastorm, which is no longer maintained, and unpickles a `_common_metadata` that lies
beside the files. So it is given a folder of links to the files of the manifest, and nothing else.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from toiletspark.tables import storage
from toiletspark.tables.runs import Run
from toiletspark.training.arrays import Floats, Ints

_ROWS_AT_ONCE = 4096  # in a batch of petastorm's loader; `fit` shuffles, and cuts smaller ones
_TODO = "run `toiletspark train` again: it gathers the files anew"


@dataclass(frozen=True)
class FittedRows:
    """The rows of a training set that a head is fitted to, read anew in each epoch of AdamW."""

    run: Run
    numbers: Ints  # of all stored rows in their order; -1: not fitted to
    width: int  # of an embedding

    @classmethod
    def of(cls, run: Run, image_ids: Sequence[str], width: int) -> FittedRows:
        """The rows of these images, numbered in this order."""
        number_of = {image_id: number for number, image_id in enumerate(image_ids)}
        numbers: list[int] = []
        for table in row_groups(run, ["image_id"]):
            numbers += [number_of.get(name, -1) for name in table.column("image_id").to_pylist()]
        return cls(run, np.array(numbers, dtype=np.int64), width)

    def __iter__(self) -> Iterator[tuple[Ints, Floats]]:
        """Yields numbers, (m,), and embeddings, float32, (m, width), in the order of the files."""
        start = 0
        for rows in embeddings(self.run, self.width):
            numbers = self.numbers[start : start + len(rows)]
            start += len(rows)
            yield numbers[numbers >= 0], rows[numbers >= 0]


def row_groups(run: Run, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yields the row groups of the files in the manifest, with these columns, by pyarrow.

    Raises an OutputError, before the first, if a file is not the one in the manifest. Cost: one row
    group in memory.
    """
    run.verify(doing=f"reading {run.folder}", todo=_TODO)
    with _memory_of_the_system():
        for name in _names(run):
            filesystem, path = storage.open_filesystem(f"{run.folder}/{name}")
            with filesystem.open(path, "rb") as opened:
                file = pq.ParquetFile(opened)
                for group in range(file.num_row_groups):
                    # one thread: a program that ends while pyarrow 14 starts threads is aborted
                    yield file.read_row_group(group, list(columns), use_threads=False)


def embeddings(run: Run, width: int) -> Iterator[Floats]:
    """Yields the stored embeddings of all rows in their order: float32, (m, width).

    Rows whose embedding is missing or of another length are zeros. By petastorm if it is installed,
    else by pyarrow; raises as `row_groups`.
    """
    if find_spec("petastorm") is not None:
        yield from by_petastorm(run, width)
    else:
        yield from by_pyarrow(run, width)


def by_pyarrow(run: Run, width: int) -> Iterator[Floats]:
    """Reads `embeddings` by pyarrow."""
    for table in row_groups(run, ["embedding"]):
        yield _decoded(table.column("embedding").to_pylist(), width)


def by_petastorm(run: Run, width: int) -> Iterator[Floats]:
    """Reads `embeddings` by petastorm's loader for torch, which takes no bytes, but arrays."""
    with _linked(run) as folder, _memory_of_the_system(), warnings.catch_warnings():
        if not folder:
            return
        warnings.simplefilter("ignore")  # petastorm calls deprecated pyarrow functions
        from petastorm import TransformSpec, make_batch_reader
        from petastorm.pytorch import BatchedDataLoader

        def transform(rows: Any) -> Any:
            return rows.assign(embedding=list(_decoded(rows["embedding"], width)))

        spec = TransformSpec(transform, [("embedding", np.float32, (width,), False)])
        options = {"schema_fields": ["embedding"], "transform_spec": spec}
        options |= {"reader_pool_type": "dummy", "shuffle_row_groups": False}
        reader = make_batch_reader(folder, **options)
        with BatchedDataLoader(reader, batch_size=_ROWS_AT_ONCE) as loader:
            for batch in loader:
                yield batch["embedding"].numpy()


def _decoded(stored: Iterable[bytes | None], width: int) -> Floats:
    """Stored embeddings, little-endian float16, as float32, (m, width)."""
    size = 2 * width
    usable = [row if row is not None and len(row) == size else bytes(size) for row in stored]
    return np.frombuffer(b"".join(usable), dtype="<f2").reshape(-1, width).astype(np.float32)


@contextlib.contextmanager
def _linked(run: Run) -> Iterator[str]:
    """The URL of a folder with links to the run's files, in order; "" if they have no rows.

    Files on other stores are copied. Raises an OutputError if one is not that of the manifest.
    """
    run.verify(doing=f"reading {run.folder}", todo=_TODO)
    with tempfile.TemporaryDirectory(prefix="toiletspark-reader-") as folder:
        names = _names(run)
        for number, name in enumerate(names):
            link = Path(folder) / f"{number:06}.parquet"
            location = f"{run.folder}/{name}"
            if storage.is_local(location):
                link.symlink_to(Path(location.removeprefix("file://")).resolve())
            else:
                link.write_bytes(storage.read_files([location])[0])
        yield f"file://{folder}" if names else ""


def _names(run: Run) -> list[str]:
    return [file.name for file in run.files if file.rows]


@contextlib.contextmanager
def _memory_of_the_system() -> Iterator[None]:
    """Gives back at once the memory of a row group: 100 MB of 40,000 rows."""
    usual_pool = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(usual_pool)

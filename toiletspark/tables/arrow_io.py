"""Small runs as rows with pyarrow, without Spark."""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toiletspark.tables import failures, storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import Table


def write(
    store: Store,
    table: Table,
    run_id: str,
    rows: Iterable[Mapping[str, Any]],
    *,
    config: dict[str, Any],
    inputs: Inputs,
    counts: dict[str, Any] | None = None,
) -> Run:
    """Writes rows as a run of one file and makes it visible; columns that a row lacks are null."""
    write_file(store, table, run_id, rows)
    return store.commit(table, run_id, config=config, inputs=inputs, counts=counts)


def write_file(
    store: Store, table: Table, run_id: str, rows: Iterable[Mapping[str, Any]], part: int = 0
) -> str:
    """Writes a file of a run that stays invisible until it is committed; returns its folder."""
    complete = [{name: row.get(name) for name in table.columns} for row in rows]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(complete, table.arrow_schema), file)
    folder = store.folder(table, run_id)
    storage.replace_bytes(f"{folder}/part-{part}.parquet", file.getvalue())
    return folder


def read(run: Run | None) -> list[dict[str, Any]]:
    """All rows of a run, in memory; none if there is no run.

    Raises OutputError if a file is no Parquet any more.
    """
    rows: list[dict[str, Any]] = []
    files = [f"{run.folder}/{file.name}" for file in run.files] if run else []
    for file, content in zip(files, storage.read_files(files), strict=True):
        try:
            # one thread: a program that ends while pyarrow 14 starts threads is aborted (134)
            table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise failures.of_own_file(error, file) from error
        rows.extend(table.to_pylist())
    return rows

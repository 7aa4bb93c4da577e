"""A table is a folder of immutable runs; a run is complete once its manifest is written.

    <root>/_toiletspark.json                 marks the folder as toiletspark's
    <root>/<table>/<run_id>/*.parquet
    <root>/<table>/<run_id>/_manifest.json   written last, see `manifest`
    <root>/_work/<run_id>/                   temporary frames of a run; removed when it ends

Nothing that a reader may have open is overwritten or removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from toiletspark import __version__
from toiletspark.errors import OutputError, shown
from toiletspark.tables import storage
from toiletspark.tables.manifest import FileEntry, Inputs, Manifest
from toiletspark.tables.schemas import (
    EMBEDDINGS,
    EXCLUSION_LIST,
    IMAGE_LEDGER,
    RUN_TABLES,
    STRATA,
    TRAINING_SET,
    UNSCORED,
    Table,
)

MARKER = "_toiletspark.json"
MANIFEST = "_manifest.json"
WORK = "_work"
RUN_ID = re.compile(r"\d{8}T\d{12}Z-[0-9a-f]{4}")
_MOMENT = "%Y%m%dT%H%M%S%fZ"
_UNORDERED = {EMBEDDINGS.name, IMAGE_LEDGER.name}  # all their runs together are the table
_TAIL_BYTES = 65536
_WHOLE_BYTES = 64 * 2**20  # files up to this size get a digest of all bytes, in these tables:
_WHOLE = {EXCLUSION_LIST.name, UNSCORED.name, STRATA.name, TRAINING_SET.name}


class Run(Manifest):
    """One complete run of one table: its manifest, and the folder in which it lies."""

    folder: str = Field(exclude=True)

    def difference(self) -> str:
        """Compares the Parquet files in the folder with the manifest: names, sizes, rows, digests.

        Returns the first difference in words, as in "'part-0.parquet': missing"; "" if there is
        none. Cost: see `described_files`.
        """
        recorded, names = [file.name for file in self.files], _parquet_names(self.folder)
        if missing := sorted(set(recorded) - set(names)):
            return f"{shown(missing, 3)}: missing"
        if unknown := sorted(set(names) - set(recorded)):
            return f"{shown(unknown, 3)}: in no manifest"
        try:
            if described_files(self.folder, whole=self.table in _WHOLE) == self.files:
                return ""
            return _other_sizes(self) or "other contents"
        except (OSError, pa.ArrowInvalid):
            with contextlib.suppress(OSError):
                return _other_sizes(self) or "no Parquet"
        return "gone while it was read"

    def verify(
        self,
        *,
        doing: str,
        todo: str = "run `toiletspark publish` again; versions are never changed in place",
    ) -> None:
        """Raises OutputError if a file of the manifest is missing or another one, or one is new."""
        if difference := self.difference():
            raise OutputError(
                doing=doing,
                expected=f"the {len(self.files)} files of the manifest of {self.run_id}, unchanged",
                found=difference,
                todo=todo,
            )


def new_run_id() -> str:
    """A unique id that sorts by time, such as 20261123T151204123456Z-9f3c."""
    return f"{run_id_at(datetime.now(UTC))}-{secrets.token_hex(2)}"


def run_id_at(moment: datetime) -> str:
    """The prefix of ids of runs that began at this moment (UTC)."""
    return f"{moment:{_MOMENT}}"


def moment_of(run_id: str) -> datetime:
    """The moment (UTC) at which a run began, by its id."""
    return datetime.strptime(run_id.partition("-")[0], _MOMENT).replace(tzinfo=UTC)


@contextlib.contextmanager
def left_as_it_was(root: str) -> Iterator[None]:
    """Removes a local output root that the body made, if it failed before it wrote anything there.

    So a mistyped output.root leaves no folder behind, nor one above it.
    """
    path = Path(root.removeprefix("file://"))
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    may_remove = storage.is_local(root) and not (path / MARKER).exists()
    try:
        yield
    except BaseException:
        if may_remove and storage.entries(root) == [MARKER]:
            (path / MARKER).unlink()
            for folder in missing:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        raise


class Store:
    """The output root: where runs lie, and which of them are complete."""

    def __init__(self, root: str) -> None:
        self.root = root

    @classmethod
    def open(cls, root: str) -> Store:
        """The store at `root`, made if there is none; OutputError if the folder is not ours."""
        doing, marker = f"opening the output folder {root}", f"{root}/{MARKER}"
        try:
            foreign = [] if storage.exists(marker) else _foreign(root)
            if not foreign and not storage.exists(marker):
                storage.replace_json(marker, {"made_by": "toiletspark", "layout": 1})
        except OSError as error:
            raise OutputError(
                doing=doing,
                expected="a folder that can be written",
                found=error.strerror or str(error),
                todo="set output.root to a folder that you may write to",
            ) from None
        if foreign or (storage.is_local(root) and not os.access(root, os.W_OK)):
            raise OutputError(
                doing=doing,
                expected=f"a new or empty folder, or one with toiletspark's {MARKER}",
                found=f"a folder that holds {len(foreign)} other things, among them {foreign[0]!r}"
                if foreign
                else "a folder that may not be written",
                todo="set output.root to a folder of its own; nothing was touched",
            )
        return cls(root)

    def newest_id(self) -> str:
        """The greatest id of a run in the tables whose newest run counts; "" if there is none."""
        tables = [table.name for table in RUN_TABLES if table.name not in _UNORDERED]
        with ThreadPoolExecutor(len(tables)) as threads:
            names = threads.map(storage.entries, [f"{self.root}/{table}" for table in tables])
        return max(filter(RUN_ID.fullmatch, itertools.chain(*names)), default="")

    def new_run_id(self) -> str:
        """A unique id that is greater than those of all runs here, also if the clock went back.

        The newest run of a table is the one that counts. Cost: a listing of each table.
        """
        made, newest = new_run_id(), self.newest_id()
        if made > newest:
            return made
        after = run_id_at(moment_of(newest) + timedelta(microseconds=1))
        return after + made[len(after) :]

    def folder(self, table: Table, run_id: str) -> str:
        """The folder of a run, written or not."""
        return f"{self.root}/{table.name}/{run_id}"

    def work_folder(self, run_id: str) -> str:
        """The folder for temporary frames of a run."""
        return f"{self.root}/{WORK}/{run_id}"

    def clear(self, run_id: str) -> None:
        """Removes the temporary frames of a run."""
        storage.remove_folder(self.work_folder(run_id))

    def clear_unfinished(self, older_than_h: float) -> list[str]:
        """Removes temporary frames and incomplete folders of runs that ended early; returns them.

        Runs that began less than `older_than_h` hours ago may still be working, and are kept.
        """
        before = run_id_at(datetime.now(UTC) - timedelta(hours=older_than_h))
        removed = []
        for table in [WORK, *(table.name for table in RUN_TABLES)]:
            for name in storage.entries(f"{self.root}/{table}"):
                folder = f"{self.root}/{table}/{name}"
                old = RUN_ID.fullmatch(name) and name < before
                if old and (table == WORK or not storage.exists(f"{folder}/{MANIFEST}")):
                    storage.remove_folder(folder)
                    removed.append(folder)
        return removed

    def runs(self, table: Table) -> list[Run]:
        """The complete runs of a table, oldest first."""
        folders = [
            self.folder(table, name) for name in storage.entries(f"{self.root}/{table.name}")
        ]
        manifests = storage.read_jsons([f"{folder}/{MANIFEST}" for folder in folders])
        pairs = zip(folders, manifests, strict=True)
        return [_run(folder, manifest) for folder, manifest in pairs if manifest]

    def run(self, table: Table, run_id: str) -> Run | None:
        """One complete run, or None."""
        folder = self.folder(table, run_id)
        manifest = storage.read_json(f"{folder}/{MANIFEST}")
        return _run(folder, manifest) if manifest else None

    def newest(self, table: Table) -> Run | None:
        """The newest complete run of a table, or None; runs made for comparison do not count."""
        for run_id in reversed(storage.entries(f"{self.root}/{table.name}")):
            run = self.run(table, run_id)
            if run and not run.inputs.compared:
                return run
        return None

    def require(self, table: Table, *, doing: str, step: str) -> Run:
        """The newest complete run of a table; OutputError names the `step` that makes one."""
        if run := self.newest(table):
            return run
        raise OutputError(
            doing=doing,
            expected=f"a complete run of {table.name} in {self.root}/{table.name}",
            found="none",
            todo=f"run `toiletspark {step}` with the same configuration first",
        )

    def commit(
        self,
        table: Table,
        run_id: str,
        *,
        config: dict[str, Any],
        inputs: Inputs,
        counts: dict[str, Any] | None = None,
    ) -> Run:
        """Makes a written run visible by writing its manifest, whose `rows` are counted."""
        folder = self.folder(table, run_id)
        files = described_files(folder, whole=table.name in _WHOLE)
        run = Run(
            folder=folder,
            table=table.name,
            schema_version=table.schema_version,
            columns=table.columns,
            key=list(table.key),
            run_id=run_id,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            code_version=__version__,
            rows=sum(file.rows for file in files),
            counts=counts or {},
            inputs=inputs,
            files=files,
            config=config,
        )
        storage.replace_json(f"{folder}/{MANIFEST}", run.as_json())
        return run


def _run(folder: str, manifest: object) -> Run:
    """The run in a folder, which is named by table and run id."""
    table, run_id = folder.split("/")[-2:]
    described = dict(_validated(folder, manifest))
    return Run(**{**described, "folder": folder, "table": table, "run_id": run_id})


def _validated(folder: str, content: object) -> Manifest:
    return storage.validated(Manifest, content, f"{folder}/{MANIFEST}", "a manifest")


def _foreign(root: str) -> list[str]:
    """The entries of a folder without a marker, except leftovers of a killed writer of one."""
    ours = storage.temporary_prefix(MARKER)
    return [name for name in storage.entries(root) if not name.startswith(ours)]


def described_files(folder: str, *, whole: bool = False) -> list[FileEntry]:
    """The Parquet files of a run's folder, by name.

    `whole` adds `sha256` to files of up to 64 MiB. Cost: they are read, once.
    """
    filesystem, path = storage.open_filesystem(folder)
    return [_described(filesystem, path, name, whole) for name in _parquet_names(folder)]


def _parquet_names(folder: str) -> list[str]:
    return [name for name in storage.entries(folder) if name.endswith(".parquet")]


def _other_sizes(run: Run) -> str:
    filesystem, folder = storage.open_filesystem(run.folder)
    sizes = [(file, int(filesystem.size(f"{folder}/{file.name}"))) for file in run.files]
    others = [(file, size) for file, size in sizes if size != file.bytes]
    return shown((f"{file.name}: {size} bytes of {file.bytes}" for file, size in others), 3)


def _described(
    filesystem: fsspec.AbstractFileSystem, folder: str, name: str, whole: bool
) -> FileEntry:
    path = f"{folder}/{name}"
    size = int(filesystem.size(path))
    with filesystem.open(path, "rb") as opened:
        content = opened.read() if whole and size <= _WHOLE_BYTES else None
        file = opened if content is None else io.BytesIO(content)
        rows = pq.ParquetFile(file).metadata.num_rows
        file.seek(max(0, size - _TAIL_BYTES))
        tail = hashlib.sha256(file.read()).hexdigest()
    sha256 = None if content is None else hashlib.sha256(content).hexdigest()
    return FileEntry(name=name, bytes=size, rows=rows, tail_sha256=tail, sha256=sha256)

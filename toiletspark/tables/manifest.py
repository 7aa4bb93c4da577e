"""The manifest of a run: what it holds, what it was made from, and the files that belong to it."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, ConfigDict

from toiletspark.config import Config, Table


class FileEntry(BaseModel):
    """One Parquet file of a run.

    `tail_sha256` covers the last 64 KiB, where a Parquet file keeps its footer: cheap for any size,
    and another file has another one. It does not notice altered bytes before that, which Parquet
    reads without an error. `sha256` covers all bytes; small files of some tables have it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    bytes: int
    rows: int
    tail_sha256: str = ""
    sha256: str | None = None


class TableInput(BaseModel):
    """One of the user's tables as a run has read it; the fields are keys of its section.

    `version` is set for a table that keeps versions; only the fields that are given are written.
    """

    model_config = ConfigDict(frozen=True)

    path: str = ""
    table: str = ""
    query: str = ""
    where: str = ""
    version: str = ""

    @classmethod
    def of(cls, table: Table) -> TableInput | None:
        """The table as the configuration names it; None if it names none."""
        named = {name: getattr(table, name) for name in cls.model_fields if getattr(table, name)}
        return cls(**named) if table.is_set else None


class Inputs(BaseModel):
    """Everything that a run was made from; only the fields that are given are written."""

    model_config = ConfigDict(frozen=True)

    # the user's tables; null: there was none
    images: TableInput | None = None
    listings: TableInput | None = None
    feed: TableInput | None = None
    overrides: TableInput | None = None
    # the source of labels: a path, a table's name or a query; and the table, if it is one
    source: str = ""
    source_table: TableInput | None = None
    # our own runs, by id; null: there was none
    run: str = ""
    before: str | None = None
    catalog: str = ""
    scores: str = ""
    labels: str | None = None
    training_set: str = ""
    second_look_set: str = ""
    finetuned_from: str = ""
    decisions: str = ""
    exclusion_list: str = ""
    last_run: str | None = None
    # numbers of commits and versions
    commit: int = 0
    version: int = 0
    last_version: int | None = None
    # models
    backbone_id: str = ""
    backbone: dict[str, Any] = {}
    head_id: str = ""
    operating_threshold: float = math.nan
    threshold_reason: str = ""
    promoted: bool = True
    champion: dict[str, Any] | None = None
    accepted_worse: str | None = None
    compared: bool = False  # made to be compared with, never to be published
    # others
    kind: str = ""  # of a queue
    bands: list[dict[str, Any]] = []  # of the strata of a sample

    @classmethod
    def of_tables(cls, config: Config) -> Inputs:
        """The user's images and listings."""
        return cls(images=TableInput.of(config.images), listings=TableInput.of(config.listings))

    def as_json(self) -> dict[str, Any]:
        """The fields that were given, as they stand in the manifest."""
        return self.model_dump(exclude_unset=True)

    def updated(self, **fields: Any) -> Inputs:
        """A copy with other values for these fields."""
        return self.model_copy(update=fields)


class Manifest(BaseModel):
    """The file that makes a run visible. `counts` are further numbers; each table has its own."""

    model_config = ConfigDict(frozen=True)

    table: str
    run_id: str
    schema_version: int | None = None
    columns: dict[str, str] = {}
    key: list[str] = []
    made_at: str = ""
    code_version: str = ""
    rows: int = 0
    counts: dict[str, Any] = {}
    inputs: Inputs = Inputs()
    files: list[FileEntry] = []
    config: dict[str, Any] = {}

    def as_json(self) -> dict[str, Any]:
        """The manifest as it is written."""
        files = [file.model_dump(exclude_none=True) for file in self.files]
        others = self.model_dump(exclude={"inputs", "files"})
        return {**others, "inputs": self.inputs.as_json(), "files": files}

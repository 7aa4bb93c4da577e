"""Sections for the user's tables: where they lie, formats and column names."""

from __future__ import annotations

import textwrap
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from toiletspark.config.types import ClassName, Location, Prefix, Section

VERSIONED = ("delta", "iceberg")  # formats that keep versions, which Spark reads by number
_MAX_LABEL_CHARS = 80


class Table(Section):
    """One of the user's tables: files, a table of Spark's catalog, or a query; at most one."""

    path: Location
    table: str
    query: str
    where: str
    version: Annotated[str, Field(pattern=r"^\d*$"), BeforeValidator(str)]  # also as a number
    format: Annotated[str, Field(min_length=1)]
    options: dict[str, str]

    @model_validator(mode="after")
    def _has_one_source(self) -> Table:
        keys = [key for key in ("path", "table", "query") if getattr(self, key)]
        if len(keys) > 1:
            raise ValueError(f"one of path, table and query, not {' and '.join(keys)}")
        if not keys and (self.where or self.version):
            raise ValueError("where and version need one of path, table and query")
        if self.path and self.is_database:
            raise ValueError(f"the format {self.format} needs table or query, not path")
        if self.options and not (self.path or self.is_database or not keys):
            raise ValueError(f"options are for files and databases; a {keys[0]} takes none")
        if self.version and self.query:
            raise ValueError("a query has no version; write VERSION AS OF into it")
        if self.version and not self._may_have_versions:
            raise ValueError(f"the format {self.format} keeps no versions")
        return self

    @property
    def _may_have_versions(self) -> bool:
        return self.format.lower() in VERSIONED if self.path else not self.is_database

    @property
    def is_set(self) -> bool:
        """Returns True if the user has named such a table."""
        return bool(self.path or self.table or self.query)

    @property
    def is_database(self) -> bool:
        """Returns True if `table` and `query` are those of a database behind JDBC."""
        return self.format.lower() == "jdbc"

    @property
    def key(self) -> Literal["path", "table", "query"]:
        """The key that says where the table is; "path" if none is set."""
        if self.table:
            return "table"
        return "query" if self.query else "path"

    @property
    def source(self) -> str:
        """The value of that key: the same text for the same table in every run; "" if not set."""
        return self.path or self.table or self.query

    @property
    def label(self) -> str:
        """The source in one line, for messages: a long query is cut."""
        if self.query:
            return f"({textwrap.shorten(self.query, _MAX_LABEL_CHARS, placeholder=' ...')})"
        return self.source


class ListingColumns(Section):
    listing_id: str
    location: str
    listing_type: str
    active: str


class Listings(Table):
    columns: ListingColumns


class ImageColumns(Section):
    image_id: str
    listing_id: str
    position: str
    image_url: str
    content: str
    image_version: str


class Images(Table):
    url_prefix: Prefix
    columns: ImageColumns

    @model_validator(mode="after")
    def _has_a_source(self) -> Images:
        if not (self.columns.image_url or self.columns.content):
            raise ValueError("one of columns.image_url and columns.content must name a column")
        return self


class LabelColumns(Section):
    image_id: str
    label: str = Field(alias="class")


class LabelTable(Table):
    columns: LabelColumns


class OverrideColumns(Section):
    image_id: str
    content_digest: str
    decision: str = Field(min_length=1)
    label: str = Field(alias="class")
    who: str = Field(min_length=1)
    why: str = Field(min_length=1)
    when: str
    until: str

    @model_validator(mode="after")
    def _names_something(self) -> OverrideColumns:
        if not (self.image_id or self.content_digest):
            raise ValueError(
                "one of columns.image_id and columns.content_digest must name a column"
            )
        return self


class Overrides(Table):
    columns: OverrideColumns


class Feed(Table):
    image_id: str = Field(min_length=1)
    mode: Literal["open", "mixed", "closed"]
    allow_stale: bool
    best_by: Literal["position", "rooms"]
    prefer_classes: list[ClassName]

"""Sections for the user's tables: locations, formats and column names."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from toiletspark.config.types import ClassName, Format, Location, Prefix, Section


class Table(Section):
    path: Location
    format: Format
    options: dict[str, str]


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

"""The configuration as a whole."""

from __future__ import annotations

import re
from typing import Annotated, Any, cast

from pydantic import Field, model_validator

from toiletspark.config import allowed_places as allowed
from toiletspark.config.images import BackboneSettings, Decode, Embed, Fetch
from toiletspark.config.labelling import (
    Labels,
    LabelStudio,
    Lookalikes,
    Sample,
    SecondLook,
    Sheet,
    Suggest,
)
from toiletspark.config.model import Finetune, Score, Train
from toiletspark.config.publishing import Leaks, Publish, Report
from toiletspark.config.types import Location, Section, absolute_prefix
from toiletspark.config.user_tables import Feed, Images, Listings, Overrides

_SECRET = re.compile(r"(?i)secret|password|token|access[.]?key")  # as spark.redaction.regex has it


class Output(Section):
    root: Annotated[Location, Field(min_length=1)]
    unfinished_after_h: float = Field(gt=0)


class Progress(Section):
    line_every_s: float = Field(gt=0)


class Spark(Section):
    app_name: str
    master: str
    settings: dict[str, str]


class Config(Section):
    """The resolved configuration; `conf/base.toml` explains every key."""

    listings: Listings
    images: Images
    output: Output
    sample: Sample
    labels: Labels
    sheet: Sheet
    lookalikes: Lookalikes
    suggest: Suggest
    second_look: SecondLook
    label_studio: LabelStudio
    fetch: Fetch
    decode: Decode
    backbone: BackboneSettings
    embed: Embed
    train: Train
    finetune: Finetune
    score: Score
    publish: Publish
    overrides: Overrides
    leaks: Leaks
    feed: Feed
    report: Report
    progress: Progress
    spark: Spark

    @model_validator(mode="before")
    @classmethod
    def _what_the_prefix_names_is_allowed(cls, values: Any) -> Any:
        """Adds the folder of images.url_prefix to fetch.allow: the conf names it, and nobody should have to twice."""
        try:
            fetch, prefix = values["fetch"], values["images"]["url_prefix"]
            folder = allowed.folder_of(absolute_prefix(prefix))
            if not folder or folder in fetch["allow"]:
                return values
            return {**values, "fetch": {**fetch, "allow": [*fetch["allow"], folder]}}
        except (KeyError, TypeError, AttributeError):
            return values  # the fields themselves say what is wrong

    @property
    def labels_folder(self) -> str:
        """Where people drag files: labels.folder, or its place below output.root."""
        return self.labels.folder or f"{self.output.root}/labelling"

    def resolved(self) -> dict[str, Any]:
        """All keys and values as plain JSON; `load` reads it back."""
        return self.model_dump(by_alias=True)

    def recorded(self) -> dict[str, Any]:
        """`resolved` as manifests hold it: what Spark and its readers are told in confidence is left out."""
        return cast(dict[str, Any], _without_secrets(self.resolved()))


def _without_secrets(value: Any, told_in_confidence: bool = False) -> Any:
    """`value` with "(redacted)" for secrets by their key, and for whatever stores are told."""
    if isinstance(value, dict):
        secret = {key: told_in_confidence or bool(_SECRET.search(key)) for key in value}
        return {
            key: _without_secrets(item, secret[key] or key == "storage_options")
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(item, told_in_confidence) for item in value]
    return "(redacted)" if told_in_confidence else value

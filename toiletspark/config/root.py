"""All sections of the configuration, and the part of it that manifests record."""

import re
from typing import Annotated, Any, cast

from pydantic import Field, model_validator

from toiletspark.config.allowed_places import folder_of
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
from toiletspark.config.user_tables import Feed, Images, Listings, Overrides, Table

# like spark.redaction.regex; the URL of a database may hold a password
_SECRET = re.compile(r"(?i)secret|password|token|access[.]?key|^url$")


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
    def _allow_url_prefix(cls, values: Any) -> Any:
        """Adds the folder of images.url_prefix to fetch.allow; nobody has to name it twice."""
        try:
            fetch, prefix = values["fetch"], values["images"]["url_prefix"]
            folder = folder_of(absolute_prefix(prefix))
            if not folder or folder in fetch["allow"]:
                return values
            return {**values, "fetch": {**fetch, "allow": [*fetch["allow"], folder]}}
        except (KeyError, TypeError, AttributeError):
            return values  # the fields report the mistake themselves

    @property
    def feed_table(self) -> Table:
        """The table that the feed cleans: the feed's own, or else the images table."""
        return self.feed if self.feed.is_set else self.images

    @property
    def labels_folder(self) -> str:
        """The folder in which people label: labels.folder, or a folder below output.root."""
        return self.labels.folder or f"{self.output.root}/labelling"

    def resolved(self) -> dict[str, Any]:
        """All keys and values as plain JSON; `load` reads it back."""
        return self.model_dump(by_alias=True)

    def recorded(self) -> dict[str, Any]:
        """All keys and values without secrets, as manifests record them."""
        return cast(dict[str, Any], _without_secrets(self.resolved()))


def _without_secrets(value: Any, is_secret: bool = False) -> Any:
    """Replaces secrets, known by their keys, and storage options by "(redacted)"."""
    if isinstance(value, dict):
        redacted = {}
        for key, item in value.items():
            hidden = is_secret or key == "storage_options" or bool(_SECRET.search(key))
            redacted[key] = _without_secrets(item, hidden)
        return redacted
    if isinstance(value, list):
        return [_without_secrets(item, is_secret) for item in value]
    return "(redacted)" if is_secret else value

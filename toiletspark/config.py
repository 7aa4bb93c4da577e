"""The configuration: `conf/base.toml` with every key, the user's files over it, and `--set key=value` last.

The models below say what is allowed; the values, all of them, stand in base.toml. A run prints and stores the
resolved configuration.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tomllib
import types
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from toiletspark.errors import ConfigError, nearest

_SECRET = re.compile(r"(?i)secret|password|token|access[.]?key")  # as spark.redaction.regex has it
_ENVIRONMENT = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def _absolute(location: str) -> str:
    """A local path made absolute, because executors run in other folders; URLs and "" stay as they are."""
    if not location or "://" in location:
        return location.removeprefix("file://") if location.startswith("file:///") else location
    return os.path.abspath(os.path.expanduser(location))


def _absolute_prefix(prefix: str) -> str:
    """As `_absolute`, but a closing slash stays: what follows may be the rest of a file's name."""
    return _absolute(prefix) + "/" * (prefix.endswith("/") and "://" not in prefix and prefix.strip("/") != "")


Location = Annotated[str, AfterValidator(_absolute)]
Prefix = Annotated[str, AfterValidator(_absolute_prefix)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Format = Literal["parquet", "csv", "json"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ListingColumns(Section):
    listing_id: str
    location: str
    listing_type: str
    active: str


class ImageColumns(Section):
    image_id: str
    listing_id: str
    position: str
    image_url: str
    content: str
    image_version: str


class LabelColumns(Section):
    image_id: str
    label: str = Field(alias="class")


class Table(Section):
    path: Location
    format: Format
    options: dict[str, str]


class Listings(Table):
    columns: ListingColumns


class Images(Table):
    url_prefix: Prefix
    columns: ImageColumns

    @model_validator(mode="after")
    def _has_a_source(self) -> Images:
        if not (self.columns.image_url or self.columns.content):
            raise ValueError("one of columns.image_url and columns.content must name a column")
        return self


class LabelTable(Table):
    columns: LabelColumns


class Output(Section):
    root: Annotated[Location, Field(min_length=1)]


class Sample(Section):
    size: int = Field(ge=1)
    method: Literal["sampleby", "exact"]
    min_per_stratum: int = Field(ge=1)
    seed: int


class Labels(Section):
    classes: list[ClassName] = Field(min_length=2)
    exclude_classes: list[ClassName] = Field(min_length=1)
    folder: Location
    max_side_px: int = Field(ge=64)
    labeller: str
    table: LabelTable

    @model_validator(mode="after")
    def _classes_fit(self) -> Labels:
        if len({name.casefold() for name in self.classes}) != len(self.classes):
            raise ValueError("classes must differ, also on file systems that ignore case")
        if "unlabelled" in {name.casefold() for name in self.classes}:
            raise ValueError("'unlabelled' is the folder of what nobody has labelled, not a class")
        unknown = [name for name in self.exclude_classes if name not in self.classes]
        if unknown:
            raise ValueError(f"exclude_classes {unknown} are not among classes {self.classes}")
        if set(self.exclude_classes) == set(self.classes):
            raise ValueError("exclude_classes must leave at least one class to show")
        return self


class Fetch(Section):
    timeout_s: float = Field(gt=0)
    max_image_bytes: int = Field(ge=1)
    threads_per_task: int = Field(ge=1, le=256)


class Decode(Section):
    formats: list[str] = Field(min_length=1)
    max_pixels: int = Field(ge=1)
    min_side_px: int = Field(ge=1)


def _absolute_weights(weights: str) -> str:
    return weights if weights in ("imagenet", "random") else _absolute(weights)


class Backbone(Section):
    architecture: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    weights: Annotated[str, Field(min_length=1), AfterValidator(_absolute_weights)]
    resize_px: int = Field(ge=32, le=2048)
    crop_px: int = Field(ge=32, le=2048)

    @model_validator(mode="after")
    def _crop_fits(self) -> Backbone:
        if self.crop_px > self.resize_px:
            raise ValueError(f"crop_px ({self.crop_px}) must not exceed resize_px ({self.resize_px})")
        return self


class Embed(Section):
    images_per_batch: int = Field(ge=1, le=1024)
    images_per_task: int = Field(ge=1)
    retry: Literal["none", "transient", "failed"]


class Train(Section):
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    l2: float = Field(ge=0)
    validation_share: float = Field(gt=0, lt=1)
    seed: int


class Score(Section):
    head: Location
    rows_per_batch: int = Field(ge=1)


class Publish(Section):
    operating_threshold: Share


class Feed(Table):
    image_id: str = Field(min_length=1)


class Report(Section):
    max_excluded: int = Field(ge=0)
    max_borderline: int = Field(ge=0)


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
    fetch: Fetch
    decode: Decode
    backbone: Backbone
    embed: Embed
    train: Train
    score: Score
    publish: Publish
    feed: Feed
    report: Report
    progress: Progress
    spark: Spark

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


def load(files: Iterable[str | Path] = (), sets: Iterable[str] = ()) -> Config:
    """Reads the configuration.

    Args:
        files: TOML files, later ones win; each holds only what differs from conf/base.toml.
        sets: "section.key=value" texts, which win over the files. The value is TOML, or else a plain string.

    Raises:
        ConfigError: a file cannot be read, a key is unknown (with the nearest known one), a value does not fit.
    """
    values = tomllib.loads(base_text())
    names = []
    for file in files:
        names.append(str(file))
        _merge(values, _read(Path(file)))
    for text in sets:
        names.append(f"--set {text}")
        _merge(values, _parse_set(text))
    try:
        return Config.model_validate(_with_environment(values))
    except ValidationError as error:
        raise _explained(error, names) from None


def base_text() -> str:
    """The text of conf/base.toml."""
    return (conf_folder() / "base.toml").read_text(encoding="utf-8")


def conf_folder() -> Traversable:
    """The folder conf/: inside the wheel it lies in the package, in a checkout beside it."""
    inside = resources.files("toiletspark") / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def known_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every dotted key that a configuration may hold, sections included."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key
        kind = field.annotation
        if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and issubclass(kind, BaseModel):
            yield from known_keys(kind, f"{key}.")


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "(redacted)" if _SECRET.search(key) else _without_secrets(item) for key, item in value.items()}
    return [_without_secrets(item) for item in value] if isinstance(value, list) else value


def _read(file: Path) -> dict[str, Any]:
    doing = f"reading the configuration {file}"
    try:
        if file.suffix == ".json":  # a resolved configuration, as manifests hold it
            resolved = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(resolved, dict):
                raise json.JSONDecodeError("not an object", str(file), 0)
            return resolved
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            doing=doing,
            expected="a file that can be read",
            found=error.strerror or str(error),
            todo="check the path; conf/mytables.example.toml is a start",
        ) from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            doing=doing, expected="TOML (https://toml.io)", found=str(error), todo="mend that line"
        ) from None


def _parse_set(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            doing=f"reading --set {text}",
            expected="section.key=value, as in --set sample.size=20000",
            found="no '='" if not equals else "no key before the '='",
            todo="write the key, an equals sign and the value",
        )
    for written in (value, json.dumps(value, ensure_ascii=False)):  # as TOML, else as the plain string that it is
        with contextlib.suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(f"{key} = {written}")
    raise ConfigError(
        doing=f"reading --set {text}",
        expected='a key of TOML, as in sample.size or spark.settings."spark.executor.memory"',
        found=f"the key {key!r}",
        todo="put quotes round a part that holds dots or blanks",
    )


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    """Lays `over` on `values` in place, table by table; lists and plain values are replaced."""
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _with_environment(value: Any) -> Any:
    """`value` with ${NAME} and ${NAME:-default} replaced in every string."""
    if isinstance(value, dict):
        return {key: _with_environment(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_environment(item) for item in value]
    return _ENVIRONMENT.sub(_from_environment, value) if isinstance(value, str) else value


def _from_environment(match: re.Match[str]) -> str:
    name, default = match.group(1), match.group(2)
    found = os.environ.get(name) or default
    if found is None:
        raise ConfigError(
            doing="reading the configuration",
            expected=f"the environment variable {name}, which a value names",
            found="it is not set",
            todo=f"export {name}=..., or write ${{{name}:-default}}",
        )
    return found


def _explained(error: ValidationError, names: list[str]) -> ConfigError:
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(f"unknown key '{key}'{nearest(key, known_keys())}")
        else:
            problems.append(f"{key} = {problem['input']!r}: {problem['msg']}")
    return ConfigError(
        doing=f"reading the configuration ({', '.join(names) or 'conf/base.toml'})",
        expected="the keys and values that conf/base.toml explains",
        found="; ".join(problems),
        todo="mend the keys named above",
    )

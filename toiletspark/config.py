"""The configuration: what each key may hold. `conf/base.toml` gives every key its value, unit and reason;
`conf_files` reads it. A run stores the resolved configuration in its manifests.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr, model_validator

from toiletspark import allowed

_SECRET = re.compile(r"(?i)secret|password|token|access[.]?key")  # as spark.redaction.regex has it


def _absolute(location: str) -> str:
    """A local path made absolute, because executors run in other folders; URLs and "" stay as they are."""
    if not location or "://" in location:
        return location.removeprefix("file://") if location.startswith("file:///") else location
    return os.path.abspath(os.path.expanduser(location))


def _absolute_prefix(prefix: str) -> str:
    """As `_absolute`, but a closing slash stays: what follows may be the rest of a file's name."""
    return _absolute(prefix) + "/" * (prefix.endswith("/") and "://" not in prefix and prefix.strip("/") != "")


def _readable_place(line: str) -> str:
    place = _absolute_prefix(line) if not re.match(r"\w+:(?!//)", line) else line
    allowed.parse(place)
    return place


def _network(network: str) -> str:
    return str(ipaddress.ip_network(network))


Location = Annotated[str, AfterValidator(_absolute)]
Prefix = Annotated[str, AfterValidator(_absolute_prefix)]
Place = Annotated[str, Field(min_length=1), AfterValidator(_readable_place)]
Network = Annotated[str, AfterValidator(_network)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Format = Literal["parquet", "csv", "json"]
Runtime = Literal["auto", "torch", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
JpegDecoder = Literal["pillow", "nvjpeg"]
PolicyName = Literal["fixed", "max_share_of_good_images_lost", "min_recall", "min_precision", "cost_ratio"]
View = Literal["flip", "crops"]


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
    unfinished_after_h: float = Field(gt=0)


class Stratifier(Section):
    column: str = Field(min_length=1)
    bands: int | None = Field(default=None, ge=2)  # of the elements of a list, which cannot stand in base.toml
    cuts: list[float] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Stratifier:
        if self.bands is not None and self.cuts is not None:
            raise ValueError("one of bands and cuts, not both")
        if self.cuts is not None and (
            self.cuts != sorted(set(self.cuts)) or not all(math.isfinite(cut) for cut in self.cuts)
        ):
            raise ValueError("cuts must be numbers that rise")
        return self


def _number_or_share(value: int | float | str, name: str) -> str:
    """What is wrong with a value of sample.strata; "" if nothing is."""
    if isinstance(value, str):
        return "" if value == "allocate" and name == "other" else f'{name!r}: only other may be a word, "allocate"'
    if not value >= 0:
        return f"{name!r}: {value} is below 0, or no number"
    return (
        f"{name!r}: a share must not exceed 1.0; a number has no point"
        if isinstance(value, float) and value > 1
        else ""
    )


class Sample(Section):
    size: int = Field(ge=1)
    unit: Literal["image", "listing"]
    images_per_listing: int = Field(ge=0)
    allocation: Literal["proportional", "sqrt", "neyman", "equal"]
    weigh_by: str
    min_per_stratum: int = Field(ge=0)
    max_per_stratum: int = Field(ge=0)
    strata: dict[str, StrictInt | StrictFloat | StrictStr]
    stratify_by: list[Stratifier]
    max_strata: int = Field(ge=1)
    method: Literal["sampleby", "exact"]
    seed: int = Field(ge=-(2**63), lt=2**63)
    max_half_width: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _bounds_fit(self) -> Sample:
        if 0 < self.max_per_stratum < self.min_per_stratum:
            raise ValueError(f"max_per_stratum ({self.max_per_stratum}) must not be below min_per_stratum")
        return self

    @model_validator(mode="after")
    def _strata_fit(self) -> Sample:
        wrong = [text for name, value in self.strata.items() if (text := _number_or_share(value, name))]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self


class Labels(Section):
    classes: list[ClassName] = Field(min_length=2)
    exclude_classes: list[ClassName] = Field(min_length=1)
    folder: Location
    max_side_px: int = Field(ge=64)
    labeller: str
    of: Literal["sample", "suggest", "second_look", "leaks"]
    presort: bool
    reviewed: list[ClassName]
    file: Location
    conflicts: Literal["leave_out", "newest", "fail"]
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
        strange = [name for name in self.reviewed if name not in self.classes]
        if strange:
            raise ValueError(f"reviewed {strange} are not among classes {self.classes}")
        if set(self.exclude_classes) == set(self.classes):
            raise ValueError("exclude_classes must leave at least one class to show")
        return self


class Sheet(Section):
    max_images: int = Field(ge=1)
    max_side_px: int = Field(ge=32, le=640)
    jpeg_quality: int = Field(ge=1, le=95)


class Suggest(Section):
    size: int = Field(ge=1)
    random_share: float = Field(gt=0, le=1)
    sharpness: float = Field(gt=0)
    seed: int


class SecondLook(Section):
    folds: int = Field(ge=2)
    l2: float = Field(gt=0)
    seed: int


class Lookalikes(Section):
    min_cosine: float = Field(gt=0, le=1)


class LabelStudio(Section):
    document_root: Location


class ShardColumns(Section):
    key: str = Field(min_length=1)
    content: str = Field(min_length=1)


_OPEN_HEADERS = {"accept", "accept-language", "referer", "user-agent"}  # which tell strangers nothing


class Fetch(Section):
    allow: list[Place] = Field(min_length=1)
    allow_private: list[Network]
    max_redirects: int = Field(ge=0, le=10)
    timeout_s: float = Field(gt=0)
    silence_timeout_s: float = Field(gt=0)
    retries: int = Field(ge=0, le=20)
    first_wait_s: float = Field(ge=0)
    max_wait_s: float = Field(ge=0)
    max_image_bytes: int = Field(ge=1)
    threads_per_task: int = Field(ge=1, le=256)
    max_per_host: int = Field(ge=1)
    open_shards: int = Field(ge=1)
    open_row_groups: int = Field(ge=1)
    max_row_group_bytes: int = Field(ge=1)
    shard_timeout_s: float = Field(gt=0)
    shard_columns: ShardColumns
    storage_options: dict[str, dict[str, Any]]

    @model_validator(mode="after")
    def _strangers_are_told_nothing(self) -> Fetch:
        told = {**self.storage_options.get("http", {}), **self.storage_options.get("https", {})}
        client = told.get("client_kwargs", {})
        tables = [client, told.get("headers", {}), client.get("headers", {}) if isinstance(client, dict) else {}]
        if not all(isinstance(one, dict) for one in tables):
            raise ValueError("storage_options.http: headers and client_kwargs are tables")
        names = {name.lower() for headers in (told, client) for name in headers.get("headers", {})}
        secret = names - _OPEN_HEADERS or {"auth", "cookies"} & {*told, *client}
        anybody = [line for line in map(allowed.parse, self.allow) if line.scheme in allowed.WEB and line.host == "*"]
        if secret and anybody:
            raise ValueError(
                "storage_options.http holds what is meant for certain hosts, and would go to every host that a URL "
                f"names: name the hosts in allow in place of {anybody[0].scheme}://*"
            )
        return self


class Decode(Section):
    formats: list[str] = Field(min_length=1)
    max_pixels: int = Field(ge=1)
    min_side_px: int = Field(ge=1)
    isolated: bool
    timeout_s: float = Field(gt=0)
    max_memory_bytes: int = Field(ge=2**28)
    images_per_child: int = Field(ge=1)


def _absolute_weights(weights: str) -> str:
    return weights if weights in ("imagenet", "random") else _absolute(weights)


class Int8(Section):
    calibration_images: int = Field(ge=2)
    held_out_share: float = Field(gt=0, lt=1)
    min_mean_cosine: Share
    min_cosine: Share
    max_decisions_changed: Share
    seed: int


class Backbone(Section):
    architecture: str = Field(min_length=1)  # its name is checked where torch is, see `weights.load_spec`
    weights: Annotated[str, Field(min_length=1), AfterValidator(_absolute_weights)]
    resize_px: int = Field(ge=32, le=2048)
    crop_px: int = Field(ge=32, le=2048)
    jpeg_scaling: bool
    jpeg_decoder: JpegDecoder
    runtime: Runtime
    precision: Precision
    int8: Int8

    @model_validator(mode="after")
    def _precision_fits(self) -> Backbone:
        if self.runtime == "torch" and self.precision == "int8":
            raise ValueError("precision int8 runs on OpenVINO: set runtime to auto or openvino")
        return self

    @model_validator(mode="after")
    def _decoder_fits(self) -> Backbone:
        if self.jpeg_decoder == "nvjpeg" and self.runtime != "torch":
            raise ValueError("jpeg_decoder nvjpeg goes with torch: set runtime to torch, or jpeg_decoder to pillow")
        return self

    @model_validator(mode="after")
    def _crop_fits(self) -> Backbone:
        if self.crop_px > self.resize_px:
            raise ValueError(f"crop_px ({self.crop_px}) must not exceed resize_px ({self.resize_px})")
        return self


class Embed(Section):
    images_per_batch: int = Field(ge=1, le=1024)
    bytes_per_batch: int = Field(ge=1)
    images_per_task: int = Field(ge=1)
    images_per_commit: int = Field(ge=1)
    retry: Literal["none", "transient", "failed"]
    only_retry: Literal["", "transient", "failed"]
    refetch_after_days: float = Field(ge=0)


class Train(Section):
    optimizer: Literal["lbfgs", "adam"]
    max_iterations: int = Field(ge=1)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    patience: int = Field(ge=1)
    l2: Literal["auto"] | Annotated[float, Field(gt=0)]
    l2_candidates: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    inner_folds: int = Field(ge=2)
    class_weight: Literal["none", "balanced"]
    calibrate: bool
    validation_share: float = Field(gt=0, lt=1)
    seed: int
    views: list[View]
    finetune: Literal["none", "last_block", "all"]
    tensorboard: Location
    learning_curve: list[Annotated[float, Field(gt=0, le=1)]]
    accept_worse: str
    golden_images: int = Field(ge=0, le=100)
    python: Location

    @model_validator(mode="after")
    def _shares_rise(self) -> Train:
        if self.learning_curve != sorted(set(self.learning_curve)):
            raise ValueError("learning_curve must be shares that rise")
        return self

    @model_validator(mode="after")
    def _reason_says_something(self) -> Train:
        if self.accept_worse and not self.accept_worse.strip():
            raise ValueError("accept_worse must be a reason in words")
        return self

    @property
    def l2_path(self) -> list[float]:
        """The L2 that are tried, the strongest first."""
        return sorted(self.l2_candidates, reverse=True) if self.l2 == "auto" else [self.l2]

    @property
    def looks_inside(self) -> bool:
        """Whether inner folds have something to decide."""
        return self.calibrate or self.l2 == "auto"


class Finetune(Section):
    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    images_per_batch: int = Field(ge=1, le=1024)
    inner_share: float = Field(gt=0, lt=1)
    flips: bool


class Score(Section):
    head: Location
    more_heads: list[Location]
    rows_per_batch: int = Field(ge=1)


class Policy(Section):
    name: PolicyName
    value: float = Field(ge=0, allow_inf_nan=False)
    safe: bool

    @model_validator(mode="after")
    def _value_fits(self) -> Policy:
        if self.name != "fixed" and not self.value > 0:
            raise ValueError(f"{self.name} needs a value above 0")
        if self.name not in ("fixed", "cost_ratio") and self.value > 1:
            raise ValueError(f"the value of {self.name} is a share, at most 1")
        return self


class Failures(Section):
    content: Literal["exclude", "unscored"]
    transient: Literal["exclude", "unscored"]
    gone: Literal["exclude", "unscored"]
    policy: Literal["exclude", "unscored"]


class Audits(Section):
    min_images: int = Field(ge=1)
    history: int = Field(ge=1)
    min_share_of_last: Share
    max_share_excluded: Share
    max_change_excluded: float = Field(ge=1)
    max_share_unscored: Share
    max_rise_unscored: Share
    max_share_policy: Share
    max_share_listings_emptied: Share
    max_catalog_age_h: float = Field(ge=0)
    max_psi: float = Field(ge=0)


class Publish(Section):
    operating_threshold: Share
    policy: Policy
    hysteresis: Annotated[float, Field(ge=0, lt=0.5)]
    failures: Failures
    keep_score_days: float = Field(ge=0)
    valid_for_h: float = Field(ge=0)
    keep_days: float = Field(ge=0)
    keep_unpublished_days: float = Field(ge=0)
    require_approval: bool
    plan: bool
    approve: str
    accept: list[str]
    because: str
    catalog_table: str
    audits: Audits

    @model_validator(mode="after")
    def _accepted_for_a_reason(self) -> Publish:
        if self.accept and not self.because.strip():
            raise ValueError("accept needs because: the reason in words; it is kept with the version")
        return self

    @model_validator(mode="after")
    def _one_thing(self) -> Publish:
        if self.plan and self.approve:
            raise ValueError("one of plan and approve, not both")
        return self


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
            raise ValueError("one of columns.image_id and columns.content_digest must name a column")
        return self


class Overrides(Table):
    columns: OverrideColumns


class Leaks(Section):
    size: int = Field(ge=1)
    even_share: float = Field(gt=0, le=1)
    seed: int
    each_run: bool


class Feed(Table):
    image_id: str = Field(min_length=1)
    mode: Literal["open", "mixed", "closed"]
    allow_stale: bool
    best_by: Literal["position", "rooms"]
    prefer_classes: list[ClassName]


class Report(Section):
    max_excluded: int = Field(ge=0)
    max_borderline: int = Field(ge=0)
    max_mistakes: int = Field(ge=0)


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
    backbone: Backbone
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
            folder = allowed.folder_of(_absolute_prefix(prefix))
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
        return {key: _without_secrets(item, secret[key] or key == "storage_options") for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item, told_in_confidence) for item in value]
    return "(redacted)" if told_in_confidence else value

"""Sections for images: [fetch] [decode] [backbone] [embed]."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from toiletspark.config.allowed_places import WEB, parse
from toiletspark.config.types import AllowLine, Network, Section, Share, absolute
from toiletspark.errors import nearest

Runtime = Literal["auto", "torch", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
JpegDecoder = Literal["pillow", "nvjpeg"]
_CODECS = {"AVIF": "avif", "JPEG": "jpg", "JPEG2000": "jpg_2000", "PNG": "zlib", "WEBP": "webp"}
_OPEN_HEADERS = {"accept", "accept-language", "referer", "user-agent"}  # hold no secrets


class ShardColumns(Section):
    key: str = Field(min_length=1)
    content: str = Field(min_length=1)


class Fetch(Section):
    allow: list[AllowLine] = Field(min_length=1)
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
    def _no_secret_for_any_host(self) -> Fetch:
        options = {**self.storage_options.get("http", {}), **self.storage_options.get("https", {})}
        client = options.get("client_kwargs", {})
        client_headers = client.get("headers", {}) if isinstance(client, dict) else {}
        for table in (client, options.get("headers", {}), client_headers):
            if not isinstance(table, dict):
                raise ValueError("storage_options.http: headers and client_kwargs are tables")
        headers = {name.lower() for name in {**options.get("headers", {}), **client_headers}}
        secret = headers - _OPEN_HEADERS or {"auth", "cookies"} & {*options, *client}
        lines = [parse(line) for line in self.allow]
        any_host = [line for line in lines if line.scheme in WEB and line.host == "*"]
        if secret and any_host:
            raise ValueError(
                "storage_options.http holds secrets for certain hosts, and would be sent to every "
                "host that a URL names: name the hosts in allow in place of "
                f"{any_host[0].scheme}://*"
            )
        return self


def _pillow_format(name: str) -> str:
    """Returns the name of a format as Pillow writes it; ValueError if this Pillow cannot read it.

    An unknown name would fail at each image, and look like a fault of the image.
    """
    from PIL import Image, features  # here, because --help needs no Pillow

    Image.init()
    name = name.upper()
    if name not in Image.OPEN:
        hint = nearest(name, Image.OPEN)
        raise ValueError(f"Pillow reads no {name}{hint}, but {', '.join(sorted(Image.OPEN))}")
    if name in _CODECS and not features.check(_CODECS[name]):
        raise ValueError(f"this machine's Pillow was built without {name}")
    return name


class Decode(Section):
    formats: list[Annotated[str, AfterValidator(_pillow_format)]] = Field(min_length=1)
    max_pixels: int = Field(ge=1)
    min_side_px: int = Field(ge=1)
    isolated: bool
    timeout_s: float = Field(gt=0)
    max_memory_bytes: int = Field(ge=2**28)
    images_per_child: int = Field(ge=1)


def _absolute_weights(weights: str) -> str:
    return weights if weights in ("imagenet", "random") else absolute(weights)


class Int8(Section):
    calibration_images: int = Field(ge=2)
    held_out_share: float = Field(gt=0, lt=1)
    min_mean_cosine: Share
    min_cosine: Share
    max_decisions_changed: Share
    seed: int


class BackboneSettings(Section):
    architecture: str = Field(min_length=1)  # checked where torch is, see `weights.load_spec`
    weights: Annotated[str, Field(min_length=1), AfterValidator(_absolute_weights)]
    resize_px: int = Field(ge=32, le=2048)
    crop_px: int = Field(ge=32, le=2048)
    jpeg_scaling: bool
    jpeg_decoder: JpegDecoder
    runtime: Runtime
    precision: Precision
    int8: Int8

    @model_validator(mode="after")
    def _values_fit(self) -> BackboneSettings:
        if self.runtime == "torch" and self.precision == "int8":
            raise ValueError("precision int8 runs on OpenVINO: set runtime to auto or openvino")
        if self.jpeg_decoder == "nvjpeg" and self.runtime != "torch":
            raise ValueError(
                "jpeg_decoder nvjpeg goes with torch: set runtime to torch, or jpeg_decoder to "
                "pillow"
            )
        if self.jpeg_decoder == "nvjpeg" and self.jpeg_scaling:  # Pillow decodes what it refuses
            raise ValueError(
                "jpeg_decoder nvjpeg decodes whole pictures: set jpeg_scaling to false"
            )
        if self.crop_px > self.resize_px:
            raise ValueError(
                f"crop_px ({self.crop_px}) must not exceed resize_px ({self.resize_px})"
            )
        return self


class Embed(Section):
    images_per_batch: int = Field(ge=1, le=1024)
    bytes_per_batch: int = Field(ge=1)
    images_per_task: int = Field(ge=1)
    images_per_commit: int = Field(ge=1)
    retry: Literal["none", "transient", "failed"]
    only_retry: Literal["", "transient", "failed"]
    refetch_after_days: float = Field(ge=0)

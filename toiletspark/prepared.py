"""Backbones ready for OpenVINO, kept in the store: a driver loads torch (seconds, 0.9 GB) once, and not at every run.

    <root>/backbones/prepared/<digest of its content>.bin    the constants, and the program; of int8, whose program is
                                                             the catalog's own (`calibration`), torch's weights
    <root>/backbones/prepared/<key>.json                     written last: which files these are, and of what weights

The key is a digest of all that decides the outcome: [backbone], the weights' own content, and the packages. What is
damaged or lost is made anew.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Any
from urllib.parse import urlsplit

from toiletspark import __version__, storage
from toiletspark.backbone import BackboneSpec, preprocessing
from toiletspark.config import Backbone as BackboneSection
from toiletspark.digests import content_digest, settings_digest
from toiletspark.errors import OutputError
from toiletspark.runtimes import choose, convert

_PACKAGES = ("openvino", "torch", "torchvision")
_NAMED = ("imagenet", "random")


@functools.lru_cache(maxsize=1)
def backbone(root: str, section: BackboneSection) -> BackboneSpec:
    """The backbone of a configuration, as its runtime needs it; in int8 still without its program.

    Args:
        root: of the store.
        section: see `weights.load_spec`.

    Raises:
        BackboneError: see `weights.load_spec`.

    Cost: where it is kept, to read 45 MB and their digest; else torch, and for torch always torch.
    """
    if choose.chosen(section.runtime, section.precision) == "torch":
        return _made(section)
    key = _key(section)
    spec = _kept(root, key, section) if key else None
    if spec is None:
        spec = _made(section)
        if key:
            _keep(root, key, spec)
    return spec


def _made(section: BackboneSection) -> BackboneSpec:
    from toiletspark import weights  # loads torch

    spec = weights.load_spec(section)
    return spec if spec.precision == "int8" else convert.prepared(spec)


def _key(section: BackboneSection) -> str | None:
    """None where the weights cannot be read, which `weights.load_spec` knows how to tell."""
    told: dict[str, Any] = {"toiletspark": __version__, **section.model_dump(exclude={"int8"})}
    if section.weights not in _NAMED and urlsplit(section.weights).scheme not in ("http", "https"):
        try:
            (content,) = storage.read_files([section.weights])
        except Exception:  # noqa: BLE001 - stores have errors of their own
            return None
        told["weights"] = content_digest(content)
    return settings_digest({**told, **{name: importlib.metadata.version(name) for name in _PACKAGES}})


def _kept(root: str, key: str, section: BackboneSection) -> BackboneSpec | None:
    try:
        described = storage.read_json(_place(root, f"{key}.json")) or {}
        weights_digest, *digests = (described[name] for name in ("weights_digest", "weights", "program"))
        files = storage.read_files([_place(root, f"{digest}.bin") for digest in digests])
    except (OSError, KeyError, OutputError):
        return None
    if [content_digest(content) for content in files] != digests:
        return None
    constants, program = files
    done = preprocessing(section)
    return BackboneSpec(section.architecture, done, constants, weights_digest, "openvino", section.precision, program)


def _keep(root: str, key: str, spec: BackboneSpec) -> None:
    digests = {"weights": content_digest(spec.weights), "program": content_digest(spec.program)}
    for name, content in (("weights", spec.weights), ("program", spec.program)):
        storage.replace_bytes(_place(root, f"{digests[name]}.bin"), content)
    storage.replace_json(_place(root, f"{key}.json"), {**digests, "weights_digest": spec.weights_digest})


def _place(root: str, name: str) -> str:
    return f"{root}/backbones/prepared/{name}"

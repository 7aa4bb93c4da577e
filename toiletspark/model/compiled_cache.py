"""Keeps compiled backbones in the store: later drivers need no torch (seconds, 0.9 GB).

    <root>/backbones/compiled/<digest of its content>.bin    the constants, and the program
    <root>/backbones/compiled/<key>.json                     written last: names these files

The key is a digest of all that decides the result: [backbone], the content of the weights' file
(for a download its name, which holds its hash), the packages, and our own code. For int8, whose
program the catalog decides, torch's weights are kept. Damaged or lost files are made again; if they
cannot be written, that is logged and the backbone is used.
"""

import functools
import importlib.metadata
import logging
import pkgutil
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from toiletspark.config import BackboneSettings
from toiletspark.errors import BackboneError
from toiletspark.hashing import content_digest, settings_digest
from toiletspark.model.runtimes import choice, conversion
from toiletspark.model.spec import BackboneSpec, preprocessing
from toiletspark.tables import storage

_LOG = logging.getLogger("toiletspark")
_PACKAGES = ("openvino", "torch", "torchvision")
_CODE = ("model/weights.py", "model/runtimes/conversion.py", "model/runtimes/torch_runtime.py")
_NAMED = ("imagenet", "random")

_lock = threading.Lock()  # torch cannot trace two networks at once
_loading: dict[tuple[str, BackboneSettings], Future[BackboneSpec]] = {}


def start_loading(root: str, section: BackboneSettings) -> None:
    """Starts loading in a background thread; `backbone()` waits for it and re-raises its error."""
    thread = ThreadPoolExecutor(1, "backbone")
    _loading[root, section] = thread.submit(load_or_compile, root, section)
    thread.shutdown(wait=False)


def backbone(root: str, section: BackboneSettings) -> BackboneSpec:
    """The compiled backbone of a store's configuration; for int8 still without its program.

    Raises:
        BackboneError: see `weights.load_spec`; or it must be compiled, and there is no torch.

    Cost: with a kept one, reading 45 MB and their digest; else torch, which the torch runtime
    always needs. Once a process.
    """
    loading = _loading.pop((root, section), None)
    return loading.result() if loading else load_or_compile(root, section)


@functools.lru_cache(maxsize=1)
def load_or_compile(root: str, section: BackboneSettings) -> BackboneSpec:
    """Does the work of `backbone`, in this thread."""
    if choice.choose_runtime(section.runtime, section.precision) == "torch":
        return _compile(section)
    key = _key(section)
    spec = _read(root, key, section) if key else None
    if spec is None:
        spec = _compile(section)
        if key and key == _key(section):  # else the weights' file was replaced meanwhile
            _write(root, key, spec)
    return spec


def _compile(section: BackboneSettings) -> BackboneSpec:
    try:
        from toiletspark.model import weights  # loads torch
    except ModuleNotFoundError as error:
        raise BackboneError(
            doing=f"making the backbone {section.architecture} ready",
            expected=f"{error.name} where the driver runs",
            found=f"{sys.executable} does not have it",
            todo="run the driver in an environment with all of toiletspark's packages; executors "
            "that embed with OpenVINO need no torch (docs/clusters.md)",
        ) from None
    with _lock:
        weights.load_spec.cache_clear()  # the weights' file may have changed since
        spec = weights.load_spec(section)
        return spec if spec.precision == "int8" else conversion.compiled(spec)


def _key(section: BackboneSettings) -> str | None:
    """The key, or None if anything is missing; compiling then gives the error."""
    parts: dict[str, Any] = section.model_dump(exclude={"int8"})
    is_url = urlsplit(section.weights).scheme in ("http", "https")
    try:
        for package in _PACKAGES:
            parts[package] = importlib.metadata.version(package)
        for name in _CODE:
            parts[name] = content_digest(pkgutil.get_data("toiletspark", name) or b"")
        if section.weights not in _NAMED and not is_url:
            (content,) = storage.read_files([section.weights])
            parts["weights"] = content_digest(content)
    except Exception:  # noqa: BLE001 - stores have errors of their own
        return None
    return settings_digest(parts)


def _read(root: str, key: str, section: BackboneSettings) -> BackboneSpec | None:
    """The kept backbone, or None if there is none or it is damaged."""
    try:
        kept = storage.read_json(_path(root, f"{key}.json")) or {}
        entry = {name: kept[name] for name in ("key", "weights_digest", "weights", "program")}
        if kept["digest"] != settings_digest(entry) or entry["key"] != key:
            return None
        digests = [entry["weights"], entry["program"]]
        files = storage.read_files([_path(root, f"{digest}.bin") for digest in digests])
    except Exception:  # noqa: BLE001 - see _key; it is compiled again
        return None
    if [content_digest(content) for content in files] != digests:
        return None
    named = section.architecture, preprocessing(section), files[0], entry["weights_digest"]
    return BackboneSpec(*named, "openvino", section.precision, files[1])


def _write(root: str, key: str, spec: BackboneSpec) -> None:
    entry = {"key": key, "weights_digest": spec.weights_digest}
    try:
        for name, content in {"weights": spec.weights, "program": spec.program}.items():
            entry[name] = content_digest(content)
            storage.replace_bytes(_path(root, f"{entry[name]}.bin"), content)
        kept = {**entry, "digest": settings_digest(entry)}
        storage.replace_json(_path(root, f"{key}.json"), kept)
    except Exception as error:  # noqa: BLE001 - see _key
        what = f"warning: the backbone could not be kept in {root}/backbones"
        _LOG.warning("%s, so the next run compiles it again: %s", what, error)


def _path(root: str, name: str) -> str:
    return f"{root}/backbones/compiled/{name}"

"""Backbones ready for OpenVINO, kept in the store: a driver loads torch (seconds, 0.9 GB) once, and not at every run.

    <root>/backbones/prepared/<digest of its content>.bin    the constants, and the program; of int8, whose program is
                                                             the catalog's own (`calibration`), torch's weights
    <root>/backbones/prepared/<key>.json                     written last: which files these are, and of what weights

The key is a digest of all that decides the outcome: [backbone], the content of the weights' file (of a download its
name, which holds its hash), the packages, and our own code. What is damaged or lost is made anew; what cannot be kept
is told, and used.
"""

from __future__ import annotations

import functools
import importlib.metadata
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

_PACKAGES = ("openvino", "torch", "torchvision")
_MAKERS = ("model/weights.py", "model/runtimes/conversion.py", "model/runtimes/torch_runtime.py")
_NAMED = ("imagenet", "random")

_making = threading.Lock()  # torch cannot trace two networks at once
_begun: dict[tuple[str, BackboneSettings], Future[BackboneSpec]] = {}


def start_loading(root: str, section: BackboneSettings) -> None:
    """Begins in a thread what `backbone` will be asked for, which then waits for it and tells what it raised."""
    thread = ThreadPoolExecutor(1, "backbone")
    _begun[root, section] = thread.submit(load_or_compile, root, section)
    thread.shutdown(wait=False)


def backbone(root: str, section: BackboneSettings) -> BackboneSpec:
    """The backbone of a configuration, as its runtime needs it; in int8 still without its program.

    Args:
        root: of the store.
        section: see `weights.load_spec`.

    Raises:
        BackboneError: see `weights.load_spec`; or it has to be made, and there is no torch.

    Cost: where it is kept, to read 45 MB and their digest; else torch, and for torch always torch. Once a process.
    """
    begun = _begun.pop((root, section), None)
    return begun.result() if begun else load_or_compile(root, section)


@functools.lru_cache(maxsize=1)
def load_or_compile(root: str, section: BackboneSettings) -> BackboneSpec:
    """As `backbone`, in this thread."""
    if choice.choose_runtime(section.runtime, section.precision) == "torch":
        return _made(section)
    key = _key(section)
    spec = _kept(root, key, section) if key else None
    if spec is None:
        spec = _made(section)
        if key and key == _key(section):  # or the file was replaced meanwhile
            _keep(root, key, spec)
    return spec


def _made(section: BackboneSettings) -> BackboneSpec:
    try:
        from toiletspark.model import weights  # loads torch
    except ModuleNotFoundError as error:
        raise BackboneError(
            doing=f"making the backbone {section.architecture} ready",
            expected=f"{error.name} where the driver runs",
            found=f"{sys.executable} does not have it",
            todo="run the driver in an environment with all of toiletspark's packages; executors that embed with "
            "OpenVINO need no torch (docs/clusters.md)",
        ) from None
    with _making:
        weights.load_spec.cache_clear()  # a process that goes on for days may have read other weights in the same file
        spec = weights.load_spec(section)
        return spec if spec.precision == "int8" else conversion.compiled(spec)


def _key(section: BackboneSettings) -> str | None:
    """None where something is missing, which whoever makes it knows how to tell."""
    told: dict[str, Any] = section.model_dump(exclude={"int8"})
    try:
        told |= {name: importlib.metadata.version(name) for name in _PACKAGES}
        told |= {
            name: content_digest(pkgutil.get_data("toiletspark", name) or b"") for name in _MAKERS
        }
        if section.weights not in _NAMED and urlsplit(section.weights).scheme not in (
            "http",
            "https",
        ):
            (content,) = storage.read_files([section.weights])
            told["weights"] = content_digest(content)
    except Exception:  # noqa: BLE001 - stores have errors of their own
        return None
    return settings_digest(told)


def _kept(root: str, key: str, section: BackboneSettings) -> BackboneSpec | None:
    try:
        told = storage.read_json(_place(root, f"{key}.json")) or {}
        described = {name: told[name] for name in ("key", "weights_digest", "weights", "program")}
        if told["digest"] != settings_digest(described) or described["key"] != key:
            return None
        digests = [described["weights"], described["program"]]
        files = storage.read_files([_place(root, f"{digest}.bin") for digest in digests])
    except Exception:  # noqa: BLE001 - as in _key; whatever is wrong with it, it is made anew
        return None
    if [content_digest(content) for content in files] != digests:
        return None
    (constants, program), weights_digest = files, described["weights_digest"]
    done = preprocessing(section)
    return BackboneSpec(
        section.architecture,
        done,
        constants,
        weights_digest,
        "openvino",
        section.precision,
        program,
    )


def _keep(root: str, key: str, spec: BackboneSpec) -> None:
    files = {"weights": spec.weights, "program": spec.program}
    digests = {name: content_digest(content) for name, content in files.items()}
    described = {"key": key, "weights_digest": spec.weights_digest, **digests}
    try:
        for name, content in files.items():
            storage.replace_bytes(_place(root, f"{digests[name]}.bin"), content)
        storage.replace_json(
            _place(root, f"{key}.json"), {**described, "digest": settings_digest(described)}
        )
    except Exception as error:  # noqa: BLE001 - as in _key
        told = f"the backbone could not be kept in {root}/backbones, so the next run makes it again: {error}"
        print(f"toiletspark: warning: {told}", file=sys.stderr, flush=True)


def _place(root: str, name: str) -> str:
    return f"{root}/backbones/prepared/{name}"

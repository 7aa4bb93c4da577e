"""The backbone's weights: found, downloaded, checked and named. Runs on the driver; workers get the outcome.

What never changes is worth an identity: `weights_digest` names the values, whatever file they came from.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import socket
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import safetensors.torch
import torch
import torchvision

from toiletspark.config import BackboneSettings
from toiletspark.errors import BackboneError, nearest
from toiletspark.model.runtimes import choice
from toiletspark.model.runtimes.torch_runtime import final_layer, full_network
from toiletspark.model.spec import BackboneSpec, preprocessing
from toiletspark.tables import storage

RANDOM_SEED = 0
_DOWNLOAD_TIMEOUT_S = 30.0
_LEAST_HASH_DIGITS = 8
_IMAGENET = "IMAGENET1K_V1"
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # of GoogLeNet and Inception
# torchvision's own files of DenseNet and ViT are older than these names
_RENAMED = (
    (r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2"),
    (r"\.mlp\.linear_1\.", ".mlp.0."),
    (r"\.mlp\.linear_2\.", ".mlp.3."),
)

State = Mapping[str, torch.Tensor]


@functools.lru_cache(maxsize=1)
def load_spec(section: BackboneSettings) -> BackboneSpec:
    """Finds the weights and names them.

    Args:
        section: architecture, preprocessing and `weights`: "imagenet" (torchvision's file, downloaded once, hash
            checked), "random" (fixed seed), the path of a state dict (.pth, read with weights_only=True, or
            .safetensors; on any store), or a web address whose file name ends in -<first digits of its SHA-256>;
            runtime and precision, see `runtimes.choose`.

    Returns:
        The backbone as torch would run it; `runtimes.convert.prepared` makes it ready for its runtime. In int8 it
        has no identity before `calibration` gives it its program.

    Raises:
        BackboneError: the weights cannot be had, do not fit the architecture, or the runtime is not installed.
    """
    runtime = choice.choose_runtime(
        section.runtime, section.precision
    )  # before anything is downloaded in vain
    architecture, weights = section.architecture, section.weights
    _check_known(architecture)
    url = _imagenet_url(architecture) if weights == "imagenet" else weights
    drawn, unused = _drawn(architecture, section.crop_px)
    if weights == "random":
        state = drawn
    elif urlsplit(url).scheme in ("http", "https"):
        state = _downloaded(url)
    else:
        state = _read(url)
    state = _fitted(architecture, _needed(state, unused), drawn, weights)
    content = safetensors.torch.save(dict(state))
    return BackboneSpec(
        architecture, preprocessing(section), content, digest_of(state), runtime, section.precision
    )


def _check_known(architecture: str) -> None:
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        raise BackboneError(
            doing=f"building the backbone {architecture}",
            expected="one of torchvision's classification networks in backbone.architecture",
            found=f"'{architecture}'{nearest(architecture, known)}",
            todo=f"take one of: {', '.join(known)}",
        )


def _imagenet_url(architecture: str) -> str:
    """V1, not DEFAULT: newer torchvision releases move DEFAULT, and with it every embedding."""
    there = {
        member.name: str(member.url)
        for member in torchvision.models.get_model_weights(architecture)
    }
    if _IMAGENET not in there:
        raise BackboneError(
            doing=f"finding the backbone's weights for {architecture}",
            expected=f"torchvision's {_IMAGENET}, which backbone.weights=imagenet stands for",
            found=", ".join(there) or "none at all",
            todo="set backbone.weights to one of " + ", ".join(there.values()),
        )
    return there[_IMAGENET]


def _drawn(architecture: str, crop_px: int) -> tuple[State, str]:
    """The random state without the final layer, and that one's name.

    Raises:
        BackboneError: the network does not take squares of crop_px; tried on torch's meta device, without one number.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        built = full_network(architecture)
    final = final_layer(built)
    built.set_submodule(final, torch.nn.Identity())
    state = built.state_dict()
    try:
        built.eval().to("meta")(torch.zeros(1, 3, crop_px, crop_px, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BackboneError(
            doing=f"building the backbone {architecture}",
            expected="a square that it takes in backbone.crop_px",
            found=f"{crop_px} px: {_shortly(error)}",
            todo="set backbone.crop_px to the size that the weights were trained with, 224 px for most, "
            "and backbone.resize_px to at least that",
        ) from None
    return state, final


def _fitted(architecture: str, state: State, wanted: State, weights: str) -> State:
    """The state dict in the network's own types, checked against the architecture."""
    # batch norm's counters decide nothing in eval mode, so they are no part of the identity; torchvision's own files
    # are older than they are
    counters = {
        name: tensor for name, tensor in wanted.items() if name.endswith(".num_batches_tracked")
    }
    kept = {**state, **counters}
    wrong = sorted(set(wanted) ^ set(kept)) or [
        name for name in wanted if tuple(wanted[name].shape) != tuple(kept[name].shape)
    ]
    if wrong:
        raise BackboneError(
            doing=f"fitting the weights {weights} to {architecture}",
            expected=f"the {len(wanted)} tensors of torchvision's {architecture} (the final layer is not needed)",
            found=f"{len(wrong)} tensors missing, unknown or of another shape, among them {wrong[0]}",
            todo="set backbone.architecture to the one that the weights were trained with",
        )
    return {name: kept[name].to(wanted[name].dtype).contiguous() for name in sorted(wanted)}


def _needed(state: State, final: str) -> State:
    """The tensors under the names that torchvision gives them now, without those that only served to classify."""
    named = {}
    for name, tensor in state.items():
        for then, now in _RENAMED:
            name = re.sub(then, now, name)
        named[name] = tensor
    return {
        name: tensor
        for name, tensor in named.items()
        if not name.startswith((f"{final}.", *_AUXILIARY))
    }


def digest_of(state: State) -> str:
    """SHA-256 over names, shapes and values, whatever file they came from."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name}:{tuple(state[name].shape)}".encode())
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()


def _read(location: str) -> State:
    doing = f"reading the backbone's weights {location}"
    try:
        filesystem, path = storage.open_filesystem(location)
        content = filesystem.cat_file(path)
        if path.endswith(".safetensors"):
            return safetensors.torch.load(content)
        return _state_dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    except OSError as error:
        raise BackboneError(
            doing=doing,
            expected="a state dict's file",
            found=error.strerror or str(error),
            todo="set backbone.weights to imagenet, to a file, or by name to random",
        ) from None
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, it is not the weights
        raise BackboneError(
            doing=doing,
            expected="a state dict saved with torch.save or safetensors",
            found=_shortly(error),
            todo="save the network's state_dict(), not the module itself",
        ) from None


def _downloaded(url: str) -> State:
    """The state dict behind a URL, from torch.hub's cache if it was fetched before; its hash is in its name."""
    name = Path(urlsplit(url).path).name
    doing = f"downloading the backbone's weights {name}"
    hashed = torch.hub.HASH_REGEX.search(name)  # where torch finds none, it checks none
    if hashed is None or len(hashed.group(1)) < _LEAST_HASH_DIGITS:
        raise BackboneError(
            doing=doing,
            expected=f"a file name that ends in -<first {_LEAST_HASH_DIGITS} or more digits of its SHA-256>.pth",
            found=name,
            todo="name the file so, or fetch it yourself and set backbone.weights to its path",
        )
    try:
        with _socket_timeout(_DOWNLOAD_TIMEOUT_S):
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=True, check_hash=True, weights_only=True
            )
        return _state_dict(state)
    except (urllib.error.URLError, OSError) as error:
        raise BackboneError(
            doing=doing,
            expected=f"an answer from {urlsplit(url).hostname}",
            found=str(getattr(error, "reason", error)),
            todo=f"fetch {name} elsewhere and set backbone.weights to its path, or, to try things out only, "
            "set backbone.weights=random",
        ) from None
    except Exception as error:  # noqa: BLE001 - as in _read
        altered = "invalid hash" in str(error)  # torch's word for it
        raise BackboneError(
            doing=doing,
            expected="a file whose SHA-256 begins as its name says"
            if altered
            else "a state dict saved with torch.save",
            found=_shortly(error),
            todo="do not use that file; try again, or fetch it from a source that you trust",
        ) from None


def _state_dict(loaded: object) -> State:
    if isinstance(loaded, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in loaded.items()
    ):
        return loaded
    raise TypeError(f"a {type(loaded).__name__} that does not map names to tensors")


def _shortly(error: Exception) -> str:
    """The error's first sentence; torch's further ones advise to load the file without care."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0].split('. ')[0][:200]}"


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torch.hub sets no timeout of its own, and a silent firewall would hold a run for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

"""The backbone's weights: read or downloaded, checked and named. Runs on the driver.

`weights_digest` names the values, whatever file they came from.
"""

import functools
import hashlib
import io
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeGuard
from urllib.parse import urlsplit

import safetensors.torch
import torch
import torchvision

from toiletspark.config import BackboneSettings
from toiletspark.errors import BackboneError, nearest, shown
from toiletspark.model.runtimes import choice
from toiletspark.model.runtimes.torch_runtime import final_layer, full_network
from toiletspark.model.spec import BackboneSpec, preprocessing
from toiletspark.tables import storage

RANDOM_SEED = 0
_DOWNLOAD_TIMEOUT_S = 30.0
_LEAST_HASH_DIGITS = 8
_IMAGENET = "IMAGENET1K_V1"
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # of GoogLeNet and Inception
# torchvision's own files of DenseNet and ViT are older than its present names
_RENAMED = (
    (r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2"),
    (r"\.mlp\.linear_1\.", ".mlp.0."),
    (r"\.mlp\.linear_2\.", ".mlp.3."),
)

State = Mapping[str, torch.Tensor]


@functools.lru_cache(maxsize=1)
def load_spec(section: BackboneSettings) -> BackboneSpec:
    """Loads the weights and names them, for torch; `conversion.compiled` converts them.

    `weights` is "imagenet" (torchvision's file, downloaded once, hash checked), "random" (fixed
    seed), the path of a state dict (.pth, read with weights_only=True, or .safetensors; on any
    store), or a web address whose file name ends in -<first digits of its SHA-256>. In int8 the
    spec has no identity before `quantisation` gives it its program.

    Raises:
        BackboneError: the weights cannot be loaded, do not fit the architecture, or the runtime is
            not installed.
    """
    # before anything is downloaded in vain
    runtime = choice.choose_runtime(section.runtime, section.precision)
    architecture, weights = section.architecture, section.weights
    _require_known(architecture)
    url = _imagenet_url(architecture) if weights == "imagenet" else weights
    expected, final = _random_state(architecture, section.crop_px)
    if weights == "random":
        state = expected
    elif urlsplit(url).scheme in ("http", "https"):
        state = _download(url)
    else:
        state = _read(url)
    state = _fitted(architecture, _renamed(state, final), expected, weights)
    content, digest = safetensors.torch.save(dict(state)), digest_of(state)
    settings = preprocessing(section)
    return BackboneSpec(architecture, settings, content, digest, runtime, section.precision)


def _require_known(architecture: str) -> None:
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        raise BackboneError(
            doing=f"building the backbone {architecture}",
            expected="one of torchvision's classification networks in backbone.architecture",
            found=f"'{architecture}'{nearest(architecture, known)}",
            todo=f"take one of: {', '.join(known)}",
        )


def _imagenet_url(architecture: str) -> str:
    """V1, not DEFAULT: torchvision releases move DEFAULT, and every embedding would change."""
    members = torchvision.models.get_model_weights(architecture)
    urls = {member.name: str(member.url) for member in members}
    if _IMAGENET not in urls:
        raise BackboneError(
            doing=f"finding the backbone's weights for {architecture}",
            expected=f"torchvision's {_IMAGENET}, which backbone.weights=imagenet stands for",
            found=", ".join(urls) or "none at all",
            todo="set backbone.weights to one of " + ", ".join(urls.values()),
        )
    return urls[_IMAGENET]


def _random_state(architecture: str, crop_px: int) -> tuple[State, str]:
    """The random state without the final layer, and that layer's name.

    Squares of crop_px are tried without memory or arithmetic, on torch's meta device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = full_network(architecture)
    final = final_layer(network)
    network.set_submodule(final, torch.nn.Identity())
    state = network.state_dict()
    try:
        network.eval().to("meta")(torch.zeros(1, 3, crop_px, crop_px, device="meta"))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise BackboneError(
            doing=f"building the backbone {architecture}",
            expected="a square that it takes in backbone.crop_px",
            found=f"{crop_px} px: {_first_sentence(error)}",
            todo="set backbone.crop_px to the size that the weights were trained with, 224 px for "
            "most, and backbone.resize_px to at least that",
        ) from None
    return state, final


def _fitted(architecture: str, state: State, expected: State, weights: str) -> State:
    """The state dict in the network's own types, checked against the architecture."""
    # batch norm's counters decide nothing in evaluation mode, so they are no part of the identity;
    # torchvision's own files are older than they are
    counters = {name for name in expected if name.endswith(".num_batches_tracked")}
    tensors = {**state, **{name: expected[name] for name in counters}}
    wrong = sorted(set(expected) ^ set(tensors))
    doing = f"fitting the weights {weights} to {architecture}"
    if wrong:
        _require_no_prefix(state, sorted(set(expected) - counters), doing)
    else:
        wrong = [name for name in expected if expected[name].shape != tensors[name].shape]
    if wrong:
        raise BackboneError(
            doing=doing,
            expected=f"the {len(expected)} tensors of torchvision's {architecture} "
            "(the final layer is not needed)",
            found=f"{len(wrong)} tensors missing, unknown or of another shape, "
            f"among them {wrong[0]}",
            todo="set backbone.architecture to the one that the weights were trained with",
        )
    fitted = {name: tensors[name].to(expected[name].dtype) for name in sorted(expected)}
    broken = [name for name, tensor in fitted.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise BackboneError(
            doing=doing,
            expected="finite numbers: others make every embedding NaN",
            found=f"NaN or infinity in {len(broken)} tensors, among them {broken[0]}",
            todo="take the weights from before the training went wrong",
        )
    return {name: tensor.contiguous() for name, tensor in fitted.items()}


def _require_no_prefix(state: State, names: list[str], doing: str) -> None:
    """Stops if all tensors are there under names with something in front of them."""
    prefixes = [name.removesuffix(names[0]) for name in state if name.endswith(names[0])]
    for prefix in filter(None, prefixes):
        if all(prefix + name in state for name in names):
            raise BackboneError(
                doing=doing,
                expected=f"the tensors' own names, as in {names[0]}",
                found=f"names that begin with '{prefix}', as in {prefix}{names[0]}",
                todo="save the state_dict() of the network inside (torch.compile puts _orig_mod. "
                "in front of the names, DataParallel module., any other class its attribute)",
            )


def _renamed(state: State, final: str) -> State:
    """The tensors under present names, without final layer and auxiliary classifiers."""
    unused = (f"{final}.", *_AUXILIARY)
    tensors = {}
    for name, tensor in state.items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if not name.startswith(unused):
            tensors[name] = tensor
    return tensors


def digest_of(state: State) -> str:
    """SHA-256 over names, shapes and values."""
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
        loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return _state_dict(loaded, doing)
    except BackboneError:
        raise
    except OSError as error:
        expected, found = "a state dict's file", error.strerror or str(error)
        todo = "set backbone.weights to imagenet, to a file, or by name to random"
    except Exception as error:  # noqa: BLE001 - torch raises any error on damaged files
        expected = "a state dict saved with torch.save or safetensors"
        found = _first_sentence(error)
        todo = "save the network's state_dict() alone, not the module itself or a trainer's objects"
    raise BackboneError(doing=doing, expected=expected, found=found, todo=todo)


def _download(url: str) -> State:
    """The state dict behind a URL, or from torch.hub's cache; its hash is in its name."""
    name = Path(urlsplit(url).path).name
    doing = f"downloading the backbone's weights {name}"
    match = torch.hub.HASH_REGEX.search(name)  # torch checks the hash only if this matches
    if match is None or len(match.group(1)) < _LEAST_HASH_DIGITS:
        raise BackboneError(
            doing=doing,
            expected=f"a file name that ends in -<first {_LEAST_HASH_DIGITS} or more digits of its "
            "SHA-256>.pth",
            found=name,
            todo="name the file so, or fetch it yourself and set backbone.weights to its path",
        )
    try:
        with _socket_timeout(_DOWNLOAD_TIMEOUT_S):
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=True, check_hash=True, weights_only=True
            )
        return _state_dict(state, doing)
    except BackboneError:
        raise
    except OSError as error:
        expected = f"an answer from {urlsplit(url).hostname}"
        found = str(getattr(error, "reason", error))
        todo = f"fetch {name} elsewhere and set backbone.weights to its path, or, to try things "
        todo += "out only, set backbone.weights=random"
    except Exception as error:  # noqa: BLE001 - see _read
        expected, found = "a state dict saved with torch.save", _first_sentence(error)
        if "invalid hash" in str(error):  # torch's words
            expected = "a file whose SHA-256 begins as its name says"
        todo = "do not use that file; try again, or fetch it from a source that you trust"
    raise BackboneError(doing=doing, expected=expected, found=found, todo=todo)


def _state_dict(loaded: object, doing: str) -> State:
    """The tensors of a loaded file, without gradients; a TypeError if it holds something else."""
    if _maps_to_tensors(loaded):
        return {name: tensor.detach() for name, tensor in loaded.items()}
    entries = loaded.items() if isinstance(loaded, Mapping) else ()
    inside = [key for key, value in entries if value and _maps_to_tensors(value)]
    if inside:
        raise BackboneError(
            doing=doing,
            expected="a state dict",
            found=f"a checkpoint with the entries {shown(key for key, _ in entries)}",
            todo=f"save its entry {inside[0]!r} alone, as in torch.save(torch.load(FILE)"
            f"[{inside[0]!r}], NEW_FILE)",
        )
    raise TypeError(f"a {type(loaded).__name__} that does not map names to tensors")


def _maps_to_tensors(value: object) -> TypeGuard[State]:
    if not isinstance(value, Mapping):
        return False
    items = value.items()
    return all(isinstance(key, str) and isinstance(item, torch.Tensor) for key, item in items)


def _first_sentence(error: Exception) -> str:
    """The error's first sentence; torch's later ones suggest unsafe ways to load the file."""
    line = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {line.split('. ')[0][:200]}"


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Sets the timeout that torch.hub lacks; a silent firewall would hold a run for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

"""The weights: read, downloaded, checked, and named by an id."""

import hashlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
import safetensors.torch
import torch
import torchvision

from tests.support.backbones import STANDARD, State, saved, spec, state_of
from toiletspark.errors import BackboneError
from toiletspark.model.weights import load_spec

ONLY_STATE = "save the network's state_dict() alone, not the module itself or a trainer's objects"


@pytest.fixture(autouse=True)
def _fresh_specs() -> None:
    load_spec.cache_clear()  # files change between tests, as they never do within a run


@pytest.fixture(scope="module")
def state() -> State:
    return state_of()


@pytest.fixture(scope="module")
def weights(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(state, tmp_path_factory.mktemp("weights") / "resnet18.pth")


def refused(weights: str | Path, **changes: Any) -> BackboneError:
    with pytest.raises(BackboneError) as caught:
        spec(weights, **changes)
    return caught.value


# Identity


def test_the_id_names_architecture_weights_preprocessing_and_precision(weights: Path) -> None:
    result = spec(weights)
    assert (
        result.backbone_id
        == f"resnet18-{result.weights_digest[:12]}-{result.preprocessing.name}-fp32"
    )
    assert result.preprocessing == replace(STANDARD, jpeg_scaling=True)


@pytest.mark.parametrize(
    "name", ["conv1.weight", "layer4.1.bn2.bias", "layer2.0.downsample.1.running_var"]
)
def test_the_id_changes_with_any_weight(
    state: State, weights: Path, name: str, tmp_path: Path
) -> None:
    changed = {**state, name: state[name].clone()}
    changed[name].view(-1)[-1] += 0.01
    assert spec(saved(changed, tmp_path / "a.pth")).backbone_id != spec(weights).backbone_id


def test_the_id_changes_with_the_sizes(weights: Path) -> None:
    sizes = [(256, 224), (256, 192), (288, 224)]
    ids = {spec(weights, resize_px=resize, crop_px=crop).backbone_id for resize, crop in sizes}
    assert len(ids) == 3


def test_the_id_changes_with_the_architecture() -> None:
    assert spec(architecture="resnet34").backbone_id.startswith("resnet34-")
    assert spec(architecture="resnet34").weights_digest != spec().weights_digest


def in_another_order(state: State, path: Path) -> Path:
    return saved(
        {name: state[name] for name in sorted(state, reverse=True)}, path.with_suffix(".pth")
    )


def as_safetensors(state: State, path: Path) -> Path:
    safetensors.torch.save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def without_head(state: State, path: Path) -> Path:
    return saved(
        {name: tensor for name, tensor in state.items() if not name.startswith("fc.")},
        path.with_suffix(".pth"),
    )


def with_another_head(state: State, path: Path) -> Path:
    return saved(
        {**state, "fc.weight": torch.ones(7, 512), "fc.bias": torch.ones(7)},
        path.with_suffix(".pth"),
    )


def without_counters(state: State, path: Path) -> Path:
    """torchvision's own files are older than batch norm's counters, which decide nothing."""
    kept = {
        name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")
    }
    assert len(kept) == 102
    return saved(kept, path.with_suffix(".pth"))


def in_channels_last(state: State, path: Path) -> Path:
    turned = {
        n: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t
        for n, t in state.items()
    }
    return saved(turned, path.with_suffix(".pth"))


@pytest.mark.parametrize(
    "write",
    [
        in_another_order,
        as_safetensors,
        without_head,
        with_another_head,
        without_counters,
        in_channels_last,
    ],
)
def test_the_id_does_not_see_how_the_same_weights_were_saved(
    write: Callable[[State, Path], Path], state: State, weights: Path, tmp_path: Path
) -> None:
    assert spec(write(state, tmp_path / "other")).backbone_id == spec(weights).backbone_id


def test_a_float16_file_and_its_float32_copy_are_one_backbone(
    state: State, weights: Path, tmp_path: Path
) -> None:
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    copy = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in half.items()
    }
    ids = {
        spec(saved(values, tmp_path / f"{n}.pth")).backbone_id
        for n, values in enumerate([half, copy])
    }
    assert len(ids) == 1
    assert spec(weights).backbone_id not in ids


def test_random_weights_are_the_same_twice_and_leave_torchs_generator_alone() -> None:
    torch.manual_seed(1)
    first = spec().weights
    after_first = torch.rand(1)
    load_spec.cache_clear()
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(99)
    second = spec().weights
    assert first == second
    assert torch.equal(after_first, expected)


# Refusals


def test_weights_of_another_architecture_are_refused(weights: Path) -> None:
    assert str(refused(weights, architecture="resnet34")) == (
        f"while fitting the weights {weights} to resnet34\n"
        "  expected: the 216 tensors of torchvision's resnet34 (the final layer is not needed)\n"
        "  found:    80 tensors missing, unknown or of another shape, "
        "among them layer1.2.bn1.bias\n"
        "  do:       set backbone.architecture to the one that the weights were trained with"
    )


def test_a_missing_and_an_unknown_tensor_are_named(state: State, tmp_path: Path) -> None:
    missing = {name: tensor for name, tensor in state.items() if name != "layer3.0.conv1.weight"}
    error = refused(saved(missing, tmp_path / "a.pth"))
    assert (
        error.found
        == "1 tensors missing, unknown or of another shape, among them layer3.0.conv1.weight"
    )
    error = refused(saved({**state, "aux.weight": torch.ones(1)}, tmp_path / "b.pth"))
    assert error.found == "1 tensors missing, unknown or of another shape, among them aux.weight"


def test_a_tensor_of_another_shape_is_named(state: State, tmp_path: Path) -> None:
    error = refused(saved({**state, "conv1.weight": torch.ones(64, 3, 3, 3)}, tmp_path / "a.pth"))
    assert error.found == "1 tensors missing, unknown or of another shape, among them conv1.weight"


@pytest.mark.parametrize(
    "content", [torch.ones(3), [torch.ones(3)], {"conv1.weight": 3}, {1: torch.ones(2)}, 7]
)
def test_a_file_that_holds_no_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    error = refused(saved(content, tmp_path / "a.pth"))
    assert error.doing == f"reading the backbone's weights {tmp_path / 'a.pth'}"
    assert error.expected == "a state dict saved with torch.save or safetensors"
    assert error.todo == ONLY_STATE


@pytest.mark.parametrize("entry", ["state_dict", "model", "model_state_dict", "ema"])
def test_a_training_checkpoint_is_refused(state: State, entry: str, tmp_path: Path) -> None:
    content = {"epoch": 3, entry: state, "optimizer": {"state": {}, "param_groups": []}}
    error = refused(saved(content, tmp_path / "a.pth"))
    assert error.found == f"a checkpoint with the entries 'epoch', '{entry}', 'optimizer'"
    assert f"save its entry '{entry}' alone" in error.todo


def test_parameters_are_read_like_their_values(weights: Path, state: State, tmp_path: Path) -> None:
    """As `state_dict(keep_vars=True)` saves them."""
    kept = {
        name: torch.nn.Parameter(tensor, tensor.is_floating_point())
        for name, tensor in state.items()
    }
    assert spec(saved(kept, tmp_path / "a.pth")).backbone_id == spec(weights).backbone_id


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "model.backbone."]
)
def test_names_with_something_in_front_of_them_are_refused(
    state: State, prefix: str, tmp_path: Path
) -> None:
    """Other tensors may lie beside them, as those of a projection head."""
    content = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    error = refused(saved({**content, "centre": torch.ones(2)}, tmp_path / "a.pth"))
    assert error.found.startswith(f"names that begin with '{prefix}', as in {prefix}bn1.bias")
    assert error.todo.startswith("save the state_dict() of the network inside")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_weights_that_are_no_numbers_are_refused(
    state: State, value: float, tmp_path: Path
) -> None:
    """1e300 is infinite as float32."""
    broken = state["layer1.0.conv1.weight"].clone().double()
    broken[0, 0, 0, 0] = value
    error = refused(saved({**state, "layer1.0.conv1.weight": broken}, tmp_path / "a.pth"))
    assert error.found == "NaN or infinity in 1 tensors, among them layer1.0.conv1.weight"


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    path = saved(torchvision.models.resnet18(weights=None), tmp_path / "module.pth")
    error = refused(path)
    assert error.doing == f"reading the backbone's weights {path}"
    assert error.found == "UnpicklingError: Weights only load failed"
    assert error.todo == ONLY_STATE


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def test_a_pickle_is_not_executed(state: State, tmp_path: Path) -> None:
    hit = tmp_path / "executed"
    path = saved({**state, "conv1.bias": Payload(hit)}, tmp_path / "a.pth")
    assert refused(path).found == "UnpicklingError: Weights only load failed"
    assert not hit.exists()
    torch.load(path, weights_only=False)
    assert hit.exists()  # the payload would have worked


@pytest.mark.parametrize("name", ["garbage.pth", "garbage.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all" * 50])
def test_garbage_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    error = refused(path)
    assert error.doing == f"reading the backbone's weights {path}"
    assert error.expected == "a state dict saved with torch.save or safetensors"


def test_a_truncated_file_is_refused(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    path.write_bytes(weights.read_bytes()[:20_000_000])
    assert refused(path).doing == f"reading the backbone's weights {path}"


def test_weights_may_lie_on_any_store(state: State, weights: Path) -> None:
    """A fine-tuned backbone's weights are on such a store."""
    fsspec.filesystem("memory").pipe_file("/w/resnet18.safetensors", safetensors.torch.save(state))
    assert spec("memory://w/resnet18.safetensors").backbone_id == spec(weights).backbone_id


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors"])
def test_a_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    error = refused(path)
    assert (error.doing, error.expected) == (
        f"reading the backbone's weights {path}",
        "a state dict's file",
    )
    assert error.found.startswith("No such file or directory")
    assert error.todo == "set backbone.weights to imagenet, to a file, or by name to random"


# Download


Served = dict[str, bytes]


@pytest.fixture
def served() -> Iterator[tuple[str, Served, list[str]]]:
    """A web server's address, the files that it serves, and the names that were asked for."""
    files: Served = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.split("?")[0].lstrip("/")
            asked.append(name)
            if name not in files:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[name])))
            self.end_headers()
            self.wfile.write(files[name])

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", files, asked
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def named(content: bytes, suffix: str = ".pth") -> str:
    return f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}{suffix}"


def test_weights_are_downloaded_once(served: Any, weights: Path, cache: Path) -> None:
    address, files, asked = served
    content = weights.read_bytes()
    files[named(content)] = content
    first = spec(f"{address}/{named(content)}")
    load_spec.cache_clear()
    assert (
        spec(f"{address}/{named(content)}").backbone_id
        == first.backbone_id
        == spec(weights).backbone_id
    )
    assert asked == [named(content)]
    assert [path.name for path in cache.iterdir()] == [named(content)]


def test_a_file_whose_hash_is_wrong_is_refused_and_not_kept(
    served: Any, weights: Path, cache: Path
) -> None:
    address, files, asked = served
    content = weights.read_bytes()
    files[named(content)] = content[:-1] + bytes([content[-1] ^ 1])
    for attempt in (1, 2):
        error = refused(f"{address}/{named(content)}")
        assert error.doing == f"downloading the backbone's weights {named(content)}"
        assert error.expected == "a file whose SHA-256 begins as its name says"
        assert error.found.startswith(
            f'RuntimeError: invalid hash value (expected "{named(content)[9:17]}", got "'
        )
        assert (
            error.todo
            == "do not use that file; try again, or fetch it from a source that you trust"
        )
        assert list(cache.iterdir()) == []
        assert len(asked) == attempt


def test_a_url_without_a_hash_is_refused_before_it_is_asked(served: Any, weights: Path) -> None:
    address, files, asked = served
    files["resnet18.pth"] = weights.read_bytes()
    error = refused(f"{address}/resnet18.pth?token=s3cr3t")
    assert str(error) == (
        "while downloading the backbone's weights resnet18.pth\n"
        "  expected: a file name that ends in -<first 8 or more digits of its SHA-256>.pth\n"
        "  found:    resnet18.pth\n"
        "  do:       name the file so, or fetch it yourself and set backbone.weights to its path"
    )
    assert asked == []


def test_a_file_that_is_not_there_is_told(served: Any) -> None:
    address, _, _ = served
    assert str(refused(f"{address}/resnet18-00000000.pth?token=s3cr3t")) == (
        "while downloading the backbone's weights resnet18-00000000.pth\n"
        "  expected: an answer from 127.0.0.1\n"
        "  found:    Not Found\n"
        "  do:       fetch resnet18-00000000.pth elsewhere and set backbone.weights to its path, "
        "or, to try things "
        "out only, set backbone.weights=random"
    )


def test_an_unreachable_server_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refused(f"http://127.0.0.1:{port}/resnet18-00000000.pth")
    assert (error.expected, error.found) == (
        "an answer from 127.0.0.1",
        "[Errno 111] Connection refused",
    )
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("kind", ["garbage", "module"])
def test_a_download_that_holds_no_weights_is_refused(served: Any, kind: str) -> None:
    address, files, _ = served
    file = io.BytesIO()
    torch.save(torch.nn.Linear(1, 1), file)
    content = b"no weights at all" if kind == "garbage" else file.getvalue()
    files[named(content)] = content
    error = refused(f"{address}/{named(content)}")
    assert error.doing == f"downloading the backbone's weights {named(content)}"
    assert error.expected == "a state dict saved with torch.save"


def test_imagenet_is_torchvisions_file_of_that_name(
    cache: Path, weights: Path, state: State
) -> None:
    """Served from torch.hub's cache; the file has no counters."""
    cache.mkdir(parents=True)
    without_counters(state, cache / "resnet18-f37072fd.pth")
    assert spec("imagenet").backbone_id == spec(weights).backbone_id

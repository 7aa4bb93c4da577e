"""The backbone: torchvision's embeddings, whatever the neighbours, under an identity that tells weights apart."""

import hashlib
import io
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image

from tests.shared_folder import shared
from toiletspark.backbone import Backbone, BackboneSpec, load_spec, threads_of_task, to_stored
from toiletspark.conf_files import load
from toiletspark.config import Backbone as Section
from toiletspark.demo.rooms import ROOMS, draw_room
from toiletspark.errors import BackboneError
from toiletspark.head import from_stored
from toiletspark.images import Preprocessing, decode, preprocess

State = dict[str, torch.Tensor]
STANDARD = Preprocessing(256, 224)


@pytest.fixture(autouse=True)
def _fresh_specs() -> None:
    load_spec.cache_clear()  # files change between tests, as they never do within a run


def section(weights: str | Path = "random", **changes: Any) -> Section:
    return load(sets=[f"backbone.weights={weights}"]).backbone.model_copy(update=changes)


def spec(weights: str | Path = "random", **changes: Any) -> BackboneSpec:
    return load_spec(section(weights, **changes))


def state_of(network: torch.nn.Module | None = None, seed: int = 3) -> State:
    """A whole ResNet18's state, with batch norm that is not the identity."""
    torch.manual_seed(seed)
    network = network or torchvision.models.resnet18(weights=None)
    state = dict(network.state_dict())
    for name in state:
        if "running_mean" in name:
            state[name] = torch.randn_like(state[name]) * 0.1
        if "running_var" in name:
            state[name] = torch.rand_like(state[name]) + 0.5
    return state


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def state() -> State:
    return state_of()


@pytest.fixture(scope="module")
def weights(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(state, tmp_path_factory.mktemp("weights") / "resnet18.pth")


@pytest.fixture(scope="module")
def backbone(weights: Path) -> Backbone:
    load_spec.cache_clear()
    return Backbone(spec(weights), threads=2)


@pytest.fixture(scope="module")
def rooms() -> list[Image.Image]:
    return [draw_room(room, 5, (300 + 37 * number, 260)) for number, room in enumerate(ROOMS[:3])]


def small(rooms: list[Image.Image]) -> np.ndarray:
    """Small enough to be embedded at once."""
    return np.stack([preprocess(room, Preprocessing(96, 96)) for room in rooms])


def refused(weights: str | Path, **changes: Any) -> BackboneError:
    with pytest.raises(BackboneError) as caught:
        spec(weights, **changes)
    return caught.value


# Embeddings


def test_embeddings_are_those_of_torchvisions_network_and_transforms(
    backbone: Backbone, state: State, rooms: list[Image.Image]
) -> None:
    network = torchvision.models.resnet18(weights=None)
    network.load_state_dict(state)
    network.fc = torch.nn.Identity()
    network.eval()
    transforms = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    with torch.inference_mode():
        expected = network(torch.stack([transforms(room) for room in rooms])).numpy()
    found = backbone.embed(np.stack([preprocess(room, STANDARD) for room in rooms]))
    assert (found.shape, found.dtype) == ((len(rooms), 512), np.float32)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
    assert (found >= 0).all()
    assert found.std(axis=0).mean() > 0.01  # and they tell pictures apart


def test_an_embedding_does_not_depend_on_its_neighbours(backbone: Backbone, rooms: list[Image.Image]) -> None:
    pixels = small(rooms)
    together = backbone.embed(pixels)
    alone = np.concatenate([backbone.embed(row[None]) for row in pixels])
    assert np.allclose(together, alone, rtol=1e-5, atol=1e-5)
    assert np.allclose(backbone.embed(pixels[::-1].copy()), together[::-1], rtol=1e-5, atol=1e-5)
    beside_white = backbone.embed(np.stack([pixels[0], np.full_like(pixels[0], 255)]))
    assert np.allclose(beside_white[0], together[0], rtol=1e-5, atol=1e-5)


def test_embedding_moves_no_batch_norm_statistic(backbone: Backbone, rooms: list[Image.Image]) -> None:
    before = {name: tensor.clone() for name, tensor in backbone._network.state_dict().items()}
    backbone.embed(small(rooms))
    after = backbone._network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in backbone._network.modules())


def test_a_backbone_is_rebuilt_from_its_spec_alone(weights: Path, rooms: list[Image.Image]) -> None:
    pixels = small(rooms)
    one = spec(weights)
    other = BackboneSpec(one.architecture, one.preprocessing, bytes(one.weights), one.weights_digest)
    assert np.array_equal(Backbone(one).embed(pixels), Backbone(other).embed(pixels))


# Identity


def test_the_id_names_architecture_weights_preprocessing_and_precision(weights: Path) -> None:
    found = spec(weights)
    assert found.backbone_id == f"resnet18-{found.weights_digest[:12]}-{STANDARD.name}-fp32"


@pytest.mark.parametrize("name", ["conv1.weight", "layer4.1.bn2.bias", "layer2.0.downsample.1.running_var"])
def test_the_id_changes_with_any_weight(state: State, weights: Path, name: str, tmp_path: Path) -> None:
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
    return saved({name: state[name] for name in sorted(state, reverse=True)}, path.with_suffix(".pth"))


def as_safetensors(state: State, path: Path) -> Path:
    safetensors.torch.save_file(state, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def without_head(state: State, path: Path) -> Path:
    return saved(
        {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}, path.with_suffix(".pth")
    )


def with_another_head(state: State, path: Path) -> Path:
    return saved({**state, "fc.weight": torch.ones(7, 512), "fc.bias": torch.ones(7)}, path.with_suffix(".pth"))


def without_counters(state: State, path: Path) -> Path:
    """As torchvision's own files are: they are older than batch norm's counters, which decide nothing."""
    kept = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert len(kept) == 102
    return saved(kept, path.with_suffix(".pth"))


def in_channels_last(state: State, path: Path) -> Path:
    turned = {n: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t for n, t in state.items()}
    return saved(turned, path.with_suffix(".pth"))


@pytest.mark.parametrize(
    "write",
    [in_another_order, as_safetensors, without_head, with_another_head, without_counters, in_channels_last],
)
def test_the_id_does_not_see_how_the_same_weights_were_saved(
    write: Callable[[State, Path], Path], state: State, weights: Path, tmp_path: Path
) -> None:
    assert spec(write(state, tmp_path / "other")).backbone_id == spec(weights).backbone_id


def test_a_float16_file_and_its_float32_copy_are_one_backbone(state: State, weights: Path, tmp_path: Path) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    copy = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in half.items()}
    ids = {spec(saved(values, tmp_path / f"{n}.pth")).backbone_id for n, values in enumerate([half, copy])}
    assert len(ids) == 1
    assert spec(weights).backbone_id not in ids


def test_random_weights_are_the_same_twice_and_leave_torchs_generator_alone() -> None:
    torch.manual_seed(1)
    first, after_first = spec().weights, torch.rand(1)
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
        "  found:    80 tensors missing, unknown or of another shape, among them layer1.2.bn1.bias\n"
        "  do:       set backbone.architecture to the one that the weights were trained with"
    )


def test_a_missing_and_an_unknown_tensor_are_named(state: State, tmp_path: Path) -> None:
    missing = {name: tensor for name, tensor in state.items() if name != "layer3.0.conv1.weight"}
    error = refused(saved(missing, tmp_path / "a.pth"))
    assert error.found == "1 tensors missing, unknown or of another shape, among them layer3.0.conv1.weight"
    error = refused(saved({**state, "aux.weight": torch.ones(1)}, tmp_path / "b.pth"))
    assert error.found == "1 tensors missing, unknown or of another shape, among them aux.weight"


def test_a_tensor_of_another_shape_is_named(state: State, tmp_path: Path) -> None:
    error = refused(saved({**state, "conv1.weight": torch.ones(64, 3, 3, 3)}, tmp_path / "a.pth"))
    assert error.found == "1 tensors missing, unknown or of another shape, among them conv1.weight"


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], {"conv1.weight": 3}, {1: torch.ones(2)}, 7])
def test_a_file_that_holds_no_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    error = refused(saved(content, tmp_path / "a.pth"))
    assert error.doing == f"reading the backbone's weights {tmp_path / 'a.pth'}"
    assert error.expected == "a state dict saved with torch.save or safetensors"
    assert error.todo == "save the network's state_dict(), not the module itself"


def test_a_training_checkpoint_is_refused(state: State, tmp_path: Path) -> None:
    error = refused(saved({"state_dict": state, "epoch": 3}, tmp_path / "a.pth"))
    assert error.found == "TypeError: a dict that does not map names to tensors"


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    path = saved(torchvision.models.resnet18(weights=None), tmp_path / "module.pth")
    error = refused(path)
    assert error.doing == f"reading the backbone's weights {path}"
    assert error.found == "UnpicklingError: Weights only load failed"
    assert error.todo == "save the network's state_dict(), not the module itself"


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


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors"])
def test_a_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    error = refused(path)
    assert (error.doing, error.expected) == (f"reading the backbone's weights {path}", "a state dict's file")
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
        threading.Thread(target=server.serve_forever, daemon=True).start()
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
    assert spec(f"{address}/{named(content)}").backbone_id == first.backbone_id == spec(weights).backbone_id
    assert asked == [named(content)]
    assert [path.name for path in cache.iterdir()] == [named(content)]


def test_a_file_whose_hash_is_wrong_is_refused_and_not_kept(served: Any, weights: Path, cache: Path) -> None:
    address, files, asked = served
    content = weights.read_bytes()
    files[named(content)] = content[:-1] + bytes([content[-1] ^ 1])
    for attempt in (1, 2):
        error = refused(f"{address}/{named(content)}")
        assert error.doing == f"downloading the backbone's weights {named(content)}"
        assert error.expected == "a file whose SHA-256 begins as its name says"
        assert error.found.startswith(f'RuntimeError: invalid hash value (expected "{named(content)[9:17]}", got "')
        assert error.todo == "do not use that file; try again, or fetch it from a source that you trust"
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
        "  do:       fetch resnet18-00000000.pth elsewhere and set backbone.weights to its path, or, to try things "
        "out only, set backbone.weights=random"
    )


def test_an_unreachable_server_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refused(f"http://127.0.0.1:{port}/resnet18-00000000.pth")
    assert (error.expected, error.found) == ("an answer from 127.0.0.1", "[Errno 111] Connection refused")
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


def test_imagenet_is_torchvisions_file_of_that_name(cache: Path, weights: Path, state: State) -> None:
    """Served from the cache, as on a machine that has fetched it before; the file has no counters."""
    cache.mkdir(parents=True)
    without_counters(state, cache / "resnet18-f37072fd.pth")
    assert spec("imagenet").backbone_id == spec(weights).backbone_id


# Storage


def test_stored_embeddings_come_back_within_float16() -> None:
    rng = np.random.default_rng(2)
    embeddings = (rng.gamma(1, 1, (50, 512)) * 10.0 ** rng.integers(-3, 3, (50, 1))).astype(np.float32)
    stored = to_stored(embeddings)
    assert [len(row) for row in stored] == [1024] * 50
    back = from_stored(b"".join(stored), len(stored))
    assert (back.dtype, back.shape) == (np.float32, (50, 512))
    assert (np.abs(back - embeddings) <= np.maximum(embeddings * 2**-11, 2**-25)).all()
    assert to_stored(np.array([[1.0, 2.0]], dtype=np.float32)) == [b"\x00\x3c\x00\x40"]
    assert to_stored(back) == stored


@pytest.mark.parametrize("value", [np.nan, np.inf, 65520.0, -1e9])
def test_what_float16_cannot_hold_is_refused(value: float) -> None:
    embeddings = np.ones((2, 4), dtype=np.float32)
    embeddings[1, 2] = value
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="an embedding exceeds float16"):
        to_stored(embeddings)


@pytest.mark.parametrize(("text", "threads"), [("3", 3), ("0", 1), ("", 1), (None, 1)])
def test_a_task_uses_the_threads_that_spark_gives_it(
    text: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert threads_of_task() == threads


# Real weights


def test_real_weights_tell_kitchens_from_frontal_photos() -> None:
    """By the nearest mean of six photos a room, on six others."""
    weights = shared("weights", "resnet18-imagenet-compressed-fp16.pth")
    files = shared("photos", "files")
    rows = [line.split(",") for line in shared("photos", "photos.csv").read_text().splitlines()]
    name, room = rows[0].index("file"), rows[0].index("room")
    network = Backbone(spec(weights), threads=2)
    embeddings = {}
    for kind in ("kitchen", "frontal"):
        paths = [files / Path(row[name]).name for row in rows[1:] if row[room] == kind][:12]
        pixels = [found.pixels for found in decode((p.read_bytes() for p in paths), load().decode, STANDARD)]
        embeddings[kind] = network.embed(np.stack([image for image in pixels if image is not None]))
    means = np.stack([embeddings[kind][:6].mean(axis=0) for kind in embeddings])
    right = 0
    for index, kind in enumerate(embeddings):
        distances = np.linalg.norm(embeddings[kind][6:, None] - means[None], axis=2)
        right += int((distances.argmin(axis=1) == index).sum())
    assert right >= 11

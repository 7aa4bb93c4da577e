"""The runtimes: which is chosen, its settings, and what it must not do."""

import pickle
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.backbones import section, spec
from toiletspark.config import Precision, Runtime
from toiletspark.errors import BackboneError, ConfigError
from toiletspark.images.decoding import Pixels
from toiletspark.model.backbone import Backbone
from toiletspark.model.runtimes import choice, openvino_runtime, torch_runtime
from toiletspark.model.runtimes.conversion import compiled
from toiletspark.model.spec import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec
from toiletspark.model.weights import load_spec

SMALL = {"resize_px": 40, "crop_px": 32}


@pytest.fixture(scope="module")
def small() -> BackboneSpec:
    return spec(**SMALL)


@pytest.fixture(scope="module")
def program(small: BackboneSpec) -> BackboneSpec:
    return compiled(replace(small, runtime="openvino"))


def noise(count: int) -> Pixels:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def cosines(embeddings: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return (
        (embeddings * wanted).sum(axis=1)
        / np.linalg.norm(embeddings, axis=1)
        / np.linalg.norm(wanted, axis=1)
    )


# Choice


@pytest.mark.parametrize(
    ("runtime", "precision", "installed", "gpu", "expected"),
    [
        ("auto", "fp32", True, False, "openvino"),
        ("auto", "fp32", True, True, "torch"),
        ("auto", "fp32", False, False, "torch"),
        ("auto", "bf16", True, True, "torch"),
        ("auto", "int8", True, True, "openvino"),
        ("openvino", "fp32", True, True, "openvino"),
        ("torch", "fp32", True, False, "torch"),
    ],
)
def test_a_runtime_is_chosen(
    runtime: Runtime,
    precision: Precision,
    installed: bool,
    gpu: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: find_spec("json") if installed else None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(choice, "_GPU_DEVICES", ("/dev/null",))
    assert choice.choose_runtime(runtime, precision) == expected


def test_torch_is_not_asked_for_a_gpu_where_linux_knows_of_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes seconds to load."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asked"))
    monkeypatch.setattr(choice, "_GPU_DEVICES", ("/dev/there-is-none",))
    assert choice.choose_runtime("auto", "fp32") == "openvino"


def test_what_is_not_installed_is_told_before_weights_are_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    load_spec.cache_clear()
    with pytest.raises(BackboneError) as caught:
        load_spec(section("http://127.0.0.1:1/none-00000000.pth", runtime="openvino"))
    assert str(caught.value) == (
        "while choosing a runtime for backbone.runtime=openvino, backbone.precision=fp32\n"
        "  expected: the package openvino\n"
        "  found:    none\n"
        "  do:       pip install '.[openvino]' in the checkout on the driver and every worker, "
        "or set backbone.runtime=torch and backbone.precision=fp32"
    )


def test_torch_in_int8_is_refused_by_the_configuration() -> None:
    with pytest.raises(ConfigError, match="precision int8 runs on OpenVINO"):
        section(runtime="torch", precision="int8")


def test_the_configuration_decides_runtime_and_precision() -> None:
    result = spec(runtime="openvino", precision="bf16", **SMALL)
    assert (result.runtime, result.precision, result.program) == ("openvino", "bf16", b"")
    assert result.backbone_id.endswith("-bf16")


# OpenVINO


def test_a_program_replaces_torchs_weights(small: BackboneSpec, program: BackboneSpec) -> None:
    assert program.program.startswith(b"<?xml")
    assert small.weights not in (program.weights, b"")
    # constants in float32, batch norm folded into them: no second copy travels
    assert len(program.weights) <= len(small.weights)
    assert (program.backbone_id, program.weights_digest) == (
        small.backbone_id,
        small.weights_digest,
    )


def test_torch_and_what_is_prepared_are_left_as_they_are(
    small: BackboneSpec, program: BackboneSpec
) -> None:
    assert compiled(small) is small
    assert compiled(program) is program


def test_int8_is_not_prepared_without_its_program(small: BackboneSpec) -> None:
    with pytest.raises(BackboneError, match="it calibrates"):
        compiled(replace(small, runtime="openvino", precision="int8"))


def test_openvino_is_told_to_compute_in_the_ids_precision_on_the_tasks_cores() -> None:
    """Read back from the compiled program: what a CPU does unasked, it must not do here."""
    assert openvino_runtime.settings("fp32", 3) == {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": 3,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    assert openvino_runtime.settings("int8", 1)["INFERENCE_PRECISION_HINT"] == "f32"
    assert openvino_runtime.settings("bf16", 1)["INFERENCE_PRECISION_HINT"] == "bf16"


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_bf16_is_near_fp32_and_a_choice_of_its_own(
    runtime: str, small: BackboneSpec, program: BackboneSpec
) -> None:
    fp32 = {"torch": small, "openvino": program}[runtime]
    wanted, result = (
        Backbone(one).embed(noise(4)) for one in (fp32, replace(fp32, precision="bf16"))
    )
    assert result.dtype == np.float32
    assert cosines(result, wanted).min() > 0.999


def test_a_missing_openvino_is_told_on_the_worker(
    program: BackboneSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(
        BackboneError, match="expected: the package openvino on the driver and every worker"
    ):
        Backbone(program)


def test_a_worker_embeds_with_openvino_and_without_torch(
    program: BackboneSpec, tmp_path: Path
) -> None:
    file = tmp_path / "spec"
    pixels = noise(2)
    file.write_bytes(pickle.dumps((program, pixels)))
    code = (
        "import pickle, sys; from pathlib import Path;"
        "from toiletspark.model.backbone import Backbone;"
        "spec, pixels = pickle.loads(Path(sys.argv[1]).read_bytes());"
        "print(Backbone(spec).embed(pixels).tobytes().hex(), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{Backbone(program).embed(pixels).tobytes().hex()} False\n"


def test_openvino_reports_nothing_to_its_makers(tmp_path: Path) -> None:
    """By default it writes an id to the home folder, and reports imports and conversions."""
    code = (
        "from toiletspark.model.runtimes import openvino_runtime;"
        "openvino_runtime.import_openvino();"
        "import openvino.tools.ovc.telemetry_utils as used; print(used.tm.__name__)"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run(
        run, env={"HOME": str(tmp_path), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "openvino.tools.ovc.telemetry_stub\n", done.stderr
    assert list(tmp_path.iterdir()) == []


# torch


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    sizes: list[int] = []

    def forward(pixels: Pixels) -> np.ndarray:
        sizes.append(len(pixels))
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return pixels[:, 0, 0, :].astype(np.float32)

    pixels = noise(10)
    assert np.array_equal(
        torch_runtime.sized_to_memory(forward, pixels), pixels[:, 0, 0, :].astype(np.float32)
    )
    assert sizes == [10, 5, 2, 3, 5, 2, 3]


def test_one_image_that_does_not_fit_is_an_error() -> None:
    def forward(pixels: Pixels) -> np.ndarray:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        torch_runtime.sized_to_memory(forward, noise(2))


def test_float32_stays_float32_on_a_gpu(small: BackboneSpec) -> None:
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    Backbone(small)
    assert not torch.backends.cudnn.allow_tf32


def test_the_mean_is_that_of_torchvisions_weights() -> None:
    from torchvision.models import ResNet18_Weights

    preset = ResNet18_Weights.IMAGENET1K_V1.transforms()
    assert (tuple(preset.mean), tuple(preset.std)) == (IMAGENET_MEAN, IMAGENET_STD)

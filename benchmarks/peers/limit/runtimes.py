"""Runtimes: uint8 (n, 224, 224, 3) to embeddings (n, 512), one thread; each at its fastest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from decoders import Pixels, pillow
from torchvision.models import resnet18

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would report every conversion

import nncf  # noqa: E402
import openvino as ov  # noqa: E402
from openvino.preprocess import PrePostProcessor  # noqa: E402

MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32) * 255

Embed = Callable[[Pixels], object]


def network(state: str) -> torch.nn.Module:
    """The race's network without its final layer."""
    built = resnet18(weights=None, num_classes=2)
    built.load_state_dict(torch.load(state, map_location="cpu", weights_only=True))
    built.fc = torch.nn.Identity()
    return built.eval()


def write_programs(state: str, contents: list[bytes], sizes: Iterable[int], folder: str) -> None:
    """Converts the network for OpenVINO: in fp32, and quantised after calibration on the images."""
    built = network(state)
    torch.save(built, f"{folder}/torch.pt")
    pixels = [pillow(content)[None] for content in contents]
    for name in ("fp32", "int8"):
        program = _with_normalisation(
            ov.convert_model(built, example_input=torch.zeros(1, 3, 224, 224))
        )
        if name == "int8":
            program = nncf.quantize(program, nncf.Dataset(pixels), subset_size=len(pixels))
        for size in sizes:
            program.reshape([size, 224, 224, 3])
            ov.save_model(program, f"{folder}/{name}-{size}.xml", compress_to_fp16=False)


def torch_channels_last(folder: str, size: int) -> Embed:
    """Eager torch, channels last."""
    torch.set_num_threads(1)
    built = torch.load(Path(folder) / "torch.pt", weights_only=False).to(
        memory_format=torch.channels_last
    )
    mean, std = (torch.from_numpy(values).view(1, 3, 1, 1) for values in (MEAN, STD))

    def embed(pixels: Pixels) -> object:
        with torch.inference_mode():
            batch = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - mean) / std
            return built(batch.contiguous(memory_format=torch.channels_last))

    return embed


def openvino_fp32(folder: str, size: int) -> Embed:
    """OpenVINO, float32 throughout."""
    return _compiled(f"{folder}/fp32-{size}.xml")


def openvino_int8(folder: str, size: int) -> Embed:
    """OpenVINO, weights and activations in 8 bits."""
    return _compiled(f"{folder}/int8-{size}.xml")


def _with_normalisation(program: ov.Model) -> ov.Model:
    """Takes bytes, height before width before colour: one pass over the pixels less."""
    program.reshape([-1, 3, 224, 224])
    steps = PrePostProcessor(program)
    steps.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
    steps.input().model().set_layout(ov.Layout("NCHW"))
    steps.input().preprocess().convert_element_type(ov.Type.f32).mean(MEAN.tolist()).scale(
        STD.tolist()
    )
    return steps.build()


def _compiled(path: str) -> Embed:
    settings = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # it would put every process on the first core
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda pixels: request.infer({0: pixels}, share_inputs=True)


RUNTIMES: dict[str, Callable[[str, int], Embed]] = {
    "torch": torch_channels_last,
    "openvino_fp32": openvino_fp32,
    "openvino_int8": openvino_int8,
}

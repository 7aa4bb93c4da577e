"""Converts torch's network to an OpenVINO program, on the driver: workers need no torch."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toiletspark.model.runtimes import openvino_runtime
from toiletspark.model.spec import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec

if TYPE_CHECKING:
    import openvino


@functools.lru_cache(maxsize=1)
def compiled(spec: BackboneSpec) -> BackboneSpec:
    """The spec for workers: with a program, and its constants in place of torch's weights.

    It is returned unchanged for torch, and if it has its program already. Raises a BackboneError if
    OpenVINO is not installed, or if there is no int8 program yet.

    Cost: a few seconds for OpenVINO, nothing for torch.
    """
    if spec.runtime == "torch" or spec.program:
        return spec
    if spec.precision == "int8":
        raise spec.not_quantised()
    return with_program(spec, convert(spec))


def convert(spec: BackboneSpec) -> openvino.Model:
    """OpenVINO's model: uint8 (n, crop_px, crop_px, 3) in, normalisation inside, float32 out."""
    openvino = openvino_runtime.import_openvino()
    import torch
    from openvino import preprocess

    from toiletspark.model.runtimes import torch_runtime

    side = spec.preprocessing.crop_px
    network = torch_runtime.network(spec.architecture, spec.weights)
    shape, example = openvino.PartialShape([-1, 3, side, side]), torch.zeros(1, 3, side, side)
    model = openvino.convert_model(network, input=[shape], example_input=example)
    steps = preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    floats = steps.input().preprocess().convert_element_type(openvino.Type.f32)
    floats.mean([255 * value for value in IMAGENET_MEAN])
    floats.scale([255 * value for value in IMAGENET_STD])
    return steps.build()


def with_program(spec: BackboneSpec, model: openvino.Model, **changes: Any) -> BackboneSpec:
    """The spec with this model as its program, and with other changes."""
    save = openvino_runtime.import_openvino().save_model
    with tempfile.TemporaryDirectory(prefix="toiletspark-program-") as folder:
        path = Path(folder) / "program.xml"
        save(model, path, compress_to_fp16=False)  # fp16 would be another backbone
        program, constants = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    return replace(spec, runtime="openvino", program=program, weights=constants, **changes)

"""Chooses the runtime: the configured one, or the fastest that this machine has."""

import os
import sys
from importlib.util import find_spec

from toiletspark.config import Precision, Runtime
from toiletspark.errors import BackboneError
from toiletspark.model.spec import RuntimeName

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, NVIDIA under WSL, AMD


def choose_runtime(runtime: Runtime, precision: Precision) -> RuntimeName:
    """Resolves `auto` on the driver: torch with a GPU; else OpenVINO, if installed; else torch.

    Raises a BackboneError if OpenVINO is needed and not installed.
    """
    has_openvino = find_spec("openvino") is not None
    needs_openvino = runtime == "openvino" or precision == "int8"
    if needs_openvino and not has_openvino:
        raise BackboneError(
            doing=f"choosing a runtime for backbone.runtime={runtime}, "
            f"backbone.precision={precision}",
            expected="the package openvino",
            found="none",
            todo="pip install '.[openvino]' in the checkout on the driver and every worker, "
            "or set backbone.runtime=torch and backbone.precision=fp32",
        )
    if runtime == "torch" or not has_openvino:
        return "torch"
    return "openvino" if needs_openvino or not _has_gpu() else "torch"


def _has_gpu() -> bool:
    if sys.platform == "linux" and not any(map(os.path.exists, _GPU_DEVICES)):
        return False
    from toiletspark.model.runtimes import torch_runtime  # loading torch takes seconds

    return torch_runtime.has_gpu()

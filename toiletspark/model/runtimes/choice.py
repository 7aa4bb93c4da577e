"""Which runtime: the one that is asked for, or the fastest that this machine has."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from toiletspark.config import Precision, Runtime
from toiletspark.errors import BackboneError
from toiletspark.model.spec import RuntimeName

_OF_GPUS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA's, the same below Windows, AMD's


def choose_runtime(runtime: Runtime, precision: Precision) -> RuntimeName:
    """Resolves `auto` on the driver: a GPU that torch sees -> torch; OpenVINO if installed; else torch.

    Args:
        runtime: as configured.
        precision: int8 is OpenVINO's alone.

    Raises:
        BackboneError: OpenVINO is needed and not installed.
    """
    there = find_spec("openvino") is not None
    wanted = runtime == "openvino" or precision == "int8"
    if wanted and not there:
        raise BackboneError(
            doing=f"choosing a runtime for backbone.runtime={runtime}, backbone.precision={precision}",
            expected="the package openvino",
            found="none",
            todo="pip install 'toiletspark[openvino]' on the driver and every worker, "
            "or set backbone.runtime=torch and backbone.precision=fp32",
        )
    if runtime == "torch" or not there:
        return "torch"
    return "openvino" if wanted or not _torch_sees_a_gpu() else "torch"


def _torch_sees_a_gpu() -> bool:
    if sys.platform == "linux" and not any(map(os.path.exists, _OF_GPUS)):
        return False
    from toiletspark.model.runtimes import torch_runtime  # loading torch takes seconds

    return torch_runtime.sees_a_gpu()

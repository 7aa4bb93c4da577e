"""OpenVINO on a CPU: runs a converted program without torch, which would take 0.9 GB per worker."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Precision
from toiletspark.errors import BackboneError
from toiletspark.images.decoding import Pixels
from toiletspark.model.runtimes import Forward


def start(program: bytes, weights: bytes, precision: Precision, threads: int) -> Forward:
    """Compiles a program for this machine, in about a second.

    int8 programs have float32 between their quantised parts. bf16 is faster on CPUs with
    AVX512_BF16 or AMX; elsewhere OpenVINO computes in float32.
    """
    core = import_openvino().Core()
    model = core.read_model(program, weights)
    request = core.compile_model(model, "CPU", settings(precision, threads)).create_infer_request()

    def forward(pixels: Pixels) -> NDArray[np.float32]:
        # the result is a copy that we may keep
        embeddings: NDArray[np.float32] = request.infer([pixels], share_inputs=True)[0]
        return embeddings

    return forward


def settings(precision: Precision, threads: int) -> dict[str, object]:
    """OpenVINO's properties: one stream, and the task's cores only."""
    return {
        # by default OpenVINO takes bf16 where the CPU has it: faster, but another backbone
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # each worker would pin itself to the same first cores
    }


def import_openvino() -> Any:
    """Imports OpenVINO without its telemetry, which would report every import and conversion."""
    # None is Python's mark of a module that cannot be imported
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise BackboneError(
            doing="starting the backbone's runtime",
            expected="the package openvino on the driver and every worker",
            found=str(error),
            todo="pip install '.[openvino]' in the checkout, or set backbone.runtime=torch",
        ) from None
    return openvino

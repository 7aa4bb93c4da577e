"""OpenVINO on a CPU: runs a program that the driver converted. No torch, which would cost a worker 0.9 GB."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Precision
from toiletspark.errors import BackboneError
from toiletspark.images.decoding import Pixels
from toiletspark.model.runtimes import Forward


def start(program: bytes, weights: bytes, precision: Precision, threads: int) -> Forward:
    """Compiles a program for this machine; a second or so.

    Args:
        program: the intermediate representation, XML.
        weights: its constants.
        precision: of the arithmetic. int8 programs have float32 between their quantised parts; bf16 is the speed of
            a CPU with AVX512_BF16 or AMX, elsewhere OpenVINO computes in float32.
        threads: that it may use.

    Raises:
        BackboneError: OpenVINO is not installed.
    """
    core = imported().Core()
    compiled = core.compile_model(
        core.read_model(program, weights), "CPU", settings(precision, threads)
    )
    request = compiled.create_infer_request()

    def forward(pixels: Pixels) -> NDArray[np.float32]:
        found: NDArray[np.float32] = request.infer([pixels], share_inputs=True)[
            0
        ]  # a copy, ours to keep
        return found

    return forward


def settings(precision: Precision, threads: int) -> dict[str, object]:
    """OpenVINO's properties: one stream, and the task's cores only."""
    return {
        # where a CPU has bf16, OpenVINO may take it unasked: faster, but another backbone
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # each worker would pin itself to the same first cores
    }


def imported() -> Any:
    """OpenVINO, without its telemetry, which reports every import and conversion to its makers unless told not to.

    Raises:
        BackboneError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's word for "not installed"
    try:
        import openvino
    except ImportError as error:
        raise BackboneError(
            doing="starting the backbone's runtime",
            expected="the package openvino on the driver and every worker",
            found=str(error),
            todo="pip install 'toiletspark[openvino]' there, or set backbone.runtime=torch",
        ) from None
    return openvino

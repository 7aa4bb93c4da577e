"""The frozen backbone: preprocessed pixels in, embeddings out, by the runtime that its spec names.

Nothing here imports torch or OpenVINO; a worker loads only the runtime that it starts.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Decode
from toiletspark.images import sandbox
from toiletspark.images.decoding import Decoded, Pixels, Preprocessing
from toiletspark.model.spec import BackboneSpec


class Backbone:
    """A network without its final layer, in evaluation mode: batches do not change it."""

    def __init__(self, spec: BackboneSpec, threads: int = 1, device: str = "") -> None:
        """Starts the runtime of a spec of `runtimes.conversion.compiled`.

        Args:
            threads: that the runtime may use on the CPU.
            device: torch's name of the GPU that this process was given ("cuda:1"); "" = the first
                GPU, else the CPU. OpenVINO runs on the CPU.

        Raises:
            BackboneError: the runtime is not installed here, or its JPEG decoder does not work.
            ValueError: the spec was not compiled.
        """
        self.spec = spec
        self._decode: Callable[..., list[Decoded]] | None = None
        if (spec.runtime == "openvino") != bool(spec.program):
            raise ValueError(
                "OpenVINO, and it alone, needs a program: compiled(spec) comes before the broadcast"
            )
        if spec.runtime == "openvino":
            from toiletspark.model.runtimes import openvino_runtime

            start = openvino_runtime.start
            self._forward = start(spec.program, spec.weights, spec.precision, threads)
            return
        from toiletspark.model.runtimes import torch_runtime

        torch_device = torch_runtime.default_device(device)
        settings = spec.precision, threads, torch_device
        self._forward = torch_runtime.start(spec.architecture, spec.weights, *settings)
        if spec.preprocessing.jpeg_decoder == "nvjpeg":
            from toiletspark.model.runtimes import nvjpeg

            nvjpeg.require_working(torch_device)
            self._decode = partial(nvjpeg.decode, device=torch_device)

    def decode(
        self, contents: Iterable[bytes], limits: Decode, sizes: Preprocessing | None = None
    ) -> list[Decoded]:
        """Decodes image files into its input, see `decoding.decode`; with nvJPEG on its GPU.

        Other sizes than its own are for views that are cut from a larger picture.
        """
        decode = self._decode or sandbox.decode
        return decode(contents, limits, sizes or self.spec.preprocessing)

    def embed(self, pixels: Pixels) -> NDArray[np.float32]:
        """Embeds images as `decoding.preprocess` makes them, uint8, (n, crop_px, crop_px, 3).

        Returns float32, (n, width): the final layer's input; 512 features >= 0 for ResNet18.

        Cost: about 3.6 GFLOP an image at 224 px; docs/costs.md has images/s by runtime and core.
        """
        return self._forward(pixels)


def threads_of_task() -> int:
    """Threads that this process may use: Spark's number for a task (OMP_NUM_THREADS), else one."""
    return max(1, int(os.environ.get("OMP_NUM_THREADS") or 1))

"""torch: in float32 on a CPU as anywhere, in bfloat16 on a GPU."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torchvision
from numpy.typing import NDArray

from toiletspark.config import Precision
from toiletspark.images.decoding import Pixels
from toiletspark.model.runtimes import Forward
from toiletspark.model.spec import IMAGENET_MEAN, IMAGENET_STD

# Both were trained on pixels in [-1, 1] and turn ours into those; their auxiliary classifiers only serve training.
_GOOGLES: dict[str, Any] = {"aux_logits": False, "transform_input": True, "init_weights": False}
_BUILT_WITH = {"googlenet": _GOOGLES, "inception_v3": _GOOGLES}


def start(
    architecture: str, weights: bytes, precision: Precision, threads: int, device: torch.device
) -> Forward:
    """The network, built and ready.

    Args:
        architecture: torchvision's name.
        weights: safetensors bytes of the state dict without the final layer.
        precision: fp32, or bf16 by autocast.
        threads: on the CPU.
        device: where it computes.
    """
    torch.set_num_threads(threads)
    # a GPU would otherwise shorten float32 to 10 bits in convolutions, and embeddings to another backbone's
    torch.backends.cudnn.allow_tf32 = False
    placed = network(architecture, weights).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    bf16 = precision == "bf16"

    def forward(pixels: Pixels) -> NDArray[np.float32]:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, torch.bfloat16, enabled=bf16),
        ):
            return placed(normalised(pixels, device)).to("cpu", torch.float32).numpy()  # type: ignore[no-any-return]

    return lambda pixels: sized_to_memory(forward, pixels)


def normalised(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """What the network takes, float32 (n, 3, crop_px, crop_px), where it computes."""
    mean, std = (
        torch.tensor(values, device=device).view(1, 3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).to(torch.float32).div_(255.0)
    return ((batch - mean) / std).contiguous(memory_format=torch.channels_last)


def default_device(device: str = "") -> torch.device:
    """Where to compute: torch's name of a device; "" = the first GPU, else the CPU."""
    return torch.device(device or ("cuda" if sees_a_gpu() else "cpu"))


def network(architecture: str, weights: bytes) -> torch.nn.Module:
    """The network without its final layer, in evaluation mode, with these weights."""
    built = without_final_layer(architecture)
    state = OrderedDict(safetensors.torch.load(weights))
    # safetensors keeps no versions, and MNASNet takes tensors without one for those of its first edition
    state._metadata = built.state_dict()._metadata  # type: ignore[attr-defined]
    built.load_state_dict(state, strict=True)
    return built.eval()


def without_final_layer(architecture: str) -> torch.nn.Module:
    """torchvision's network as it is drawn, its final layer the identity: it then gives (n, width)."""
    with torch.random.fork_rng(devices=[]):  # its weights are drawn, from nobody else's numbers
        built = full_network(architecture)
    built.set_submodule(final_layer(built), torch.nn.Identity())
    return built


def full_network(architecture: str) -> torch.nn.Module:
    """torchvision's network with its final layer, drawn from torch's global numbers."""
    built: torch.nn.Module = torchvision.models.get_model(
        architecture, weights=None, **_BUILT_WITH.get(architecture, {})
    )
    return built


def final_layer(network: torch.nn.Module) -> str:
    """The name of the layer that makes classes out of the embedding.

    The last linear layer that was registered; where there is none, as in SqueezeNet, the last convolution. SqueezeNet
    averages after it: without it, the embedding is the average of the last feature maps.

    Args:
        network: one of torchvision's classification networks, whole.
    """
    layers = list(network.named_modules())
    linear: list[str] = [name for name, layer in layers if isinstance(layer, torch.nn.Linear)]
    return (linear or [name for name, layer in layers if isinstance(layer, torch.nn.Conv2d)])[-1]


def sees_a_gpu() -> bool:
    """Whether torch can compute on a GPU here."""
    return torch.cuda.is_available()


def sized_to_memory(forward: Forward, pixels: Pixels) -> NDArray[np.float32]:
    """Runs a batch in halves, and halves of those, where the GPU has no memory for it at once.

    Raises:
        torch.OutOfMemoryError: not even one image fits.
    """
    try:
        return forward(pixels)
    except torch.OutOfMemoryError:
        if len(pixels) == 1:
            raise
    torch.cuda.empty_cache()  # outside of `except`, whose traceback would hold the memory
    middle = len(pixels) // 2
    return np.concatenate(
        [sized_to_memory(forward, part) for part in (pixels[:middle], pixels[middle:])]
    )

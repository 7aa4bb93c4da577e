"""torch: in float32 on a CPU or a GPU, in bfloat16 on a GPU."""

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

# both were trained on pixels in [-1, 1] and convert ours; auxiliary classifiers only serve training
_INCEPTION: dict[str, Any] = {"aux_logits": False, "transform_input": True, "init_weights": False}
_ARGUMENTS = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}


def start(
    architecture: str, weights: bytes, precision: Precision, threads: int, device: torch.device
) -> Forward:
    """Builds the network of a `BackboneSpec`; bf16 by autocast."""
    torch.set_num_threads(threads)
    # TF32 shortens float32 to 10 bits in convolutions, so embeddings would be another backbone's
    torch.backends.cudnn.allow_tf32 = False
    module = network(architecture, weights)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    is_bf16 = precision == "bf16"

    def forward(pixels: Pixels) -> NDArray[np.float32]:
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=is_bf16)
        with torch.inference_mode(), autocast:
            embeddings: torch.Tensor = module(normalised(pixels, device))
            return embeddings.to("cpu", torch.float32).numpy()

    return lambda pixels: sized_to_memory(forward, pixels)


def normalised(pixels: Pixels, device: torch.device) -> torch.Tensor:
    """The network's input, float32 (n, 3, crop_px, crop_px), on its device."""
    mean = torch.tensor(IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=device).view(1, 3, 1, 1)
    batch = torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2)
    scaled = batch.to(torch.float32).div_(255.0)
    return ((scaled - mean) / std).contiguous(memory_format=torch.channels_last)


def default_device(device: str = "") -> torch.device:
    """The device of this name (torch's); "" = the first GPU, else the CPU."""
    return torch.device(device or ("cuda" if has_gpu() else "cpu"))


def network(architecture: str, weights: bytes) -> torch.nn.Module:
    """The network without its final layer, in evaluation mode, with these weights."""
    module = without_final_layer(architecture)
    state = OrderedDict(safetensors.torch.load(weights))
    # safetensors keeps no versions; MNASNet takes tensors without one for its first edition's
    state._metadata = module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=True)
    return module.eval()


def without_final_layer(architecture: str) -> torch.nn.Module:
    """torchvision's network, random, with the identity as final layer: it gives (n, width)."""
    with torch.random.fork_rng(devices=[]):  # others' random numbers stay as they are
        module = full_network(architecture)
    module.set_submodule(final_layer(module), torch.nn.Identity())
    return module


def full_network(architecture: str) -> torch.nn.Module:
    """torchvision's network with its final layer, random weights by torch's global generator."""
    arguments = _ARGUMENTS.get(architecture, {})
    module: torch.nn.Module = torchvision.models.get_model(architecture, weights=None, **arguments)
    return module


def final_layer(network: torch.nn.Module) -> str:
    """The name of the layer that turns the embedding of a torchvision network into classes.

    The last linear layer that was registered, or without one, as in SqueezeNet, the last
    convolution. SqueezeNet averages after it, so its embedding is the average of the last feature
    maps.
    """
    layers = list(network.named_modules())
    linear: list[str] = [name for name, layer in layers if isinstance(layer, torch.nn.Linear)]
    if linear:
        return linear[-1]
    return [str(name) for name, layer in layers if isinstance(layer, torch.nn.Conv2d)][-1]


def has_gpu() -> bool:
    """Returns True if torch can compute on a GPU here."""
    return torch.cuda.is_available()


def sized_to_memory(forward: Forward, pixels: Pixels) -> NDArray[np.float32]:
    """Runs a batch, in halves, and halves of those, if the GPU has no memory for all of it.

    Raises torch.OutOfMemoryError if not even one image fits.
    """
    try:
        return forward(pixels)
    except torch.OutOfMemoryError:
        if len(pixels) == 1:
            raise
    torch.cuda.empty_cache()  # outside of `except`, whose traceback would hold the memory
    middle = len(pixels) // 2
    halves = pixels[:middle], pixels[middle:]
    return np.concatenate([sized_to_memory(forward, half) for half in halves])

"""Backbones for tests: a whole ResNet18's state that no one trained, and specs by configuration."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

from tests.support.shared_folder import shared
from toiletspark.config import BackboneSettings as Section
from toiletspark.config.loading import load
from toiletspark.images.decoding import Pixels, Preprocessing, decode
from toiletspark.model.spec import BackboneSpec
from toiletspark.model.weights import load_spec

State = dict[str, torch.Tensor]
STANDARD = Preprocessing(256, 224)


def section(weights: str | Path = "random", **changes: Any) -> Section:
    sets = {"weights": weights, "runtime": "torch", **changes}
    return load(sets=[f"backbone.{key}={value}" for key, value in sets.items()]).backbone


def spec(weights: str | Path = "random", **changes: Any) -> BackboneSpec:
    return load_spec(section(weights, **changes))


def state_of(network: torch.nn.Module | None = None, seed: int = 3) -> State:
    """A whole ResNet18's state, with batch norm that is not the identity."""
    torch.manual_seed(seed)
    network = network or torchvision.models.resnet18(weights=None)
    state = dict(network.state_dict())
    for name in state:
        if "running_mean" in name:
            state[name] = torch.randn_like(state[name]) * 0.1
        if "running_var" in name:
            state[name] = torch.rand_like(state[name]) + 0.5
    return state


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


def real_weights() -> Path:
    return shared("weights", "resnet18-imagenet-compressed-fp16.pth")


def photos(room: str, count: int, preprocessing: Preprocessing = STANDARD) -> Pixels:
    """Real photos of one room, uint8 (count, crop_px, crop_px, 3); the first of the list."""
    files = shared("photos", "files")
    lines = [line.split(",") for line in shared("photos", "photos.csv").read_text().splitlines()]
    name, kind = lines[0].index("file"), lines[0].index("room")
    paths = [files / Path(line[name]).name for line in lines[1:] if line[kind] == room][:count]
    result = [
        outcome.pixels
        for outcome in decode((p.read_bytes() for p in paths), load().decode, preprocessing)
    ]
    return np.stack([pixels for pixels in result if pixels is not None])

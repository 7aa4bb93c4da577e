"""The weights that all contestants share: the backbone's, and a small head as the final layer.

A head of random numbers would do for the speed, but not for the outputs: half of its scores lie at
the threshold, where rounding decides. This one is fitted in closed form on a few of the labelled
photos; how good it is, is no matter of the race.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.models import ResNet18_Weights, resnet18

from benchmarks.measure import SHARED
from toiletspark.model.head import Head

WEIGHTS = SHARED / "weights" / "resnet18-imagenet-compressed-fp16.pth"
CLASSES = ("toilet", "other")
_ROOM = "bathroom"
_EVERY = 4  # every fourth photo, 200 of 800
_RIDGE = 100.0  # accuracy 0.9 on photos that it has not seen; 10 and 300 gave 0.85
_STEEPNESS = 4.0  # logit of a photo that is fitted exactly: scores from 0.02 to 0.98

State = dict[str, torch.Tensor]


def write_state(path: Path) -> Path:
    """Writes ResNet18's state dict, float32, whose last layer is the head (toilet, other)."""
    loaded = torch.load(WEIGHTS, map_location="cpu", weights_only=True)
    body = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in loaded.items()
    }
    body = {name: tensor for name, tensor in body.items() if not name.startswith("fc.")}
    weight, bias = _fitted(*_labelled(body))
    torch.save(
        {**body, "fc.weight": torch.from_numpy(weight), "fc.bias": torch.from_numpy(bias)}, path
    )
    return path


def head(state: Path, backbone_id: str) -> Head:
    """The same final layer as toiletspark takes it."""
    layer = torch.load(state, map_location="cpu", weights_only=True)
    return Head(
        CLASSES, CLASSES[:1], backbone_id, layer["fc.weight"].numpy(), layer["fc.bias"].numpy()
    )


def _labelled(body: State) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Embeddings (n, 512) of some of the photos, and 1 where one shows a bathroom, else -1."""
    with (SHARED / "photos" / "photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))[::_EVERY]
    network = resnet18(weights=None)
    transform = ResNet18_Weights.IMAGENET1K_V1.transforms()
    network.fc = torch.nn.Identity()
    network.load_state_dict(body)
    network.eval()
    torch.set_num_threads(1)  # two that share busy cores wait for each other
    with torch.inference_mode():
        pixels = (
            transform(Image.open(SHARED / "photos" / row["file"]).convert("RGB")) for row in rows
        )
        embeddings = torch.cat([network(one[None]) for one in pixels])
    return embeddings.numpy().astype(np.float64), np.array(
        [1.0 if row["room"] == _ROOM else -1.0 for row in rows]
    )


def _fitted(
    embeddings: NDArray[np.float64], sides: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Ridge regression of the side on the embedding: weight (2, 512) and bias (2,), others 0."""
    centre = embeddings.mean(axis=0)
    spread = embeddings - centre
    towards = spread.T @ (sides - sides.mean())
    direction = np.linalg.solve(spread.T @ spread + _RIDGE * np.eye(len(centre)), towards)
    weight, bias = np.zeros((2, len(centre)), dtype=np.float32), np.zeros(2, dtype=np.float32)
    weight[0] = _STEEPNESS * direction
    bias[0] = _STEEPNESS * (sides.mean() - centre @ direction)
    return weight, bias

"""Shared by all contestants: command line, network, transform, two workers, finishing line.

Runs in a contestant's own environment, so it imports nothing of toiletspark. The network is
torchvision's ResNet18 with the head as its final layer; its state dict is written by the race.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata

import torch
from PIL import Image
from torchvision.models import ResNet18_Weights, resnet18

ROWS = 64  # of one forward pass, for all contestants alike: Databricks' reference solution uses 64
TRANSFORM = ResNet18_Weights.IMAGENET1K_V1.transforms()  # resize to 256, crop 224, scale, normalise


@dataclass(frozen=True)
class Lane:
    """The arguments of a contestant.

    Attributes:
        table: Parquet folder with image_id and image_url, a local path.
        state: file of the network's state dict.
        out: folder that the contestant writes Parquet to: image_id, exclusion_score.
        workers: processes that may compute at the same time, one thread each.
    """

    table: str
    state: str
    out: str
    workers: int


def given() -> Lane:
    """The lane from the command line."""
    parser = argparse.ArgumentParser()
    for name in ("--table", "--state", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--workers", type=int, required=True)
    return Lane(**vars(parser.parse_args()))


def run(race: Callable[[], None], *packages: str) -> None:
    """Runs the part that is timed (the engine is up already) and prints the figures as JSON."""
    started = time.monotonic()
    race()
    seconds = time.monotonic() - started
    versions = {
        name: metadata.version(name)
        for name in (*packages, "torch", "torchvision", "pillow", "numpy")
    }
    print(json.dumps({"seconds": round(seconds, 3), "versions": versions}), flush=True)


def network(state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """ResNet18 with the head's two classes, in eval mode."""
    built = resnet18(weights=None, num_classes=2)
    built.load_state_dict(state)
    return built.eval()


def load(path: str) -> dict[str, torch.Tensor]:
    """The state dict that the race has written."""
    return torch.load(path, map_location="cpu", weights_only=True)


def opened(path: str) -> torch.Tensor:
    """One image as the network's input: float32, (3, 224, 224)."""
    with Image.open(path) as image:
        return TRANSFORM(image.convert("RGB"))


def scores(built: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """exclusion_score, the probability of the first class: float32, (n,)."""
    with torch.inference_mode():
        return built(batch).softmax(dim=1)[:, 0]

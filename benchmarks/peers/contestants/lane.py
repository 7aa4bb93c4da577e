"""Shared by all contestants: command line, network, transform, two workers, finishing line.

Runs in a contestant's own environment, so it imports nothing of toiletspark. The network is
torchvision's ResNet18 with the head as its final layer; its state dict is written by the race.

Each contestant runs in two forms. The documented one is its own documentation's: batches of 64,
whole pictures, torch's own memory layout. With `--best` it has what made it fastest on two cores:
batches of 16, memory in channels_last, and JPEG files decoded at a reduced scale.
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

DOCUMENTED_ROWS = 64  # of one forward pass, as in Databricks' reference solution
BEST_ROWS = 16
RESIZE_PX = 256
TRANSFORM = ResNet18_Weights.IMAGENET1K_V1.transforms()  # resize to 256, crop 224, scale, normalise


@dataclass(frozen=True)
class Lane:
    """The arguments of a contestant.

    Attributes:
        table: Parquet folder with image_id and image_url, a local path.
        state: file of the network's state dict.
        out: folder that the contestant writes Parquet to: image_id, exclusion_score.
        workers: processes that may compute at the same time, one thread each.
        best: the fastest form in place of the documented one.
    """

    table: str
    state: str
    out: str
    workers: int
    best: bool

    @property
    def rows(self) -> int:
        """The images of one forward pass."""
        return BEST_ROWS if self.best else DOCUMENTED_ROWS

    def network(self, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """ResNet18 with the head's two classes, in eval mode."""
        built = resnet18(weights=None, num_classes=2)
        built.load_state_dict(state)
        built.eval()
        return built.to(memory_format=torch.channels_last) if self.best else built

    def opened(self, path: str) -> torch.Tensor:
        """One image as the network's input: float32, (3, 224, 224)."""
        with Image.open(path) as image:
            if self.best:
                image.draft("RGB", (RESIZE_PX, RESIZE_PX))
            return TRANSFORM(image.convert("RGB"))

    def scores(self, built: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """exclusion_score, the probability of the first class: float32, (n,)."""
        if self.best:
            batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return built(batch).softmax(dim=1)[:, 0]


def given() -> Lane:
    """The lane from the command line."""
    parser = argparse.ArgumentParser()
    for name in ("--table", "--state", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--best", action="store_true")
    return Lane(**vars(parser.parse_args()))


def run(race: Callable[[], None], *packages: str, conversion_s: float = 0.0) -> None:
    """Runs the part that is timed (the engine is up already) and prints the figures as JSON."""
    started = time.monotonic()
    race()
    seconds = time.monotonic() - started
    versions = {
        name: metadata.version(name)
        for name in (*packages, "torch", "torchvision", "pillow", "numpy")
    }
    told = {"seconds": round(seconds, 3), "conversion_s": conversion_s, "versions": versions}
    print(json.dumps(told), flush=True)


def load(path: str) -> dict[str, torch.Tensor]:
    """The state dict that the race has written."""
    return torch.load(path, map_location="cpu", weights_only=True)

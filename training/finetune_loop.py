"""Fine-tuning: some of a network's weights moved towards the labels, by pictures. Arrays in, weights out.

The network stays in evaluation mode throughout, so that batch norm's statistics do not drift; its factors and offsets
are not moved either. It starts with a final layer that fits, or the first steps would tear the weights about.

Source: Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution (ICLR 2022).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch.amp.grad_scaler import GradScaler

from toiletspark.config import Finetune
from toiletspark.images.decoding import Pixels
from toiletspark.model.runtimes.torch_runtime import normalised
from toiletspark.progress import Progress
from toiletspark.training.fit import FinalLayer

_BATCH_NORM = torch.nn.modules.batchnorm._BatchNorm
_NORMS = (_BATCH_NORM, torch.nn.LayerNorm)
_ROWS = (torch.nn.Sequential, torch.nn.ModuleList, torchvision.models.vision_transformer.Encoder)
Told = Callable[[str, int, float], None]


class Tuned(NamedTuple):
    """What came of it.

    Attributes:
        state: the network's state dict with the weights of the best epoch, on the CPU.
        losses: cross entropy on the inner held-out pictures, before the first epoch and after each.
        best: the epoch with the least of them; 0: the network is as it was.
    """

    state: dict[str, torch.Tensor]
    losses: list[float]
    best: int


class Pictures(NamedTuple):
    """What is learnt from.

    Attributes:
        pixels: uint8, (n, crop_px, crop_px, 3); may lie in a file.
        labels: int64, (n,), index of the class.
        steps: int64, rows that are stepped on.
        inner: int64, rows that say which epoch was the best.
    """

    pixels: Pixels
    labels: NDArray[np.int64]
    steps: NDArray[np.int64]
    inner: NDArray[np.int64]


def tune(
    network: torch.nn.Module,
    start: FinalLayer,
    given: Pictures,
    everything: bool,
    settings: Finetune,
    seed: int,
    place: torch.device,
    progress: Progress,
    told: Told,
) -> Tuned:
    """Moves weights by AdamW, and keeps those of the epoch that the inner held-out pictures like best.

    Args:
        network: without its final layer, in evaluation mode; its weights are moved in place.
        start: the final layer that fits it.
        given: what is learnt from.
        everything: whether all its weights are moved, or those of its last block, see `last_block`.
        settings: epochs, rates, batches.
        seed: order of the pictures, and which are mirrored; the same gives the same weights on one machine.
        place: where it computes; on a GPU in mixed precision.
        progress: of settings.epochs times the pictures that are stepped on.
        told: hears curve, epoch and loss.

    Cost: with last_block about one forward pass an epoch and picture, else three.
    """
    final, moved = _layer(start), choose(network, everything)
    whole = torch.nn.Sequential(network, final).to(place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        [*moved, *final.parameters()], lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps, kept = (
        _Steps(whole, optimizer, given, settings, seed, place),
        [one.detach().clone() for one in moved],
    )
    with repeatable():
        losses, best = [steps.inner_loss()], 0
        for epoch in range(1, settings.epochs + 1):
            told("loss/finetune", epoch, steps.epoch(progress))
            losses.append(steps.inner_loss())
            told("loss/finetune inner", epoch, losses[-1])
            if losses[-1] < losses[best]:
                best, kept = epoch, [one.detach().clone() for one in moved]
            elif epoch - best >= settings.patience:
                break
    with torch.no_grad():
        for one, value in zip(moved, kept, strict=True):
            one.copy_(value)
    return Tuned(
        {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()},
        losses,
        best,
    )


def _layer(start: FinalLayer) -> torch.nn.Linear:
    layer = torch.nn.Linear(
        start.weight.shape[1], len(start.bias), device="meta"
    )  # draws no numbers
    weight, bias = torch.from_numpy(start.weight.copy()), torch.from_numpy(start.bias.copy())
    layer.weight, layer.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    return layer


class _Steps:
    """One epoch, and what the inner held-out pictures say after it."""

    def __init__(
        self,
        whole: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        given: Pictures,
        settings: Finetune,
        seed: int,
        place: torch.device,
    ) -> None:
        self._whole, self._optimizer, self._given = whole, optimizer, given
        self._settings, self._place, self._done = settings, place, 0
        self._chance = torch.Generator().manual_seed(seed)
        gpu = place.type == "cuda"
        self._kind = torch.bfloat16 if not gpu or torch.cuda.is_bf16_supported() else torch.float16
        self._mixed = gpu
        self._scaler = GradScaler(place.type, enabled=self._kind is torch.float16)

    def epoch(self, progress: Progress) -> float:
        """Steps through its pictures in an order by chance; returns the mean loss."""
        rows = torch.from_numpy(self._given.steps)
        rows, total = rows[torch.randperm(len(rows), generator=self._chance)], 0.0
        for some in torch.split(rows, self._settings.images_per_batch):
            pixels = self._given.pixels[some.numpy()]
            mirrored = (
                torch.rand(len(some), generator=self._chance) < self._settings.flips * 0.5
            ).numpy()
            pixels[mirrored] = pixels[mirrored][:, :, ::-1]
            loss = self._loss(pixels, some.numpy())
            self._optimizer.zero_grad()
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self._scaler.step(self._optimizer)
            self._scaler.update()
            total, self._done = total + loss.item() * len(some), self._done + len(some)
            progress.at(self._done, f"loss {loss.item():.4f}")
        return total / len(rows)

    def inner_loss(self) -> float:
        """Mean cross entropy of the inner held-out pictures, as they are."""
        rows = self._given.inner
        parts = np.split(
            rows, range(self._settings.images_per_batch, len(rows), self._settings.images_per_batch)
        )
        with torch.no_grad():
            return sum(
                self._loss(self._given.pixels[some], some).item() * len(some) for some in parts
            ) / len(rows)

    def _loss(self, pixels: Pixels, rows: NDArray[np.int64]) -> torch.Tensor:
        with torch.autocast(self._place.type, self._kind, enabled=self._mixed):
            logits = self._whole(normalised(pixels, self._place))
        labels = torch.from_numpy(self._given.labels[rows]).to(self._place)
        return torch.nn.functional.cross_entropy(logits.float(), labels)


def choose(network: torch.nn.Module, everything: bool) -> list[torch.nn.Parameter]:
    """The parameters that are moved, batch norm's never; the gradients of all others are switched off."""
    network.requires_grad_(False)
    part = network if everything else network.get_submodule(last_block(network))
    frozen = {
        id(one)
        for layer in part.modules()
        if isinstance(layer, _BATCH_NORM)
        for one in layer.parameters()
    }
    moved = [one for one in part.parameters() if id(one) not in frozen]
    for one in moved:
        one.requires_grad_(True)
    return moved


def last_block(network: torch.nn.Module) -> str:
    """The name of the last part with weights: a residual block, an encoder layer, or a layer that stands alone.

    It is looked for inwards, as long as a part is only a row of others. Norms behind it do not count.
    """
    name, part = "", network
    while not name or isinstance(part, _ROWS):
        inside = [
            (child, layer)
            for child, layer in part.named_children()
            if not isinstance(layer, _NORMS)
        ]
        child, part = [(child, layer) for child, layer in inside if _has_weights(layer)][-1]
        name = f"{name}.{child}" if name else child
    return name


def _has_weights(part: torch.nn.Module) -> bool:
    layers = (layer for layer in part.modules() if not isinstance(layer, _NORMS))
    return any(True for layer in layers for _ in layer.parameters(recurse=False))


@contextmanager
def repeatable() -> Iterator[None]:
    """torch's deterministic algorithms where it has them."""
    before, warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # without it, cuBLAS may add up in another order
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)

"""Fine-tuning: trains some of a network's weights on labelled pictures. Arrays in, weights out.

The network stays in evaluation mode, so that batch norm's statistics do not drift; its factors and
offsets are not trained either. It starts with a fitted final layer, or the first steps would
distort the weights.

Source: Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution (ICLR 2022).
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from torch.amp.grad_scaler import GradScaler

from toiletspark.config import Finetune
from toiletspark.images.decoding import Pixels
from toiletspark.model.runtimes.torch_runtime import normalised
from toiletspark.progress import Progress
from toiletspark.training.arrays import Ints
from toiletspark.training.fit import FinalLayer

_BATCH_NORM = torch.nn.modules.batchnorm._BatchNorm
_NORMS = (_BATCH_NORM, torch.nn.LayerNorm)
_ENCODER = torchvision.models.vision_transformer.Encoder
_SEQUENCES = (torch.nn.Sequential, torch.nn.ModuleList, _ENCODER)
OnLoss = Callable[[str, int, float], None]


class Tuned(NamedTuple):
    """The network's state dict with the weights of the best epoch, on the CPU.

    `losses`: cross entropy on the inner held-out pictures, before the first epoch and after each.
    """

    state: dict[str, torch.Tensor]
    losses: list[float]
    best: int  # the epoch with the least loss; 0: the network is unchanged


class Pictures(NamedTuple):
    """The labelled pictures."""

    pixels: Pixels  # uint8, (n, crop_px, crop_px, 3); may lie in a file
    labels: Ints  # (n,), index of the class
    steps: Ints  # rows that are trained on
    inner: Ints  # rows by which the best epoch is chosen


def tune(
    network: torch.nn.Module,
    start: FinalLayer,
    pictures: Pictures,
    whole: bool,
    settings: Finetune,
    seed: int,
    device: torch.device,
    progress: Progress,
    on_loss: OnLoss,
) -> Tuned:
    """Trains by AdamW, and keeps the weights with the least loss on inner held-out pictures.

    The same seed gives the same weights on one machine. A GPU computes in mixed precision.

    Args:
        network: without its final layer, in evaluation mode; its weights are changed in place.
        start: the final layer that fits it.
        whole: trains all weights, else those of the last block, see `last_block`.
        progress: of settings.epochs times the pictures that are trained on.
        on_loss: called with curve, epoch and loss.

    Cost: with the last block about one forward pass an epoch and picture, else three.
    """
    trained = choose(network, whole)
    weight, bias = (torch.from_numpy(values.copy()) for values in (start.weight, start.bias))
    final = torch.nn.Linear(weight.shape[1], len(bias), device="meta")  # draws no numbers
    final.weight, final.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    model = torch.nn.Sequential(network, final)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    moved = [*trained, *final.parameters()]
    rate = settings.learning_rate
    optimizer = torch.optim.AdamW(moved, lr=rate, weight_decay=settings.weight_decay)
    epochs = _Epochs(model, optimizer, pictures, settings, seed, device)
    kept = [values.detach().clone() for values in trained]
    with repeatable():
        losses, best = [epochs.inner_loss()], 0
        for epoch in range(1, settings.epochs + 1):
            on_loss("loss/finetune", epoch, epochs.run(progress))
            losses.append(epochs.inner_loss())
            on_loss("loss/finetune inner", epoch, losses[-1])
            if losses[-1] < losses[best]:
                best, kept = epoch, [values.detach().clone() for values in trained]
            elif epoch - best >= settings.patience:
                break
    with torch.no_grad():
        for values, best_values in zip(trained, kept, strict=True):
            values.copy_(best_values)
    state = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    return Tuned(state, losses, best)


class _Epochs:
    """Trains one epoch, and evaluates on the inner held-out pictures."""

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        pictures: Pictures,
        settings: Finetune,
        seed: int,
        device: torch.device,
    ) -> None:
        self._model, self._optimizer, self._pictures = model, optimizer, pictures
        self._settings, self._device, self._done = settings, device, 0
        self._random = torch.Generator().manual_seed(seed)
        self._mixed = device.type == "cuda"
        bf16 = not self._mixed or torch.cuda.is_bf16_supported()
        self._dtype = torch.bfloat16 if bf16 else torch.float16
        self._scaler = GradScaler(device.type, enabled=not bf16)

    def run(self, progress: Progress) -> float:
        """Trains on all pictures in random order; returns the mean loss."""
        rows = torch.from_numpy(self._pictures.steps)
        rows = rows[torch.randperm(len(rows), generator=self._random)]
        total = 0.0
        for batch in torch.split(rows, self._settings.images_per_batch):
            pixels = self._pictures.pixels[batch.numpy()]
            chance = torch.rand(len(batch), generator=self._random)
            mirrored = (chance < self._settings.flips * 0.5).numpy()
            pixels[mirrored] = pixels[mirrored][:, :, ::-1]
            loss = self._loss(pixels, batch.numpy())
            self._optimizer.zero_grad()
            self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self._scaler.step(self._optimizer)
            self._scaler.update()
            total += loss.item() * len(batch)
            self._done += len(batch)
            progress.at(self._done, f"loss {loss.item():.4f}")
        return total / len(rows)

    def inner_loss(self) -> float:
        """Mean cross entropy of the inner held-out pictures, unmirrored."""
        rows = self._pictures.inner
        size = self._settings.images_per_batch
        total = 0.0
        with torch.no_grad():
            for batch in np.split(rows, range(size, len(rows), size)):
                total += self._loss(self._pictures.pixels[batch], batch).item() * len(batch)
        return total / len(rows)

    def _loss(self, pixels: Pixels, rows: Ints) -> torch.Tensor:
        with torch.autocast(self._device.type, self._dtype, enabled=self._mixed):
            logits = self._model(normalised(pixels, self._device))
        labels = torch.from_numpy(self._pictures.labels[rows]).to(self._device)
        return torch.nn.functional.cross_entropy(logits.float(), labels)


def choose(network: torch.nn.Module, whole: bool) -> list[torch.nn.Parameter]:
    """The parameters to train, without batch norm's; switches off the gradients of all others."""
    network.requires_grad_(False)
    part = network if whole else network.get_submodule(last_block(network))
    norms = [layer for layer in part.modules() if isinstance(layer, _BATCH_NORM)]
    frozen = {id(values) for norm in norms for values in norm.parameters()}
    trained = [values for values in part.parameters() if id(values) not in frozen]
    for values in trained:
        values.requires_grad_(True)
    return trained


def last_block(network: torch.nn.Module) -> str:
    """The name of the last part with weights: a residual block, an encoder layer, or one layer.

    Searches inwards while a part is only a sequence of others; norms at its end do not count.
    """
    name, part = "", network
    while not name or isinstance(part, _SEQUENCES):
        children = part.named_children()
        child, part = [(child, layer) for child, layer in children if _has_weights(layer)][-1]
        name = f"{name}.{child}" if name else child
    return name


def _has_weights(part: torch.nn.Module) -> bool:
    """Norms aside."""
    layers = (layer for layer in part.modules() if not isinstance(layer, _NORMS))
    return any(True for layer in layers for _ in layer.parameters(recurse=False))


@contextmanager
def repeatable() -> Iterator[None]:
    """Uses torch's deterministic algorithms where it has them."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    # without it, cuBLAS may add up in another order
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)

"""Fits a final layer to embeddings of the frozen backbone: multinomial logistic regression by Adam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from toiletspark.config import Train
from toiletspark.progress import Progress

_LEAST_DEVIATION = 1e-6  # features that never vary say nothing; dividing by their deviation would


class FinalLayer(NamedTuple):
    """weight float32, (classes, 512); bias float32, (classes,)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def fit(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    settings: Train,
    progress: Progress,
    row_weight: NDArray[np.float32] | None = None,
    told: Callable[[int, float], None] = lambda epoch, loss: None,
) -> FinalLayer:
    """Trains the final layer.

    Embeddings are standardised while fitting, so that one learning rate suits every backbone, and the scaling is
    folded into the layer afterwards: the head itself takes embeddings as they are stored.

    Args:
        embeddings: float32, (n, 512).
        labels: int64, (n,), index of the class.
        classes: how many.
        settings: epochs, batch size, learning rate, L2, seed.
        progress: told after each epoch.
        row_weight: float32, (n,), > 0, what a row counts; None: all the same.
        told: hears the number of each epoch and its loss.

    Returns:
        The layer; the same for the same input, settings and torch, whatever torch's global seed.
    """
    # in float64: rounding would lend a constant feature a deviation, and its weight would be divided by that
    mean = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = embeddings.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation > _LEAST_DEVIATION, deviation, np.inf).astype(np.float32)
    inputs, targets = torch.from_numpy((embeddings - mean) / deviation), torch.from_numpy(labels)
    weight = torch.zeros(classes, inputs.shape[1], requires_grad=True)
    bias = _log_shares(targets, classes).requires_grad_()
    groups: list[dict[str, Any]] = [{"params": [weight], "weight_decay": settings.l2}, {"params": [bias]}]
    counts = torch.ones(len(targets)) if row_weight is None else torch.from_numpy(row_weight)
    optimizer = torch.optim.Adam(groups, lr=settings.learning_rate)
    order = torch.Generator().manual_seed(settings.seed)
    for epoch in range(settings.epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(targets), generator=order), settings.batch_size):
            losses = torch.nn.functional.cross_entropy(inputs[rows] @ weight.T + bias, targets[rows], reduction="none")
            loss = (losses * counts[rows]).sum() / counts[rows].sum()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * float(counts[rows].sum())
        told(epoch + 1, total / float(counts.sum()))
        progress.at(epoch + 1, f"loss {total / float(counts.sum()):.4f}")
    unscaled = weight.detach().numpy() / deviation
    return FinalLayer(unscaled, bias.detach().numpy() - unscaled @ mean)


def _log_shares(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Where the bias starts: the log of each class's share, float32, (classes,).

    From zero, ten epochs would mostly be spent on learning that toilets are rare, and meanwhile exclude too much.
    """
    counts = torch.bincount(targets, minlength=classes).to(torch.float32)
    return torch.log((counts + 1) / (counts.sum() + classes))

"""Adam, ten epochs as in the blog post; many layers side by side. The only fit that needs torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.descent import Layer, Rows, first


@dataclass(frozen=True)
class Fleet:
    """Layers that Adam trains side by side on the same batches, each on its own rows and with its own L2.

    Adam works on each number by itself, so each layer becomes what it would alone; and one product of all serves them.

    Attributes:
        l2: float32, (layers,).
        kept: bool, (layers, n): the rows that each learns from.
    """

    l2: NDArray[np.float32]
    kept: NDArray[np.bool_]


def by_adam(
    rows: Rows, fleet: Fleet, epochs: int, batch_size: int, learning_rate: float, seed: int
) -> Iterator[tuple[list[Layer], NDArray[np.float32]]]:
    """Yields, after each epoch, the layers of the fleet and their mean losses over the epoch: float32, (layers,)."""
    starts = [first(rows.only(kept)) for kept in fleet.kept]
    weight = torch.from_numpy(np.stack([start.weight for start in starts])).requires_grad_()
    bias = torch.from_numpy(np.stack([start.bias for start in starts])).requires_grad_()
    inputs, targets, strength = (
        torch.from_numpy(rows.inputs),
        torch.from_numpy(rows.targets),
        torch.from_numpy(fleet.l2),
    )
    optimizer = torch.optim.Adam([weight, bias], lr=learning_rate)
    order = torch.Generator().manual_seed(seed)
    learnt = torch.from_numpy(np.flatnonzero(rows.weight > 0))
    share_of = torch.from_numpy(rows.weight * fleet.kept)
    share_of /= share_of.sum(dim=1, keepdim=True) / len(learnt)  # 1 on average over what is learnt from
    for _ in range(epochs):
        total = torch.zeros(len(strength))
        for batch in torch.split(learnt[torch.randperm(len(learnt), generator=order)], batch_size):
            logits = (inputs[batch] @ weight.flatten(0, 1).T).reshape(len(batch), *weight.shape[:2]) + bias
            each = torch.nn.functional.cross_entropy(
                logits.permute(0, 2, 1), targets[batch, None].expand(-1, len(starts)), reduction="none"
            )
            losses = (each.T * share_of[:, batch]).mean(dim=1)
            optimizer.zero_grad()
            (losses + strength / 2 * (weight * weight).sum(dim=(1, 2))).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += losses.detach() * len(batch)
        pairs = zip(weight.detach().numpy().copy(), bias.detach().numpy().copy(), strict=True)
        yield list(itertools.starmap(Layer, pairs)), (total / len(learnt)).numpy()


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread meanwhile, for the reason that `descent.one_thread` gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

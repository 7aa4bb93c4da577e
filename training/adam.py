"""Adam, ten epochs as in the blog post; many layers side by side."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toiletspark.training.descent import Layer, Rows, first

_MEAN, _SQUARE, _LEAST = 0.9, 0.999, 1e-8  # beta 1, beta 2 and epsilon of the paper


@dataclass(frozen=True)
class Fleet:
    """Layers that Adam trains side by side on the same batches, each on its own rows and with its own L2.

    Adam works on each number by itself, so each layer becomes what it would alone; and one product of all serves them.

    Attributes:
        l2: float32, (layers,); the penalty of an input's weights, less what the rows say of it.
        kept: bool, (layers, n): the rows that each learns from.
    """

    l2: NDArray[np.float32]
    kept: NDArray[np.bool_]


def by_adam(
    rows: Rows, fleet: Fleet, epochs: int, batch_size: int, learning_rate: float, seed: int
) -> Iterator[tuple[list[Layer], NDArray[np.float32]]]:
    """Yields, after each epoch, the layers of the fleet and their mean losses over the epoch: float32, (layers,).

    Source: Kingma and Ba, Adam: A Method for Stochastic Optimization (ICLR 2015).
    """
    starts = [first(rows.only(kept)) for kept in fleet.kept]
    weight, bias = (
        np.stack([start.weight for start in starts]),
        np.stack([start.bias for start in starts]),
    )
    moves = [_Moves(values, learning_rate) for values in (weight, bias)]
    order, learnt = np.random.default_rng(seed), np.flatnonzero(rows.weight > 0)
    share_of = rows.weight * fleet.kept
    share_of /= share_of.sum(axis=1, keepdims=True) / np.float32(
        len(learnt)
    )  # 1 on average over what is learnt from
    penalty = fleet.l2[:, np.newaxis, np.newaxis] + rows.held.astype(np.float32)
    for _ in range(epochs):
        total, shuffled = np.zeros(len(starts), np.float32), order.permutation(learnt)
        for begin in range(0, len(learnt), batch_size):
            batch = shuffled[begin : begin + batch_size]
            losses, slope = _slopes(rows, batch, share_of[:, batch], weight, bias)
            steep = slope.transpose(0, 2, 1).reshape(-1, len(batch)) @ rows.inputs[batch]
            moves[0].step(steep.reshape(weight.shape) + penalty * weight)
            moves[1].step(slope.sum(axis=1))
            total += losses * np.float32(len(batch))
        yield (
            list(itertools.starmap(Layer, zip(weight.copy(), bias.copy(), strict=True))),
            total / len(learnt),
        )


def _slopes(
    rows: Rows,
    batch: NDArray[np.int64],
    share: NDArray[np.float32],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean losses of a batch, (layers,), and what they fall by with each logit: float32, (layers, batch, classes)."""
    logits = (rows.inputs[batch] @ weight.reshape(-1, weight.shape[2]).T).reshape(
        len(batch), *bias.shape
    ) + bias
    logits = logits.transpose(1, 0, 2)
    logits = logits - logits.max(axis=2, keepdims=True)
    slope = np.exp(logits)
    whole = slope.sum(axis=2, keepdims=True)
    place = (slice(None), np.arange(len(batch)), rows.targets[batch])
    each = np.log(whole[:, :, 0]) - logits[place]
    slope /= whole
    slope[place] -= 1
    slope *= share[:, :, np.newaxis] / np.float32(len(batch))
    return (each * share).mean(axis=1), slope


class _Moves:
    """Adam's memory of some numbers, which it moves in place."""

    def __init__(self, values: NDArray[np.float32], learning_rate: float) -> None:
        self._values, self._rate, self._steps = values, learning_rate, 0
        self._mean, self._square = np.zeros_like(values), np.zeros_like(values)

    def step(self, gradient: NDArray[np.float32]) -> None:
        """Moves them against a gradient of their own shape."""
        self._steps += 1
        self._mean += (1 - _MEAN) * (gradient - self._mean)
        self._square += (1 - _SQUARE) * (gradient * gradient - self._square)
        rate = self._rate / (1 - _MEAN**self._steps)
        self._values -= (
            rate * self._mean / (np.sqrt(self._square / (1 - _SQUARE**self._steps)) + _LEAST)
        )

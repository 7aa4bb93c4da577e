"""Multinomial logistic regression, by L-BFGS and by Adam; both go down the same function.

    sum(weight x cross entropy) / sum(weight) + l2 / 2 x |W|^2      (the bias is free)

All computing is done by one thread a fit (`one_thread`), so that the number of cores has no part in the last bit;
several fits may go on side by side. Another processor or torch may still round otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

EXACT, ROUGH = 1e-6, 1e-3  # the largest part of the gradient at the end; the second moves a loss by less than 0.0001
_REMEMBERED = 10  # steps of L-BFGS


@dataclass(frozen=True)
class Rows:
    """What is fitted to; all of length n.

    Attributes:
        inputs: float32, (n, d), centred.
        targets: int64, (n,), index of the class.
        weight: float32, (n,), >= 0; rows that weigh nothing are not learnt from.
        classes: how many.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    weight: torch.Tensor
    classes: int

    def only(self, kept: torch.Tensor) -> Rows:
        """The same rows, of which only some weigh anything: bool, (n,). No input is copied."""
        return Rows(self.inputs, self.targets, self.weight * kept, self.classes)


@dataclass(frozen=True)
class Axes:
    """In which directions inputs spread, and how much; so that L-BFGS need not find that out step by step.

    Attributes:
        variance: float64, (d,).
        direction: float64, (d, d), one a column.
    """

    variance: torch.Tensor
    direction: torch.Tensor

    @classmethod
    def of(cls, inputs: torch.Tensor) -> Axes:
        """Of centred inputs: float32, (n, d). Cost: n x d x d products, 0.15 s for 32,000 x 512."""
        variance, direction = torch.linalg.eigh((inputs.T @ inputs / max(1, len(inputs))).double())
        return cls(variance.clamp(min=0), direction)

    def root(self, l2: float, power: float) -> torch.Tensor:
        """A power of what bounds the curvature of the cross entropy, a quarter of the covariance, and L2: (d, d).

        Source: Boehning, Multinomial logistic regression algorithm (1992), for the bound.
        """
        return (self.direction * (self.variance / 4 + l2) ** power) @ self.direction.T


@dataclass(frozen=True)
class Layer:
    """weight float32, (classes, d), and bias float32, (classes,), on centred inputs."""

    weight: torch.Tensor
    bias: torch.Tensor

    def logits(self, inputs: torch.Tensor) -> torch.Tensor:
        """float32, (n, classes)."""
        return inputs @ self.weight.T + self.bias


def first(rows: Rows) -> Layer:
    """Where a fit starts: no weights, and as bias the log of each class's share.

    From a bias of zero, ten epochs would mostly be spent on learning that toilets are rare, and exclude too much.
    """
    counts = torch.zeros(rows.classes).index_add_(0, rows.targets, rows.weight)
    return Layer(
        torch.zeros(rows.classes, rows.inputs.shape[1]),
        torch.log((counts + 1) / (counts.sum() + rows.classes)),
    )


def by_lbfgs(rows: Rows, axes: Axes, l2: float, start: Layer, max_iterations: int, tolerance: float) -> Layer:
    """The minimum, looked for where all directions are about equally steep, in fewer steps.

    Args:
        rows: what is fitted to.
        axes: of its inputs.
        l2: > 0, or a separable class would have no minimum.
        start: where to begin; the solution of a stronger L2 saves half of the iterations.
        max_iterations: at most so many.
        tolerance: the gradient's largest part at which it ends.
    """
    even = axes.root(l2, -0.5)  # float64 but for the products: a loss in float32 stands still before the minimum
    free = (start.weight.double() @ axes.root(l2, 0.5)).requires_grad_()
    bias, share = start.bias.double().requires_grad_(), rows.weight.double() / rows.weight.sum()
    optimizer = torch.optim.LBFGS(
        [free, bias],
        max_iter=max_iterations,
        tolerance_grad=tolerance,
        tolerance_change=1e-9,
        history_size=_REMEMBERED,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        weight = free @ even
        logits = (rows.inputs @ weight.T.float()).double() + bias
        each = torch.nn.functional.cross_entropy(logits, rows.targets, reduction="none")
        total = (each * share).sum() + l2 / 2 * (weight * weight).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Layer((free.detach() @ even).float(), bias.detach().float())


@dataclass(frozen=True)
class Fleet:
    """Layers that Adam trains side by side on the same batches, each on its own rows and with its own L2.

    Adam works on each number by itself, so each layer becomes what it would alone; and one product of all serves them.

    Attributes:
        l2: float32, (layers,).
        kept: bool, (layers, n): the rows that each learns from.
    """

    l2: torch.Tensor
    kept: torch.Tensor


def by_adam(
    rows: Rows, fleet: Fleet, epochs: int, batch_size: int, learning_rate: float, seed: int
) -> Iterator[tuple[list[Layer], torch.Tensor]]:
    """Yields, after each epoch, the layers of the fleet and their mean losses over the epoch: float32, (layers,)."""
    starts = [first(rows.only(kept)) for kept in fleet.kept]
    weight = torch.stack([start.weight for start in starts]).requires_grad_()
    bias = torch.stack([start.bias for start in starts]).requires_grad_()
    optimizer = torch.optim.Adam([weight, bias], lr=learning_rate)
    order = torch.Generator().manual_seed(seed)
    learnt = torch.nonzero(rows.weight > 0).flatten()
    share_of = rows.weight * fleet.kept
    share_of /= share_of.sum(dim=1, keepdim=True) / len(learnt)  # 1 on average over what is learnt from
    for _ in range(epochs):
        total = torch.zeros(len(fleet.l2))
        for batch in torch.split(learnt[torch.randperm(len(learnt), generator=order)], batch_size):
            logits = (rows.inputs[batch] @ weight.flatten(0, 1).T).reshape(len(batch), *weight.shape[:2]) + bias
            each = torch.nn.functional.cross_entropy(
                logits.permute(0, 2, 1), rows.targets[batch, None].expand(-1, len(starts)), reduction="none"
            )
            losses = (each.T * share_of[:, batch]).mean(dim=1)
            optimizer.zero_grad()
            (losses + fleet.l2 / 2 * (weight * weight).sum(dim=(1, 2))).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += losses.detach() * len(batch)
        pairs = itertools.starmap(Layer, zip(weight.detach().clone(), bias.detach().clone(), strict=True))
        yield list(pairs), total / len(learnt)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread meanwhile: sums split over threads would round by their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

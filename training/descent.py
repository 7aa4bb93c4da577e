"""Multinomial logistic regression, gone down by L-BFGS; `adam` goes down the same function.

    sum(weight x cross entropy) / sum(weight) + sum(penalty x W^2) / 2      (the bias is free)

Each input has its penalty: L2, and more for inputs that vary much.

Numpy and SciPy: for this, torch would be 500 MB and two seconds of loading. All computing is done by one thread a fit
(`one_thread`), so that the number of cores has no part in the last bit; several fits may go on side by side. Another
kind of processor may still round otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

EXACT, ROUGH = (
    1e-6,
    1e-3,
)  # the largest part of the gradient at the end; the second moves a loss by less than 0.0001
_REMEMBERED = 10  # steps of L-BFGS
_STANDSTILL = (
    1e-12  # of the loss, in parts of it: only where the gradient's rounding keeps it from its end
)


@dataclass(frozen=True)
class Rows:
    """What is fitted to; all of length n.

    Attributes:
        inputs: float32, (n, d), centred.
        targets: int64, (n,), index of the class.
        weight: float32, (n,), >= 0; rows that weigh nothing are not learnt from.
        classes: how many.
        held: float64, (d,), >= 0; by how much more than by L2 each input's weights are held back.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.int64]
    weight: NDArray[np.float32]
    classes: int
    held: NDArray[np.float64]

    def only(self, kept: NDArray[np.bool_]) -> Rows:
        """The same rows, of which only some weigh anything: bool, (n,). No input is copied."""
        return replace(self, weight=self.weight * kept)


@dataclass(frozen=True)
class Axes:
    """In which directions the loss bends, and how much; so that L-BFGS need not find that out step by step.

    Attributes:
        penalty: float64, (d,), of each input's weights.
        bend: float64, (d,), what bounds the curvature: a quarter of the covariance, and the penalty.
        direction: float64, (d, d), one a column.

    Source: Boehning, Multinomial logistic regression algorithm (1992), for the bound.
    """

    penalty: NDArray[np.float64]
    bend: NDArray[np.float64]
    direction: NDArray[np.float64]

    @classmethod
    def of(cls, covariance: NDArray[np.float64], penalty: NDArray[np.float64]) -> Axes:
        """Of inputs with this covariance, (d, d), and a penalty > 0, or a separable class would have no minimum."""
        bend, direction = np.linalg.eigh(covariance / 4 + np.diag(penalty))
        return cls(penalty, np.maximum(bend, penalty.min()), direction)  # no less, but for rounding

    def root(self, power: float) -> NDArray[np.float64]:
        """A power of the bound: (d, d)."""
        found: NDArray[np.float64] = (self.direction * self.bend**power) @ self.direction.T
        return found


def covariance(inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of centred inputs, (n, d): float64, (d, d). Cost: n x d x d products, 0.15 s for 32,000 x 512."""
    found: NDArray[np.float64] = (inputs.T @ inputs / max(1, len(inputs))).astype(np.float64)
    return found


@dataclass(frozen=True)
class Layer:
    """weight float32, (classes, d), and bias float32, (classes,), on centred inputs."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32, (n, classes)."""
        found: NDArray[np.float32] = inputs @ self.weight.T + self.bias
        return found


def first(rows: Rows) -> Layer:
    """Where a fit starts: no weights, and as bias the log of each class's share.

    From a bias of zero, ten epochs would mostly be spent on learning that toilets are rare, and exclude too much.
    """
    counts = np.bincount(rows.targets, weights=rows.weight, minlength=rows.classes)
    bias = np.log((counts + 1) / (counts.sum() + rows.classes))
    return Layer(
        np.zeros((rows.classes, rows.inputs.shape[1]), np.float32), bias.astype(np.float32)
    )


def by_lbfgs(rows: Rows, axes: Axes, start: Layer, max_iterations: int, tolerance: float) -> Layer:
    """The minimum, looked for where all directions are about equally steep, in fewer steps.

    Args:
        rows: what is fitted to.
        axes: of its loss.
        start: where to begin; the solution of a stronger penalty saves half of the iterations.
        max_iterations: at most so many.
        tolerance: the gradient's largest part at which it ends.
    """
    even, shape = axes.root(-0.5), start.weight.shape
    # float64 but for the products with inputs: a loss in float32 stands still before the minimum
    share, every = (
        rows.weight.astype(np.float64) / rows.weight.sum(dtype=np.float64),
        np.arange(len(rows.targets)),
    )

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight, bias = values[: -rows.classes].reshape(shape) @ even, values[-rows.classes :]
        logits = rows.inputs @ weight.T.astype(np.float32) + bias
        logits -= logits.max(axis=1, keepdims=True)
        slope = np.exp(logits)
        total = slope.sum(axis=1, keepdims=True)
        each = np.log(total[:, 0]) - logits[every, rows.targets]
        slope /= total
        slope[every, rows.targets] -= 1
        slope *= share[:, np.newaxis]
        steep = (slope.T.astype(np.float32) @ rows.inputs).astype(
            np.float64
        ) + axes.penalty * weight
        value = float(each @ share) + float((axes.penalty * weight * weight).sum()) / 2
        return value, np.concatenate([(steep @ even).ravel(), slope.sum(axis=0)])

    begin = np.concatenate([(start.weight.astype(np.float64) @ axes.root(0.5)).ravel(), start.bias])
    options = {
        "maxiter": max_iterations,
        "maxcor": _REMEMBERED,
        "gtol": tolerance,
        "ftol": _STANDSTILL,
    }
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options=options).x
    weight, bias = found[: -rows.classes].reshape(shape) @ even, found[-rows.classes :]
    return Layer(weight.astype(np.float32), bias.astype(np.float32))


@contextmanager
def one_thread() -> Iterator[None]:
    """Products are computed by one thread meanwhile: sums split over threads would round by their number."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield

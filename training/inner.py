"""Inner cross-validation: what heads say of listings that they have not seen, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from toiletspark.config import Train
from toiletspark.training.descent import Rows
from toiletspark.training.splits import folds_of

_ENOUGH = 10_000  # rows judged out of fold: L2 and temperature do not hang on more
_MOST = np.log(20.0)  # temperatures lie within a twentieth and twenty


@dataclass(frozen=True)
class Judged:
    """How sure the heads of the folds may be, and how well they then do.

    Attributes:
        temperature: what their logits are divided by.
        loss: weighted mean cross entropy out of fold, at this temperature.
    """

    temperature: float
    loss: float


@dataclass(frozen=True)
class Folds:
    """The inner folds.

    Attributes:
        number: int64, (n,), the fold of each row; -1 where no fold can judge it, since its class is nowhere else.
        used: folds that have a row to judge, as many as are needed; empty where there is nothing to choose.
    """

    number: NDArray[np.int64]
    used: list[int]

    @classmethod
    def of(cls, groups: Sequence[str] | None, rows: Rows, settings: Train) -> Folds:
        """By hash of the group."""
        names = (
            [str(place) for place in range(len(rows.targets))] if groups is None else list(groups)
        )
        number = np.full(len(names), -1)
        if settings.looks_inside:
            number = folds_of(names, settings.inner_folds, settings.seed)
        targets, counts = rows.targets, rows.weight > 0
        for fold in range(settings.inner_folds):
            elsewhere = np.bincount(targets[counts & (number != fold)], minlength=rows.classes) > 0
            number[(number == fold) & ~elsewhere[targets]] = -1
        used = _enough(
            [int((counts & (number == fold)).sum()) for fold in range(settings.inner_folds)]
        )
        return cls(number, used)

    def chosen(self, logits: NDArray[np.float32], rows: Rows) -> tuple[Judged | None, int]:
        """Which candidate does best out of fold, each at the temperature that suits it; of equal ones the first.

        Args:
            logits: float32, (candidates, n, classes), out of fold; the strongest L2 first.
            rows: their classes and weights.

        Returns:
            How it was judged, and its place. Without a fold: None, and the middle one.
        """
        if not self.used:
            return None, len(logits) // 2
        sure = np.isin(self.number, self.used) & (rows.weight > 0)
        targets, weight = rows.targets[sure], rows.weight[sure].astype(np.float64)
        judged = [_judged(one.astype(np.float64), targets, weight) for one in logits[:, sure]]
        place = min(range(len(judged)), key=lambda at: judged[at].loss)
        return judged[place], place


def _enough(rows: list[int]) -> list[int]:
    """The folds that have rows, two of them at least, until `_ENOUGH` rows are judged."""
    there = [fold for fold, count in enumerate(rows) if count]
    judged = np.cumsum([rows[fold] for fold in there])
    return there[: max(2, int((judged < _ENOUGH).sum()) + 1)]


def _judged(
    logits: NDArray[np.float64], labels: NDArray[np.int64], weight: NDArray[np.float64]
) -> Judged:
    divisor = temperature(logits, labels, weight)
    return Judged(divisor, float(_losses(logits / divisor, labels) @ weight / weight.sum()))


def temperature(
    logits: NDArray[np.float64], labels: NDArray[np.int64], weight: NDArray[np.float64]
) -> float:
    """What to divide logits by, so that probabilities are as frequent as they say.

    The least weighted cross entropy; labels count as a little less than sure (n + 1 of n + classes of their class), or
    heads without a mistake would become infinitely sure.

    Args:
        logits: float64, (n, classes), of images that the head has not seen.
        labels: int64, (n,).
        weight: float64, (n,), >= 0.

    Source: Guo et al., On Calibration of Modern Neural Networks (ICML 2017); Platt (1999) for the labels.
    """
    classes = logits.shape[1]
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    doubt = (1 / (counts + classes))[labels]  # what each of the other classes gets
    own = logits[np.arange(len(labels)), labels]
    wanted = ((1 - classes * doubt) * own + doubt * logits.sum(axis=1)) @ weight

    def loss(log_temperature: float) -> float:
        cooled = logits * np.exp(-log_temperature)
        top = cooled.max(axis=1)
        total = np.log(np.exp(cooled - top[:, None]).sum(axis=1)) + top
        return float(total @ weight - wanted * np.exp(-log_temperature))

    found = minimize_scalar(loss, bounds=(-_MOST, _MOST), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def _losses(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross entropy of each row, (n,)."""
    top = logits.max(axis=1)
    total = np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top
    result: NDArray[np.float64] = total - logits[np.arange(len(labels)), labels]
    return result

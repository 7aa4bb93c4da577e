"""Fits a head's final layer to stored embeddings: multinomial logistic regression by torch.

    sum(weight x cross entropy) / sum(weight) + sum(penalty x W^2) / 2    (without the bias)

Inner cross-validation, within the images trained on, chooses L2, temperature and epochs.
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import Linear, Parameter
from torch.nn.functional import cross_entropy, one_hot
from torch.optim import LBFGS, AdamW

from toiletspark.config import Labels, Train
from toiletspark.model.head import Head
from toiletspark.progress import Progress
from toiletspark.training.arrays import Floats, Ints
from toiletspark.training.splits import inner_folds

_LBFGS: dict[str, Any] = {"tolerance_grad": 3e-6, "line_search_fn": "strong_wolfe"}
OnEpoch = Callable[[int, float], None] | None
RowParts = Iterable[tuple[Ints, Floats]]  # numbers of rows, and their embeddings
_SHUFFLED_ROWS = 16_384  # of stored ones, among which AdamW's batches are drawn; 34 MB
_Layers = Sequence[Linear]
_Choice = tuple[float, float, float, int]  # loss, temperature, L2, epochs (1 for L-BFGS)


class FinalLayer(NamedTuple):
    """The layer, already divided by `temperature`."""

    weight: Floats  # (classes, width)
    bias: Floats  # (classes,)
    l2: float
    temperature: float
    epochs: int  # of AdamW; 0 for L-BFGS
    inner_loss: float | None  # cross entropy on the inner folds, if there are any

    def head(self, labels: Labels, backbone_id: str, temperature: float = 1.0) -> Head:
        """The head of this layer, divided by another temperature if it has none of its own."""
        classes, exclude = tuple(labels.classes), tuple(labels.exclude_classes)
        divisor = np.float32(temperature)
        return Head(classes, exclude, backbone_id, self.weight / divisor, self.bias / divisor)


class _Rows(NamedTuple):
    inputs: Tensor  # float32, (n, width), centred and scaled
    labels: Tensor  # int64, (n,), index of the class
    weight: Tensor  # float64, (n,), >= 0

    def where(self, kept: Tensor) -> _Rows:
        return _Rows(*(values[kept] for values in self))


def fit(
    embeddings: Floats,
    labels: Ints,
    classes: int,
    settings: Train,
    progress: Progress | None = None,
    *,
    groups: Sequence[str] | None = None,
    row_weight: Floats | None = None,
    on_epoch: OnEpoch = None,
    stored: RowParts | None = None,
) -> FinalLayer:
    """Fits the layer: the same bytes on any number of cores of one type, whatever the random state.

    Embeddings are divided by one common factor: one per feature would amplify rarely active ones.
    A feature's weights are penalised by its variance, too, so that float16's rounding moves a logit
    less (Bishop, Training with noise is equivalent to Tikhonov regularization, 1995). Rows with one
    name in `groups` stay in one inner fold. `progress` has `steps(settings)`; `on_epoch` gets the
    number and the loss of each epoch. The head's epochs of AdamW read the rows from `stored`, if it
    is given: each once, in any order. Cost: 4 s for 32,000 rows on two cores, three copies of them.
    """
    mean = embeddings.mean(axis=0, dtype=np.float64)
    inputs = embeddings - mean.astype(np.float32)
    variance = np.einsum("nd,nd->d", inputs, inputs, dtype=np.float64) / max(1, len(inputs))
    deviation = float(np.sqrt(variance.mean()))
    scale = deviation if deviation > 1e-6 else np.inf  # constant embeddings become zeros
    inputs /= np.float32(scale)
    weight = np.ones(len(labels)) if row_weight is None else row_weight.astype(np.float64)
    if settings.class_weight == "balanced":
        sums = np.bincount(labels, weights=weight, minlength=classes)
        weight /= np.where(sums > 0, sums, 1)[labels]
    rows = _Rows(*(torch.from_numpy(values) for values in (inputs, labels, weight)))
    fits = _Fits(classes, torch.from_numpy(settings.variance_l2 * variance / scale**2), settings)
    folds = [torch.from_numpy(held) for held in inner_folds(groups, labels, weight, settings)]
    parts = None
    if stored is not None:
        parts = _StoredRows(stored, mean.astype(np.float32), np.float32(scale))
    shown = progress or Progress("fitting", *steps(settings), 1e9, io.StringIO())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums split over threads would be rounded by their number
    try:
        loss, temperature, l2, epochs = fits.choose(rows, folds, shown)
        for layers in islice(fits.rounds(rows, [l2], on_epoch, parts), epochs):
            weights, bias = (values.detach().double() for values in layers[0].parameters())
        bias -= weights @ torch.from_numpy(mean / scale)
    finally:
        torch.set_num_threads(threads)
    shown.at(shown.total, f"l2 {l2:g}")
    divisor = temperature if settings.calibrate else 1.0
    arrays = (weights / (scale * divisor)).float().numpy(), (bias / divisor).float().numpy()
    epochs = epochs if settings.optimizer == "adam" else 0
    return FinalLayer(*arrays, l2, divisor, epochs, loss if folds else None)


def steps(settings: Train) -> tuple[int, str]:
    """The number and the name of the steps of `fit`'s progress: inner folds, then the head."""
    rounds, name = (settings.epochs, "epochs") if settings.optimizer == "adam" else (1, "fits")
    return settings.inner_folds * settings.looks_inside * rounds + 1, name


class _StoredRows(NamedTuple):
    """Rows from files, centred and scaled as the rows in memory are."""

    stored: RowParts
    mean: Floats  # (width,)
    scale: np.float32

    def parts(self, rows: _Rows) -> Iterator[_Rows]:
        """Yields the rows in parts of _SHUFFLED_ROWS and a rest, however the files divide them."""
        numbers = np.empty(0, np.int64)
        inputs = np.empty((0, len(self.mean)), np.float32)
        for more_numbers, embeddings in self.stored:
            numbers = np.concatenate([numbers, more_numbers])
            inputs = np.concatenate([inputs, embeddings])
            while len(numbers) >= _SHUFFLED_ROWS:
                yield self._part(numbers[:_SHUFFLED_ROWS], inputs[:_SHUFFLED_ROWS], rows)
                numbers = numbers[_SHUFFLED_ROWS:]
                inputs = inputs[_SHUFFLED_ROWS:]
        if len(numbers):
            yield self._part(numbers, inputs, rows)

    def _part(self, numbers: Ints, embeddings: Floats, rows: _Rows) -> _Rows:
        """These rows in the order of their numbers, in which they would lie in memory."""
        order = np.argsort(numbers)
        inputs = embeddings[order] - self.mean
        inputs /= self.scale
        chosen = torch.from_numpy(numbers[order])
        return _Rows(torch.from_numpy(inputs), rows.labels[chosen], rows.weight[chosen])


class _Fits(NamedTuple):
    classes: int
    variance_penalty: Tensor  # float64, (width,), on top of L2
    settings: Train

    def choose(self, rows: _Rows, folds: list[Tensor], progress: Progress) -> _Choice:
        """The best L2, and the best epoch before `patience` others; the middle L2 without folds."""
        path = self.settings.l2_path
        rounds = self.settings.epochs if self.settings.optimizer == "adam" else 1
        best: _Choice = (np.inf, 1.0, path[len(path) // 2], rounds)
        runs = [self.rounds(rows.where(~held), path, None) for held in folds]
        with ThreadPoolExecutor(os.cpu_count(), "fold", torch.set_num_threads, (1,)) as pool:
            for number in range(1, rounds * bool(folds) + 1):
                parts = []  # for each fold the logits of each L2
                for held, layers in zip(folds, pool.map(next, runs), strict=True):
                    parts.append([layer(rows.inputs[held]).detach().double() for layer in layers])
                    progress.at((number - 1) * len(folds) + len(parts))
                labels = torch.cat([rows.labels[held] for held in folds])
                weight = torch.cat([rows.weight[held] for held in folds])
                for l2, logits in zip(path, map(torch.cat, zip(*parts, strict=True)), strict=True):
                    divisor = best_temperature(logits, labels, weight)
                    losses = cross_entropy(logits / divisor, labels, reduction="none")
                    loss = float(losses @ weight / weight.sum())
                    best = min(best, (loss, divisor, l2, number), key=lambda choice: choice[0])
                if number - best[3] >= self.settings.patience:
                    break
        return best

    def rounds(
        self,
        rows: _Rows,
        path: list[float],
        on_epoch: OnEpoch,
        stored: _StoredRows | None = None,
    ) -> Iterator[_Layers]:
        """Yields a layer for each L2, strong to weak: once by L-BFGS, after each AdamW epoch."""
        rows = rows._replace(weight=rows.weight / rows.weight.mean())
        layer = Linear(rows.inputs.shape[1], self.classes, device="meta")  # draws no numbers
        layer.weight = Parameter(torch.zeros(layer.weight.shape))
        shares = torch.bincount(rows.labels, rows.weight, self.classes) + 1
        layer.bias = Parameter(torch.log(shares / shares.sum()).float())
        if self.settings.optimizer == "adam":
            runs = [self.epochs(copy.deepcopy(layer), rows, l2, on_epoch, stored) for l2 in path]
            yield from zip(*runs, strict=True)
            return
        layers = []
        for l2 in path:  # each fit starts where the one before ended
            optimizer = LBFGS(layer.parameters(), max_iter=self.settings.max_iterations, **_LBFGS)
            self.step(optimizer, layer, rows, l2)
            layers.append(copy.deepcopy(layer))
        yield layers

    def epochs(
        self,
        layer: Linear,
        rows: _Rows,
        l2: float,
        on_epoch: OnEpoch,
        stored: _StoredRows | None,
    ) -> Iterator[Linear]:
        """Yields the layer after each epoch of AdamW, which trains it in place."""
        free: dict[str, Any] = {"params": layer.bias, "weight_decay": 0.0}
        rate = self.settings.learning_rate
        optimizer = AdamW([{"params": layer.weight}, free], rate, weight_decay=l2)
        order = np.random.default_rng(self.settings.seed)
        for epoch in range(1, self.settings.epochs + 1):
            losses = []
            for part in stored.parts(rows) if stored else [rows]:
                shuffled = torch.from_numpy(order.permutation(len(part.labels)))
                for batch in torch.split(shuffled, self.settings.batch_size):
                    losses.append(self.step(optimizer, layer, part.where(batch), 0.0))
            if on_epoch:
                on_epoch(epoch, float(np.mean(losses)))
            yield layer

    def step(self, optimizer: Any, layer: Linear, rows: _Rows, l2: float) -> float:
        """One step of AdamW, or all of L-BFGS; returns the loss before."""
        penalty = l2 + self.variance_penalty

        def loss() -> Tensor:
            optimizer.zero_grad()
            losses = cross_entropy(layer(rows.inputs), rows.labels, reduction="none").double()
            total = losses @ rows.weight / len(losses) + (penalty * layer.weight**2).sum() / 2
            total.backward()  # type: ignore[no-untyped-call]
            return total

        return float(optimizer.step(loss).detach())


def best_temperature(logits: Tensor, labels: Tensor, weight: Tensor) -> float:
    """The divisor of out-of-fold logits with the least cross entropy (Guo et al., ICML 2017).

    A label of a class with n images is (n + 1) / (n + classes) sure (Platt, 1999), or heads without
    a mistake would become infinitely sure.
    """
    classes = logits.shape[1]
    doubt = (1 / (torch.bincount(labels, minlength=classes) + classes).double())[labels, None]
    targets = (doubt + one_hot(labels, classes) * (1 - classes * doubt)) * weight[:, None]

    def loss(log_temperature: float) -> float:
        return float(cross_entropy(logits / np.exp(log_temperature), targets, reduction="sum"))

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(best.x))

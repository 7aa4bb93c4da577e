"""Fits a final layer to embeddings of the frozen backbone: multinomial logistic regression.

How strongly it is held back (L2), how long Adam goes on and how sure it may be (temperature) is found by inner
cross-validation: heads that have not seen a listing say what they think of it. What is held out for evaluation has no
part in it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Train
from toiletspark.progress import Progress
from toiletspark.training.adam import Fleet, by_adam
from toiletspark.training.descent import (
    EXACT,
    ROUGH,
    Axes,
    Layer,
    Rows,
    by_lbfgs,
    covariance,
    first,
    one_thread,
)
from toiletspark.training.inner import Folds, Judged

_LEAST_DEVIATION = (
    1e-6  # embeddings that do not vary say nothing; dividing by their deviation would
)


Told = Callable[[int, float], None]


class FinalLayer(NamedTuple):
    """A final layer, and how it came about.

    Attributes:
        weight: float32, (classes, 512).
        bias: float32, (classes,).
        l2: what was asked for, or chosen.
        temperature: what the logits were divided by; it is in weight and bias already.
        epochs: those of Adam after which it was taken; 0 for L-BFGS.
        inner_loss: cross entropy out of fold, with this L2 and temperature; None where there was no inner fold.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    l2: float
    temperature: float
    epochs: int
    inner_loss: float | None


def fit(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    settings: Train,
    progress: Progress,
    *,
    groups: Sequence[str] | None = None,
    row_weight: NDArray[np.float32] | None = None,
    told: Told = lambda epoch, loss: None,
) -> FinalLayer:
    """Trains the final layer.

    Embeddings are centred and divided by one number while fitting, so that one learning rate and one L2 suit every
    backbone, and that is folded into the layer afterwards: the head itself takes embeddings as they are stored. Each
    feature keeps its own spread: dividing it away would lend a voice to features that hardly ever light up.

    Beside L2 a feature's weights are held back by its variance: that spreads a decision over many features, so that
    errors in proportion to their values, such as the store's rounding to float16, move a logit less. (By the variance
    and not by the square, which holds all back where features lie far from zero, as with random weights.)
    Source: Bishop, Training with noise is equivalent to Tikhonov regularization (1995).

    Args:
        embeddings: float32, (n, 512).
        labels: int64, (n,), index of the class.
        classes: how many.
        settings: see [train] in conf/base.toml.
        progress: told after each epoch of Adam, or each inner fold and the fit itself; see `steps`.
        groups: n names; rows of one name stay in one inner fold. Without, each row is its own.
        row_weight: float32, (n,), >= 0; how much each row counts, as where an image is there in several views.
        told: hears the number of each epoch of Adam and its loss; L-BFGS has none.

    Returns:
        The layer; the same for the same input, settings, NumPy and kind of processor, whatever NumPy's global seed and
        the number of cores.

    Cost: with the defaults 32,000 rows take about 4 s on two cores, and two copies of the embeddings.
    """
    mean = embeddings.mean(axis=0, dtype=np.float64).astype(np.float32)
    inputs = embeddings - mean
    deviation = float(
        np.sqrt(np.einsum("nd,nd->d", inputs, inputs).mean(dtype=np.float64) / max(1, len(inputs)))
    )
    spread = np.float32(deviation if deviation > _LEAST_DEVIATION else np.inf)
    inputs /= spread
    variance = np.einsum("nd,nd->d", inputs, inputs, dtype=np.float64) / max(1, len(inputs))
    with one_thread():
        weight = _weights(labels, classes, settings, row_weight)
        rows = Rows(inputs, labels, weight, classes, settings.variance_l2 * variance)
        folds = Folds.of(groups, rows, settings)
        by = {"lbfgs": _by_lbfgs, "adam": _by_adam}[settings.optimizer]
        layer, judged, l2, epochs = by(rows, folds, settings, progress, told)
    temperature = judged.temperature if judged and settings.calibrate else 1.0
    unscaled = layer.weight / spread
    bias = layer.bias - unscaled @ mean
    scale, loss = np.float32(temperature), judged.loss if judged else None
    return FinalLayer(unscaled / scale, bias / scale, l2, temperature, epochs, loss)


def plain_fit(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
    settings: Train,
    like: FinalLayer,
) -> FinalLayer:
    """A fit beside the head's own, with what that one has found: its L2 and its temperature, without inner folds."""
    plain = settings.model_copy(update={"l2": like.l2, "calibrate": False})
    silent = Progress("fitting", *steps(plain), 1e9, io.StringIO())
    layer, scale = fit(embeddings, labels, classes, plain, silent), np.float32(like.temperature)
    return layer._replace(weight=layer.weight / scale, bias=layer.bias / scale)


def steps(settings: Train) -> tuple[int, str]:
    """How many steps `fit` tells its progress of, and what they are called."""
    if settings.optimizer == "adam":
        return settings.epochs, "epochs"
    return settings.inner_folds * settings.looks_inside + 1, "fits"


def _weights(
    labels: NDArray[np.int64], classes: int, settings: Train, row_weight: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """What each row counts: float32, (n,), 1 on average over what counts at all."""
    weight = np.ones(len(labels)) if row_weight is None else row_weight.astype(np.float64)
    if settings.class_weight == "balanced":
        of_class = np.bincount(labels, weights=weight, minlength=classes)
        weight = weight / np.where(of_class > 0, of_class, 1)[labels]
    scaled: NDArray[np.float32] = (weight * (np.count_nonzero(weight) / weight.sum())).astype(
        np.float32
    )
    return scaled


_Fitted = tuple[Layer, Judged | None, float, int]


def _by_lbfgs(rows: Rows, folds: Folds, settings: Train, progress: Progress, _: Told) -> _Fitted:
    """A path of L2 from strong to weak in each fold, each fit beginning where the last one ended."""
    path, spread = settings.l2_path, covariance(rows.inputs)
    axes = [Axes.of(spread, l2 + rows.held) for l2 in path]

    def out_of_fold(fold: int) -> list[NDArray[np.float32]]:
        kept, found = rows.only(folds.number != fold), []
        layer, held = first(kept), folds.number == fold
        for one in axes:
            layer = by_lbfgs(kept, one, layer, settings.max_iterations, ROUGH)
            found.append(layer.logits(rows.inputs[held]))
        return found

    logits = np.zeros((len(path), len(rows.targets), rows.classes), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (fold, found) in enumerate(
            zip(folds.used, pool.map(out_of_fold, folds.used), strict=True), 1
        ):
            logits[:, folds.number == fold] = np.stack(found)
            progress.at(done)
    judged, place = folds.chosen(logits, rows)
    layer = by_lbfgs(rows, axes[place], first(rows), settings.max_iterations, EXACT)
    progress.at(progress.total, f"l2 {path[place]:g}")
    return layer, judged, path[place], 0


def _by_adam(rows: Rows, folds: Folds, settings: Train, progress: Progress, heard: Told) -> _Fitted:
    """The fit itself and those of all folds and L2 side by side; what they say out of fold ends it early."""
    path, everything = settings.l2_path, np.ones(len(rows.targets), dtype=bool)
    kept = np.repeat(
        [everything, *(folds.number != fold for fold in folds.used)], len(path), axis=0
    )
    fleet = Fleet(np.tile(np.array(path, np.float32), 1 + len(folds.used)), kept)
    best: _Fitted | None = None
    pace = (settings.epochs, settings.batch_size, settings.learning_rate, settings.seed)
    for epoch, (layers, losses) in enumerate(by_adam(rows, fleet, *pace), 1):
        logits = np.zeros((len(path), len(rows.targets), rows.classes), np.float32)
        for at, layer in enumerate(layers[len(path) :]):
            held = folds.number == folds.used[at // len(path)]
            logits[at % len(path), held] = layer.logits(rows.inputs[held])
        judged, place = folds.chosen(logits, rows)
        if best is None or judged is None or best[1] is None or judged.loss < best[1].loss:
            best = (layers[place], judged, path[place], epoch)
        heard(epoch, float(losses[place]))
        progress.at(epoch, f"loss {losses[place]:.4f}")
        if judged and epoch - best[3] >= settings.patience:
            break
    if best is None:
        raise ValueError("Adam needs an epoch at least")
    progress.at(progress.total)
    return best

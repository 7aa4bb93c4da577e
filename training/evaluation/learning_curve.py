"""The learning curve: what fewer labels would have given, so that people know whether more are worth their time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Config
from toiletspark.hashing import hash_fraction
from toiletspark.model.head import Head
from toiletspark.progress import Progress
from toiletspark.sampling.estimates import Bootstrap, Difference
from toiletspark.sampling.evaluation_sample import Draw, choose_evaluation_sample
from toiletspark.training.dataset import TrainingSet
from toiletspark.training.fit import FinalLayer, plain_fit

_LITTLE = 0.005  # of accuracy: what a further step of labelling would have to give to be worth it
_LIKELY = 0.5  # heads are compared where a class is the more probable one, whatever the policy's threshold
Bools = NDArray[np.bool_]


def learning_curve(
    head: Head,
    examples: TrainingSet,
    labels: NDArray[np.int64],
    held: Bools,
    config: Config,
    kinds: Mapping[str, Draw],
    layer: FinalLayer,
) -> dict[str, Any]:
    """Heads fitted to nested shares of the listings that are trained on, judged on the same held-out images.

    Args:
        head: what all of them gave; the point at 1.0.
        examples: all labelled images.
        labels: int64, (n,), index of the class.
        held: bool, (n,), held out.
        config: train.learning_curve, and how to fit.
        kinds: what the draws were, see `evaluation_sample.describe_draws`.
        layer: the head's, whose L2 and temperature serve all shares, so that each is one plain fit.

    Returns:
        points (share, labels, and accuracy, recall, precision for the catalog with their intervals, of exclusion
        scores of at least 0.5), sentence. A share without a label of some class has no point.

    Cost: a fit a share; a quarter, a half and three quarters together one and a half times the fit to all.
    """
    shares = config.train.learning_curve
    stand = choose_evaluation_sample(
        [draw for draw, out in zip(examples.draw, held.tolist(), strict=True) if out], kinds
    )
    unseen = examples.where(held).where(stand.rows)
    judge = _Judge(
        unseen,
        stand.weights(examples.weight[held]),
        np.isin(np.array(unseen.label), head.exclude_classes),
    )
    progress = Progress("learning curve", len(shares), "fits", config.progress.line_every_s)
    points, right = [], []
    for number, share in enumerate(shares, 1):
        within = ~held & nested(examples.listing_id, share, config.train.seed)
        if len(np.unique(labels[within])) == len(head.classes):
            one = (
                head
                if share == 1.0
                else _fitted(head, layer, examples.embeddings[within], labels[within], config)
            )
            out = one.exclusion_scores(one.probabilities(unseen.embeddings)) >= np.float32(_LIKELY)
            points.append({"share": share, "labels": int(within.sum()), **judge.figures(out)})
            right.append(out == judge.to_exclude)
        progress.at(number)
    progress.close()
    return {"points": points, "sentence": _sentence(points, judge.last_step(right))}


def nested(listing_ids: list[str], share: float, seed: int) -> Bools:
    """Which images lie in a share of the listings: bool, (n,). By hash, so a larger share holds the smaller ones."""
    return np.array(
        [hash_fraction(seed, f"curve:{listing}") < share for listing in listing_ids], dtype=bool
    )


class _Judge:
    """The images on which all points are judged."""

    def __init__(self, unseen: TrainingSet, weight: NDArray[np.float64], to_exclude: Bools) -> None:
        self.to_exclude = to_exclude
        self._everything = np.ones_like(to_exclude)
        self._bootstrap = Bootstrap(unseen.stratum, unseen.listing_id, weight)

    def figures(self, out: Bools) -> dict[str, Any]:
        """accuracy, recall and precision of decisions, each with its interval."""
        parts = {
            "accuracy": (out == self.to_exclude, self._everything),
            "recall": (out & self.to_exclude, self.to_exclude),
            "precision": (out & self.to_exclude, out),
        }
        shares = {name: self._bootstrap.share(part, whole) for name, (part, whole) in parts.items()}
        return {
            name: {"value": one.value, "low": one.low, "high": one.high}
            for name, one in shares.items()
        }

    def last_step(self, right: list[Bools]) -> Difference | None:
        """By how much the last point is more accurate than the one before; None where there are not two."""
        if len(right) < 2:
            return None
        return self._bootstrap.difference(
            (right[-1], self._everything), (right[-2], self._everything)
        )


def _fitted(
    head: Head,
    layer: FinalLayer,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    config: Config,
) -> Head:
    plain = plain_fit(embeddings, labels, len(head.classes), config.train, layer)
    return dataclasses.replace(head, weight=plain.weight, bias=plain.bias)


def _sentence(points: list[dict[str, Any]], step: Difference | None) -> str:
    """Whether more labelling is worth it, by the paired difference of the last step."""
    if step is None or step.value is None:
        return "There are too few labels for a learning curve."
    before, after = (f"{100 * point['share']:g}" for point in points[-2:])
    grown = f"{100 * step.value:+.1f} points ({100 * step.low:+.1f} to {100 * step.high:+.1f})"
    told = f"From {before} to {after} % of the labels, accuracy changed by {grown}"
    if step.low > 0:
        return f"{told}: more labels are worth it."
    if step.high < _LITTLE:
        return f"{told}: more labels of the same kind would change little."
    return f"{told}: the held-out images are too few to tell whether more labels are worth it."

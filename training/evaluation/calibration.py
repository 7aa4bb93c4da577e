"""Calibration: of images with a score of 0.8, eight in ten should be ones to exclude."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.sampling.estimates import Bootstrap
from toiletspark.training.evaluation.predictions import Predictions

_BINS = 10


def calibration(
    predictions: Predictions, bootstrap: Bootstrap, temperature: float | None
) -> dict[str, Any]:
    """The reliability diagram of the exclusion scores, with and without the head's temperature.

    Args:
        predictions: of the images that stand for the whole.
        bootstrap: of the same.
        temperature: the divisor of the layer's logits; None if there was none.

    Returns:
        temperature; after: `bins` and `ece` of the scores; before: of those without the
        temperature, or None.
    """
    after = reliability(predictions.scores, predictions.to_exclude, bootstrap)
    if temperature is None:
        return {"temperature": None, "after": after, "before": None}
    head = predictions.head
    undone = replace(head, weight=head.weight * temperature, bias=head.bias * temperature)
    scores = undone.exclusion_scores(undone.probabilities(predictions.examples.embeddings))
    before = reliability(scores, predictions.to_exclude, bootstrap)
    return {"temperature": temperature, "after": after, "before": before}


def reliability(
    scores: NDArray[np.float32], to_exclude: NDArray[np.bool_], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Ten bins of equal width, and the expected calibration error.

    Args:
        scores: float32, (n,), [0, 1].
        to_exclude: bool, (n,), by label.

    Returns:
        bins that hold an image: low, high (of the bin), n, share (of all, weighted), mean_score
        (weighted), to_exclude (an `estimates.Share`). ece: the mean distance of score and share
        over the bins, weighted by their shares; None without an image.

    Source: Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian
    binning, AAAI 2015.
    """
    bin_of = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    used = np.unique(bin_of).tolist()
    if not used:
        return {"bins": [], "ece": None}
    inside = np.stack([bin_of == index for index in used])
    shares = bootstrap.shares(np.broadcast_to(to_exclude, inside.shape), inside)
    everything = bootstrap.total(np.ones(len(scores), dtype=bool))
    bins: list[dict[str, Any]] = []
    for index, rows, share in zip(used, inside, shares, strict=True):
        bins.append(
            {
                "low": index / _BINS,
                "high": (index + 1) / _BINS,
                "n": share.n,
                "share": bootstrap.total(rows) / everything,
                "mean_score": bootstrap.mean(scores, rows),
                "to_exclude": asdict(share),
            }
        )
    ece = sum(row["share"] * abs(row["mean_score"] - row["to_exclude"]["value"]) for row in bins)
    return {"bins": bins, "ece": float(ece)}

"""Calibration: of images with a score of 0.8, eight in ten should be ones to exclude."""

from dataclasses import replace

import numpy as np

from toiletspark.sampling.estimates import Bootstrap
from toiletspark.sampling.evaluation import Bin, Calibration, Reliability
from toiletspark.training.arrays import Bools, Floats
from toiletspark.training.evaluation.predictions import Predictions

_BINS = 10


def calibration(
    predictions: Predictions, bootstrap: Bootstrap, temperature: float | None
) -> Calibration:
    """The reliability diagram of the exclusion scores, with and without the head's temperature.

    `predictions` and `bootstrap` are of the images that stand for the whole.
    """
    after = reliability(predictions.scores, predictions.to_exclude, bootstrap)
    if temperature is None:
        return Calibration(None, after, None)
    head = predictions.head
    undone = replace(head, weight=head.weight * temperature, bias=head.bias * temperature)
    scores = undone.exclusion_scores(undone.probabilities(predictions.examples.embeddings))
    before = reliability(scores, predictions.to_exclude, bootstrap)
    return Calibration(temperature, after, before)


def reliability(scores: Floats, to_exclude: Bools, bootstrap: Bootstrap) -> Reliability:
    """Ten bins of equal width, and the expected calibration error.

    That is the mean distance of score and share over the bins, weighted by their shares. `scores`:
    (n,), [0, 1]; `to_exclude`: (n,), by label.

    Source: Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian
    binning, AAAI 2015.
    """
    bin_of = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    used = np.unique(bin_of).tolist()
    if not used:
        return Reliability([], None)
    inside = np.stack([bin_of == index for index in used])
    shares = bootstrap.shares(np.broadcast_to(to_exclude, inside.shape), inside)
    everything = bootstrap.total(np.ones(len(scores), dtype=bool))
    bins: list[Bin] = []
    for index, rows, share in zip(used, inside, shares, strict=True):
        part, mean = bootstrap.total(rows) / everything, bootstrap.mean(scores, rows)
        bins.append(Bin(index / _BINS, (index + 1) / _BINS, share.n, part, mean, share))
    ece = sum(row.share * abs(row.mean_score - (row.to_exclude.value or 0.0)) for row in bins)
    return Reliability(bins, float(ece))

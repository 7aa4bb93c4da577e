"""Whether scores are probabilities: of images with a score of 0.8, are eight in ten to be excluded?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.sampling.estimates import Bootstrap
from toiletspark.training.evaluation.predictions import Answers

_BINS = 10


def calibration(
    answers: Answers, bootstrap: Bootstrap, temperature: float | None
) -> dict[str, Any]:
    """The reliability diagram of the head's exclusion scores, and of what they were without its temperature.

    Args:
        answers: of the images that stand for the whole.
        bootstrap: of the same.
        temperature: by which the layer's logits were divided when it was made; None if by nothing.

    Returns:
        temperature; after: `bins` and `ece` of the scores as they are; before: of those without the temperature, or
        None.
    """
    after = reliability(answers.scores, answers.to_exclude, bootstrap)
    if temperature is None:
        return {"temperature": None, "after": after, "before": None}
    head = answers.head
    undone = type(head)(
        **{**head.__dict__, "weight": head.weight * temperature, "bias": head.bias * temperature}
    )
    scores = undone.exclusion_scores(undone.probabilities(answers.examples.embeddings))
    return {
        "temperature": temperature,
        "after": after,
        "before": reliability(scores, answers.to_exclude, bootstrap),
    }


def reliability(
    scores: NDArray[np.float32], to_exclude: NDArray[np.bool_], bootstrap: Bootstrap
) -> dict[str, Any]:
    """Ten bins of equal width, and the expected calibration error.

    Args:
        scores: float32, (n,), [0, 1].
        to_exclude: bool, (n,), by label.
        bootstrap: their weights.

    Returns:
        bins: those that hold an image: low, high (of the bin), n, share (of all, weighted), mean_score (weighted),
        to_exclude (the share that is, an `estimates.Share`). ece: the mean distance of score and share over the bins,
        weighted by their shares; None without an image.

    Source: Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    place = np.minimum((scores * _BINS).astype(int), _BINS - 1)
    held = [bin_ for bin_ in range(_BINS) if (place == bin_).any()]
    if not held:
        return {"bins": [], "ece": None}
    inside = np.stack([place == bin_ for bin_ in held])
    found = bootstrap.shares(np.broadcast_to(to_exclude, inside.shape), inside)
    everything = bootstrap.total(np.ones(len(scores), dtype=bool))
    bins: list[dict[str, Any]] = []
    for bin_, rows, share in zip(held, inside, found, strict=True):
        total = bootstrap.total(rows)
        mean = bootstrap.mean(scores, rows)
        edges = {"low": bin_ / _BINS, "high": (bin_ + 1) / _BINS}
        bins.append(
            {
                **edges,
                "n": share.n,
                "share": total / everything,
                "mean_score": mean,
                "to_exclude": asdict(share),
            }
        )
    ece = sum(one["share"] * abs(one["mean_score"] - one["to_exclude"]["value"]) for one in bins)
    return {"bins": bins, "ece": float(ece)}

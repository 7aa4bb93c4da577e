"""A head's predictions for held-out images, beside their labels: the basis of all figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from toiletspark.model.head import Head, excluded
from toiletspark.sampling.estimates import Bootstrap, Ratio
from toiletspark.sampling.evaluation_sample import Draw, EvaluationSample, choose_evaluation_sample
from toiletspark.training.arrays import Bools, Floats, Ints
from toiletspark.training.dataset import TrainingSet


@dataclass(frozen=True)
class Predictions:
    """A head's predictions; all of length n."""

    head: Head
    examples: TrainingSet
    labels: Ints  # (n,), index of the class
    probabilities: Floats  # (n, classes)
    scores: Floats  # (n,), exclusion scores
    operating_threshold: float  # [0, 1]; excluded when exclusion_score >= it

    @cached_property
    def to_exclude(self) -> Bools:
        """By label: bool, (n,)."""
        classes = [self.head.classes.index(name) for name in self.head.exclude_classes]
        return np.isin(self.labels, classes)

    @cached_property
    def excluded(self) -> Bools:
        """By score: bool, (n,)."""
        return excluded(self.scores, self.operating_threshold)

    @cached_property
    def predicted_class(self) -> Ints:
        """The most probable class: int64, (n,)."""
        likeliest: Ints = self.probabilities.argmax(axis=1)
        return likeliest

    @property
    def is_right_class(self) -> Bools:
        """True where the most probable class is the label: (n,)."""
        right: Bools = self.predicted_class == self.labels
        return right

    def where(self, rows: Bools) -> Predictions:
        """The rows that are True: bool, (n,)."""
        kept = self.labels[rows], self.probabilities[rows], self.scores[rows]
        return Predictions(self.head, self.examples.where(rows), *kept, self.operating_threshold)


def drawn_rows(
    examples: TrainingSet, draws: Mapping[str, Draw], seed: int = 0
) -> tuple[EvaluationSample, TrainingSet, Bootstrap]:
    """The images that figures are computed on, and their weighted resampling."""
    sample = choose_evaluation_sample(examples.draw, draws)
    images = examples.where(sample.rows)
    weight = sample.weights(examples.weight)
    return sample, images, Bootstrap(images.stratum, images.listing_id, weight, seed=seed)


def ratios_of(out: Bools, wanted: Bools) -> dict[str, Ratio]:
    """The part and the whole of each share of decisions; both bool, (n,), True = excluded.

    `out` is by score, `wanted` by label.
    """
    hits = out & wanted
    return {
        "accuracy": (out == wanted, np.ones_like(out)),
        "precision": (hits, out),
        "recall": (hits, wanted),
        "good_images_lost": (out & ~wanted, ~wanted),
    }


def predict(
    head: Head, examples: TrainingSet, labels: Ints, operating_threshold: float
) -> Predictions:
    """The head's predictions from the embeddings of held-out images."""
    probabilities = head.probabilities(examples.embeddings)
    scores = head.exclusion_scores(probabilities)
    return Predictions(head, examples, labels, probabilities, scores, operating_threshold)

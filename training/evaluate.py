"""What a head is worth on images that it has not seen: excluded against kept, and class by class."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.head import Head
from toiletspark.thresholds import excluded, validate


def evaluate(
    head: Head, embeddings: NDArray[np.float32], labels: NDArray[np.int64], operating_threshold: float
) -> dict[str, Any]:
    """Validation figures of a head.

    Args:
        head: what is judged.
        embeddings: float32, (n, 512), held out.
        labels: int64, (n,), index of the class.
        operating_threshold: [0, 1]; excluded when exclusion_score >= it.

    Returns:
        accuracy, precision, recall (of excluded against kept, null where undefined), n, positives, and
        class_accuracy: the share of images whose most probable class is their label.
    """
    probabilities = head.probabilities(embeddings)
    decided = excluded(head.exclusion_scores(probabilities), operating_threshold)
    to_exclude = np.isin(labels, [head.classes.index(name) for name in head.exclude_classes])
    right = probabilities.argmax(axis=1) == labels
    return {
        **dataclasses.asdict(validate(decided, to_exclude)),
        "class_accuracy": float(right.mean()) if len(right) else None,
    }

"""What a naive split would have claimed: by image, so that photos of one home are on both sides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Config
from toiletspark.model.head import Head
from toiletspark.training.dataset import TrainingSet
from toiletspark.training.evaluation.evaluate import naive
from toiletspark.training.fit import FinalLayer, plain_fit
from toiletspark.training.splits import held_out

_KEPT = ("accuracy", "precision", "recall", "good_images_lost", "class_accuracy", "n")


def naive_split(
    examples: TrainingSet,
    labels: NDArray[np.int64],
    layer: FinalLayer,
    operating_threshold: float,
    config: Config,
) -> dict[str, Any]:
    """The figures of a head that was fitted and judged on images held out one by one.

    Of no use but as a warning, beside the honest ones. With the L2 that was chosen for the head itself, and its
    temperature, so that it is one plain fit.

    Returns:
        accuracy, precision, recall, good_images_lost, class_accuracy, n: unweighted, as `evaluate.naive` has them.
    """
    held = held_out(examples.image_id, config.train.validation_share, config.train.seed)
    classes = config.labels.classes
    plain = plain_fit(examples.embeddings[~held], labels[~held], len(classes), config.train, layer)
    head = Head(
        tuple(classes), tuple(config.labels.exclude_classes), "naive", plain.weight, plain.bias
    )
    figures = naive(head, examples.embeddings[held], labels[held], operating_threshold)
    return {name: figures[name] for name in _KEPT}

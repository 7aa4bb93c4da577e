"""What a naive split would have claimed: by image, so that photos of one home are on both sides."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Config
from toiletspark.head import Head
from toiletspark.progress import Progress
from training.dataset import TrainingSet
from training.evaluate import evaluate
from training.fit import FinalLayer, fit, steps
from training.splits import held_out

_KEPT = ("accuracy", "precision", "recall", "n")


def naive_split(examples: TrainingSet, labels: NDArray[np.int64], layer: FinalLayer, config: Config) -> dict[str, Any]:
    """The figures of a head that was fitted and judged on images held out one by one.

    Of no use but as a warning, beside the honest ones. With the L2 that was chosen for the head itself, and its
    temperature, so that it is one plain fit.

    Returns:
        accuracy, precision, recall, n: unweighted, as they are of `evaluate`.
    """
    held = held_out(examples.image_id, config.train.validation_share, config.train.seed)
    plain = config.train.model_copy(update={"l2": layer.l2, "calibrate": False})
    silent = Progress("fitting", *steps(plain), 1e9, io.StringIO())
    naive = fit(examples.embeddings[~held], labels[~held], len(config.labels.classes), plain, silent)
    told = (tuple(config.labels.classes), tuple(config.labels.exclude_classes), "naive")
    scale = np.float32(layer.temperature)
    head = Head(*told, naive.weight / scale, naive.bias / scale)
    figures = evaluate(head, examples.embeddings[held], labels[held], config.publish.operating_threshold)
    return {name: figures[name] for name in _KEPT}

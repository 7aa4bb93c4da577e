"""The learning curve: would more labels help? And the figures of a split by image."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from toiletspark.config import Config
from toiletspark.hashing import hash_fraction
from toiletspark.model.head import Head, excluded
from toiletspark.progress import Progress
from toiletspark.sampling.estimates import Difference
from toiletspark.sampling.evaluation import LearningCurve, LearningPoint
from toiletspark.sampling.evaluation_sample import Draw
from toiletspark.training.arrays import Bools, Floats, Ints
from toiletspark.training.dataset import TrainingSet
from toiletspark.training.evaluation.evaluate import unweighted
from toiletspark.training.evaluation.predictions import drawn_rows, predict, ratios_of
from toiletspark.training.fit import FinalLayer, fit
from toiletspark.training.splits import held_out

_LITTLE = 0.005  # gain in accuracy below which labelling is not worth it
_LIKELY = 0.5  # the threshold here, whatever the policy's is


def learning_curve(
    head: Head,
    examples: TrainingSet,
    labels: Ints,
    held: Bools,
    config: Config,
    kinds: Mapping[str, Draw],
    layer: FinalLayer,
) -> LearningCurve:
    """Fits heads to nested shares of the listings, and judges them on the same held-out images.

    A share without a label of some class has no point. `head` is the point at 1.0, and the L2 and
    the temperature of its `layer` serve all shares.

    Args:
        examples: all labelled images, n of them; `held` are held out.
        labels: (n,), index of the class.
        kinds: see `evaluation_sample.describe_draws`.

    Cost: a fit a share, in proportion to its size.
    """
    shares = config.train.learning_curve
    _, unseen, bootstrap = drawn_rows(examples.where(held), kinds)
    to_exclude = np.isin(np.array(unseen.label), head.exclude_classes)
    progress = Progress("learning curve", len(shares), "fits", config.progress.line_every_s)
    points, right = [], []
    for number, share in enumerate(shares, 1):
        rows = ~held & nested(examples.listing_id, share, config.train.seed)
        if len(np.unique(labels[rows])) == len(head.classes):
            fitted = head
            if share < 1.0:
                fitted = _fitted(layer, examples.embeddings[rows], labels[rows], config)
            scores = fitted.exclusion_scores(fitted.probabilities(unseen.embeddings))
            out = excluded(scores, _LIKELY)
            ratios = ratios_of(out, to_exclude)
            names = ("accuracy", "recall", "precision")
            figures = {name: bootstrap.share(*ratios[name]) for name in names}
            points.append(LearningPoint(share, int(rows.sum()), **figures))
            right.append(ratios["accuracy"])
        progress.at(number)
    progress.close()
    last_step = bootstrap.difference(right[-1], right[-2]) if len(right) > 1 else None
    return LearningCurve(points, _sentence([point.share for point in points], last_step))


def nested(listing_ids: list[str], share: float, seed: int) -> Bools:
    """True for images in a share of the listings: (n,). A larger share holds the smaller ones."""
    fractions = [hash_fraction(seed, f"curve:{listing}") for listing in listing_ids]
    return np.array(fractions) < share


def image_split_baseline(
    examples: TrainingSet,
    labels: Ints,
    layer: FinalLayer,
    operating_threshold: float,
    config: Config,
) -> dict[str, Any]:
    """Unweighted figures of a head that was fitted and judged on images held out one by one.

    A warning beside the real figures: photos of one home are on both sides of this split. The head
    has the L2 and the temperature of `layer`.
    """
    held = held_out(examples.image_id, config.train.validation_share, config.train.seed)
    head = _fitted(layer, examples.embeddings[~held], labels[~held], config)
    figures = unweighted(predict(head, examples.where(held), labels[held], operating_threshold))
    del figures["positives"]
    return figures


def _fitted(like: FinalLayer, embeddings: Floats, labels: Ints, config: Config) -> Head:
    """A head with the L2 and the temperature of another layer: one fit, without inner folds."""
    plain = config.train.model_copy(update={"l2": like.l2, "calibrate": False})
    layer = fit(embeddings, labels, len(config.labels.classes), plain)
    return layer.head(config.labels, "", like.temperature)


def _sentence(shares: list[float], step: Difference | None) -> str:
    """Says if more labels are worth it, by the paired difference of the last step."""
    if step is None or step.value is None:
        return "There are too few labels for a learning curve."
    before, after = (f"{100 * share:g}" for share in shares[-2:])
    change = f"{100 * step.value:+.1f} points ({100 * step.low:+.1f} to {100 * step.high:+.1f})"
    if step.low > 0:
        verdict = "more labels are worth it."
    elif step.high < _LITTLE:
        verdict = "more labels of the same kind would change little."
    else:
        verdict = "the held-out images are too few to tell whether more labels are worth it."
    return f"From {before} to {after} % of the labels, accuracy changed by {change}: {verdict}"

"""Figures of the whole catalog, estimated from the held-out images that were drawn at random.

Weights are design weights (Horvitz and Thompson), adjusted for nonresponse (`design_weights`);
intervals are clustered by listing, see `estimates.Bootstrap`. `figures_of` names the population
that the figures stand for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Config
from toiletspark.model.head import Head, excluded
from toiletspark.sampling.estimates import Bootstrap, half_width
from toiletspark.sampling.evaluation_sample import Draw, EvaluationSample, choose_evaluation_sample
from toiletspark.training.dataset import TrainingSet
from toiletspark.training.evaluation.calibration import calibration
from toiletspark.training.evaluation.curves import curves
from toiletspark.training.evaluation.predictions import Predictions, predict

Ratio = tuple[NDArray[np.bool_], NDArray[np.bool_]]  # the part and the whole of a share
_SHORT = ("accuracy", "precision", "recall", "good_images_lost", "class_accuracy")


def evaluate(
    head: Head,
    examples: TrainingSet,
    labels: NDArray[np.int64],
    kinds: Mapping[str, Draw],
    operating_threshold: float,
    config: Config,
    temperature: float | None = None,
) -> dict[str, Any]:
    """All figures of a head, as JSON without NaN; shares are `estimates.Share`s: value, low, high,
    n.

    Args:
        examples: held-out images, n of them.
        labels: int64, (n,), index of the class.
        kinds: see `evaluation_sample.describe_draws`.
        operating_threshold: [0, 1]; excluded when exclusion_score >= it.
        config: sample.max_half_width, report.max_mistakes, train.seed.
        temperature: the divisor of the head's logits; None if there was none.

    Returns:
        figures_of: catalog, part of the catalog (a sample of a part of it), unlabelled images (a
        queue), or labelled images (not drawn at random: unweighted).
        draw: run_id, kind, rows (on which the figures rest), outside (further held-out rows), said
        (`Draw.note`). n, positives, listings.
        shares: accuracy, precision, recall, good_images_lost, class_accuracy (the most probable
            class is the label).
        naive: the same without weights, of all held-out rows, plain numbers; n, positives.
        curves, calibration, per_class, per_stratum, confusion, mistakes (of all held-out rows): see
        the functions.

    Cost: 8,000 images of as many listings: 1.5 s, 150 MB.
    """
    everything = predict(head, examples, labels, operating_threshold)
    on = choose_evaluation_sample(examples.draw, kinds)
    predictions = everything.where(on.rows)
    bootstrap = predictions.bootstrap(on, config.train.seed)
    right_class = predictions.predicted_class == predictions.labels
    class_accuracy = (right_class, np.ones_like(right_class))
    return {
        **_standing(on, predictions, head),
        "operating_threshold": predictions.operating_threshold,
        "shares": _shares(bootstrap, {**_figures(predictions), "class_accuracy": class_accuracy}),
        "naive": unweighted(head, examples.embeddings, labels, everything.operating_threshold),
        "curves": curves(predictions.scores, predictions.to_exclude, bootstrap),
        "calibration": calibration(predictions, bootstrap, temperature),
        "per_class": _per_class(predictions, bootstrap),
        "max_half_width": config.sample.max_half_width,
        "per_stratum": _per_stratum(predictions, bootstrap, config.sample.max_half_width),
        "confusion": _confusion(predictions, bootstrap),
        "mistakes": worst_mistakes(everything, config.report.max_mistakes),
    }


def short(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The main figures of an evaluation, for manifests and summaries.

    Returns:
        accuracy, precision, recall, good_images_lost, class_accuracy (null if undefined), n,
        positives, held_out (all held-out rows), figures_of, and intervals, [low, high] by name of
        the figure.
    """
    shares, draw = evaluation["shares"], evaluation["draw"]
    return {
        **{name: shares[name]["value"] for name in _SHORT},
        "n": evaluation["n"],
        "positives": evaluation["positives"],
        "held_out": draw["rows"] + draw["outside"],
        "figures_of": evaluation["figures_of"],
        "intervals": {name: [shares[name]["low"], shares[name]["high"]] for name in _SHORT},
    }


def unweighted(
    head: Head,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    operating_threshold: float,
) -> dict[str, Any]:
    """Plain figures of held-out embeddings: every image counts once.

    Returns:
        accuracy, precision, recall, good_images_lost, class_accuracy (null if undefined), n,
        positives.
    """
    probabilities = head.probabilities(embeddings)
    decided = excluded(head.exclusion_scores(probabilities), operating_threshold)
    to_exclude = np.isin(labels, [head.classes.index(name) for name in head.exclude_classes])
    right = probabilities.argmax(axis=1) == labels
    return {
        **validate(decided, to_exclude),
        "good_images_lost": _mean(decided[~to_exclude]),
        "class_accuracy": _mean(right),
    }


def validate(decided: NDArray[np.bool_], labelled: NDArray[np.bool_]) -> dict[str, Any]:
    """Figures of decisions against labels, both bool, (n,), True = excluded; shares are None if
    undefined.

    >>> import numpy as np
    >>> validate(np.array([True, True, False, False]), np.array([True, False, True, False]))
    {'accuracy': 0.5, 'precision': 0.5, 'recall': 0.5, 'n': 4, 'positives': 2}
    """
    return {
        "accuracy": _mean(decided == labelled),
        "precision": _mean(labelled[decided]),
        "recall": _mean(decided[labelled]),
        "n": len(labelled),
        "positives": int(labelled.sum()),
    }


def _mean(rows: NDArray[np.bool_]) -> float | None:
    return float(rows.mean()) if len(rows) else None


def _standing(on: EvaluationSample, predictions: Predictions, head: Head) -> dict[str, Any]:
    examples = predictions.examples
    rows = len(predictions.labels)
    return {
        "head_id": head.head_id,
        "backbone_id": head.backbone_id,
        "classes": list(head.classes),
        "exclude_classes": list(head.exclude_classes),
        "figures_of": on.population,
        "draw": {
            "run_id": on.run_id,
            "kind": on.kind,
            "rows": rows,
            "outside": len(on.rows) - rows,
            "said": on.draw.note if on.draw else "",
        },
        "n": rows,
        "positives": int(predictions.to_exclude.sum()),
        "listings": len(set(zip(examples.stratum, examples.listing_id, strict=True))),
    }


def _figures(predictions: Predictions) -> dict[str, Ratio]:
    """The part and the whole of each share of decisions."""
    out, wanted = predictions.excluded, predictions.to_exclude
    return {
        "accuracy": (out == wanted, np.ones_like(out)),
        "precision": (wanted, out),
        "recall": (out, wanted),
        "good_images_lost": (out, ~wanted),
    }


def _shares(bootstrap: Bootstrap, ratios: dict[str, Ratio]) -> dict[str, Any]:
    """An `estimates.Share` as JSON for each ratio."""
    parts = np.stack([part for part, _ in ratios.values()])
    wholes = np.stack([whole for _, whole in ratios.values()])
    shares = bootstrap.shares(parts, wholes)
    return {name: asdict(share) for name, share in zip(ratios, shares, strict=True)}


def _per_class(predictions: Predictions, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """For each class: class, n (labels), said (most probable for so many), precision, recall."""
    rows = []
    for index, name in enumerate(predictions.head.classes):
        predicted, labelled = predictions.predicted_class == index, predictions.labels == index
        ratios = {"precision": (labelled, predicted), "recall": (predicted, labelled)}
        counts = {"n": int(labelled.sum()), "said": int(predicted.sum())}
        rows.append({"class": name, **counts, **_shares(bootstrap, ratios)})
    return rows


def _per_stratum(
    predictions: Predictions, bootstrap: Bootstrap, max_half_width: float
) -> list[dict[str, Any]]:
    """Figures of each stratum, the largest part of the catalog first.

    Returns:
        stratum, n, listings, positives, share (of all, weighted), thin; accuracy, recall,
        good_images_lost, each None if so few listings have such images that it could be almost
        anything (`estimates.half_width`). A stratum is thin if that is so of its accuracy.
    """
    listing = np.unique(predictions.examples.listing_id, return_inverse=True)[1]
    names, stratum = np.unique(predictions.examples.stratum, return_inverse=True)
    ratios = _figures(predictions)
    del ratios["precision"]
    total = bootstrap.total(np.ones_like(predictions.excluded))
    strata: list[dict[str, Any]] = []
    for index, name in enumerate(names.tolist()):
        rows = stratum == index
        within = {figure: (part, whole & rows) for figure, (part, whole) in ratios.items()}
        known = {
            figure: ratio
            for figure, ratio in within.items()
            if not _thin(listing[ratio[1]], max_half_width)
        }
        shares = _shares(bootstrap, known) if known else {}
        strata.append(
            {
                "stratum": name,
                "n": int(rows.sum()),
                "listings": len(np.unique(listing[rows])),
                "positives": int(predictions.to_exclude[rows].sum()),
                "share": bootstrap.total(rows) / total,
                "thin": "accuracy" not in shares,
                **{figure: shares.get(figure) for figure in ratios},
            }
        )
    return sorted(strata, key=lambda row: (-row["share"], row["stratum"]))


def _thin(listings: NDArray[np.intp], max_half_width: float) -> bool:
    """True if so few listings mean almost nothing; how many more there are is unknown."""
    width = half_width(len(np.unique(listings)), len(listings), np.inf)
    return width is None or width > max_half_width


def _confusion(predictions: Predictions, bootstrap: Bootstrap) -> dict[str, Any]:
    """Rows by label, columns by most probable class, both in the order of the classes.

    Returns:
        counts: images. shares: of all, weighted; they add up to 1.
    """
    classes = range(len(predictions.head.classes))
    labelled = [predictions.labels == index for index in classes]
    predicted = [predictions.predicted_class == index for index in classes]
    cells = [[row & column for column in predicted] for row in labelled]
    total = bootstrap.total(np.ones_like(predictions.excluded)) or 1.0
    return {
        "counts": [[int(cell.sum()) for cell in row] for row in cells],
        "shares": [[bootstrap.total(cell) / total for cell in row] for row in cells],
    }


def worst_mistakes(predictions: Predictions, most: int) -> list[dict[str, Any]]:
    """The mistakes of which the head was surest, for people to look at; some are wrong labels.

    Args:
        predictions: of all held-out images.
        most: of each kind.

    Returns:
        kind (missed: to exclude, and kept; lost: a good image, excluded; confused: on the right
        side, but another class is more probable than its label), image_id, listing_id, stratum,
        content_digest, label, said (the most probable class), exclusion_score, probabilities by
        class. Kinds in this order, the surest first in each.
    """
    out, wanted = predictions.excluded, predictions.to_exclude
    confused = (wanted == out) & (predictions.predicted_class != predictions.labels)
    kinds: dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]] = {
        "missed": (wanted & ~out, -predictions.scores),
        "lost": (~wanted & out, predictions.scores),
        "confused": (confused, predictions.probabilities.max(axis=1)),
    }
    mistakes = []
    for kind, (rows, sureness) in kinds.items():
        numbers = np.flatnonzero(rows)
        surest = numbers[np.argsort(-sureness[numbers], kind="stable")][:most]
        mistakes += [_mistake(predictions, kind, row) for row in surest.tolist()]
    return mistakes


def _mistake(predictions: Predictions, kind: str, row: int) -> dict[str, Any]:
    classes, examples = predictions.head.classes, predictions.examples
    names = ("image_id", "listing_id", "stratum", "content_digest", "label")
    probabilities = predictions.probabilities[row].astype(float).tolist()
    return {
        "kind": kind,
        **{name: getattr(examples, name)[row] for name in names},
        "said": classes[int(predictions.predicted_class[row])],
        "exclusion_score": float(predictions.scores[row]),
        "probabilities": dict(zip(classes, probabilities, strict=True)),
    }

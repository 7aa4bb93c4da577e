"""Figures of the whole catalog, estimated from the held-out images that were drawn at random.

Weights are design weights (Horvitz and Thompson), adjusted for nonresponse (`design_weights`);
intervals are clustered by listing, see `estimates.Bootstrap`. `figures_of` names the population
that the figures stand for.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Config
from toiletspark.model.head import Head
from toiletspark.sampling import evaluation
from toiletspark.sampling.estimates import Bootstrap, Ratio, Share, half_width
from toiletspark.sampling.evaluation import Evaluation, Mistake
from toiletspark.sampling.evaluation_sample import Draw
from toiletspark.training.arrays import Bools, Floats, Ints
from toiletspark.training.dataset import TrainingSet
from toiletspark.training.evaluation.calibration import calibration
from toiletspark.training.evaluation.curves import curves
from toiletspark.training.evaluation.predictions import Predictions, drawn_rows, predict, ratios_of


def evaluate(
    head: Head,
    examples: TrainingSet,
    labels: Ints,
    kinds: Mapping[str, Draw],
    operating_threshold: float,
    config: Config,
    temperature: float | None = None,
) -> Evaluation:
    """All figures of a head.

    Args:
        examples: held-out images, n of them.
        labels: (n,), index of the class.
        kinds: see `evaluation_sample.describe_draws`.
        operating_threshold: [0, 1]; excluded when exclusion_score >= it.
        temperature: the divisor of the head's logits; None if there was none.

    Cost: 8,000 images of as many listings: 1.5 s, 150 MB.
    """
    everything = predict(head, examples, labels, operating_threshold)
    on, used, bootstrap = drawn_rows(examples, kinds, config.train.seed)
    predictions = everything.where(on.rows)
    rows = len(used.label)
    ratios = ratios_of(predictions.excluded, predictions.to_exclude)
    ratios["class_accuracy"] = (predictions.is_right_class, np.ones(rows, dtype=bool))
    note = on.draw.note if on.draw else ""
    return Evaluation(
        head_id=head.head_id,
        backbone_id=head.backbone_id,
        classes=list(head.classes),
        exclude_classes=list(head.exclude_classes),
        figures_of=on.population,
        draw=evaluation.DrawUsed(on.run_id, on.kind, rows, len(on.rows) - rows, note),
        n=rows,
        positives=int(predictions.to_exclude.sum()),
        listings=len(set(zip(used.stratum, used.listing_id, strict=True))),
        operating_threshold=operating_threshold,
        shares=_shares(bootstrap, ratios),
        naive=unweighted(everything),
        curves=curves(predictions.scores, predictions.to_exclude, bootstrap),
        calibration=calibration(predictions, bootstrap, temperature),
        per_class=_per_class(predictions, bootstrap),
        max_half_width=config.sample.max_half_width,
        per_stratum=_per_stratum(predictions, bootstrap, config.sample.max_half_width),
        confusion=_confusion(predictions, bootstrap),
        mistakes=worst_mistakes(everything, config.report.max_mistakes),
    )


def unweighted(predictions: Predictions) -> dict[str, Any]:
    """Plain figures of predictions: `validate`, and class_accuracy."""
    figures = validate(predictions.excluded, predictions.to_exclude)
    return {**figures, "class_accuracy": _mean(predictions.is_right_class)}


def validate(decided: Bools, labelled: Bools) -> dict[str, Any]:
    """Figures of decisions against labels, both bool, (n,), True = excluded; None if undefined.

    >>> import numpy as np
    >>> validate(np.array([True, True, False]), np.array([True, False, True]))["precision"]
    0.5
    """
    ratios = ratios_of(decided, labelled)
    figures = {name: _mean(part[whole]) for name, (part, whole) in ratios.items()}
    return {**figures, "n": len(labelled), "positives": int(labelled.sum())}


def _mean(rows: Bools) -> float | None:
    return float(rows.mean()) if len(rows) else None


def _shares(bootstrap: Bootstrap, ratios: dict[str, Ratio]) -> dict[str, Share]:
    if not ratios:
        return {}
    parts = np.stack([part for part, _ in ratios.values()])
    wholes = np.stack([whole for _, whole in ratios.values()])
    return dict(zip(ratios, bootstrap.shares(parts, wholes), strict=True))


def _per_class(predictions: Predictions, bootstrap: Bootstrap) -> list[evaluation.ClassFigures]:
    rows = []
    for index, name in enumerate(predictions.head.classes):
        predicted, labelled = predictions.predicted_class == index, predictions.labels == index
        precision = bootstrap.share(labelled, predicted)
        recall = bootstrap.share(predicted, labelled)
        counts = int(labelled.sum()), int(predicted.sum())
        rows.append(evaluation.ClassFigures(name, *counts, precision, recall))
    return rows


def _per_stratum(
    predictions: Predictions, bootstrap: Bootstrap, max_half_width: float
) -> list[evaluation.StratumFigures]:
    """The largest part of the catalog comes first; see `estimates.half_width` for thin ones."""
    listing = np.unique(predictions.examples.listing_id, return_inverse=True)[1]
    names, stratum = np.unique(predictions.examples.stratum, return_inverse=True)
    ratios = ratios_of(predictions.excluded, predictions.to_exclude)
    del ratios["precision"]
    total = bootstrap.total(np.ones_like(predictions.excluded))
    strata: list[evaluation.StratumFigures] = []
    for index, name in enumerate(names.tolist()):
        rows = stratum == index
        within = {figure: (part, whole & rows) for figure, (part, whole) in ratios.items()}
        known = {
            figure: ratio
            for figure, ratio in within.items()
            if not _thin(listing[ratio[1]], max_half_width)
        }
        shares = _shares(bootstrap, known)
        figures = evaluation.StratumFigures(
            stratum=name,
            n=int(rows.sum()),
            listings=len(np.unique(listing[rows])),
            positives=int(predictions.to_exclude[rows].sum()),
            share=bootstrap.total(rows) / total,
            thin="accuracy" not in shares,
            **{figure: shares.get(figure) for figure in ratios},
        )
        strata.append(figures)
    return sorted(strata, key=lambda row: (-row.share, row.stratum))


def _thin(listings: NDArray[np.intp], max_half_width: float) -> bool:
    """True if so few listings mean almost nothing; how many more there are is unknown."""
    width = half_width(len(np.unique(listings)), len(listings), np.inf)
    return width is None or width > max_half_width


def _confusion(predictions: Predictions, bootstrap: Bootstrap) -> evaluation.Confusion:
    classes = range(len(predictions.head.classes))
    labelled = [predictions.labels == index for index in classes]
    predicted = [predictions.predicted_class == index for index in classes]
    cells = [[row & column for column in predicted] for row in labelled]
    total = bootstrap.total(np.ones_like(predictions.excluded)) or 1.0
    counts = [[int(cell.sum()) for cell in row] for row in cells]
    return evaluation.Confusion(
        counts, [[bootstrap.total(cell) / total for cell in row] for row in cells]
    )


def worst_mistakes(predictions: Predictions, most: int) -> list[Mistake]:
    """The mistakes of which the head was surest, for people to look at; some are wrong labels.

    At most `most` of each kind; the kinds follow each other, the surest first in each.
    """
    out, wanted = predictions.excluded, predictions.to_exclude
    confused = (wanted == out) & ~predictions.is_right_class
    kinds: dict[str, tuple[Bools, Floats]] = {
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


def _mistake(predictions: Predictions, kind: str, row: int) -> Mistake:
    classes, examples = predictions.head.classes, predictions.examples
    names = ("image_id", "listing_id", "stratum", "content_digest", "label")
    probabilities = predictions.probabilities[row].astype(float).tolist()
    return Mistake(
        kind,
        **{name: getattr(examples, name)[row] for name in names},
        said=classes[int(predictions.predicted_class[row])],
        exclusion_score=float(predictions.scores[row]),
        probabilities=dict(zip(classes, probabilities, strict=True)),
    )

"""What a head is worth: figures of the whole catalog, estimated from the held-out images that chance has drawn.

Weights are design weights (Horvitz and Thompson), raised for what is not labelled (`design_weights`); intervals are
clustered by listing, see `estimates.Bootstrap`. What the figures are figures of, they say themselves (`figures_of`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Config
from toiletspark.model.head import Head, excluded
from toiletspark.model.thresholds import validate
from toiletspark.sampling.estimates import Bootstrap, half_width
from toiletspark.sampling.evaluation_sample import Draw, EvaluationSample, choose_evaluation_sample
from toiletspark.training.dataset import TrainingSet
from toiletspark.training.evaluation.calibration import calibration
from toiletspark.training.evaluation.curves import curves
from toiletspark.training.evaluation.mistakes import mistakes
from toiletspark.training.evaluation.predictions import Answers, ask

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
    """Everything that is known of a head, as JSON without NaN; shares are `estimates.Share`s: value, low, high, n.

    Args:
        head: what is judged.
        examples: held out from its training, n of them.
        labels: int64, (n,), index of the class.
        kinds: what the draws were, see `evaluation_sample.describe_draws`.
        operating_threshold: [0, 1]; excluded when exclusion_score >= it.
        config: sample.max_half_width, report.max_mistakes, train.seed.
        temperature: by which the head's logits were divided when it was made; None if by nothing.

    Returns:
        figures_of: catalog, part of the catalog (of a sample that does not stand for all of it), unlabelled images (of
        a queue), or labelled images (no chance: unweighted).
        draw: run_id, kind, rows (that the figures rest on), outside (further held-out rows), said (`Draw.note`). n,
        positives, listings.
        shares: accuracy, precision, recall, good_images_lost, class_accuracy (the most probable class is the label).
        naive: the same without weights, of all held-out rows, plain numbers; n, positives.
        curves: see `curves.curves`. calibration: see `reliability.calibration`. classes: see `_per_class`. strata: see
        `_per_stratum`. confusion: see `_confusion`. mistakes: see `mistakes.mistakes`, of all held-out rows.

    Cost: 8,000 images of as many listings: 1.5 s, 150 MB.
    """
    everything = ask(head, examples, labels, operating_threshold)
    on = choose_evaluation_sample(examples.draw, kinds)
    answers = everything.where(on.rows)
    bootstrap = answers.bootstrap(on, config.train.seed)
    return {
        **_standing(on, answers, head),
        "operating_threshold": answers.operating_threshold,
        "shares": _shares(answers, bootstrap),
        "naive": naive(head, examples.embeddings, labels, everything.operating_threshold),
        "curves": curves(answers.scores, answers.to_exclude, bootstrap),
        "calibration": calibration(answers, bootstrap, temperature),
        "per_class": _per_class(answers, bootstrap),
        "max_half_width": config.sample.max_half_width,
        "per_stratum": list(_per_stratum(answers, bootstrap, config.sample.max_half_width)),
        "confusion": _confusion(answers, bootstrap),
        "mistakes": mistakes(everything, config.report.max_mistakes),
    }


def short(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The main figures of an evaluation: what manifests and summaries tell.

    Returns:
        accuracy, precision, recall, good_images_lost, class_accuracy (null where undefined), n, positives, held_out
        (all rows that were), figures_of, and intervals, [low, high] by name of the figure.
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


def naive(
    head: Head,
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    operating_threshold: float,
) -> dict[str, Any]:
    """Plain figures: every image counts once, whoever chose it.

    Args:
        head: what is judged.
        embeddings: float32, (n, 512), held out.
        labels: int64, (n,), index of the class.
        operating_threshold: [0, 1]; excluded when exclusion_score >= it.

    Returns:
        accuracy, precision, recall, good_images_lost, class_accuracy (null where undefined), n, positives.
    """
    probabilities = head.probabilities(embeddings)
    decided = excluded(head.exclusion_scores(probabilities), operating_threshold)
    to_exclude = np.isin(labels, [head.classes.index(name) for name in head.exclude_classes])
    right = probabilities.argmax(axis=1) == labels
    return {
        **asdict(validate(decided, to_exclude)),
        "good_images_lost": float(decided[~to_exclude].mean()) if not to_exclude.all() else None,
        "class_accuracy": float(right.mean()) if len(right) else None,
    }


def _standing(on: EvaluationSample, answers: Answers, head: Head) -> dict[str, Any]:
    n, said = len(answers.labels), on.draw.note if on.draw else ""
    return {
        "head_id": head.head_id,
        "backbone_id": head.backbone_id,
        "classes": list(head.classes),
        "exclude_classes": list(head.exclude_classes),
        "figures_of": on.population,
        "draw": {
            "run_id": on.run_id,
            "kind": on.kind,
            "rows": n,
            "outside": len(on.rows) - n,
            "said": said,
        },
        "n": n,
        "positives": int(answers.to_exclude.sum()),
        "listings": len(
            set(zip(answers.examples.stratum, answers.examples.listing_id, strict=True))
        ),
    }


def _shares(answers: Answers, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    pairs = {
        **_decided(answers),
        "class_accuracy": (answers.said == answers.labels, np.ones_like(answers.excluded)),
    }
    return _named(bootstrap, pairs)


def _decided(answers: Answers) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Of each share of decisions its part and its whole."""
    out, wanted = answers.excluded, answers.to_exclude
    return {
        "accuracy": (out == wanted, np.ones_like(out)),
        "precision": (wanted, out),
        "recall": (out, wanted),
        "good_images_lost": (out, ~wanted),
    }


def _named(
    bootstrap: Bootstrap, pairs: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]
) -> dict[str, Any]:
    parts, wholes = (np.stack([pair[side] for pair in pairs.values()]) for side in (0, 1))
    return {
        name: asdict(share)
        for name, share in zip(pairs, bootstrap.shares(parts, wholes), strict=True)
    }


def _per_class(answers: Answers, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Of each class: class, n (labelled so), said (images for which it is the most probable), precision, recall."""
    found = []
    for index, name in enumerate(answers.head.classes):
        said, is_it = answers.said == index, answers.labels == index
        figures = _named(bootstrap, {"precision": (is_it, said), "recall": (said, is_it)})
        found.append({"class": name, "n": int(is_it.sum()), "said": int(said.sum()), **figures})
    return found


def _per_stratum(
    answers: Answers, bootstrap: Bootstrap, max_half_width: float
) -> Iterator[dict[str, Any]]:
    """Of each stratum, the largest part of the catalog first, what can be claimed of it.

    Returns:
        stratum, n, listings, positives, share (of all, weighted), thin; accuracy, recall, good_images_lost, each None
        where so few listings tell of it that it could be almost anything (`estimates.half_width`). A stratum is thin
        where that is so of its accuracy.
    """
    listing = np.unique(answers.examples.listing_id, return_inverse=True)[1]
    names, place = np.unique(answers.examples.stratum, return_inverse=True)
    pairs = {name: pair for name, pair in _decided(answers).items() if name != "precision"}
    total = bootstrap.total(np.ones_like(answers.excluded))
    strata = []
    for index, name in enumerate(names.tolist()):
        rows = place == index
        within = {figure: (part, whole & rows) for figure, (part, whole) in pairs.items()}
        told = {
            figure: pair
            for figure, pair in within.items()
            if not _thin(listing[pair[1]], max_half_width)
        }
        known = _named(bootstrap, told) if told else {}
        strata.append(
            {
                "stratum": name,
                "n": int(rows.sum()),
                "listings": len(np.unique(listing[rows])),
                "positives": int(answers.to_exclude[rows].sum()),
                "share": bootstrap.total(rows) / total,
                "thin": "accuracy" not in known,
                **{figure: known.get(figure) for figure in pairs},
            }
        )
    yield from sorted(strata, key=lambda row: (-row["share"], row["stratum"]))


def _thin(listings: NDArray[np.intp], max_half_width: float) -> bool:
    """Whether so few listings say almost nothing; how many more the stratum has is not known here."""
    width = half_width(len(np.unique(listings)), len(listings), np.inf)
    return width is None or width > max_half_width


def _confusion(answers: Answers, bootstrap: Bootstrap) -> dict[str, Any]:
    """What was said of what: rows by label, columns by most probable class, both in the order of the classes.

    Returns:
        counts: images. shares: of all, weighted; they add up to 1.
    """
    classes = range(len(answers.head.classes))
    cells = [
        [(answers.labels == label) & (answers.said == said) for said in classes]
        for label in classes
    ]
    total = bootstrap.total(np.ones_like(answers.excluded)) or 1.0
    return {
        "counts": [[int(cell.sum()) for cell in row] for row in cells],
        "shares": [[bootstrap.total(cell) / total for cell in row] for row in cells],
    }

"""The page of a head: what it is worth, how surely that is known, and where it errs.

It takes the evaluation as `training.evaluation.evaluate` tells it and thumbnails, and knows nothing of Spark. As
all pages it is one file that loads nothing and runs nothing; names and ids come from strangers, and the template escapes everything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from toiletspark.reports.head_page import plots
from toiletspark.reports.run_page.page import Card, environment
from toiletspark.sampling.estimates import Share
from toiletspark.sampling.evaluation_sample import CATALOG, LABELLED, PART, UNLABELLED
from toiletspark.tables import storage

EVALUATION = "evaluation.json"  # in a head's folder: what this page is made from
FIGURES = {
    "recall": "of what should be excluded is found",
    "good_images_lost": "of the good images leave the feed",
    "precision": "of what is excluded belongs there",
    "accuracy": "of all images are put on the right side",
    "class_accuracy": "of all images have their own class as the most probable",
}
_MISTAKES = {
    "missed": (
        "Missed",
        "To be excluded, and kept: what people would see. The lowest score first.",
    ),
    "lost": ("Good images lost", "To be kept, and excluded. The highest score first."),
    "confused": (
        "Another class",
        "On the right side, but another class is more probable than the label.",
    ),
}


@dataclass(frozen=True)
class Plot:
    """A plot as the page shows it: heading, what it says in words, and the SVG itself."""

    title: str
    alt: str
    svg: bytes


def write(root: str, evaluation: dict[str, Any], thumbnails: Mapping[str, bytes]) -> str:
    """Writes <root>/reports/head-<run_id>.html and .json; returns where the page lies."""
    place = f"{root}/reports/head-{evaluation['run_id']}"
    # a lone surrogate (a badly decoded name) has no UTF-8 form; it must not cost us the page
    page = render(evaluation, thumbnails).encode("utf-8", errors="backslashreplace")
    storage.replace_bytes(f"{place}.html", page)
    storage.replace_bytes(
        f"{place}.json", (json.dumps(evaluation, indent=1, allow_nan=False) + "\n").encode()
    )
    return f"{place}.html"


def render(evaluation: dict[str, Any], thumbnails: Mapping[str, bytes]) -> str:
    """The page as HTML text.

    Args:
        evaluation: see `training.evaluation.evaluate`, with run_id, trained_on and training_set. Also shown
            where they are there: threshold_reason, champion, learning_curve, naive_split.
        thumbnails: JPEGs of ours by image_id; a mistake without one is shown by its ids.
    """
    thin = [row for row in evaluation["per_stratum"] if row["thin"]]
    return (
        environment()
        .get_template("head_page.html.j2")
        .render(
            {"champion": None, "naive_split": None, "threshold_reason": None, **evaluation},
            headline=_unbroken(headline(evaluation)),
            stands_for=_unbroken(stands_for(evaluation)),
            warnings=list(_warnings(evaluation)),
            meanings=FIGURES,
            plots=_plots(evaluation),
            curve=_learning_curve(evaluation.get("learning_curve")),
            thin=thin,
            claimed=[row for row in evaluation["per_stratum"] if not row["thin"]],
            mistaken=_mistaken(evaluation, thumbnails),
            pictures=bool(thumbnails),
        )
    )


def headline(evaluation: dict[str, Any]) -> str:
    """The one sentence to remember."""
    shares, kind = evaluation["shares"], " or ".join(evaluation["exclude_classes"])
    whose = {
        CATALOG: f"Of the catalog's {kind} photos this head finds",
        PART: f"Of the {kind} photos like those that were drawn and labelled this head finds",
        UNLABELLED: f"Of the {kind} photos that nobody had labelled this head finds",
        LABELLED: f"Of the labelled {kind} photos that it had not seen this head finds",
    }[evaluation["figures_of"]]
    return f"{whose} {_share(shares['recall'])}; of the good photos it loses {_share(shares['good_images_lost'])}."


def stands_for(evaluation: dict[str, Any]) -> str:
    """What the figures are figures of, and from what they come."""
    draw = evaluation["draw"]
    seen = f"{evaluation['n']:,} labelled images of {evaluation['listings']:,} listings that the head has not seen"
    by_draw = f"from {seen}, each counted for as many as the draw {draw['run_id']}{draw.get('said', '')} says"
    said = {
        CATALOG: f"Estimates for the whole catalog {by_draw}.",
        PART: f"Estimates for images like those that were drawn and labelled, not for the whole catalog, {by_draw}.",
        UNLABELLED: f"Estimates for what nobody had labelled before, not for the whole catalog, {by_draw}.",
        LABELLED: f"Figures of {seen}. Chance did not draw them, so nobody knows what they say of the catalog.",
    }[evaluation["figures_of"]]
    brackets = "In brackets: 95 % intervals, for which listings count and not their photos."
    outside = f" {draw['outside']:,} further held-out images are not of this draw: they are in the plain figures only."
    return f"{said} {brackets}{outside if draw['outside'] else ''}"


def _warnings(evaluation: dict[str, Any]) -> list[str]:
    """What a reader must know before any number."""
    found = []
    if evaluation["figures_of"] == LABELLED:
        found.append(
            "No figure here is one of the catalog: none of the held-out images was drawn by chance. "
            "Label images of `toiletspark sample`, and train again."
        )
    if evaluation["figures_of"] == PART:
        draw = evaluation["draw"]
        found.append(
            f"No figure here is one of the whole catalog: it rests on the sample {draw['run_id']}{draw['said']}. "
            "Label all of a sample of all strata, and train again."
        )
    recall = evaluation["shares"]["recall"]
    if recall["value"] is None:
        found.append(
            "None of the images that should be excluded was held out: how many come through is not known."
        )
    elif recall["high"] - recall["low"] > 2 * evaluation["max_half_width"]:
        found.append(
            f"Only {evaluation['positives']:,} images that should be excluded were held out, so how many come through "
            "is hardly known. Label more of them, from more listings."
        )
    return found


def _plots(evaluation: dict[str, Any]) -> list[Plot]:
    """The curves, where both kinds of image are there to draw them from, and the reliability diagram."""
    curves, shares, calibration = (evaluation[name] for name in ("curves", "shares", "calibration"))
    found = []
    if points := curves["points"]:
        precision, area = _share(curves["average_precision"]), _share(curves["roc_auc"])
        found = [
            Plot(
                "Precision and recall",
                f"Average precision {precision}. The curve of precision over recall at all thresholds.",
                plots.precision_recall(points, shares),
            ),
            Plot(
                "Recall and good images lost (ROC)",
                f"Area under the curve {area}: the share of pairs, one to exclude and one to keep, put in order.",
                plots.roc(points, shares),
            ),
        ]
    before = calibration["before"]
    undone = (
        f"; without its temperature of {calibration['temperature']:.2f}: {before['ece']:.3f}"
        if before
        else ""
    )
    alt = (
        f"Expected calibration error {calibration['after']['ece']:.3f}{undone}. "
        "On the dashed line, scores are probabilities."
    )
    return [*found, Plot("Are scores probabilities?", alt, plots.reliability(calibration))]


def _learning_curve(told: dict[str, Any] | None) -> Plot | None:
    if not told:
        return None
    return Plot(
        "Is more labelling worth it?", told["sentence"], plots.learning_curve(told["points"])
    )


def _mistaken(
    evaluation: dict[str, Any], thumbnails: Mapping[str, bytes]
) -> list[tuple[str, str, list[Card]]]:
    """Heading, lead and cards of each kind of mistake that was made."""
    found = []
    for kind, (title, lead) in _MISTAKES.items():
        rows = [row for row in evaluation["mistakes"] if row["kind"] == kind]
        cards = [
            Card(
                row["image_id"],
                row["listing_id"],
                row["exclusion_score"],
                thumbnails.get(row["image_id"]),
                _note(row),
            )
            for row in rows
        ]
        if cards:
            found.append((title, lead, cards))
    return found


def _note(row: dict[str, Any]) -> str:
    return f"labelled {row['label']}; {row['said']} {row['probabilities'][row['said']]:.2f}; {row['stratum']}"


def _unbroken(text: str) -> str:
    """No line ends between a number and its percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _share(told: dict[str, Any]) -> str:
    return str(Share(**told))

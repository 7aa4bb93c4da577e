"""The page of a head: its quality with 95 % intervals, and its mistakes.

As all pages it is one file that loads nothing and runs nothing; names and ids come from strangers,
and the template escapes everything. No Spark.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from toiletspark.reports import html
from toiletspark.reports.head_page import plots
from toiletspark.reports.html import ImageCard
from toiletspark.sampling.evaluation import Evaluation, Mistake
from toiletspark.sampling.evaluation_sample import CATALOG, LABELLED, PART, UNLABELLED

FIGURES = {
    "recall": "of the images to exclude are excluded",
    "good_images_lost": "of the good images leave the feed",
    "precision": "of the excluded images belong there",
    "accuracy": "of all images are put on the right side",
    "class_accuracy": "of all images have their own class as the most probable",
}
_MISSED = "To be excluded, and kept: these would stay in the feed. The lowest score first."
_CONFUSED = "On the right side, but another class is more probable than the label."
_MISTAKES = {
    "missed": ("Missed", _MISSED),
    "lost": ("Good images lost", "To be kept, and excluded. The highest score first."),
    "confused": ("Another class", _CONFUSED),
}


@dataclass(frozen=True)
class Plot:
    """A plot as the page shows it: heading, the same in words, and the SVG."""

    title: str
    alt: str
    svg: bytes


def write(root: str, evaluation: Evaluation, thumbnails: Mapping[str, bytes]) -> str:
    """Writes <root>/reports/head-<run_id>.html and .json; returns the location of the page."""
    location = f"{root}/reports/head-{evaluation.run_id}"
    html.write(f"{location}.html", render(evaluation, thumbnails))
    html.write_json(f"{location}.json", evaluation.as_json())
    return f"{location}.html"


def render(evaluation: Evaluation, thumbnails: Mapping[str, bytes]) -> str:
    """The page as HTML text; a mistake without a thumbnail, by image_id, is shown by its ids."""
    learning = None
    if curve := evaluation.learning_curve:
        svg = plots.learning_curve(curve.points)
        learning = Plot("Is more labelling worth it?", curve.sentence, svg)
    return html.render(
        "head_page.html.j2",
        **vars(evaluation),
        headline=_unbroken(headline(evaluation)),
        population=_unbroken(population(evaluation)),
        warnings=_warnings(evaluation),
        meanings=FIGURES,
        plots=_plots(evaluation),
        curve=learning,
        thin=[row for row in evaluation.per_stratum if row.thin],
        claimed=[row for row in evaluation.per_stratum if not row.thin],
        mistaken=_mistaken(evaluation, thumbnails),
        pictures=bool(thumbnails),
    )


def headline(evaluation: Evaluation) -> str:
    """The one sentence to remember."""
    shares = evaluation.shares
    classes = " or ".join(evaluation.exclude_classes)
    photos = {
        CATALOG: f"the catalog's {classes} photos",
        PART: f"the {classes} photos like those that were drawn and labelled",
        UNLABELLED: f"the {classes} photos that nobody had labelled",
        LABELLED: f"the labelled {classes} photos that it had not seen",
    }[evaluation.figures_of]
    recall, lost = shares["recall"], shares["good_images_lost"]
    return f"Of {photos} this head finds {recall}; of the good photos it loses {lost}."


def population(evaluation: Evaluation) -> str:
    """The images for which the figures are estimates, and the images that they come from."""
    draw = evaluation.draw
    labelled = f"{evaluation.n:,} labelled images of {evaluation.listings:,} listings"
    held_out = f"{labelled} that the head has not seen"
    source = f"from {held_out}, weighted as the draw {draw.run_id}{draw.said} requires"
    sentence = {
        CATALOG: f"Estimates for the whole catalog {source}.",
        PART: "Estimates for images like those that were drawn and labelled, not for the whole "
        f"catalog, {source}.",
        UNLABELLED: "Estimates for the images that nobody had labelled before, not for the whole "
        f"catalog, {source}.",
        LABELLED: f"Figures of {held_out}. They were not drawn at random, so these are no estimates"
        " for the catalog.",
    }[evaluation.figures_of]
    intervals = "95 % intervals, which treat the photos of a listing as one observation."
    text = f"{sentence} In brackets: {intervals}"
    if not draw.outside:
        return text
    outside = f"{draw.outside:,} further held-out images are not of this draw"
    return f"{text} {outside}: they are in the plain figures only."


def _warnings(evaluation: Evaluation) -> list[str]:
    """Sentences that a reader must see before any number."""
    sentences = []
    if evaluation.figures_of == LABELLED:
        sentences.append(
            "No figure here is an estimate for the catalog: none of the held-out images was drawn "
            "at random. Label images of `toiletspark sample`, and train again."
        )
    if evaluation.figures_of == PART:
        draw = evaluation.draw
        sentences.append(
            "No figure here is an estimate for the whole catalog: it rests on the sample "
            f"{draw.run_id}{draw.said}. Label all of a sample of all strata, and train again."
        )
    recall = evaluation.shares["recall"]
    if recall.value is None:
        sentences.append(
            "None of the images that should be excluded was held out: the share that stays in the "
            "feed is not known."
        )
    elif recall.high - recall.low > 2 * evaluation.max_half_width:
        sentences.append(
            f"Only {evaluation.positives:,} images that should be excluded were held out, so "
            "the share that stays in the feed is hardly known. Label more of them, from more "
            "listings."
        )
    return sentences


def _plots(evaluation: Evaluation) -> list[Plot]:
    """The curves, where there are images of both sides, and the reliability diagram."""
    curves, shares, calibration = evaluation.curves, evaluation.shares, evaluation.calibration
    drawn = []
    if points := curves.points:
        alt = (
            f"Average precision {curves.average_precision}. The curve shows both at all thresholds."
        )
        drawn.append(Plot("Precision and recall", alt, plots.precision_recall(points, shares)))
        pairs = "the share of pairs, one to exclude and one to keep, in the right order"
        alt = f"Area under the curve {curves.roc_auc}: {pairs}."
        drawn.append(Plot("Recall and good images lost (ROC)", alt, plots.roc(points, shares)))
    alt = f"Expected calibration error {calibration.after.ece:.3f}"
    if before := calibration.before:
        alt += f"; without its temperature of {calibration.temperature:.2f}: {before.ece:.3f}"
    alt += ". On the dashed line, scores are probabilities."
    return [*drawn, Plot("Are scores probabilities?", alt, plots.reliability(calibration))]


def _mistaken(
    evaluation: Evaluation, thumbnails: Mapping[str, bytes]
) -> list[tuple[str, str, list[ImageCard]]]:
    """Heading, lead and cards of each kind of mistake that was made."""
    groups = []
    for kind, texts in _MISTAKES.items():
        rows = [row for row in evaluation.mistakes if row.kind == kind]
        if rows:
            groups.append((*texts, [_card(row, thumbnails) for row in rows]))
    return groups


def _card(mistake: Mistake, thumbnails: Mapping[str, bytes]) -> ImageCard:
    share = mistake.probabilities[mistake.said]
    return ImageCard(
        mistake.image_id,
        mistake.listing_id,
        mistake.exclusion_score,
        thumbnails.get(mistake.image_id),
        f"labelled {mistake.label}; {mistake.said} {share:.2f}; {mistake.stratum}",
    )


def _unbroken(text: str) -> str:
    """The text without line ends between a number and its percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")

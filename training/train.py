"""Fits a head to the newest training set: `python -m training.train --conf-file mytables.toml`.

Single node, no Spark session, no Java. The training set is what `toiletspark train` gathers on the cluster.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from toiletspark import conf_files, tables
from toiletspark.command import AsJson, ConfFiles, Sets, run_program, show, told_errors
from toiletspark.config import Config
from toiletspark.errors import ConfigError, LabelsError, nearest
from toiletspark.head import Head
from toiletspark.held_out import samples_of, settle
from toiletspark.policies import Settled
from toiletspark.progress import Progress
from toiletspark.runs import Store
from training import champion
from training.dataset import TrainingSet, read
from training.evaluate import evaluate, short
from training.fit import fit
from training.keep import keep
from training.learning_curve import learning_curve
from training.splits import held_out


def train(config: Config) -> dict[str, Any]:
    """Splits by listing, fits, evaluates on the held-out listings, compares with the live head, keeps the head.

    Returns:
        head (its folder), head_id, validation figures, how many rows were used, operating_threshold and
        threshold_reason (what publishing will settle), champion (see `champion.compare`), promoted (whether scoring
        takes the head from now on), and what the learning_curve comes to, if it is asked for.

    Raises:
        LabelsError: a class without a label on either side of the split.
        OutputError: no training set was gathered.
    """
    store = Store.open(config.output.root)
    gathered = store.require(tables.TRAINING_SET, doing="training the head", step="train")
    examples = read(gathered)
    labels = indices(examples, config.labels.classes)
    held = held_out(examples.listing_id, config.train.validation_share, config.train.seed)
    _check_split(labels, held, config)

    progress = Progress("training", config.train.epochs, "epochs", config.progress.line_every_s)
    layer = fit(examples.embeddings[~held], labels[~held], len(config.labels.classes), config.train, progress)
    progress.close()
    head = Head(
        classes=tuple(config.labels.classes),
        exclude_classes=tuple(config.labels.exclude_classes),
        backbone_id=gathered.manifest["inputs"]["backbone_id"],
        weight=layer.weight,
        bias=layer.bias,
    )
    made_with, samples = list(_images(head, examples, held)), samples_of(store)
    settled = _settled(made_with, head, config, samples)
    evaluation: dict[str, Any] = {
        "validation": evaluate(head, examples.embeddings[held], labels[held], settled.operating_threshold),
        "operating_threshold": settled.operating_threshold,
        "threshold_reason": settled.reason,
    }
    if config.train.learning_curve:
        evaluation["learning_curve"] = learning_curve(head, examples, labels, held, config, samples)
    compared = champion.compare(head, settled.operating_threshold, examples.where(held), store, config.publish)
    promotion = champion.promotion(compared, config.train.accept_worse)
    used: dict[str, Any] = {"trained_on": int((~held).sum()), "corrupt": examples.corrupt}
    used["training_data"] = {"rows": len(examples.label), "digest": examples.digest}
    return keep(head, evaluation, promotion, used, made_with, gathered, store, config)


def _settled(made_with: list[dict[str, Any]], head: Head, config: Config, samples: set[str]) -> Settled:
    """The threshold that publishing will come to.

    Where the policy cannot be kept, the head is kept all the same: another policy needs no other head, so it is
    publishing that refuses.
    """
    try:
        return settle(config.publish, made_with, head.exclude_classes, samples)
    except ConfigError as error:
        print(f"toiletspark: {error}", file=sys.stderr)
        reason = f"publish.operating_threshold for now, and publishing will refuse: {error.found}"
        return Settled(config.publish.operating_threshold, reason)


def _images(head: Head, examples: TrainingSet, held: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    """The rows of `tables.HEADS`."""
    scores = head.exclusion_scores(head.probabilities(examples.embeddings))
    names = ("image_id", "listing_id", "stratum", "content_digest", "label", "weight", "draw")
    for place, values in enumerate(zip(*(getattr(examples, name) for name in names), strict=True)):
        score = float(scores[place]) if held[place] else None
        yield {**dict(zip(names, values, strict=True)), "held_out": bool(held[place]), "exclusion_score": score}


def indices(examples: TrainingSet, classes: list[str]) -> NDArray[np.int64]:
    """Labels as indices into the configured classes: int64, (n,).

    Raises:
        LabelsError: another class.
    """
    unknown = sorted(set(examples.label) - set(classes))
    if unknown:
        raise LabelsError(
            doing="training the head",
            expected=f"labels among labels.classes: {', '.join(classes)}",
            found=f"'{unknown[0]}'{nearest(unknown[0], classes)}",
            todo="import the labels again after changing labels.classes",
        )
    return np.array([classes.index(label) for label in examples.label], dtype=np.int64)


def _check_split(labels: NDArray[np.int64], held: NDArray[np.bool_], config: Config) -> None:
    """Each class must be there to be learnt, and there must be something to judge by."""
    counts = {
        name: (int((labels[~held] == index).sum()), int((labels[held] == index).sum()))
        for index, name in enumerate(config.labels.classes)
    }
    if all(train and kept for train, kept in counts.values()):
        return
    raise LabelsError(
        doing="splitting the labels by listing",
        expected="images of every class on both sides",
        found=", ".join(f"{name}: {train} to train, {kept} held out" for name, (train, kept) in counts.items()),
        todo="label more images of the class that lacks them, from more listings; or change train.validation_share "
        "or train.seed",
    )


Page = Annotated[bool, typer.Option(help="Write the head's HTML page, without pictures: these need Spark.")]


def main(conf: ConfFiles = [], sets: Sets = [], page: Page = True, as_json: AsJson = False) -> None:  # noqa: B006
    """Fits a head to the newest training set."""
    with told_errors():
        config = conf_files.load(conf, sets)
        summary = train(config)
        if page:
            evaluation = storage.read_json(f"{summary['head']}/{head_page.EVALUATION}") or {}
            summary["head_report"] = head_page.write(config.output.root, evaluation, {})
    show(summary, as_json)


if __name__ == "__main__":
    run_program(main)

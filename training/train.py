"""Fits a head to the newest training set: `python -m training.train --conf-file mytables.toml`.

Single node, no Spark session, no Java. The training set is what `toiletspark train` gathers on the cluster.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from toiletspark import __version__, conf_files, rows, tables
from toiletspark.command import AsJson, ConfFiles, Sets, run_program, show, told_errors
from toiletspark.config import Config
from toiletspark.errors import LabelsError, nearest
from toiletspark.head import Head
from toiletspark.progress import Progress
from toiletspark.runs import Run, Store, new_run_id
from training.augment import stored_views, with_views
from training.dataset import TrainingSet, read
from training.evaluate import evaluate
from training.finetune import finetune, seen
from training.fit import fit
from training.logbook import Logbook, opened
from training.splits import held_out


def train(config: Config) -> dict[str, Any]:
    """Splits by listing, fits, evaluates on the held-out listings, keeps the head.

    Returns:
        head (its folder), head_id, validation figures, and how many rows were used; finetuned, see `finetune.finetune`.

    Raises:
        LabelsError: a class without a label on either side of the split.
        OutputError: no training set was gathered.
    """
    store = Store.open(config.output.root)
    with opened(config.train.tensorboard, config.recorded()) as book:
        tuned = finetune(config, store, book) if config.train.finetune != "none" else None
        gathered = tuned.run if tuned else store.require(tables.TRAINING_SET, doing="training the head", step="train")
        examples = read(gathered)
        labels = indices(examples, config.labels.classes)
        held = held_out(examples.listing_id, config.train.validation_share, config.train.seed)
        held &= ~seen(store, gathered.manifest["inputs"]["backbone_id"], examples.listing_id)
        _check_split(labels, held, config)
        head = _fitted(config, store, gathered, examples, labels, held, book)
        figures = evaluate(head, examples.embeddings[held], labels[held], config.publish.operating_threshold)
        book.figures("validation", figures)
    kept = _keep(head, figures, examples, held, store, config, gathered.run_id)
    return {**kept, "finetuned": tuned.facts} if tuned else kept


def _fitted(
    config: Config,
    store: Store,
    gathered: Run,
    examples: TrainingSet,
    labels: NDArray[np.int64],
    held: NDArray[np.bool_],
    book: Logbook,
) -> Head:
    """The head that is fitted to what is not held out, and to its views if `train.views` asks for them."""
    backbone_id = gathered.manifest["inputs"]["backbone_id"]
    given = with_views(examples, labels, ~held, stored_views(store, backbone_id, config.train.views))
    progress = Progress("training", config.train.epochs, "epochs", config.progress.line_every_s)
    classes, told = config.labels.classes, partial(book.loss, "loss/head")
    layer = fit(given.embeddings, given.labels, len(classes), config.train, progress, given.row_weight, told)
    progress.close()
    return Head(tuple(classes), tuple(config.labels.exclude_classes), backbone_id, layer.weight, layer.bias)


def _keep(
    head: Head,
    figures: dict[str, Any],
    examples: TrainingSet,
    held: NDArray[np.bool_],
    store: Store,
    config: Config,
    source: str,
) -> dict[str, Any]:
    """Writes the head with its figures and the images that it was made with; the manifest makes it visible."""
    trained_on = int((~held).sum())
    facts = {
        "validation": figures,
        "trained_on": trained_on,
        "corrupt": examples.corrupt,
        "training_set": source,
        "settings": config.train.model_dump(),
        "versions": {
            "toiletspark": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
    run_id = new_run_id()
    folder = store.folder(tables.HEADS, run_id)
    Head(**{**head.__dict__, "facts": facts}).save(folder)
    inputs = {"training_set": source, "head_id": head.head_id, "backbone_id": head.backbone_id}
    told = {"config": config.recorded(), "inputs": inputs, "counts": figures}
    rows.write(store, tables.HEADS, run_id, _images(head, examples, held), **told)
    return {
        "head": folder,
        "head_id": head.head_id,
        "trained_on": trained_on,
        "corrupt": examples.corrupt,
        "validation": figures,
    }


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


def main(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:  # noqa: B006 - Typer's way
    """Fits a head to the newest training set."""
    with told_errors():
        summary = train(conf_files.load(conf, sets))
    show(summary, as_json)


if __name__ == "__main__":
    run_program(main)

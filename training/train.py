"""Fits a head to the newest training set: `python -m training.train --conf-file mytables.toml`.

Single node, no Spark session, no Java. The training set is what `toiletspark train` gathers on the cluster.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator
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
from toiletspark.runs import Store, new_run_id
from training import splits
from training.dataset import TrainingSet, read
from training.evaluate import evaluate
from training.fit import FinalLayer, fit, steps
from training.naive import naive_split

_SWALLOWED = 0.5  # of all images in one group: then near-duplicates are what is wrong
_LABEL_MORE = (
    "label more images of the class that lacks them, from more listings; or change train.validation_share or train.seed"
)


def train(config: Config) -> dict[str, Any]:
    """Splits by groups of listings, fits, evaluates on the held-out groups, keeps the head.

    Returns:
        head (its folder), head_id, validation figures, and how many rows were used.

    Raises:
        LabelsError: a class without a label on either side of the split.
        OutputError: no training set was gathered.
    """
    store = Store.open(config.output.root)
    gathered = store.require(tables.TRAINING_SET, doing="training the head", step="train")
    examples = read(gathered)
    labels = indices(examples, config.labels.classes)
    groups = splits.groups(examples, config.lookalikes.min_cosine)
    held = splits.held_out(groups, config.train.validation_share, config.train.seed)
    _check_split(labels, held, groups, config)
    layer = _fitted(examples, labels, groups, ~held, config)
    head = Head(
        classes=tuple(config.labels.classes),
        exclude_classes=tuple(config.labels.exclude_classes),
        backbone_id=gathered.manifest["inputs"]["backbone_id"],
        weight=layer.weight,
        bias=layer.bias,
    )
    figures = evaluate(head, examples.embeddings[held], labels[held], config.publish.operating_threshold)
    found = {
        "l2": layer.l2,
        "temperature": layer.temperature,
        "epochs": layer.epochs,
        "inner_loss": layer.inner_loss,
        "naive_split": naive_split(examples, labels, layer, config),
    }
    return _keep(head, figures, found, examples, held, store, config, gathered.run_id)


def _fitted(
    examples: TrainingSet, labels: NDArray[np.int64], groups: list[str], rows: NDArray[np.bool_], config: Config
) -> FinalLayer:
    """A layer fitted to some of the rows: bool, (n,)."""
    progress = Progress("training", *steps(config.train), config.progress.line_every_s)
    inside = [group for group, kept in zip(groups, rows, strict=True) if kept]
    classes = len(config.labels.classes)
    layer = fit(examples.embeddings[rows], labels[rows], classes, config.train, progress, groups=inside)
    progress.close()
    return layer


def _keep(
    head: Head,
    figures: dict[str, Any],
    found: dict[str, Any],
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
        **found,
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


def _check_split(labels: NDArray[np.int64], held: NDArray[np.bool_], groups: list[str], config: Config) -> None:
    """Each class must be there to be learnt, and there must be something to judge by."""
    counts = {
        name: (int((labels[~held] == index).sum()), int((labels[held] == index).sum()))
        for index, name in enumerate(config.labels.classes)
    }
    if all(train and kept for train, kept in counts.values()):
        return
    found = ", ".join(f"{name}: {train} to train, {kept} held out" for name, (train, kept) in counts.items())
    todo = _LABEL_MORE
    size = Counter(groups).most_common(1)[0][1] if groups else 0
    if size > len(groups) * _SWALLOWED:
        found += f"; one group of listings that share near-duplicates holds {size} of {len(groups)} images"
        todo = "raise lookalikes.min_cosine if those are different photos, as a backbone without ImageNet's weights "
        todo += "takes them for one; otherwise " + _LABEL_MORE
    raise LabelsError(
        doing="splitting the labels by groups of listings",
        expected="images of every class on both sides",
        found=found,
        todo=todo,
    )


def main(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:  # noqa: B006 - Typer's way
    """Fits a head to the newest training set."""
    with told_errors():
        summary = train(conf_files.load(conf, sets))
    show(summary, as_json)


if __name__ == "__main__":
    run_program(main)

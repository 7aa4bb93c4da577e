"""Fits a head to the newest training set: `python -m training.train --conf-file mytables.toml`.

Single node, no Spark session, no Java. The training set is what `toiletspark train` gathers on the cluster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import platform
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark import __version__, conf_files, rows, tables
from toiletspark.command import AsJson, ConfFiles, Sets, run_program, show, told_errors
from toiletspark.config import Config
from toiletspark.errors import LabelsError, nearest
from toiletspark.golden import GoldenImage
from toiletspark.head import Head
from toiletspark.progress import Progress
from toiletspark.runs import Run, Store, new_run_id
from training.dataset import TrainingSet, read
from training.evaluate import evaluate
from training.fit import fit
from training.splits import held_out


def train(config: Config) -> dict[str, Any]:
    """Splits by listing, fits, evaluates on the held-out listings, keeps the head.

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
    figures = evaluate(head, examples.embeddings[held], labels[held], config.publish.operating_threshold)
    return _keep(head, figures, examples, held, store, config, gathered)


def _keep(
    head: Head,
    figures: dict[str, Any],
    examples: TrainingSet,
    held: NDArray[np.bool_],
    store: Store,
    config: Config,
    gathered: Run,
) -> dict[str, Any]:
    """Writes the images that the head was made with, then its bundle, which seals the folder; then it is visible."""
    made_golden, trained_on = store.run(tables.GOLDEN_IMAGES, gathered.run_id), int((~held).sum())
    golden = [GoldenImage(**row) for row in rows.read(made_golden)]
    facts = {
        "validation": figures,
        "trained_on": trained_on,
        "corrupt": examples.corrupt,
        "training_set": gathered.run_id,
        "training_data": {"rows": len(examples.label), "digest": examples.digest},
        "operating_threshold": config.publish.operating_threshold,
        "threshold_reason": "fixed by publish.operating_threshold",
        "settings": config.train.model_dump(),
        "versions": _versions(),
    }
    if made_golden:
        facts["backbone"] = made_golden.manifest["inputs"]["backbone"]
    run_id = new_run_id()
    folder = rows.write_file(store, tables.HEADS, run_id, _images(head, examples, held))
    digest = dataclasses.replace(head, facts=facts).with_golden(golden).save(folder)
    inputs = {"training_set": gathered.run_id, "head_id": head.head_id, "backbone_id": head.backbone_id}
    store.commit(tables.HEADS, run_id, config=config.recorded(), inputs=inputs, counts=figures)
    return {
        "head": folder,
        "head_id": head.head_id,
        "bundle_digest": digest,
        "golden_images": len(golden),
        "trained_on": trained_on,
        "corrupt": examples.corrupt,
        "validation": figures,
    }


def _versions() -> dict[str, str]:
    """What embeds and scores here, and what did the fit; packages that are not installed are left out."""
    found = {"toiletspark": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "openvino", "numpy", "Pillow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


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

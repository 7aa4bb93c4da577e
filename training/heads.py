"""Trains a head: split, fit, evaluation, comparison with the live head; then the head is saved."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import logging
import platform
from collections.abc import Iterator
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from toiletspark import __version__
from toiletspark.config import Config
from toiletspark.errors import ConfigError, LabelsError, nearest
from toiletspark.model import bundle
from toiletspark.model.golden import GoldenImage
from toiletspark.model.head import Head
from toiletspark.progress import Progress
from toiletspark.publishing.thresholds import Labelled, settle
from toiletspark.sampling import evaluation_sample
from toiletspark.sampling.evaluation import EVALUATION, Evaluation
from toiletspark.sampling.evaluation_sample import Draw
from toiletspark.tables import arrow_io, schemas, storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.training import champion, splits
from toiletspark.training.arrays import Bools, Ints
from toiletspark.training.dataset import TrainingSet, read, stored_views, with_views
from toiletspark.training.evaluation.evaluate import evaluate
from toiletspark.training.evaluation.learning_curve import image_split_baseline, learning_curve
from toiletspark.training.fit import FinalLayer, fit, steps
from toiletspark.training.logbook import Logbook, opened
from toiletspark.training.readers import FittedRows

if TYPE_CHECKING:
    from toiletspark.training.finetune import Finetuned

DOING = "training the head"
_log = logging.getLogger("toiletspark")


def train(config: Config) -> dict[str, Any]:
    """Splits by groups of listings, fits, evaluates, compares with the live head, saves the head.

    Returns the summary of `save_head`, with the facts of `finetune.finetune` under `finetuned`.

    Raises:
        LabelsError: a class without a label on either side of the split.
        OutputError: no training set was gathered.
    """
    store = Store(config.output.root)  # not made here: it must hold what was gathered
    with opened(config.train.tensorboard, config.recorded()) as book:
        if finetuned := _finetuned(config, store, book):
            gathered = finetuned.run
        else:
            gathered = store.require(schemas.TRAINING_SET, doing=DOING, step="train")
        examples = read(gathered)
        labels = indices(examples, config.labels.classes)
        groups = splits.groups(examples, config.lookalikes.min_cosine)
        backbone_id = gathered.inputs.backbone_id
        seen = splits.seen_by_backbone(store, backbone_id, examples.listing_id)
        held = splits.held_out(groups, config.train.validation_share, config.train.seed)
        held &= ~splits.whole_groups(seen, groups)
        _check_split(labels, held, config)
        layer = _fitted(config, store, gathered, examples, labels, groups, held, book)
        head = layer.head(config.labels, backbone_id)
        made_with = list(_images(head, examples, held))
        kinds = evaluation_sample.describe_draws(store, examples.draw, gathered)
        evaluation = _evaluated(head, layer, examples, labels, held, made_with, kinds, config)
        book.figures("validation", evaluation.main_figures())
        book.figures("fit", evaluation.fit)
    unseen = examples.where(held), list(compress(groups, held))
    threshold = evaluation.operating_threshold
    compared = champion.compare(head, threshold, *unseen, kinds, store, config.publish)
    of_catalog = finetuned is None or finetuned.facts["backbone"] is None
    promotion = champion.promotion(compared, config.train.accept_worse, of_catalog=of_catalog)
    summary = save_head(head, evaluation, promotion, made_with, gathered, store, config)
    return {**summary, "finetuned": finetuned.facts} if finetuned else summary


def _finetuned(config: Config, store: Store, book: Logbook) -> Finetuned | None:
    """Fine-tunes a backbone if `train.finetune` says so; only then is torchvision loaded."""
    if config.train.finetune == "none":
        return None
    from toiletspark.training.finetune import finetune

    return finetune(config, store, book)


def _fitted(
    config: Config,
    store: Store,
    gathered: Run,
    examples: TrainingSet,
    labels: Ints,
    groups: list[str],
    held: Bools,
    book: Logbook,
) -> FinalLayer:
    """The layer fitted to the images that are not held out, and to their views, if any."""
    views = stored_views(store, gathered.inputs.backbone_id, config.train.views)
    rows = with_views(examples, labels, ~held, views)
    stored = None
    if config.train.optimizer == "adam" and rows.row_weight is None:  # views lie in other runs
        names = [examples.image_id[image] for image in rows.image.tolist()]
        stored = FittedRows.of(gathered, names, examples.embeddings.shape[1])
    progress = Progress("training", *steps(config.train), config.progress.line_every_s)
    layer = fit(
        rows.embeddings,
        rows.labels,
        len(config.labels.classes),
        config.train,
        progress,
        groups=[groups[image] for image in rows.image.tolist()],
        row_weight=rows.row_weight,
        on_epoch=partial(book.loss, "loss/head"),
        stored=stored,
    )
    progress.close()
    return layer


def _evaluated(
    head: Head,
    layer: FinalLayer,
    examples: TrainingSet,
    labels: Ints,
    held: Bools,
    made_with: list[dict[str, Any]],
    kinds: dict[str, Draw],
    config: Config,
) -> Evaluation:
    """The figures of `evaluate`, and what else the head's page shows."""
    threshold, reason = _threshold(made_with, head, config, kinds)
    temperature = layer.temperature if config.train.calibrate else None
    unseen = examples.where(held), labels[held]
    fit_facts = ("l2", "temperature", "epochs", "inner_loss")
    curve = None
    if config.train.learning_curve:
        curve = learning_curve(head, examples, labels, held, config, kinds, layer)
    return dataclasses.replace(
        evaluate(head, *unseen, kinds, threshold, config, temperature),
        threshold_reason=reason,
        naive_split=image_split_baseline(examples, labels, layer, threshold, config),
        fit={name: getattr(layer, name) for name in fit_facts},
        learning_curve=curve,
        trained_on=int((~held).sum()),
        corrupt=examples.corrupt,
        training_data={"rows": len(examples.label), "digest": examples.digest},
    )


def _threshold(
    made_with: list[dict[str, Any]], head: Head, config: Config, kinds: dict[str, Draw]
) -> tuple[float, str]:
    """The threshold that publishing will use, and why."""
    try:
        is_balanced = config.train.class_weight == "balanced"
        labelled = Labelled(made_with, head.exclude_classes, kinds, is_balanced)
        settled = settle(config.publish, labelled)
        return settled.operating_threshold, settled.reason
    except ConfigError as error:  # the head is saved all the same: a policy can be changed
        _log.warning(error)
        reason = f"publish.operating_threshold for now, and publishing will refuse: {error.found}"
        return config.publish.operating_threshold, reason


def _images(head: Head, examples: TrainingSet, held: Bools) -> Iterator[dict[str, Any]]:
    """The rows of `schemas.HEADS`."""
    scores = head.exclusion_scores(head.probabilities(examples.embeddings))
    columns = (getattr(examples, name) for name in schemas.LABELLED)
    for values, out, score in zip(zip(*columns, strict=True), held, scores, strict=True):
        named = dict(zip(schemas.LABELLED, values, strict=True))
        yield {**named, "held_out": bool(out), "exclusion_score": float(score) if out else None}


def indices(examples: TrainingSet, classes: list[str]) -> Ints:
    """Labels as indices into the configured classes: int64, (n,); a LabelsError for another one."""
    unknown = sorted(set(examples.label) - set(classes))
    if unknown:
        raise LabelsError(
            doing=DOING,
            expected=f"labels among labels.classes: {', '.join(classes)}",
            found=f"'{unknown[0]}'{nearest(unknown[0], classes)}",
            todo="import the labels again after changing labels.classes",
        )
    return np.array([classes.index(label) for label in examples.label], dtype=np.int64)


def _check_split(labels: Ints, held: Bools, config: Config) -> None:
    """Raises a LabelsError unless every class is on both sides of the split."""
    classes = config.labels.classes
    trained = np.bincount(labels[~held], minlength=len(classes))
    kept = np.bincount(labels[held], minlength=len(classes))
    if trained.all() and kept.all():
        return
    counts = zip(classes, trained, kept, strict=True)
    raise LabelsError(
        doing="splitting the labels by groups of listings",
        expected="images of every class on both sides",
        found=", ".join(f"{name}: {train} to train, {out} held out" for name, train, out in counts),
        todo="label more images of the class that lacks them, from more listings; or change "
        "train.validation_share or train.seed",
    )


def save_head(
    head: Head,
    evaluation: Evaluation,
    promotion: dict[str, Any],
    made_with: list[dict[str, Any]],
    gathered: Run,
    store: Store,
    config: Config,
) -> dict[str, Any]:
    """Writes the head's images, evaluation and bundle, then the manifest that makes it visible.

    The comparison with the live head stands in the manifest and in evaluation.json, not in the
    bundle: the same training gives the same bundle, byte for byte.

    Args:
        evaluation: without run_id, training_set and champion.
        promotion: see `champion.promotion`.
        made_with: the rows of `schemas.HEADS`.
        gathered: the training set; its golden images have the same run_id.
    """
    golden_run = store.run(schemas.GOLDEN_IMAGES, gathered.run_id)
    golden = [GoldenImage(**row) for row in arrow_io.read(golden_run)]
    figures = evaluation.main_figures()
    names = ("operating_threshold", "threshold_reason", "trained_on", "corrupt")
    shared = {"validation": figures, **{name: getattr(evaluation, name) for name in names}}
    facts = {
        **shared,
        "fit": evaluation.fit,
        "naive_split": evaluation.naive_split,
        "training_data": evaluation.training_data,
        "settings": config.train.model_dump(),
        "versions": _versions(),
    }
    if golden_run:
        facts["backbone"] = golden_run.inputs.backbone
    run_id = store.new_run_id()
    folder = arrow_io.write_file(store, schemas.HEADS, run_id, made_with)
    compared = promotion["champion"]
    shown = dataclasses.replace(
        evaluation, run_id=run_id, training_set=gathered.run_id, champion=compared
    )
    storage.replace_json(f"{folder}/{EVALUATION}", shown.as_json())
    digest = bundle.write(folder, dataclasses.replace(head, facts=facts).with_golden(golden))
    parts = {**promotion, "head_id": head.head_id, "backbone_id": head.backbone_id}
    inputs = Inputs(training_set=gathered.run_id, **parts)
    counts = {**figures, **evaluation_sample.labelled_counts(gathered)}
    store.commit(schemas.HEADS, run_id, config=config.recorded(), inputs=inputs, counts=counts)
    _log.info(champion.describe(promotion))
    summary = {"head": folder, "head_id": head.head_id, "bundle_digest": digest, **shared}
    summary["golden_images"] = len(golden)
    if evaluation.learning_curve:
        summary["learning_curve"] = evaluation.learning_curve.sentence
    return {**summary, **promotion}


def _versions() -> dict[str, str]:
    """Versions of what embeds, fits and scores; packages that are not installed are left out."""
    versions = {"toiletspark": __version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "openvino", "numpy", "Pillow"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions

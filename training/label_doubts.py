"""Ranks labels by the probability that a head fitted without their listing gives them."""

import warnings
from typing import Any

import numpy as np

from toiletspark.config import Config
from toiletspark.errors import LabelsError
from toiletspark.progress import Progress
from toiletspark.tables import arrow_io, schemas
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.training.arrays import Doubles, Ints
from toiletspark.training.dataset import TrainingSet, read
from toiletspark.training.fit import fit
from toiletspark.training.heads import indices
from toiletspark.training.splits import folds_of

DOING = "looking for doubtful labels"


def second_look(config: Config) -> dict[str, Any]:
    """Ranks all labels of the newest second_look_set and writes the queue.

    Returns looked_at (labels), likely_wrong (cleanlab's count: so far down the queue is worth
    looking) and queue (its folder). Raises a LabelsError, see `out_of_fold`, and an OutputError if
    nothing was gathered.
    """
    store = Store(config.output.root)  # not made here: it must hold what was gathered
    gathered = store.require(schemas.SECOND_LOOK_SET, doing=DOING, step="labels second-look")
    examples = read(gathered)
    labels = indices(examples, config.labels.classes)
    probabilities = out_of_fold(examples, labels, config)
    doubts, likely_wrong = judge(labels, probabilities)
    run = _write(examples, probabilities, doubts, likely_wrong, store, config, gathered)
    return {"looked_at": run.rows, "likely_wrong": likely_wrong, "queue": run.folder}


def out_of_fold(examples: TrainingSet, labels: Ints, config: Config) -> Doubles:
    """Probabilities by a head that has seen no image of the listing: float64, (n, classes).

    Raises a LabelsError if a class has no label outside one of the folds.
    """
    section, classes = config.second_look, config.labels.classes
    folds = folds_of(examples.listing_id, section.folds, section.seed)
    _check_folds(labels, folds, config)
    plain = config.train.model_copy(update={"l2": section.l2, "calibrate": False})
    progress = Progress(DOING, section.folds, "folds", config.progress.line_every_s)
    probabilities = np.zeros((len(labels), len(classes)))
    for fold in range(section.folds):
        held = folds == fold
        layer = fit(examples.embeddings[~held], labels[~held], len(classes), plain)
        head = layer.head(config.labels, "")
        probabilities[held] = head.probabilities(examples.embeddings[held])
        progress.at(fold + 1)
    progress.close()
    # as float32 they add up to 1 only roughly
    exact: Doubles = probabilities / probabilities.sum(axis=1, keepdims=True)
    return exact


def judge(labels: Ints, probabilities: Doubles) -> tuple[Doubles, int]:
    """The doubt about each label by cleanlab, [0, 1], and the number of likely wrong ones.

    Doubt is 1 - normalised margin: the probability of the label, out of fold, against the most
    probable other class. The number is that of confident learning.

    Source: Northcutt, Jiang and Chuang, Confident Learning (JAIR 2021); Kuan and Mueller,
    Model-agnostic label quality scoring to detect real-world label errors (2022).
    """
    with warnings.catch_warnings():
        # about classes without a label, which `_check_folds` has refused
        warnings.simplefilter("ignore")
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        quality = get_label_quality_scores(labels, probabilities, method="normalized_margin")
        issues = find_label_issues(labels, probabilities, n_jobs=1)
    return 1 - quality, int(np.sum(issues))


def _check_folds(labels: Ints, folds: Ints, config: Config) -> None:
    """Raises a LabelsError unless every class has labels outside each fold."""
    number = config.second_look.folds
    for fold in range(number):
        counts = np.bincount(labels[folds != fold], minlength=len(config.labels.classes))
        missing = [name for name, n in zip(config.labels.classes, counts, strict=True) if not n]
        if missing:
            raise LabelsError(
                doing=DOING,
                expected=f"labels of every class outside each of {number} folds of listings",
                found=f"none of {', '.join(missing)} outside fold {fold + 1}; "
                f"{len(labels)} labels in all",
                todo="label more images of that class, from more listings; or change "
                "second_look.seed",
            )


def _write(
    examples: TrainingSet,
    probabilities: Doubles,
    doubts: Doubles,
    likely_wrong: int,
    store: Store,
    config: Config,
    source: Run,
) -> Run:
    """Writes the queue, the most doubtful label first."""
    suggested = [config.labels.classes[index] for index in probabilities.argmax(axis=1)]
    names = ("image_id", "listing_id", "content_digest", "label")
    queue = []
    for rank, row in enumerate(np.argsort(-doubts, kind="stable").tolist(), 1):
        judged = {"reason": "label_doubt", "score": float(doubts[row]), "suggested": suggested[row]}
        named = {name: getattr(examples, name)[row] for name in names}
        queue.append({**named, **judged, "rank": rank})
    labels = source.inputs.labels
    recorded = config.recorded()
    inputs = Inputs(kind="second_look", second_look_set=source.run_id, labels=labels)
    counts = {"likely_wrong": likely_wrong}
    return arrow_io.write(
        store,
        schemas.QUEUES,
        store.new_run_id(),
        queue,
        config=recorded,
        inputs=inputs,
        counts=counts,
    )

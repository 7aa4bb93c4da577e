"""Which labels are most likely wrong.

Every label is judged by a head that was fitted without its listing; the labels that these heads believe least come
first.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Config
from toiletspark.errors import LabelsError
from toiletspark.model.head import Head
from toiletspark.progress import Progress
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, new_run_id
from toiletspark.training.dataset import TrainingSet, read
from toiletspark.training.fit import fit, steps
from toiletspark.training.heads import indices
from toiletspark.training.splits import folds_of

DOING = "looking for doubtful labels"


def second_look(config: Config) -> dict[str, Any]:
    """Ranks all labels of the newest second_look_set and keeps the queue.

    Returns:
        looked_at (labels), likely_wrong (how many of them cleanlab takes for wrong: so far down the queue is worth
        looking), queue (its folder).

    Raises:
        LabelsError: the labels cannot be judged; see `out_of_fold`.
        OutputError: nothing was gathered.
    """
    store = Store.open(config.output.root)
    gathered = store.require(tables.SECOND_LOOK_SET, doing=DOING, step="labels second-look")
    examples = read(gathered)
    labels = indices(examples, config.labels.classes)
    probabilities = out_of_fold(examples, labels, config)
    doubts, likely_wrong = judged(labels, probabilities)
    run = _keep(examples, probabilities, doubts, likely_wrong, store, config, gathered)
    return {"looked_at": run.rows, "likely_wrong": likely_wrong, "queue": run.folder}


def out_of_fold(
    examples: TrainingSet, labels: NDArray[np.int64], config: Config
) -> NDArray[np.float64]:
    """What a head says of each image that has seen no image of its listing: float64, (n, classes), rows add up to 1.

    Raises:
        LabelsError: without one of the folds a class has no label left to learn from.
    """
    section, classes = config.second_look, config.labels.classes
    folds = folds_of(examples.listing_id, section.folds, section.seed)
    _check_folds(labels, folds, config)
    cheap = config.train.model_copy(update={"l2": section.l2, "calibrate": False})
    progress = Progress(DOING, section.folds, "folds", config.progress.line_every_s)
    probabilities = np.zeros((len(labels), len(classes)))
    for fold in range(section.folds):
        held = folds == fold
        silent = Progress("fitting", *steps(cheap), 1e9, io.StringIO())
        layer = fit(examples.embeddings[~held], labels[~held], len(classes), cheap, silent)
        head = Head(
            tuple(classes), tuple(config.labels.exclude_classes), "", layer.weight, layer.bias
        )
        probabilities[held] = head.probabilities(examples.embeddings[held])
        progress.at(fold + 1)
    progress.close()
    exact: NDArray[np.float64] = probabilities / probabilities.sum(
        axis=1, keepdims=True
    )  # they were float32
    return exact


def judged(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int]:
    """How doubtful each label is, and how many of them are likely wrong.

    Args:
        labels: int64, (n,), index of the class.
        probabilities: float64, (n, classes), out of fold.

    Returns:
        doubts: float64, (n,), [0, 1], higher = more doubtful: 1 - cleanlab's label quality (normalised margin: the
        probability of the label against the most probable other class). And cleanlab's count by confident learning.

    Source: Northcutt, Jiang and Chuang, Confident Learning (JAIR 2021); Kuan and Mueller, Model-agnostic label quality
    scoring to detect real-world label errors (2022).
    """
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # it speaks of classes without a label, which `_check_folds` has refused
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores

        quality = get_label_quality_scores(labels, probabilities, method="normalized_margin")
        issues = find_label_issues(labels, probabilities, n_jobs=1)
    return 1 - quality, int(np.sum(issues))


def _check_folds(labels: NDArray[np.int64], folds: NDArray[np.int64], config: Config) -> None:
    """Each class must be there in what each head is fitted to."""
    for fold in range(config.second_look.folds):
        there = set(labels[folds != fold].tolist())
        missing = [name for index, name in enumerate(config.labels.classes) if index not in there]
        if missing:
            raise LabelsError(
                doing=DOING,
                expected=f"labels of every class outside each of {config.second_look.folds} folds of listings",
                found=f"none of {', '.join(missing)} outside fold {fold + 1}; {len(labels)} labels in all",
                todo="label more images of that class, from more listings; or change second_look.seed",
            )


def _keep(
    examples: TrainingSet,
    probabilities: NDArray[np.float64],
    doubts: NDArray[np.float64],
    likely_wrong: int,
    store: Store,
    config: Config,
    source: Run,
) -> Run:
    """The queue, the most doubtful label first."""
    suggested = probabilities.argmax(axis=1)
    queue = [
        {
            "image_id": examples.image_id[place],
            "listing_id": examples.listing_id[place],
            "content_digest": examples.content_digest[place],
            "rank": rank,
            "reason": "label_doubt",
            "score": float(doubts[place]),
            "suggested": config.labels.classes[suggested[place]],
            "label": examples.label[place],
        }
        for rank, place in enumerate(np.argsort(-doubts, kind="stable").tolist(), 1)
    ]
    inputs = Inputs(kind="second_look", second_look_set=source.run_id, labels=source.inputs.labels)
    counts = {"likely_wrong": likely_wrong}
    return rows.write(
        store,
        tables.QUEUES,
        new_run_id(),
        queue,
        config=config.recorded(),
        inputs=inputs,
        counts=counts,
    )

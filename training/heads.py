"""From a training set to a head that is fitted, judged, compared with the live one, and kept."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Config
from toiletspark.errors import ConfigError, LabelsError, nearest
from toiletspark.model.head import Head
from toiletspark.progress import Progress
from toiletspark.publishing.thresholds import Settled, settle
from toiletspark.sampling import evaluation_sample
from toiletspark.sampling.evaluation_sample import Draw
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Run, Store
from toiletspark.training import champion, splits
from toiletspark.training.augment import stored_views, with_views
from toiletspark.training.dataset import TrainingSet, read
from toiletspark.training.evaluation.evaluate import evaluate, short
from toiletspark.training.evaluation.learning_curve import learning_curve
from toiletspark.training.evaluation.naive import naive_split
from toiletspark.training.fit import FinalLayer, fit, steps
from toiletspark.training.keep import keep
from toiletspark.training.logbook import Logbook, opened
from toiletspark.training.tuned import seen

if TYPE_CHECKING:
    from toiletspark.training.finetune import Finetuned


def train(config: Config) -> dict[str, Any]:
    """Splits by groups of listings, fits, evaluates on held-out groups, compares with the live head, keeps the head.

    Returns:
        head (its folder), head_id, validation figures, how many rows were used, operating_threshold and
        threshold_reason (what publishing will settle), champion (see `champion.compare`), promoted (whether scoring
        takes the head from now on), what the learning_curve comes to, if it is asked for; finetuned, see
        `finetune.finetune`.

    Raises:
        LabelsError: a class without a label on either side of the split.
        OutputError: no training set was gathered.
    """
    store = Store.open(config.output.root)
    with opened(config.train.tensorboard, config.recorded()) as book:
        tuned = _finetuned(config, store, book)
        gathered = (
            tuned.run
            if tuned
            else store.require(tables.TRAINING_SET, doing="training the head", step="train")
        )
        examples = read(gathered)
        labels = indices(examples, config.labels.classes)
        groups = splits.groups(examples, config.lookalikes.min_cosine)
        known = seen(store, gathered.inputs.backbone_id, examples.listing_id)
        held = splits.held_out(groups, config.train.validation_share, config.train.seed)
        held &= ~splits.whole_groups(known, groups)
        _check_split(labels, held, config)
        head, layer = _fitted(config, store, gathered, examples, labels, groups, held, book)
        made_with = list(_images(head, examples, held))
        kinds = evaluation_sample.describe_draws(store, examples.draw, gathered)
        evaluation = _evaluated(head, layer, examples, labels, held, made_with, kinds, config)
        book.figures("validation", short(evaluation))
        book.figures("fit", evaluation["fit"])
    unseen, inside = (
        examples.where(held),
        [groups[place] for place in np.flatnonzero(held).tolist()],
    )
    compared = champion.compare(
        head, evaluation["operating_threshold"], unseen, inside, kinds, store, config.publish
    )
    new_backbone = tuned is not None and tuned.facts["backbone"] is not None
    promotion = champion.promotion(compared, config.train.accept_worse, of_catalog=not new_backbone)
    used = {"trained_on": int((~held).sum()), "corrupt": examples.corrupt}
    data = {"rows": len(examples.label), "digest": examples.digest}
    kept = keep(
        head,
        evaluation,
        promotion,
        {**used, "training_data": data},
        made_with,
        gathered,
        store,
        config,
    )
    return {**kept, "finetuned": tuned.facts} if tuned else kept


def _finetuned(config: Config, store: Store, book: Logbook) -> Finetuned | None:
    """A backbone of one's own, if `train.finetune` asks for it; only then is torchvision loaded, 150 MB of it."""
    if config.train.finetune == "none":
        return None
    from toiletspark.training.finetune import finetune

    return finetune(config, store, book)


def _fitted(
    config: Config,
    store: Store,
    gathered: Run,
    examples: TrainingSet,
    labels: NDArray[np.int64],
    groups: list[str],
    held: NDArray[np.bool_],
    book: Logbook,
) -> tuple[Head, FinalLayer]:
    """The head that is fitted to what is not held out, and to its views if `train.views` asks for them."""
    backbone_id, classes = gathered.inputs.backbone_id, config.labels.classes
    given = with_views(
        examples, labels, ~held, stored_views(store, backbone_id, config.train.views)
    )
    inside = [groups[image] for image in given.image.tolist()]
    progress = Progress("training", *steps(config.train), config.progress.line_every_s)
    layer = fit(
        given.embeddings,
        given.labels,
        len(classes),
        config.train,
        progress,
        groups=inside,
        row_weight=given.row_weight,
        told=partial(book.loss, "loss/head"),
    )
    progress.close()
    return Head(
        tuple(classes), tuple(config.labels.exclude_classes), backbone_id, layer.weight, layer.bias
    ), layer


def _evaluated(
    head: Head,
    layer: FinalLayer,
    examples: TrainingSet,
    labels: NDArray[np.int64],
    held: NDArray[np.bool_],
    made_with: list[dict[str, Any]],
    kinds: dict[str, Draw],
    config: Config,
) -> dict[str, Any]:
    """Everything that is known of the head: see `evaluate`, and what else its page shows."""
    settled = _settled(made_with, head, config, kinds)
    threshold, temperature = (
        settled.operating_threshold,
        layer.temperature if config.train.calibrate else None,
    )
    found = {
        **evaluate(head, examples.where(held), labels[held], kinds, threshold, config, temperature),
        "threshold_reason": settled.reason,
        "naive_split": naive_split(examples, labels, layer, threshold, config),
        "fit": {
            name: getattr(layer, name) for name in ("l2", "temperature", "epochs", "inner_loss")
        },
    }
    if config.train.learning_curve:
        found["learning_curve"] = learning_curve(head, examples, labels, held, config, kinds, layer)
    return found


def _settled(
    made_with: list[dict[str, Any]], head: Head, config: Config, kinds: dict[str, Draw]
) -> Settled:
    """The threshold that publishing will come to.

    Where the policy cannot be kept, the head is kept all the same: another policy needs no other head, so it is
    publishing that refuses.
    """
    try:
        return settle(config.publish, made_with, head.exclude_classes, kinds)
    except ConfigError as error:
        print(f"toiletspark: {error}", file=sys.stderr)
        reason = f"publish.operating_threshold for now, and publishing will refuse: {error.found}"
        return Settled(config.publish.operating_threshold, reason)


def _images(head: Head, examples: TrainingSet, held: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    """The rows of `tables.HEADS`."""
    scores = head.exclusion_scores(head.probabilities(examples.embeddings))
    for place, values in enumerate(
        zip(*(getattr(examples, name) for name in tables.LABELLED), strict=True)
    ):
        score = float(scores[place]) if held[place] else None
        yield {
            **dict(zip(tables.LABELLED, values, strict=True)),
            "held_out": bool(held[place]),
            "exclusion_score": score,
        }


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
        doing="splitting the labels by groups of listings",
        expected="images of every class on both sides",
        found=", ".join(
            f"{name}: {train} to train, {kept} held out" for name, (train, kept) in counts.items()
        ),
        todo="label more images of the class that lacks them, from more listings; or change train.validation_share "
        "or train.seed",
    )

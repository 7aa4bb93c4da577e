"""Stored views of labelled images beside the images themselves: for the fit alone, never for a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import View
from toiletspark.model import augmentation as views
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store
from toiletspark.training.dataset import TrainingSet, read_views


class Given(NamedTuple):
    """What a head is fitted to; rows of the images come first, in their order, then those of their views.

    Attributes:
        embeddings: float32, (m, width).
        labels: int64, (m,), index of the class.
        image: int64, (m,), the row of the training set that each one shows: a view belongs to its image's listing.
        row_weight: float32, (m,), all rows of one image add up to 1; None where nothing has a view.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    image: NDArray[np.int64]
    row_weight: NDArray[np.float32] | None


def stored_views(
    store: Store, backbone_id: str, asked: Sequence[View]
) -> dict[str, NDArray[np.float32]]:
    """The views of this backbone that `train.views` asks for, by content digest; see `dataset.read_views`."""
    runs = store.runs(tables.TRAINING_VIEWS) if asked else []
    ours = [run for run in runs if run.inputs.backbone_id == backbone_id]
    return read_views(ours, views.view_names(asked))


def with_views(
    examples: TrainingSet,
    labels: NDArray[np.int64],
    chosen: NDArray[np.bool_],
    stored: Mapping[str, NDArray[np.float32]],
) -> Given:
    """The chosen images with their views; an image counts the same, however many views it has.

    Args:
        examples: all labelled images.
        labels: int64, (n,), index of the class.
        chosen: bool, (n,), what is fitted to; nothing else is taken.
        stored: views by content digest, float32, (views, width).
    """
    images = np.flatnonzero(chosen)
    found = [(image, stored.get(examples.content_digest[image])) for image in images.tolist()]
    seen = [(image, rows) for image, rows in found if rows is not None]
    if not seen:
        return Given(examples.embeddings[images], labels[images], images, None)
    of_views = np.repeat([image for image, _ in seen], [len(rows) for _, rows in seen])
    image = np.concatenate([images, of_views]).astype(np.int64)
    embeddings = np.concatenate([examples.embeddings[images], *(rows for _, rows in seen)])
    rows_of = np.bincount(image, minlength=len(labels))
    return Given(embeddings, labels[image], image, (1 / rows_of[image]).astype(np.float32))

"""The training set, its files and its views, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import View
from toiletspark.hashing import content_digest, settings_digest
from toiletspark.model import augmentation
from toiletspark.tables import schemas
from toiletspark.tables.runs import Run, Store
from toiletspark.training.arrays import Bools, Doubles, Floats, Ints
from toiletspark.training.readers import row_groups

_FLOAT16_BYTES = 2
_NAMES = ("image_id", "listing_id", "stratum", "content_digest", "label", "draw")


@dataclass(frozen=True)
class TrainingSet:
    """Labelled embeddings; all of length n, in the order of image_id.

    Attributes:
        stratum: location x listing type.
        content_digest: of the labelled bytes.
        draw: the runs that drew the images, None for images not drawn at random.
        weight: float64, (n,), > 0; design weights.
        embeddings: float32, (n, width); 512 for ResNet18.
        corrupt: rows left out, because their embedding is missing, of another length or not finite.
    """

    image_id: list[str]
    listing_id: list[str]
    stratum: list[str]
    content_digest: list[str]
    label: list[str]
    draw: list[str | None]
    weight: Doubles
    embeddings: Floats
    corrupt: int

    @property
    def digest(self) -> str:
        """SHA-256 over image_id, content_digest and label of all rows in order."""
        rows = zip(self.image_id, self.content_digest, self.label, strict=True)
        return settings_digest(list(rows))

    def where(self, rows: Bools) -> TrainingSet:
        """The rows that are True: bool, (n,)."""
        named: dict[str, Any] = {name: list(compress(getattr(self, name), rows)) for name in _NAMES}
        return replace(self, **named, weight=self.weight[rows], embeddings=self.embeddings[rows])


@dataclass(frozen=True)
class LabelledImages:
    """Labelled files with their ids; `corrupt` counts the rows left out beside them."""

    image_id: list[str]
    content: list[bytes]
    corrupt: int


def read(run: Run) -> TrainingSet:
    """Reads a run of the training_set or second_look_set table.

    Cost: 1 kB a row in memory as stored, and 2 kB as float32; 40,000 rows take half a second.
    """
    # by length, in one buffer: thousands of small objects would fragment the memory
    packed: dict[int, bytearray] = {}
    rows_of: dict[int, list[int]] = {}
    columns: dict[str, list[Any]] = {name: [] for name in (*_NAMES, "weight")}
    for table in row_groups(run, [*columns, "embedding"]):
        rows = table.column("embedding").to_pylist()
        for row, embedding in enumerate(rows, len(columns["weight"])):
            length = len(embedding or b"")
            packed.setdefault(length, bytearray()).extend(embedding or b"")
            rows_of.setdefault(length, []).append(row)
        for name, values in columns.items():
            values.extend(table.column(name).to_pylist())
    possible = [length for length in rows_of if length and length % _FLOAT16_BYTES == 0]
    usual = max(possible, key=lambda length: len(rows_of[length]), default=0)
    stored = np.frombuffer(packed.pop(usual, b"") if usual else b"", dtype="<f2")
    stored = stored.reshape(-1, max(1, usual // _FLOAT16_BYTES))
    return _arranged(stored, rows_of[usual] if usual else [], columns)


def read_images(run: Run, images_per_batch: int) -> Iterator[LabelledImages]:
    """Yields the files of a training_images run in batches, without missing and altered ones.

    Cost: one row group of the table in memory.
    """
    columns = ("image_id", "content_digest", "content")
    for table in row_groups(run, columns):
        rows = list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))
        for start in range(0, len(rows), images_per_batch):
            part = rows[start : start + images_per_batch]
            sound = {
                name: file for name, digest, file in part if file and content_digest(file) == digest
            }
            yield LabelledImages([*sound], [*sound.values()], len(part) - len(sound))


def read_views(runs: Iterable[Run], names: list[str]) -> dict[str, Floats]:
    """Reads stored views from training_views runs of one backbone.

    Returns:
        By content digest, float32, (views, width), in the order of `names`; finite ones only.
    """
    stored: dict[str, dict[str, Floats]] = {}
    columns = ("content_digest", "view", "embedding")
    for table in (table for run in runs for table in row_groups(run, columns)):
        rows = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
        for digest, view, embedding in rows:
            vector = np.frombuffer(embedding or b"", dtype="<f2").astype(np.float32)
            if view in names and len(vector) and np.isfinite(vector).all():
                stored.setdefault(digest, {})[view] = vector
    return {
        digest: np.stack([views[name] for name in names if name in views])
        for digest, views in stored.items()
    }


def _arranged(
    stored: NDArray[np.float16], rows: list[int], columns: dict[str, list[Any]]
) -> TrainingSet:
    """The sound rows in the order of image_id; `rows` are the row numbers of `stored`."""
    ids = columns["image_id"]
    order = np.array(sorted(range(len(rows)), key=lambda at: ids[rows[at]]), dtype=np.int64)
    order = order[np.isfinite(stored).all(axis=1)[order]]
    kept = [rows[at] for at in order.tolist()]
    named = {name: [columns[name][row] for row in kept] for name in _NAMES}
    return TrainingSet(
        **named,
        weight=np.array([columns["weight"][row] for row in kept], dtype=np.float64),
        embeddings=stored[order].astype(np.float32),
        corrupt=len(ids) - len(kept),
    )


class FitRows(NamedTuple):
    """The rows that a head is fitted to: the images in their order, then their stored views.

    `row_weight` of all rows of one image adds up to 1; None where nothing has a view.
    """

    embeddings: Floats  # (m, width)
    labels: Ints  # (m,), index of the class
    image: Ints  # (m,), the row of the training set that each one shows
    row_weight: Floats | None  # (m,)


def stored_views(store: Store, backbone_id: str, wanted: Sequence[View]) -> dict[str, Floats]:
    """The stored views of this backbone that `train.views` asks for, see `read_views`."""
    runs = store.runs(schemas.TRAINING_VIEWS) if wanted else []
    own = [run for run in runs if run.inputs.backbone_id == backbone_id]
    return read_views(own, augmentation.view_names(wanted))


def with_views(
    examples: TrainingSet, labels: Ints, chosen: Bools, stored: Mapping[str, Floats]
) -> FitRows:
    """The chosen images, bool, (n,), with their stored views (`read_views`).

    An image has the same weight, however many views it has. `labels` are class indices, (n,).
    """
    images = np.flatnonzero(chosen)
    views = {image: stored.get(examples.content_digest[image]) for image in images.tolist()}
    augmented = {image: rows for image, rows in views.items() if rows is not None}
    if not augmented:
        return FitRows(examples.embeddings[images], labels[images], images, None)
    of_views = np.repeat(list(augmented), [len(rows) for rows in augmented.values()])
    image = np.concatenate([images, of_views]).astype(np.int64)
    embeddings = np.concatenate([examples.embeddings[images], *augmented.values()])
    rows_of_image = np.bincount(image, minlength=len(labels))
    row_weight = (1 / rows_of_image[image]).astype(np.float32)
    return FitRows(embeddings, labels[image], image, row_weight)

"""The training set, read with petastorm. The only file that knows petastorm, whose maintainers have left it.

It is imported when something is read: fits, splits and figures work without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toiletspark.hashing import content_digest, settings_digest
from toiletspark.tables import storage
from toiletspark.tables.runs import Run

_FLOAT16_BYTES = 2
_NAMES = ("image_id", "listing_id", "stratum", "content_digest", "label", "draw")


@dataclass(frozen=True)
class TrainingSet:
    """Labelled embeddings; all of length n, in the order of image_id.

    Attributes:
        image_id: n names.
        listing_id: n names; images of one listing look alike and must not be split.
        stratum: n names, location x listing type.
        content_digest: n digests of what was labelled.
        label: n class names.
        draw: n runs that drew the image, which the weights belong to; None where no chance drew it.
        weight: float64, (n,), > 0; design weights.
        embeddings: float32, (n, width); 512 for ResNet18.
        corrupt: rows that were left out, because their embedding is missing, of another length or not finite.
    """

    image_id: list[str]
    listing_id: list[str]
    stratum: list[str]
    content_digest: list[str]
    label: list[str]
    draw: list[str | None]
    weight: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    corrupt: int

    @property
    def digest(self) -> str:
        """SHA-256 over image_id, content_digest and label of all rows in order: what a head was trained on."""
        return settings_digest(
            list(zip(self.image_id, self.content_digest, self.label, strict=True))
        )

    def where(self, rows: NDArray[np.bool_]) -> TrainingSet:
        """Some of its images: bool, (n,)."""
        named = {
            name: [one for one, kept in zip(getattr(self, name), rows, strict=True) if kept]
            for name in _NAMES
        }
        return TrainingSet(
            **named,
            weight=self.weight[rows],
            embeddings=self.embeddings[rows],
            corrupt=self.corrupt,
        )


@dataclass(frozen=True)
class LabelledImages:
    """Some labelled files; both lists are of one length.

    Attributes:
        image_id: their names.
        content: whole files, as they were labelled.
        corrupt: rows that were left out beside them.
    """

    image_id: list[str]
    content: list[bytes]
    corrupt: int


def read(run: Run) -> TrainingSet:
    """Reads a run of the training_set or second_look_set table.

    Cost: 1 kB a row in memory as stored, and 2 kB as float32; 40,000 rows take half a second.
    """
    packed: dict[
        int, bytearray
    ] = {}  # by length, at once: thousands of small objects would leave memory in holes
    rows_of: dict[int, list[int]] = {}
    columns: dict[str, list[Any]] = {name: [] for name in (*_NAMES, "weight")}
    for batch in _batches(run):
        for row, one in enumerate(batch.embedding, len(columns["weight"])):
            length = len(one or b"")
            packed.setdefault(length, bytearray()).extend(one or b"")
            rows_of.setdefault(length, []).append(row)
        for name, values in columns.items():
            values.extend(getattr(batch, name).tolist())
    possible = [length for length in rows_of if length and length % _FLOAT16_BYTES == 0]
    usual = max(possible, key=lambda length: len(rows_of[length]), default=0)
    stored = np.frombuffer(packed.pop(usual, b"") if usual else b"", dtype="<f2")
    stored = stored.reshape(-1, max(1, usual // _FLOAT16_BYTES))
    return _arranged(stored, rows_of[usual] if usual else [], columns)


def read_images(run: Run, images_per_batch: int) -> Iterator[LabelledImages]:
    """Reads a run of the training_images table, file by file.

    Args:
        run: which.
        images_per_batch: at most so many at a time.

    Yields:
        Batches; a file that is missing, or is not the one that was labelled, is counted and left out.

    Cost: one row group of the table in memory.
    """
    for batch in _batches(run):
        for start in range(0, len(batch.image_id), images_per_batch):
            part = slice(start, start + images_per_batch)
            given = list(
                zip(
                    batch.image_id[part],
                    batch.content_digest[part],
                    batch.content[part],
                    strict=True,
                )
            )
            sound = [
                (name, file)
                for name, digest, file in given
                if file and content_digest(file) == digest
            ]
            yield LabelledImages(
                [name for name, _ in sound], [file for _, file in sound], len(given) - len(sound)
            )


def read_views(runs: Iterable[Run], names: list[str]) -> dict[str, NDArray[np.float32]]:
    """Reads stored views of labelled contents.

    Args:
        runs: of the training_views table, all of one backbone.
        names: the views that are wanted.

    Returns:
        By content digest, float32, (views, width), in the order of `names`; what is not finite is left out.
    """
    found: dict[str, dict[str, NDArray[np.float32]]] = {}
    for batch in (batch for run in runs for batch in _batches(run)):
        for digest, view, stored in zip(
            batch.content_digest, batch.view, batch.embedding, strict=True
        ):
            vector = np.frombuffer(stored or b"", dtype="<f2").astype(np.float32)
            if view in names and len(vector) and np.isfinite(vector).all():
                found.setdefault(digest, {})[view] = vector
    return {
        digest: np.stack([views[name] for name in names if name in views])
        for digest, views in found.items()
    }


def _batches(run: Run) -> Iterator[Any]:
    """petastorm's batches, a row group each; columns as attributes."""
    urls = [storage.spark_path(f"{run.folder}/{file.name}") for file in run.files if file.rows]
    if not urls:
        return
    usual = pa.default_memory_pool()
    pa.set_memory_pool(
        pa.system_memory_pool()
    )  # gives back at once what a row group took: 100 MB of 40,000 rows
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # petastorm speaks pyarrow's old dialect and says so at every import
            from petastorm import make_batch_reader

            with make_batch_reader(
                urls, reader_pool_type="dummy", shuffle_row_groups=False
            ) as reader:
                yield from reader
    finally:
        pa.set_memory_pool(usual)


def _arranged(
    stored: NDArray[np.float16], rows: list[int], columns: dict[str, list[Any]]
) -> TrainingSet:
    """In the order of image_id, without what is corrupt.

    Args:
        stored: float16, (m, width), those of the usual width.
        rows: m rows that they are of.
        columns: of all rows, by name.
    """
    ids = columns["image_id"]
    order = np.array(sorted(range(len(rows)), key=lambda place: ids[rows[place]]), dtype=np.int64)
    order = order[np.isfinite(stored).all(axis=1)[order]]
    kept = [rows[place] for place in order.tolist()]
    named = {name: [columns[name][row] for row in kept] for name in _NAMES}
    named["draw"] = [
        None if draw in (None, "None") else draw for draw in named["draw"]
    ]  # petastorm's text for null
    return TrainingSet(
        **named,
        weight=np.array([columns["weight"][row] for row in kept], dtype=np.float64),
        embeddings=stored[order].astype(np.float32),
        corrupt=len(ids) - len(kept),
    )

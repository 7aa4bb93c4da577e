"""The training set, read with petastorm. The only file that knows petastorm, whose maintainers have left it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark import storage
from toiletspark.runs import Run

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # petastorm speaks pyarrow's old dialect and says so at every import
    from petastorm import make_batch_reader

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
        embeddings: float32, (n, 512).
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

    def where(self, rows: NDArray[np.bool_]) -> TrainingSet:
        """Some of its images: bool, (n,)."""
        named = {name: [one for one, kept in zip(getattr(self, name), rows, strict=True) if kept] for name in _NAMES}
        return TrainingSet(**named, weight=self.weight[rows], embeddings=self.embeddings[rows], corrupt=self.corrupt)


def read(run: Run) -> TrainingSet:
    """Reads a run of the training_set or second_look_set table.

    Cost: 1 kB a row in memory, and as much again while it is put in order.
    """
    rows: list[tuple[Any, ...]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        urls = [storage.spark_path(f"{run.folder}/{file['name']}") for file in run.manifest["files"] if file["rows"]]
        if urls:
            with make_batch_reader(urls, reader_pool_type="dummy", shuffle_row_groups=False) as reader:
                for batch in reader:
                    names = [getattr(batch, name) for name in _NAMES]
                    rows.extend(zip(batch.embedding, batch.weight, *names, strict=True))
    return _arranged(rows)


def _arranged(rows: list[tuple[Any, ...]]) -> TrainingSet:
    """In the order of image_id, without what is corrupt; rows are embedding, weight and the names in their order."""
    rows.sort(key=lambda row: row[2])
    lengths = [len(row[0] or b"") for row in rows]
    possible = [length for length in lengths if length and length % _FLOAT16_BYTES == 0]
    usual = max(set(possible), key=possible.count, default=None)
    whole = [row for row, length in zip(rows, lengths, strict=True) if length == usual]
    stored = np.frombuffer(b"".join(row[0] for row in whole), dtype="<f2")
    embeddings = stored.reshape(len(whole), (usual or 0) // _FLOAT16_BYTES).astype(np.float32)
    sound = np.isfinite(embeddings).all(axis=1)
    kept = [row for row, fine in zip(whole, sound, strict=True) if fine]
    named = {name: [row[2 + place] for row in kept] for place, name in enumerate(_NAMES)}
    named["draw"] = [None if draw == "None" else draw for draw in named["draw"]]  # petastorm's null
    return TrainingSet(
        **named,
        weight=np.array([row[1] for row in kept], dtype=np.float64),
        embeddings=embeddings[sound],
        corrupt=len(rows) - len(kept),
    )

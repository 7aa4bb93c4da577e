"""The training set, read with petastorm. The only file that knows petastorm, whose maintainers have left it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark import storage
from toiletspark.digests import settings_digest
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

    @property
    def digest(self) -> str:
        """SHA-256 over image_id, content_digest and label of all rows in order: what a head was trained on."""
        return settings_digest(list(zip(self.image_id, self.content_digest, self.label, strict=True)))

    def where(self, rows: NDArray[np.bool_]) -> TrainingSet:
        """Some of its images: bool, (n,)."""
        named = {name: [one for one, kept in zip(getattr(self, name), rows, strict=True) if kept] for name in _NAMES}
        return TrainingSet(**named, weight=self.weight[rows], embeddings=self.embeddings[rows], corrupt=self.corrupt)


def read(run: Run) -> TrainingSet:
    """Reads a run of the training_set or second_look_set table.

    Cost: 1 kB a row in memory as stored, and 2 kB as float32; 40,000 rows take half a second.
    """
    stored: list[bytes | None] = []
    columns: dict[str, list[Any]] = {name: [] for name in (*_NAMES, "weight")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        urls = [storage.spark_path(f"{run.folder}/{file['name']}") for file in run.manifest["files"] if file["rows"]]
        if urls:
            with make_batch_reader(urls, reader_pool_type="dummy", shuffle_row_groups=False) as reader:
                for batch in reader:
                    stored.extend(batch.embedding)
                    for name, values in columns.items():
                        values.extend(getattr(batch, name).tolist())
    return _arranged(stored, columns)


def _arranged(stored: list[bytes | None], columns: dict[str, list[Any]]) -> TrainingSet:
    """In the order of image_id, without what is corrupt."""
    lengths = np.array([len(one or b"") for one in stored], dtype=np.int64)
    possible = lengths[(lengths > 0) & (lengths % _FLOAT16_BYTES == 0)]
    usual = int(np.bincount(possible).argmax()) if len(possible) else 0
    ids = columns["image_id"]
    order = [place for place in sorted(range(len(ids)), key=ids.__getitem__) if usual and lengths[place] == usual]
    packed = np.frombuffer(b"".join(stored[place] or b"" for place in order), dtype="<f2")
    packed = packed.reshape(len(order), usual // _FLOAT16_BYTES)
    sound = np.isfinite(packed).all(axis=1)
    kept = [place for place, fine in zip(order, sound.tolist(), strict=True) if fine]
    named = {name: [columns[name][place] for place in kept] for name in _NAMES}
    named["draw"] = [None if draw in (None, "None") else draw for draw in named["draw"]]  # petastorm's text for null
    return TrainingSet(
        **named,
        weight=np.array([columns["weight"][place] for place in kept], dtype=np.float64),
        embeddings=(packed if sound.all() else packed[sound]).astype(np.float32),
        corrupt=len(stored) - len(kept),
    )

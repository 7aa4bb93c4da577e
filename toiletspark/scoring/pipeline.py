"""The pipeline of one task: scores for the images of one file of a catalog. Does not know Spark.

A catalog says where the embedding of each image lies, and images whose embeddings share a file
stand together. So each file of embeddings is read once, from start to end, and only its scores are
kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from toiletspark.model.embedding_codec import from_stored, packed
from toiletspark.model.head import Head
from toiletspark.tables import storage
from toiletspark.tables.schemas import probability_columns

IMAGE_COLUMNS = ("image_id", "listing_id", "content_digest")
_LOCATION_COLUMNS = ("embedding_file", "embedding_row")
_IMAGES_AT_ONCE = 32768  # rows of a catalog, 200 bytes each


def score_columns(number: int, head: Head) -> list[str]:
    """The columns of one of several heads: h<number>_exclusion_score and h<number>_p_<class>."""
    names = ("exclusion_score", *probability_columns(head.classes))
    return [f"h{number}_{name}" for name in names]


def score_file(
    file: str, embeddings: Sequence[str], heads: Sequence[Head], rows_per_batch: int
) -> Iterator[pa.RecordBatch]:
    """Scores the sound images of one file of a catalog with every head.

    Args:
        file: location of the catalog's file.
        embeddings: locations of the files of embeddings, in the order that `embedding_file` counts.
        heads: all for the backbone of the catalog.
        rows_per_batch: embeddings in memory at once.

    Yields:
        `IMAGE_COLUMNS` and the `score_columns` of each head, float32. Scores are null if the
        catalog's location does not hold the embedding of the image's content.

    Cost: reads each file of embeddings that the catalog's file names once, and keeps 64 bytes and
        the scores of each of its rows.
    """
    names = [name for number, head in enumerate(heads) for name in score_columns(number, head)]
    scored: dict[int, _ScoredFile | None] = {}
    for images in _sound_images(file):
        files, rows = (pc.fill_null(images[name], -1).to_numpy() for name in _LOCATION_COLUMNS)
        scores = np.zeros((len(names), len(images)), np.float32)
        is_missing = np.ones(len(images), np.bool_)
        for number in np.unique(files[files >= 0]).tolist():
            if number not in scored:
                scored[number] = _score_embeddings(embeddings[number], heads, rows_per_batch)
            if (of_file := scored[number]) is None:
                continue
            here = np.flatnonzero(files == number)
            digests = images["content_digest"].take(pa.array(here))
            here = here[of_file.matches(rows[here], digests)]
            scores[:, here] = of_file.scores[:, rows[here]]
            is_missing[here] = False
        columns = [images[name] for name in IMAGE_COLUMNS]
        columns += [pa.array(column, mask=is_missing) for column in scores]
        yield pa.RecordBatch.from_arrays(columns, names=[*IMAGE_COLUMNS, *names])


@dataclass(frozen=True)
class _ScoredFile:
    """The contents of a file of embeddings and their scores, float32, (columns, rows)."""

    digests: pa.StringArray
    scores: NDArray[np.float32]

    def matches(self, rows: NDArray[np.int32], digests: pa.StringArray) -> NDArray[np.bool_]:
        """Returns for each row and content, (n,), whether the row holds the content."""
        inside = pa.array(rows, mask=(rows < 0) | (rows >= len(self.digests)))
        is_same = pc.equal(self.digests.take(inside), digests)
        matches: NDArray[np.bool_] = pc.fill_null(is_same, False).to_numpy(False)
        return matches


def _batches(file: str, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    filesystem, path = storage.open_filesystem(file)
    with filesystem.open(path, "rb") as opened:
        parquet = pq.ParquetFile(opened)
        yield from parquet.iter_batches(rows, columns=columns, use_threads=False)


def _sound_images(file: str) -> Iterator[pa.RecordBatch]:
    for batch in _batches(file, ["status", *IMAGE_COLUMNS, *_LOCATION_COLUMNS], _IMAGES_AT_ONCE):
        yield batch.filter(pc.equal(batch["status"], "ok"))


def _score_embeddings(file: str, heads: Sequence[Head], rows_per_batch: int) -> _ScoredFile | None:
    """Scores a file of embeddings; None if the file is gone or empty."""
    digests, scores = [], []
    try:
        for batch in _batches(file, ["content_digest", "embedding"], rows_per_batch):
            digests.append(batch["content_digest"])
            scores.append(_scores(batch["embedding"], heads))
    except FileNotFoundError:
        return None
    if not digests:
        return None
    return _ScoredFile(pa.concat_arrays(digests), np.concatenate(scores, axis=1))


def _scores(stored: pa.BinaryArray, heads: Iterable[Head]) -> NDArray[np.float32]:
    """float32, (columns, rows)."""
    embeddings = from_stored(packed(stored), len(stored))
    columns: list[NDArray[np.float32]] = []
    for head in heads:
        probabilities = head.probabilities(embeddings)
        columns += [head.exclusion_scores(probabilities), *probabilities.T]
    return np.stack(columns)

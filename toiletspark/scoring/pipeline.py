"""The images of one file of a catalog get their scores: plain Python that knows no Spark.

A catalog says where the embedding of each image lies, and images whose embeddings share a file stand together. So a
file of embeddings is read once, from its first row to its last, and what is kept of it are a few numbers a row.
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
from toiletspark.tables import schemas as tables
from toiletspark.tables import storage

IMAGE = ("image_id", "listing_id", "content_digest")  # what is said of an image beside its scores
_PLACE = ("embedding_file", "embedding_row")
_IMAGES_AT_ONCE = 32768  # rows of a catalog, 200 bytes each


def columns_of(number: int, head: Head) -> list[str]:
    """What the scores of one of several heads are called: h<number>_exclusion_score and h<number>_p_<class>."""
    return [
        f"h{number}_{name}"
        for name in ("exclusion_score", *tables.probability_columns(head.classes))
    ]


def scored(
    file: str, embeddings: Sequence[str], heads: Sequence[Head], rows_per_batch: int
) -> Iterator[pa.RecordBatch]:
    """Scores the sound images of one file of a catalog with every head.

    Args:
        file: location of the catalog's file.
        embeddings: locations of the files of embeddings that `embedding_file` counts.
        heads: all for the backbone of the catalog.
        rows_per_batch: embeddings in memory at once.

    Yields:
        The columns of `IMAGE` and `columns_of` each head, float32. The scores are null where the embedding of the
        image's content is not where the catalog says.

    Cost: reads each file of embeddings once that the catalog's file names, and keeps 64 bytes and the scores of each of
        its rows.
    """
    known: dict[int, _Scored | None] = {}
    names = [name for number, head in enumerate(heads) for name in columns_of(number, head)]
    for images in _sound(file):
        found, missing = (
            np.zeros((len(names), len(images)), np.float32),
            np.ones(len(images), np.bool_),
        )
        digests, numbers, rows = (images[name] for name in ("content_digest", *_PLACE))
        numbers, rows = (pc.fill_null(one, -1).to_numpy() for one in (numbers, rows))
        for number in np.unique(numbers).tolist():
            if number not in known:
                known[number] = (
                    _score_file(embeddings[number], heads, rows_per_batch) if number >= 0 else None
                )
            if (of_file := known[number]) is not None:
                here = np.flatnonzero(numbers == number)
                here = here[of_file.has(rows[here], digests.take(pa.array(here)))]
                found[:, here], missing[here] = of_file.scores[:, rows[here]], False
        scores = [pa.array(column, mask=missing) for column in found]
        yield pa.RecordBatch.from_arrays(
            [*(images[name] for name in IMAGE), *scores], names=[*IMAGE, *names]
        )


@dataclass(frozen=True)
class _Scored:
    """A file of embeddings: its contents, and what the heads say of them, float32, (columns, rows)."""

    digests: pa.StringArray
    scores: NDArray[np.float32]

    def has(self, rows: NDArray[np.int32], digests: pa.StringArray) -> NDArray[np.bool_]:
        """Whether each of these contents lies in its row."""
        there = pa.array(rows, mask=(rows < 0) | (rows >= len(self.digests)))
        same: NDArray[np.bool_] = pc.fill_null(
            pc.equal(self.digests.take(there), digests), False
        ).to_numpy(False)
        return same


def _sound(file: str) -> Iterator[pa.RecordBatch]:
    filesystem, path = storage.open_filesystem(file)
    with filesystem.open(path, "rb") as opened:
        columns = ["status", *IMAGE, *_PLACE]
        for batch in pq.ParquetFile(opened).iter_batches(
            _IMAGES_AT_ONCE, columns=columns, use_threads=False
        ):
            yield batch.filter(pc.equal(batch["status"], "ok"))


def _score_file(file: str, heads: Sequence[Head], rows_per_batch: int) -> _Scored | None:
    """None where there is no such file any more."""
    filesystem, path = storage.open_filesystem(file)
    digests, scores = [], []
    try:
        with filesystem.open(path, "rb") as opened:
            columns = ["content_digest", "embedding"]
            for batch in pq.ParquetFile(opened).iter_batches(
                rows_per_batch, columns=columns, use_threads=False
            ):
                digests.append(batch["content_digest"])
                scores.append(_scores(batch["embedding"], heads))
    except FileNotFoundError:
        return None
    return _Scored(pa.concat_arrays(digests), np.concatenate(scores, axis=1)) if digests else None


def _scores(stored: pa.BinaryArray, heads: Iterable[Head]) -> NDArray[np.float32]:
    """float32, (columns, rows)."""
    embeddings = from_stored(packed(stored), len(stored))
    columns: list[NDArray[np.float32]] = []
    for head in heads:
        probabilities = head.probabilities(embeddings)
        columns += [head.exclusion_scores(probabilities), *probabilities.T]
    return np.stack(columns)

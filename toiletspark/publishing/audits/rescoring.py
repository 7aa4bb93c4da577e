"""Canaries: a few contents whose stored embedding shows whether the scores are those of the head that they name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toiletspark.model.embedding_codec import from_stored
from toiletspark.model.head import Head
from toiletspark.tables import schemas as tables
from toiletspark.tables import storage
from toiletspark.tables.runs import Run, Store

MOST = 64
MOST_DIFFERENCE = 1e-4
_READ = 4096  # embeddings of one file, 4 MB
_MOST_FILES = 8  # of embeddings, the newest first, until one has contents that were scored


@dataclass(frozen=True)
class Canaries:
    """What came of them: how many, how many differ, and the largest difference (infinite where a score is none)."""

    count: int
    differing: int
    worst: float


def compared(store: Store, scores: Run, head: Head) -> Canaries | None:
    """Scores up to `MOST` contents of one stored file anew; None where no file has contents that were scored.

    Args:
        store: where the embeddings are.
        scores: a run of `tables.SCORES`, whose files are sound.
        head: that they name.

    Cost: 4 MB of embeddings, and the digests of as many files of scores as it takes to find so many, mostly one.
    """
    digests: list[pa.Table] = []
    for embeddings in _embeddings(store, head.backbone_id):
        found = _scored(scores, embeddings, digests)
        if len(found):
            return _judged(embeddings, found, head)
    return None


def _judged(embeddings: pa.Table, found: pa.Table, head: Head) -> Canaries:
    place = pc.index_in(
        found["content_digest"], value_set=embeddings["content_digest"].combine_chunks()
    )
    stored = embeddings["embedding"].take(place).to_pylist()
    fresh = head.exclusion_scores(head.probabilities(from_stored(b"".join(stored), len(stored))))
    kept = found["exclusion_score"].to_numpy().astype(np.float64)
    apart = np.nan_to_num(np.abs(fresh - kept), nan=np.inf)
    return Canaries(len(kept), int((apart > MOST_DIFFERENCE).sum()), float(apart.max()))


def _embeddings(store: Store, backbone_id: str) -> Iterator[pa.Table]:
    """content_digest and embedding of the first rows of some files, the newest first."""
    seen = 0
    for run_id in reversed(storage.entries(f"{store.root}/{tables.EMBEDDINGS.name}")):
        run = store.run(tables.EMBEDDINGS, run_id)
        for file in run.files if run else []:
            rows = (
                _first_rows(f"{store.folder(tables.EMBEDDINGS, run_id)}/{file.name}")
                if file.rows
                else None
            )
            if rows is None:
                continue
            ours = rows.filter(pc.equal(rows["backbone_id"], backbone_id))
            if len(ours):
                yield ours
                seen += 1
            if seen == _MOST_FILES:
                return
            break  # one file of a run; the next one holds contents by hash as well


def _first_rows(location: str) -> pa.Table | None:
    filesystem, path = storage.open_filesystem(location)
    with filesystem.open(path, "rb") as file:
        batches = pq.ParquetFile(file).iter_batches(_READ, columns=list(tables.EMBEDDINGS.columns))
        first = next(batches, None)
    return pa.Table.from_batches([first]) if first is not None else None


def _scored(scores: Run, embeddings: pa.Table, digests: list[pa.Table]) -> pa.Table:
    """Rows of the scores that are about these contents, at most `MOST`; `digests` keeps what was read."""
    wanted, found, rows = embeddings["content_digest"].combine_chunks(), [], 0
    for number, file in enumerate(scores.files):
        if number == len(digests):
            digests.append(_read_scores(f"{scores.folder}/{file.name}"))
        ours = digests[number]
        found.append(
            ours.filter(pc.is_in(ours["content_digest"], value_set=wanted)).slice(0, MOST - rows)
        )
        rows += len(found[-1])
        if rows == MOST:
            break
    return (
        pa.concat_tables(found)
        if found
        else pa.table({"content_digest": pa.array([], pa.string())})
    )


def _read_scores(location: str) -> pa.Table:
    filesystem, path = storage.open_filesystem(location)
    with filesystem.open(path, "rb") as file:
        return pq.read_table(file, columns=["content_digest", "exclusion_score"])

"""Scores a few stored embeddings again: are the scores those of the head that they name?"""

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from toiletspark.model.embedding_codec import from_stored
from toiletspark.model.head import Head
from toiletspark.tables import storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import EMBEDDINGS

MAX_CONTENTS = 64
MAX_DIFFERENCE = 1e-4
_ROWS_READ = 4096  # embeddings of one file, 4 MB
_MAX_FILES = 8  # of embeddings, the newest first, until one has contents that were scored


@dataclass(frozen=True)
class Rescoring:
    """The number of contents, of those that differ, and the largest difference; NaN: infinite."""

    count: int
    differing: int
    largest: float


def compare(store: Store, scores: Run, head: Head) -> Rescoring | None:
    """Scores up to `MAX_CONTENTS` contents again; None if no stored embedding was scored.

    The files of the scores are sound, and name the head. Cost: 4 MB of embeddings, and the digests
    of as many files of scores as needed, mostly one.
    """
    read = functools.cache(_read_scores)
    for embeddings in itertools.islice(_embeddings(store, head.backbone_id), _MAX_FILES):
        scored = _scored(scores, embeddings, read)
        if len(scored):
            return _difference(embeddings, scored, head)
    return None


def _difference(embeddings: pa.Table, scored: pa.Table, head: Head) -> Rescoring:
    digests = embeddings["content_digest"].combine_chunks()
    rows = pc.index_in(scored["content_digest"], value_set=digests)
    stored = embeddings["embedding"].take(rows).to_pylist()
    fresh = head.exclusion_scores(head.probabilities(from_stored(b"".join(stored), len(stored))))
    kept = scored["exclusion_score"].to_numpy().astype(np.float64)
    differences = np.nan_to_num(np.abs(fresh - kept), nan=np.inf)
    differing = int((differences > MAX_DIFFERENCE).sum())
    return Rescoring(len(kept), differing, float(differences.max()))


def _embeddings(store: Store, backbone_id: str) -> Iterator[pa.Table]:
    """content_digest and embedding of the first rows of some files, the newest first.

    One file of each run: they hold contents by hash, so any is as good as another.
    """
    for run_id in reversed(storage.entries(f"{store.root}/{EMBEDDINGS.name}")):
        run = store.run(EMBEDDINGS, run_id)
        name = next((file.name for file in run.files if file.rows), None) if run else None
        rows = _first_rows(f"{run.folder}/{name}") if run and name else None
        if rows is not None:
            ours = rows.filter(pc.equal(rows["backbone_id"], backbone_id))
            if len(ours):
                yield ours


def _first_rows(location: str) -> pa.Table | None:
    filesystem, path = storage.open_filesystem(location)
    with filesystem.open(path, "rb") as file:
        columns = list(EMBEDDINGS.columns)
        first = next(pq.ParquetFile(file).iter_batches(_ROWS_READ, columns=columns), None)
    return pa.Table.from_batches([first]) if first is not None else None


def _scored(scores: Run, embeddings: pa.Table, read: Callable[[str], pa.Table]) -> pa.Table:
    """At most `MAX_CONTENTS` scores of these contents."""
    wanted = embeddings["content_digest"].combine_chunks()
    scored = pa.table({"content_digest": pa.array([], pa.string())})
    for file in scores.files:
        rows = read(f"{scores.folder}/{file.name}")
        ours = rows.filter(pc.is_in(rows["content_digest"], value_set=wanted))
        scored = pa.concat_tables([scored, ours]) if len(scored) else ours
        if len(scored) >= MAX_CONTENTS:
            break
    return scored.slice(0, MAX_CONTENTS)


def _read_scores(location: str) -> pa.Table:
    filesystem, path = storage.open_filesystem(location)
    with filesystem.open(path, "rb") as file:
        return pq.read_table(file, columns=["content_digest", "exclusion_score"])

"""Decide for ever: heads over stored embeddings give every image of the catalog its scores.

No image is read here, and torch is not imported. The embeddings are read by the tasks themselves, as Arrow, since on
their way through the JVM they would be the most expensive part of the whole pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import storage, tables
from toiletspark.head import Head, from_stored
from toiletspark.runs import Run

_SPLIT = "file string, row_group int"
_COLUMNS = ["content_digest", "backbone_id", "embedding"]


def scores_table(head: Head) -> tables.Table:
    """`tables.SCORES` with one probability column per class of this head."""
    return tables.SCORES.with_columns(tables.probability_columns(head.classes))


def score_embeddings(spark: SparkSession, embeddings: list[Run], heads: Broadcast[list[Head]], rows: int) -> DataFrame:
    """Scores every stored embedding of the heads' backbone with every head, in one pass.

    Args:
        spark: the session.
        embeddings: runs of `tables.EMBEDDINGS`; rows of other backbones are left aside.
        heads: all for one backbone; broadcast once.
        rows: embeddings that a task holds at once, 3 kB each.

    Returns:
        content_digest and, for each head, `h<number>_exclusion_score` and one `h<number>_p_<class>` per class, all
        float. A content that two runs have embedded stands there twice, with the same scores.
    """
    names = [name for number, head in enumerate(heads.value) for name in _columns(number, head)]
    splits = [(file, group) for run in embeddings for file, group in _row_groups(run)]
    slices = max(1, min(len(splits), 4 * spark.sparkContext.defaultParallelism))

    def score(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        for batch in batches:
            for file, group in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                for stored in _stored(file, group, heads.value[0].backbone_id, rows):
                    yield _scored(stored, heads.value, names)

    kinds = ", ".join(["content_digest string", *(f"`{name}` float" for name in names)])
    return spark.createDataFrame(splits, _SPLIT).repartition(slices).mapInArrow(score, kinds)


def of_head(scored: DataFrame, number: int, head: Head) -> DataFrame:
    """content_digest, exclusion_score and the probabilities of one head, out of `score_embeddings`."""
    plain = [F.col(f"`{name}`").alias(name.partition("_")[2]) for name in _columns(number, head)]
    return scored.select("content_digest", *plain)


def score_catalog(catalog: DataFrame, scored: DataFrame, head: Head) -> DataFrame:
    """Brings the scores of the contents to the images.

    Args:
        catalog: `tables.CATALOG`.
        scored: see `of_head`.
        head: whose scores they are.

    Returns:
        The columns of `scores_table(head)`, one row per sound image, no nulls. One shuffle of either side.
    """
    sound = catalog.where(F.col("status") == "ok").select("image_id", "listing_id", "content_digest")
    once = scored.dropDuplicates(["content_digest"]).hint("shuffle_hash")  # sorting both sides would cost more
    return sound.join(once, on="content_digest", how="inner").withColumn("head_id", F.lit(head.head_id))


def _columns(number: int, head: Head) -> list[str]:
    return [f"h{number}_{name}" for name in ("exclusion_score", *tables.probability_columns(head.classes))]


def _row_groups(run: Run) -> Iterator[tuple[str, int]]:
    """Each row group of a run's files, as their manifest lists them."""
    for file in run.manifest["files"]:
        path = f"{run.folder}/{file['name']}"
        yield from ((path, group) for group in range(file["row_groups"]))


def _opened(file: str) -> pq.ParquetFile:
    if storage.is_local(file):
        return pq.ParquetFile(file.removeprefix("file://"), memory_map=True)
    filesystem, path = storage.open_filesystem(file)
    return pq.ParquetFile(filesystem.open(path, "rb"))


def _stored(file: str, group: int, backbone_id: str, rows: int) -> Iterator[pa.Table]:
    """The embeddings of one backbone in a row group, `rows` at a time."""
    with _opened(file) as parquet:
        for batch in parquet.iter_batches(rows, row_groups=[group], columns=_COLUMNS, use_threads=False):
            ours = pa.table([*batch.columns], names=_COLUMNS).filter(pc.equal(batch["backbone_id"], backbone_id))
            if ours.num_rows:
                yield ours


def _packed(embeddings: pa.BinaryArray) -> memoryview:
    """The bytes of all rows, one after the other as Arrow holds them, without a copy."""
    _, offsets, packed = embeddings.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[[embeddings.offset, embeddings.offset + len(embeddings)]]
    return memoryview(packed)[ends[0] : ends[1]] if packed else memoryview(b"")


def _scored(stored: pa.Table, heads: Iterable[Head], names: list[str]) -> pa.RecordBatch:
    embeddings = from_stored(_packed(stored["embedding"].combine_chunks()), stored.num_rows)
    columns: list[NDArray[np.float32]] = []
    for head in heads:
        probabilities = head.probabilities(embeddings)
        columns += [head.exclusion_scores(probabilities), *probabilities.T]
    digests = stored["content_digest"].combine_chunks()
    arrays = [digests, *(pa.array(np.ascontiguousarray(column), pa.float32()) for column in columns)]
    return pa.RecordBatch.from_arrays(arrays, names=["content_digest", *names])

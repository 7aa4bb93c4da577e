"""Where embeddings lie: in which file, and in which row of it. Who knows that of an image can score it without a join.

The files have numbers, which are their places in a list that stands in the manifest of a catalog.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Run, Store

FILES = "embeddings"  # the list, among a catalog's inputs
COLUMNS = {
    name: tables.CATALOG.columns[name]
    for name in ("content_digest", "embedding_file", "embedding_row")
}


def files_in(store: Store, before: Sequence[str] = ()) -> list[str]:
    """The files of all complete runs of embeddings, as in "<run_id>/<name>".

    Args:
        store: where.
        before: files that have their numbers; they keep them.
    """
    found = (
        f"{run.run_id}/{file.name}" for run in store.runs(tables.EMBEDDINGS) for file in run.files
    )
    return list(dict.fromkeys([*before, *found]))


def files_of(catalog: Run) -> list[str]:
    """The files that a catalog's embedding_file counts; of one that an earlier toiletspark made, none."""
    return list(catalog.inputs.embeddings or ())


def of_contents(
    spark: SparkSession,
    store: Store,
    files: Sequence[str],
    backbone_id: str,
    among: DataFrame | None = None,
) -> DataFrame:
    """Where the contents lie that have an embedding.

    Args:
        spark: the session.
        store: where.
        files: see `files_in`; what they hold is looked at, and nothing else.
        backbone_id: whose embeddings.
        among: has a column content_digest: only these contents; None: all.

    Returns:
        The columns of `COLUMNS`, none null. Grain: content_digest; of a content that two runs have embedded, one place.
        Cost: reads the digests, and shuffles those of `among`.
    """
    if not files:
        return frames.no_rows(spark, COLUMNS)
    numbers = frames.of_rows(
        spark, [(name, at) for at, name in enumerate(files)], {"name": "string", "at": "int"}
    )
    stored = frames.read_all(spark, store, tables.EMBEDDINGS).where(
        F.col("backbone_id") == backbone_id
    )
    places = stored.select(
        "content_digest",
        F.substring_index("_metadata.file_path", "/", -2).alias("name"),
        F.col("_metadata.row_index").cast("int").alias("embedding_row"),
    )
    if among is not None:
        places = places.join(among.select("content_digest"), on="content_digest", how="left_semi")
    numbered = places.join(F.broadcast(numbers), on="name", how="inner").withColumnRenamed(
        "at", "embedding_file"
    )
    return numbered.select(*COLUMNS).dropDuplicates(["content_digest"])


def together(catalog: DataFrame) -> DataFrame:
    """Lays a catalog out so that images whose embeddings share a file share a partition, and so a file. One shuffle."""
    return catalog.repartition(F.coalesce("embedding_file", F.hash("image_id")))

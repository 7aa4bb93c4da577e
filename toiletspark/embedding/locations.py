"""Locations of embeddings: the file and row of each, so that scoring needs no join.

Files are numbered by their position in a list that the manifest of a catalog keeps.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.tables import spark_io
from toiletspark.tables.runs import Store
from toiletspark.tables.schemas import CATALOG, EMBEDDINGS

COLUMNS = {
    name: CATALOG.columns[name] for name in ("content_digest", "embedding_file", "embedding_row")
}


def embedding_files(store: Store, numbered: Sequence[str] = ()) -> list[str]:
    """Lists the files of all complete runs of embeddings, as in "<run_id>/<name>".

    Files that have a number already keep it.
    """
    files = list(numbered)
    for run in store.runs(EMBEDDINGS):
        files += [f"{run.run_id}/{file.name}" for file in run.files]
    return list(dict.fromkeys(files))


def locate(
    spark: SparkSession,
    store: Store,
    files: Sequence[str],
    backbone_id: str,
    among: DataFrame | None = None,
) -> DataFrame:
    """Returns the location of each content's embedding, or only of the contents in `among`.

    Embeddings outside of `embedding_files` are ignored. Returns `COLUMNS`, none null; one row per
    content_digest. Cost: reads the digests, and shuffles those of `among`.
    """
    if not files:
        return spark_io.no_rows(spark, COLUMNS)
    stored = spark_io.read_all(spark, store, EMBEDDINGS)
    located = stored.where(F.col("backbone_id") == backbone_id).select(
        "content_digest",
        F.substring_index("_metadata.file_path", "/", -2).alias("name"),
        F.col("_metadata.row_index").cast("int").alias("embedding_row"),
    )
    if among is not None:
        located = located.join(among.select("content_digest"), "content_digest", "left_semi")
    rows = [(name, number) for number, name in enumerate(files)]
    numbers = spark_io.of_rows(spark, rows, {"name": "string", "embedding_file": "int"})
    located = located.join(F.broadcast(numbers), "name")
    return located.select(*COLUMNS).dropDuplicates(["content_digest"])


def partition_by_file(catalog: DataFrame) -> DataFrame:
    """Puts images whose embeddings share a file into one partition. One shuffle."""
    return catalog.repartition(F.coalesce("embedding_file", F.hash("image_id")))

"""Pandas UDFs for your own columns: images to embeddings, embeddings to scores, images to scores.

    from toiletspark import functions
    from toiletspark.config import loading

    config = loading.load(["mytables.toml"])
    toilet = functions.image_scorer(spark, config, "/data/toiletspark")
    photos.select("image_id", toilet("image_url").alias("toilet"))

They work in DataFrames, in streams and, by `register`, in SQL. Model and head are broadcast once
and built once per Python worker. Rows keep their order. A bad image is a status, never an
exception; a worker that cannot work raises. docs/functions.md says how often Spark runs them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.udf import UserDefinedFunction

from toiletspark.config import Config
from toiletspark.embedding import int8, tasks
from toiletspark.embedding.tasks import TaskInputs
from toiletspark.embedding.worker_errors import check_worker
from toiletspark.errors import HeadError, OutputError
from toiletspark.model import registry
from toiletspark.model.head import Head, excluded
from toiletspark.publishing.versions.log import History
from toiletspark.scoring import score_udf
from toiletspark.tables import storage
from toiletspark.tables.runs import MARKER, Store
from toiletspark.tables.schemas import EXCLUSION_LIST, spark_schema

EMBEDDER_COLUMNS = {
    "status": "string",
    "detail": "string",
    "content_digest": "string",
    "width": "int",
    "height": "int",
    "embedding": "binary",
}


@dataclass(frozen=True)
class DecidingHead:
    """A head with the threshold from which on an image is excluded."""

    head: Head
    operating_threshold: float  # [0, 1]; above 1 nothing is excluded

    def columns(self) -> dict[str, str]:
        """The fields of a score, with their Spark types."""
        return {**score_udf.score_columns(self.head), "excluded": "boolean"}

    def decide(self, embeddings: pd.Series) -> pd.DataFrame:
        """`columns` for stored embeddings; null for a null.

        Raises:
            HeadError: an embedding has another width than the head.
        """
        there = embeddings[embeddings.notna()]
        width = 2 * self.head.weight.shape[1]  # float16
        others = set(there.map(len)) - {width}
        if others:
            raise HeadError(
                doing=f"scoring with the head {self.head.head_id}",
                expected=f"embeddings of {width} bytes, as `embedder` makes them",
                found=f"some of {min(others)} bytes",
                todo="give the column that `embedder` or toiletspark's embeddings table has",
            )
        scores = score_udf.score(self.head, there)
        scores["excluded"] = excluded(
            scores["exclusion_score"].to_numpy(), self.operating_threshold
        )
        return scores.reindex(embeddings.index)


def deciding_head(head: str, threshold: float | None = None) -> DecidingHead:
    """Reads a head, and the threshold that belongs to it.

    Args:
        head: the folder of a bundle, whose recommended threshold is taken; or an output root, whose
            live version gives head and threshold.
        threshold: [0, 1]; in place of that one.

    Raises:
        HeadError: there is no such head, or it was damaged or altered.
        OutputError: the output root has no version yet.
    """
    if not storage.exists(f"{head}/{MARKER}"):
        loaded = registry.load(head)
        recommended = loaded.facts.get("operating_threshold", 0.5)
    else:
        store = Store(head)
        live = History.read(store).live
        run = store.run(EXCLUSION_LIST, live.run_id) if live else None
        if run is None:
            raise OutputError(
                doing=f"looking for the live version's head in {head}",
                expected="a version that was published",
                found="none",
                todo="run `toiletspark publish` first, or name the folder of a head",
            )
        kept = registry.run_of(store, run.inputs.head_id)
        loaded = registry.load(kept.folder if kept else run.config["score"]["head"])
        recommended = run.inputs.operating_threshold
    return DecidingHead(loaded, recommended if threshold is None else threshold)


def embedder(spark: SparkSession, config: Config) -> UserDefinedFunction:
    """Returns a pandas UDF: an image in, a struct of `EMBEDDER_COLUMNS` out.

    The image is a URL (string) within fetch.allow, or the bytes of a file (binary). `status` is ok
    or another of `images.statuses.STATUSES`, and `detail` says more. `content_digest` is the
    SHA-256 of the file (null if it was not read). Width and height are in pixels, upright (0 if it
    is no image). `embedding` is little-endian float16 (null unless ok), for the backbone of the
    configuration. A null image has the status missing.

    Cost: fetches, decodes and embeds every row, also equal ones; 20 ms of one core and up. A task
    holds embed.bytes_per_batch of files, and one Arrow batch of the session
    (spark.sql.execution.arrow.maxRecordsPerBatch rows, 10,000 by default: set it low for binary).

    Raises:
        BackboneError: the weights are missing or not those of the configuration.
    """
    inputs = _inputs(spark, config)

    def embed(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for attempts in tasks.attempt_column(batches, inputs):
            yield attempts[list(EMBEDDER_COLUMNS)]

    return pandas_udf(embed, spark_schema(EMBEDDER_COLUMNS))  # type: ignore[call-overload, no-any-return]


def scorer(spark: SparkSession, head: str, threshold: float | None = None) -> UserDefinedFunction:
    """Returns a pandas UDF: an embedding in, a struct of scores out.

    The embedding is that of `embedder` or of the embeddings table, for the head's backbone. The
    struct has exclusion_score (float, [0, 1], higher = more surely excluded), p_<class> for each
    class (float, their sum is 1) and excluded (boolean); all null for a null embedding.

    Cost: some 200,000 rows a second and core. For arguments and errors see `deciding_head`.
    """
    deciding = deciding_head(head, threshold)
    shared = spark.sparkContext.broadcast(deciding)

    def score(embeddings: pd.Series) -> pd.DataFrame:
        check_worker(lambda: score_udf.require_golden_scores(shared.value.head))
        return shared.value.decide(embeddings)

    return pandas_udf(score, spark_schema(deciding.columns()))  # type: ignore[call-overload, no-any-return]


def image_scorer(
    spark: SparkSession, config: Config, head: str, threshold: float | None = None
) -> UserDefinedFunction:
    """Returns a pandas UDF: an image in, a struct of its status and scores out.

    The struct is status, then the fields of `scorer`, which are null unless the status is ok. For
    the image, the cost and the Arrow batches see `embedder`, for the head `deciding_head`.

    Raises:
        HeadError: the head was fitted on another backbone than the configuration's.
    """
    deciding = deciding_head(head, threshold)
    inputs = _inputs(spark, config)
    backbone_id = inputs.spec.value.backbone_id
    registry.require_backbone(deciding.head, backbone_id, doing="making image_scorer")
    shared = spark.sparkContext.broadcast(deciding)

    def score(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        for attempts in tasks.attempt_column(batches, inputs):
            yield attempts[["status"]].join(shared.value.decide(attempts["embedding"]))

    columns = {"status": "string", **deciding.columns()}
    return pandas_udf(score, spark_schema(columns))  # type: ignore[call-overload, no-any-return]


def register(
    spark: SparkSession,
    config: Config,
    head: str,
    threshold: float | None = None,
    name: str = "toilet",
) -> None:
    """Registers two SQL functions: `name`, see `image_scorer`, and `<name>_score`.

    `<name>_score(image)` is the exclusion_score alone, a float. See `image_scorer` for the rest.
    """
    struct = image_scorer(spark, config, head, threshold)
    evaluate = struct.func

    def score(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for scores in evaluate(batches):
            yield scores["exclusion_score"]

    spark.udf.register(name, struct)
    spark.udf.register(f"{name}_score", pandas_udf(score, "float"))  # type: ignore[call-overload]


def _inputs(spark: SparkSession, config: Config) -> TaskInputs:
    """The inputs of tasks outside a run: no known contents, no claims."""
    spec = int8.load(Store(config.output.root), config.backbone)
    return TaskInputs(
        spec=spark.sparkContext.broadcast(spec),
        fetch=config.fetch,
        limits=config.decode,
        embed=config.embed,
    )

"""Scores of a catalog: made from stored embeddings by Spark, stored as a run."""

from collections.abc import Iterable

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.errors import OutputError
from toiletspark.model.head import Head
from toiletspark.scoring.score_udf import score_udf
from toiletspark.tables import spark_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, described_files
from toiletspark.tables.schemas import EMBEDDINGS, SCORES, Table, probability_columns
from toiletspark.tables.workspace import Workspace

DOING = "scoring the catalog"


def table_of(head: Head) -> Table:
    """`schemas.SCORES` with one probability column per class of this head."""
    return SCORES.with_columns(probability_columns(head.classes))


def score_images(work: Workspace, catalog: Run, head: Head, errors: WorkerErrors) -> DataFrame:
    """Scores every sound image of a catalog.

    Args:
        catalog: a run of `schemas.CATALOG`.
        head: for its backbone.
        errors: see `score_udf`.

    Returns:
        The columns of `table_of(head)`, one row per sound image; scores are null for an image whose
        content has no embedding. Cost: reads all embeddings of the backbone, and shuffles their
        scores and the catalog.
    """
    spark = work.spark
    images = spark_io.read_run(spark, catalog).where("status = 'ok'")
    embeddings = spark_io.read_all(spark, work.store, EMBEDDINGS)
    embeddings = embeddings.where(F.col("backbone_id") == head.backbone_id)
    score = score_udf(spark, head, errors)
    scored = embeddings.select("content_digest", score("embedding").alias("scores"))
    # Runs that overlapped may have embedded a content twice. The same one is chosen every time.
    once = scored.groupBy("content_digest").agg(F.min("scores").alias("scores"))
    images = images.withColumn("head_id", F.lit(head.head_id))
    joined = images.join(once, "content_digest", "left")
    names = [name for name in SCORES.columns if name != "exclusion_score"]
    return joined.select(*names, "scores.*")


def write(work: Workspace, catalog: Run, head: Head, *, compared: bool = False) -> Run:
    """Scores a catalog with a head and stores the scores as a run.

    Args:
        compared: True if the scores are only made to be compared with, never published.

    Raises:
        HeadError: the head does not compute its golden scores on a worker.
        OutputError: a sound image has no embedding.
    """
    store, table, run_id = work.store, table_of(head), work.store.new_run_id()
    sound_images = int(catalog.counts["sound"])
    errors = WorkerErrors(work.spark.sparkContext)
    scored = score_images(work, catalog, head, errors)
    scored, counted = spark_io.counting(scored, missing=F.col("exclusion_score").isNull())
    with spark_io.arrow_batches(work.spark, work.config.score.rows_per_batch):
        files = described_files(spark_io.write_files(scored, store, table, run_id))
    errors.raise_first()
    rows, missing = sum(file.rows for file in files), counted()["missing"]
    if missing or rows != sound_images:
        raise OutputError(
            doing=DOING,
            expected=f"an embedding for each of the {sound_images} sound images of the catalog "
            f"{catalog.run_id}",
            found=f"{rows - missing} scores",
            todo="run `toiletspark embed` (or `rescore`) again; it embeds what is missing",
        )
    inputs = Inputs(catalog=catalog.run_id, head_id=head.head_id, backbone_id=head.backbone_id)
    if compared:
        inputs = inputs.updated(compared=True)
    counts, config = {"images": catalog.rows}, work.config.recorded()
    return store.commit(table, run_id, config=config, inputs=inputs, counts=counts)


def suggest_classes(scores: DataFrame, classes: Iterable[str]) -> DataFrame:
    """The most probable class of each image, for people to confirm or to correct.

    Args:
        scores: a run of `schemas.SCORES`, whatever its classes.
        classes: labels.classes; another class is not suggested.

    Returns:
        image_id, suggested (the most probable class, the first of equal ones; null if it is not
        among `classes`), certainty (its probability, double), uncertainty (double, [0, 1]: 1 - the
        lead of the most probable class over the second, so 1 if a head cannot distinguish two
        classes), head_id and scored_digest (content_digest when it was scored). One row per scored
        image.
        Source: Scheffer, Decomain and Wrobel, Active Hidden Markov Models (2001): sampling by
        margin.
    """
    names = [name for name in scores.columns if name.startswith("p_")]
    values = {name: F.col(f"`{name}`").cast("double") for name in names}
    ordered = F.sort_array(F.array(*values.values()), asc=False)
    first, second = ordered[0], ordered[1]
    allowed = set(classes)
    candidates = []
    for name in names:
        label = name.removeprefix("p_")
        suggestion = F.lit(label if label in allowed else None).cast("string")
        candidates.append(F.when(values[name] == first, F.struct(suggestion.alias("label"))))
    return scores.select(
        "image_id",
        F.coalesce(*candidates)["label"].alias("suggested"),
        first.alias("certainty"),
        (1 - (first - second)).alias("uncertainty"),
        "head_id",
        F.col("content_digest").alias("scored_digest"),
    )

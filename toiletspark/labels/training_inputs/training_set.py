"""Labels meet embeddings: the small table from which a head is fitted, without Spark, elsewhere."""

from __future__ import annotations

import sys
from functools import reduce

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.errors import LabelsError, shown
from toiletspark.sampling import design_weights, evaluation_sample
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

DOING = "gathering the training set"


def gather(work: Workspace, table: tables.Table) -> Summary:
    """Keeps labelled embeddings as a run; tells how many images were labelled, and which of them had to be left out."""
    store, run_id = work.store, work.run_id
    labels = store.require(tables.LABELS, doing=DOING, step="labels import")
    seen = store.require(tables.CATALOG, doing=DOING, step="embed")
    backbone_id = seen.inputs.backbone_id
    settled = settle(frames.read_run(work.spark, labels), frames.read_run(work.spark, seen))
    settled = placed(settled, homes(work.spark, store))
    settled = frames.set_aside(settled, store, run_id, "settled")
    labelled, disputed = settled.count(), settled.where("in_conflict").count()
    usable = (
        _undisputed(settled, disputed, work.config, store)
        if table is tables.TRAINING_SET
        else settled
    )

    found = with_embeddings(
        usable, frames.read_all(work.spark, store, tables.EMBEDDINGS), backbone_id
    )
    found = frames.set_aside(found, store, run_id, "found")
    weighed = design_weights.weigh(
        found, design_weights.read_draws(work.spark, store), frames.read_run(work.spark, seen)
    )
    weighed = frames.set_aside(weighed, store, run_id, "weighed")
    run = frames.write_run(
        weighted(found, weighed).coalesce(1),
        store,
        table,
        run_id,
        config=work.config.recorded(),
        inputs=Inputs(labels=labels.run_id, catalog=seen.run_id, backbone_id=backbone_id),
        counts={evaluation_sample.DRAWS: design_weights.count_draws(weighed)},
    )
    without = usable.count() - run.rows
    store.clear(run_id)
    if not run.rows:
        raise LabelsError(
            doing=DOING,
            expected="labelled images that have an embedding",
            found=f"{labelled} labels, none of whose images could be embedded",
            todo=f"see the column status in {store.root}/{tables.IMAGE_LEDGER.name}",
        )
    return {"labelled": labelled, "without_embedding": without, "in_conflict": disputed}


def settle(labels: DataFrame, catalog: DataFrame) -> DataFrame:
    """One label per labelled image, out of what several people have said.

    A label belongs to the content that the labeller saw: its own content_digest, or, where it came without, the
    content that the image has now. Words that agree are one; where they contradict each other about a content, that
    is told beside the image's newest word.

    Args:
        labels: `tables.LABELS`, one run.
        catalog: `tables.CATALOG`, one run.

    Returns:
        image_id, listing_id and stratum (null where the catalog has no such image any more, see `placed`),
        content_digest (null where nobody knows it), label (the newest word about this image), newest (the newest word
        about its content), in_conflict (boolean). One row per image_id. Shuffles the labels, which are few.
    """
    ids = F.broadcast(labels.select("image_id").distinct())  # the catalog stays where it is
    now = catalog.join(ids, on="image_id", how="left_semi")
    now = now.select(
        "image_id", "listing_id", "stratum", F.col("content_digest").alias("digest_now")
    )
    named = (
        labels.join(F.broadcast(now), on="image_id", how="left")
        .withColumn("content_digest", F.coalesce("content_digest", "digest_now"))
        .withColumn("about", F.coalesce("content_digest", F.concat(F.lit("image "), "image_id")))
        .withColumn("said", F.struct("labelled_at", "labeller", "image_id", "class"))
    )
    of_content = Window.partitionBy("about")
    judged = (
        named.withColumn("in_conflict", F.size(F.collect_set("class").over(of_content)) > 1)
        .withColumn("newest", F.max("said").over(of_content)["class"])
        .withColumn(
            "rank", F.row_number().over(Window.partitionBy("image_id").orderBy(F.desc("said")))
        )
    )
    columns = ("image_id", "listing_id", "stratum", "content_digest")
    said = (F.col("class").alias("label"), "newest", "in_conflict")
    return judged.where(F.col("rank") == 1).select(*columns, *said)


def homes(spark: SparkSession, store: Store) -> DataFrame:
    """Where images were when they were last drawn to be looked at: image_id, home, home_stratum (both may be null).

    Labels outlive listings. Samples and queues of any kind remember the listing, samples the stratum as well. One row
    per image_id; one shuffle of what was ever drawn.
    """
    drawn = [
        frames.read_run(spark, run).select(
            "image_id",
            F.lit(run.run_id).alias("at"),
            "listing_id",
            F.col("stratum")
            if table is tables.SAMPLE
            else F.lit(None).cast("string").alias("stratum"),
        )
        for table in (tables.SAMPLE, tables.QUEUES)
        for run in store.runs(table)
    ]
    if not drawn:
        return frames.no_rows(
            spark, {"image_id": "string", "home": "string", "home_stratum": "string"}
        )
    return (
        reduce(DataFrame.unionByName, drawn)
        .groupBy("image_id")
        .agg(
            F.max(F.when(F.col("listing_id").isNotNull(), F.struct("at", "listing_id")))[
                "listing_id"
            ].alias("home"),
            F.max(F.when(F.col("stratum").isNotNull(), F.struct("at", "stratum")))["stratum"].alias(
                "home_stratum"
            ),
        )
    )


def placed(settled: DataFrame, homes: DataFrame) -> DataFrame:
    """Names the listing and the stratum of labelled images that the catalog does not know any more.

    Photos of one home must not lie on both sides of a split, so a draw's memory goes before a listing of its own. That
    one is named such that no listing of the user's has its name by chance, as it might have that of an image.

    Args:
        settled: see `settle`.
        homes: see `homes`.

    Returns:
        `settled` without nulls in listing_id and stratum.
    """
    alone = F.concat(F.lit(tables.ALONE), "image_id")
    return (
        settled.join(homes, on="image_id", how="left")
        .withColumn("listing_id", F.coalesce("listing_id", "home", alone))
        .withColumn("stratum", F.coalesce("stratum", "home_stratum", F.lit("unknown")))
        .drop("home", "home_stratum")
    )


def with_embeddings(settled: DataFrame, embeddings: DataFrame, backbone_id: str) -> DataFrame:
    """Finds the embedding of every label.

    Args:
        settled: see `placed`, without what shall not be trained on.
        embeddings: `tables.EMBEDDINGS`, all runs.
        backbone_id: whose embeddings are wanted.

    Returns:
        The columns of `tables.TRAINING_SET` without weight and draw; labels whose content has no embedding are not in
        it.
    """
    kept = embeddings.where(F.col("backbone_id") == backbone_id).dropDuplicates(["content_digest"])
    return kept.join(F.broadcast(settled), on="content_digest", how="inner")  # labels are few


def weighted(gathered: DataFrame, weighed: DataFrame) -> DataFrame:
    """Gives every label its design weight, see `design_weights.weigh`; what chance has not drawn weighs 1.

    Returns:
        The columns of `tables.TRAINING_SET`.
    """
    drawn = F.broadcast(weighed.select("image_id", "weight", "draw"))
    return gathered.join(drawn, on="image_id", how="left").withColumn(
        "weight", F.coalesce("weight", F.lit(1.0))
    )


def _undisputed(settled: DataFrame, disputed: int, config: Config, store: Store) -> DataFrame:
    """What is trained on, as labels.conflicts says."""
    how = config.labels.conflicts
    if not disputed:
        return settled
    ids = sorted(
        row["image_id"] for row in settled.where("in_conflict").select("image_id").collect()
    )
    if how == "fail":
        raise LabelsError(
            doing=DOING,
            expected="labels that agree about each content (labels.conflicts is fail)",
            found=f"{disputed} images about whose content labels contradict each other: {shown(ids)}",
            todo=f"settle them, see {store.root}/{tables.CONFLICTS.name}; or set labels.conflicts=leave_out or newest",
        )
    print(
        f"toiletspark: labels contradict each other about the content of {shown(ids)}: {how}",
        file=sys.stderr,
    )
    return (
        settled.withColumn("label", F.col("newest"))
        if how == "newest"
        else settled.where(~F.col("in_conflict"))
    )

"""Labels meet embeddings: the small table from which a head is fitted, without Spark, elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import frames, tables
from toiletspark.draws import precedence
from toiletspark.runs import Store


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
    now = now.select("image_id", "listing_id", "stratum", F.col("content_digest").alias("digest_now"))
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
        .withColumn("rank", F.row_number().over(Window.partitionBy("image_id").orderBy(F.desc("said"))))
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
            F.col("stratum") if table is tables.SAMPLE else F.lit(None).cast("string").alias("stratum"),
        )
        for table in (tables.SAMPLE, tables.QUEUES)
        for run in store.runs(table)
    ]
    if not drawn:
        return frames.no_rows(spark, {"image_id": "string", "home": "string", "home_stratum": "string"})
    return (
        _united(drawn)
        .groupBy("image_id")
        .agg(
            F.max(F.when(F.col("listing_id").isNotNull(), F.struct("at", "listing_id")))["listing_id"].alias("home"),
            F.max(F.when(F.col("stratum").isNotNull(), F.struct("at", "stratum")))["stratum"].alias("home_stratum"),
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


def draws(spark: SparkSession, store: Store) -> DataFrame:
    """With which weight images were drawn for labelling: image_id, weight (double), draw (the run that drew it).

    Samples and suggested queues; which of several draws of an image counts, `precedence` says. Rows of one draw stand
    for what that draw was drawn from, the catalog or what was not labelled then, so an estimate takes the rows of one.

    Leak samples are left out: they are drawn from all images, labelled ones too, and each of these would leave the
    sample in which it stands, the doubtful ones first. What they have taught weighs 1, as if no chance had drawn it;
    their own figures are `leaks`' business.
    """
    drawn = [
        frames.read_run(spark, run).select(
            "image_id",
            "inclusion_probability",
            F.lit(run.run_id).alias("draw"),
            F.lit(precedence(run)).alias("precedence"),
        )
        for table in (tables.SAMPLE, tables.QUEUES)
        for run in store.runs(table)
        if run.manifest["inputs"].get("kind", "suggest") == "suggest"
    ]
    if not drawn:
        return frames.no_rows(spark, {"image_id": "string", "weight": "double", "draw": "string"})
    first = F.max(F.struct("precedence", "draw", "inclusion_probability")).alias("first")
    weight = 1 / F.col("first.inclusion_probability")
    each = _united(drawn).groupBy("image_id").agg(first)
    return each.select("image_id", weight.alias("weight"), F.col("first.draw").alias("draw"))


def gather(settled: DataFrame, embeddings: DataFrame, drawn: DataFrame, backbone_id: str) -> DataFrame:
    """Finds the embedding and the design weight of every label.

    Args:
        settled: see `placed`, without what shall not be trained on.
        embeddings: `tables.EMBEDDINGS`, all runs.
        drawn: see `draws`; images that were not drawn by chance weigh 1.
        backbone_id: whose embeddings are wanted.

    Returns:
        The columns of `tables.TRAINING_SET`; labels whose content has no embedding are not in it.
    """
    kept = embeddings.where(F.col("backbone_id") == backbone_id).dropDuplicates(["content_digest"])
    named = settled.join(drawn, on="image_id", how="left").withColumn("weight", F.coalesce("weight", F.lit(1.0)))
    # labels are few: the embeddings stay where they are
    return kept.join(F.broadcast(named), on="content_digest", how="inner")


def _united(frames_alike: Sequence[DataFrame]) -> DataFrame:
    return reduce(DataFrame.unionByName, frames_alike)

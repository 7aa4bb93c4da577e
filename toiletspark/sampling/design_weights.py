"""Design weights: the number of images of the catalog that a labelled image represents.

Weighting for nonresponse: in each stratum the labelled images carry the weight of all drawn images
that could be labelled. That is right if they are a random part of them; a head therefore states how
much is labelled (`evaluation_sample.Draw`).

Source: weighting-class adjustment, Oh and Scheuren (1983), in Incomplete Data in Sample Surveys, 2.
"""

from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.images import statuses
from toiletspark.sampling.evaluation_sample import LABELLED_ENOUGH, precedence
from toiletspark.tables import spark_io
from toiletspark.tables.runs import Store
from toiletspark.tables.schemas import QUEUES, SAMPLE

_NOT_VISIBLE = [
    status for status, name in statuses.FAILURE_CLASSES.items() if name in ("content", "gone")
]
_DIGITS = 9  # decimals: the last digits of sums depend on the order in which rows arrive
_COLUMNS = {
    "image_id": "string",
    "draw": "string",
    "stratum": "string",
    "weight": "double",
    "precedence": "int",
}


def read_draws(spark: SparkSession, store: Store) -> DataFrame:
    """Reads all images that were drawn at random for labelling: samples and suggested queues.

    Leak samples are left out. They are drawn from all images, also labelled ones, and would take
    these, the uncertain ones first, from the sample that they belong to. Their labels weigh 1 in
    training, as if they had not been drawn at random; `leak_meter` computes their own figures.

    Returns image_id, draw (run id), stratum (of the draw; null in queues), weight (double, 1 /
    inclusion probability), `evaluation_sample.precedence`. One row per image and draw.
    """
    draws = []
    for table in (SAMPLE, QUEUES):
        stratum = F.col("stratum") if table is SAMPLE else F.lit(None)
        for run in store.runs(table):
            if table is SAMPLE or run.inputs.kind == "suggest":
                columns = {
                    "draw": F.lit(run.run_id),
                    "stratum": stratum.cast("string"),
                    "weight": 1 / F.col("inclusion_probability"),
                    "precedence": F.lit(precedence(run)),
                }
                rows = spark_io.read_run(spark, run).withColumns(columns)
                draws.append(rows.select(*_COLUMNS))
    if not draws:
        return spark_io.no_rows(spark, _COLUMNS)
    return reduce(DataFrame.unionByName, draws).where(F.col("weight").isNotNull())


def weigh(labelled: DataFrame, drawn: DataFrame, catalog: DataFrame) -> DataFrame:
    """Assigns each labelled image to one draw and gives its weight there.

    Estimates use the rows of one draw, since each represents its own population: the catalog, or
    the images without a label then. If an image was drawn several times, the draw with the highest
    `evaluation_sample.precedence` wins; of equal ones, one that is mostly labelled, and of these
    the one with most labels; else the one with the largest labelled share. So a larger sample
    without labels takes no images from the sample that it continues.

    `labelled` has the image_id of each usable label, `catalog` is one run of `schemas.CATALOG`.
    Labels do not represent its broken and missing images, which cannot be labelled; images that are
    no longer in it could have been.

    Returns image_id, weight (double), draw; and for the draw `drawn` (images that could be
    labelled), `labelled` (how many are; both bigint) and `share` (theirs, by weight, double). One
    row per labelled image that was drawn at random. Per draw the weights add up to those of all
    `drawn` images. Cost: a few shuffles of all images ever drawn; the catalog is not shuffled.
    """
    counted = _count_labels(labelled, drawn, catalog)
    by_draw, by_image = Window.partitionBy("draw"), Window.partitionBy("image_id")
    by_stratum = Window.partitionBy("draw", "stratum")
    labels_if_enough = F.when(F.col("is_enough"), F.col("labelled")).otherwise(0)
    rank = F.struct("precedence", "is_enough", labels_if_enough.alias("labels"), "share", "draw")
    own_weight = F.when(F.col("belongs"), F.col("weight"))
    belonging = (
        counted.withColumn("belongs", F.col("has_label") & (rank == F.max(rank).over(by_image)))
        .withColumn("of_stratum", F.sum("weight").over(by_stratum))
        .withColumn(
            "factor", F.round(F.col("of_stratum") / F.sum(own_weight).over(by_stratum), _DIGITS)
        )
        .where("belongs")
        .withColumn("weight", F.col("weight") * F.col("factor"))
    )
    # The weight of strata without a label is divided among the others.
    factor = F.round(F.col("of_draw") / F.sum("weight").over(by_draw), _DIGITS)
    weight = (F.col("weight") * factor).alias("weight")
    return belonging.select("image_id", weight, "draw", "drawn", "labelled", "share")


def _count_labels(labelled: DataFrame, drawn: DataFrame, catalog: DataFrame) -> DataFrame:
    """Drawn images that could be labelled, with has_label and the counts of their draw."""
    ids = F.broadcast(drawn.select("image_id").distinct())
    lost = catalog.where(F.col("status").isin(*_NOT_VISIBLE)).join(ids, "image_id", "left_semi")
    lost = lost.select("image_id", F.lit(True).alias("is_lost"))
    labels = labelled.select("image_id", F.lit(True).alias("has_label"))
    joined = drawn.join(labels, "image_id", "left").join(lost, "image_id", "left")
    visible = joined.where("has_label or is_lost is null")
    visible = visible.withColumn("has_label", F.coalesce("has_label", F.lit(False)))
    by_draw = Window.partitionBy("draw")
    label_weight = F.sum(F.when(F.col("has_label"), F.col("weight"))).over(by_draw)
    share = F.coalesce(label_weight / F.col("of_draw"), F.lit(0.0))
    return (
        visible.withColumn("drawn", F.count("*").over(by_draw))
        .withColumn("labelled", F.count(F.when(F.col("has_label"), 1)).over(by_draw))
        .withColumn("of_draw", F.sum("weight").over(by_draw))
        .withColumn("share", F.round(share, _DIGITS))
        .withColumn("is_enough", F.col("share") >= LABELLED_ENOUGH)
    )


def count_draws(weighed: DataFrame) -> dict[str, dict[str, Any]]:
    """Returns drawn, labelled and share by draw, for the manifest of a training set."""
    names = ("drawn", "labelled", "share")
    rows = weighed.select("draw", *names).distinct().orderBy("draw").collect()
    return {row["draw"]: {name: row[name] for name in names} for row in rows}

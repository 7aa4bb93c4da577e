"""How many images of the catalog a labelled image stands for: by the draw that chose it, and by what of it is labelled.

Whoever labels half of a sample leaves the other half to those that he has labelled: in each stratum they weigh as much
as all that was drawn there and has something to show. That is right where what is labelled is any half, and it is all
that can be done where it is not, so a head says how much is labelled (`draws.Draw`).

Source: weighting-class adjustment for nonresponse, Oh and Scheuren (1983), in Incomplete Data in Sample Surveys, 2.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import statuses
from toiletspark.sampling.evaluation_sample import LABELLED_ENOUGH, precedence
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Store

_NOTHING_TO_SHOW = [
    status for status, kind in statuses.FAILURE_CLASSES.items() if kind in ("content", "gone")
]
_DIGITS = 9  # decimals: sums hang, in their last digits, on the order in which rows come
_COLUMNS = {
    "image_id": "string",
    "draw": "string",
    "stratum": "string",
    "weight": "double",
    "precedence": "int",
}


def drawn(spark: SparkSession, store: Store) -> DataFrame:
    """What chance has ever drawn for labelling: samples, and suggested queues.

    Leak samples are left out: they are drawn from all images, labelled ones too, and each of these would leave the
    sample in which it stands, the doubtful ones first. What they have taught weighs 1, as if no chance had drawn it;
    their own figures are `leaks`' business.

    Returns:
        image_id, draw (the run that drew it), stratum (of the draw; queues have none), weight (double, 1 / inclusion
        probability), precedence (see `draws.precedence`). One row per image and draw.
    """
    runs = [
        frames.read_run(spark, run).select(
            "image_id",
            F.lit(run.run_id).alias("draw"),
            (F.col("stratum") if table is tables.SAMPLE else F.lit(None))
            .cast("string")
            .alias("stratum"),
            (1 / F.col("inclusion_probability")).alias("weight"),
            F.lit(precedence(run)).alias("precedence"),
        )
        for table in (tables.SAMPLE, tables.QUEUES)
        for run in store.runs(table)
        if run.inputs.kind == "suggest"
    ]
    if not runs:
        return frames.no_rows(spark, _COLUMNS)
    return reduce(DataFrame.unionByName, runs).where(F.col("weight").isNotNull())


def weigh(labelled: DataFrame, drawn: DataFrame, catalog: DataFrame) -> DataFrame:
    """The draw to which each labelled image belongs, and its weight there.

    Rows of one draw stand for what that draw was drawn from, the catalog or what was not labelled then, so an estimate
    takes the rows of one. Of several draws of an image that one counts which `draws.precedence` puts first; of equal
    ones, one that is labelled for the most part, and of these the one with most labels; else the one of which most is
    labelled. So a larger sample which nobody has labelled yet takes nothing from the one that it continues.

    Args:
        labelled: image_id; labels that can be used, a row each.
        drawn: see `drawn`.
        catalog: `tables.CATALOG`, one run. What stands there with nothing to show, broken or gone, cannot be labelled
            and is no part of what labels stand for. What does not stand there any more is: it could have been.

    Returns:
        image_id, weight (double), draw; and of the draw how many images it has `drawn` that could be labelled, how many
        of them are `labelled` (bigint), and which `share` of them that is, by weight (double). One row per labelled
        image that chance has drawn. Per draw the weights add up to those of all `drawn` images. What was ever drawn is
        shuffled, a few times; the catalog stays where it is.
    """
    ids = F.broadcast(drawn.select("image_id").distinct())
    lost = catalog.where(F.col("status").isin(*_NOTHING_TO_SHOW)).join(
        ids, on="image_id", how="left_semi"
    )
    named = labelled.select("image_id", F.lit(True).alias("has_label"))
    known = (
        drawn.join(named, on="image_id", how="left")
        .join(lost.select("image_id", F.lit(True).alias("is_lost")), on="image_id", how="left")
        .where("has_label or is_lost is null")
        .withColumn("has_label", F.coalesce("has_label", F.lit(False)))
    )
    of_draw, of_image = Window.partitionBy("draw"), Window.partitionBy("image_id")
    of_stratum = Window.partitionBy("draw", "stratum")
    with_label = F.sum(F.when(F.col("has_label"), F.col("weight"))).over(of_draw)
    counted = (
        known.withColumn("drawn", F.count("*").over(of_draw))
        .withColumn("labelled", F.count(F.when(F.col("has_label"), 1)).over(of_draw))
        .withColumn("whole", F.sum("weight").over(of_draw))
        .withColumn("share", F.round(F.coalesce(with_label / F.col("whole"), F.lit(0.0)), _DIGITS))
        .withColumn("enough", F.col("share") >= LABELLED_ENOUGH)
    )
    labels_if_enough = F.when(F.col("enough"), F.col("labelled")).otherwise(0)
    place = F.struct("precedence", "enough", labels_if_enough.alias("labels"), "share", "draw")
    mine = F.when(F.col("belongs"), F.col("weight"))
    belonging = (
        counted.withColumn("belongs", F.col("has_label") & (place == F.max(place).over(of_image)))
        .withColumn("in_stratum", F.sum("weight").over(of_stratum))
        .withColumn("raised", F.round(F.col("in_stratum") / F.sum(mine).over(of_stratum), _DIGITS))
        .where("belongs")
        .withColumn("weight", F.col("weight") * F.col("raised"))
    )
    of_all = F.round(
        F.col("whole") / F.sum("weight").over(of_draw), _DIGITS
    )  # strata without a label: left to others
    weight = (F.col("weight") * of_all).alias("weight")
    return belonging.select("image_id", weight, "draw", "drawn", "labelled", "share")


def told(weighed: DataFrame) -> dict[str, dict[str, Any]]:
    """How much of each draw is labelled, as the manifest of a training set keeps it: drawn, labelled, share by run."""
    rows = weighed.select("draw", "drawn", "labelled", "share").distinct().orderBy("draw").collect()
    return {
        row["draw"]: {name: row[name] for name in ("drawn", "labelled", "share")} for row in rows
    }

"""The training set: labels joined with embeddings and weights, from which a head is fitted."""

import logging
from functools import reduce

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config.command_line import Summary
from toiletspark.errors import LabelsError, shown
from toiletspark.labels.merge import IMAGE_FOLDER
from toiletspark.sampling import design_weights
from toiletspark.sampling.evaluation_sample import DRAWS
from toiletspark.tables import schemas, spark_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

DOING = "gathering the training set"
_log = logging.getLogger("toiletspark")


def gather(work: Workspace, table: schemas.Table) -> Summary:
    """Writes labelled embeddings as a run of `table`; counts the labels and those left out."""
    spark, store = work.spark, work.store

    def set_aside(frame: DataFrame, name: str) -> DataFrame:
        return spark_io.set_aside(frame, store, work.run_id, name)

    labels = store.require(schemas.LABELS, doing=DOING, step="labels import")
    catalog = store.require(schemas.CATALOG, doing=DOING, step="embed")
    snapshot = spark_io.read_run(spark, catalog)
    settled = settle(spark_io.read_run(spark, labels), snapshot)
    settled = set_aside(with_listings(settled, drawn_listings(spark, store)), "settled")
    labelled, disputed = settled.count(), settled.where("in_conflict").count()
    is_settled = not disputed or table is not schemas.TRAINING_SET
    usable = settled if is_settled else _without_conflicts(work, settled, disputed)
    backbone_id = catalog.inputs.backbone_id
    embeddings = spark_io.read_all(spark, store, schemas.EMBEDDINGS)
    embedded = set_aside(with_embeddings(usable, embeddings, backbone_id), "embedded")
    draws_of_images = design_weights.read_draws(spark, store)
    weights = design_weights.weigh(embedded.where("counts_for_draw"), draws_of_images, snapshot)
    weights = set_aside(weights, "weights")
    inputs = Inputs(labels=labels.run_id, catalog=catalog.run_id, backbone_id=backbone_id)
    rows = weighted(embedded, weights).coalesce(1)
    recorded = work.config.recorded()
    draws = {DRAWS: design_weights.count_draws(weights)}
    run = spark_io.write_run(
        rows, store, table, work.run_id, config=recorded, inputs=inputs, counts=draws
    )
    without_embedding = usable.count() - run.rows
    store.clear(work.run_id)
    if not run.rows:
        raise LabelsError(
            doing=DOING,
            expected="labelled images that have an embedding",
            found=f"{labelled} labels, none of whose images could be embedded",
            todo=f"see the column status in {store.root}/{schemas.IMAGE_LEDGER.name}",
        )
    counts = {"labelled": labelled, "without_embedding": without_embedding}
    return {**counts, "in_conflict": disputed}


def settle(labels: DataFrame, catalog: DataFrame) -> DataFrame:
    """One label per labelled image, out of those of all labellers.

    A label belongs to the content that the labeller saw: its own content_digest or, where it came
    without one, the content that the image has now. Labels that contradict each other about a
    content are marked. Shuffles the labels, which are few, and not the catalog.

    Returns:
        image_id, listing_id and stratum (null where the catalog has the image no more, see
        `with_listings`), content_digest (null where it is not known), label (the newest of this
        image), newest (the newest of its content), in_conflict (boolean), counts_for_draw (boolean;
        false if all its labels come from folders whose pictures people chose themselves). One row
        per image_id.
    """
    ids = F.broadcast(labels.select("image_id").distinct())
    columns = ("image_id", "listing_id", "stratum")
    snapshot = catalog.join(ids, on="image_id", how="left_semi")
    snapshot = snapshot.select(*columns, F.col("content_digest").alias("digest_now"))
    digest = F.coalesce("content_digest", "digest_now")
    topic = F.coalesce("content_digest", F.concat(F.lit("image "), "image_id"))
    age = F.struct("labelled_at", "labeller", "image_id", "class")
    named = labels.join(F.broadcast(snapshot), on="image_id", how="left")
    named = named.withColumn("content_digest", digest)
    named = named.withColumns({"topic": topic, "age": age})
    of_topic = Window.partitionBy("topic")
    of_image = Window.partitionBy("image_id").orderBy(F.desc("age"))
    is_asked = ~F.col("how").eqNullSafe(IMAGE_FOLDER)
    return (
        named.withColumn("counts_for_draw", F.max(is_asked).over(Window.partitionBy("image_id")))
        .withColumn("in_conflict", F.size(F.collect_set("class").over(of_topic)) > 1)
        .withColumn("newest", F.max("age").over(of_topic)["class"])
        .withColumn("rank", F.row_number().over(of_image))
        .where(F.col("rank") == 1)
        .withColumnRenamed("class", "label")
        .select(*columns, "content_digest", "label", "newest", "in_conflict", "counts_for_draw")
    )


def drawn_listings(spark: SparkSession, store: Store) -> DataFrame:
    """The listing and the stratum that images had when they were last drawn for people.

    Labels outlive listings. Samples and queues record the listing, samples the stratum as well.
    image_id, drawn_listing, drawn_stratum (both may be null); one row per image_id, one shuffle.
    """
    drawn = []
    for table in (schemas.SAMPLE, schemas.QUEUES):
        stratum = F.col("stratum") if table is schemas.SAMPLE else F.lit(None).cast("string")
        for run in store.runs(table):
            rows = spark_io.read_run(spark, run)
            at = F.lit(run.run_id).alias("at")
            drawn.append(rows.select("image_id", at, "listing_id", stratum.alias("stratum")))
    if not drawn:
        columns = dict.fromkeys(("image_id", "drawn_listing", "drawn_stratum"), "string")
        return spark_io.no_rows(spark, columns)
    last = {}
    for column in ("listing_id", "stratum"):
        last[column] = F.max(F.when(F.col(column).isNotNull(), F.struct("at", column)))[column]
    listing = last["listing_id"].alias("drawn_listing")
    stratum = last["stratum"].alias("drawn_stratum")
    return reduce(DataFrame.unionByName, drawn).groupBy("image_id").agg(listing, stratum)


def with_listings(settled: DataFrame, drawn: DataFrame) -> DataFrame:
    """Gives a listing and a stratum to labelled images that the catalog has no more.

    Photos of one home must not lie on both sides of a split, so the listing of the last draw comes
    first. Without one the image is a listing of its own, under a name that no listing of the user's
    has by chance.
    """
    alone = F.concat(F.lit(schemas.ALONE), "image_id")
    return (
        settled.join(drawn, on="image_id", how="left")
        .withColumn("listing_id", F.coalesce("listing_id", "drawn_listing", alone))
        .withColumn("stratum", F.coalesce("stratum", "drawn_stratum", F.lit("unknown")))
        .drop("drawn_listing", "drawn_stratum")
    )


def with_embeddings(settled: DataFrame, embeddings: DataFrame, backbone_id: str) -> DataFrame:
    """Joins every label with its embedding of this backbone; labels without one are left out.

    Returns the columns of `schemas.TRAINING_SET` without weight and draw.
    """
    own = embeddings.where(F.col("backbone_id") == backbone_id).dropDuplicates(["content_digest"])
    return own.join(F.broadcast(settled), on="content_digest", how="inner")  # labels are few


def weighted(embedded: DataFrame, weights: DataFrame) -> DataFrame:
    """Adds the design weights, see `design_weights.weigh`; images outside of all draws weigh 1."""
    drawn = F.broadcast(weights.select("image_id", "weight", "draw"))
    weight = F.coalesce("weight", F.lit(1.0))
    return embedded.join(drawn, on="image_id", how="left").withColumn("weight", weight)


def _without_conflicts(work: Workspace, settled: DataFrame, disputed: int) -> DataFrame:
    """Leaves disputed images out, or takes the newest label, as labels.conflicts says."""
    policy = work.config.labels.conflicts
    rows = settled.where("in_conflict").select("image_id").collect()
    ids = shown(sorted(row["image_id"] for row in rows))
    if policy == "fail":
        raise LabelsError(
            doing=DOING,
            expected="labels that agree about each content (labels.conflicts is fail)",
            found=f"{disputed} images about whose content labels contradict each other: {ids}",
            todo=f"settle them, see {work.store.root}/{schemas.CONFLICTS.name}; or set "
            "labels.conflicts=leave_out or newest",
        )
    _log.warning("labels contradict each other about the content of %s: %s", ids, policy)
    if policy == "newest":
        return settled.withColumn("label", F.col("newest"))
    return settled.where(~F.col("in_conflict"))

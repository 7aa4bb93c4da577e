"""Embeds the images of the catalog that have no embedding yet; the only step that reads all images.

spark-submit --py-files dist/*.whl jobs/embed_images.py --conf-file mytables.toml
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config.command_line import Summary
from toiletspark.embedding import commits, int8, ledger, plan
from toiletspark.launch.job import Job
from toiletspark.model import registry
from toiletspark.tables import spark_io, user_tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.schemas import CATALOG, IMAGE_LEDGER, IMAGES
from toiletspark.tables.workspace import Workspace


def step(work: Workspace) -> Summary:
    """Reads the user's tables once, attempts what waits, and stores the catalog with statuses."""
    spark, store, config = work.spark, work.store, work.config
    store.clear_unfinished(config.output.unfinished_after_h)
    listings = None if config.embed.only_retry else user_tables.read_listings(spark, config)
    images, made_from = _images(work, listings)
    spec = int8.load_or_calibrate(store, config, images)
    probe = registry.probe(store, config.score.head, spec.backbone_id)

    embedded = ledger.embedded_contents(spark, store, spec.backbone_id).distinct()
    attempts = spark_io.read_all(spark, store, IMAGE_LEDGER)
    state = ledger.join_attempts(images, attempts, embedded)
    state = state.withColumn("waits", ledger.needs_attempt(config.embed))
    state, waiting = spark_io.counting(state, waiting=F.col("waits"))
    state = spark_io.set_aside(state, store, work.run_id, "looked_at")
    user_tables.check_keys(state, listings, config)

    totals, count = commits.Totals(), waiting()["waiting"]
    if count:
        is_inline = bool(config.images.columns.content)
        planned = plan.make_plan(work, state.where("waits"), images, count, is_inline=is_inline)
        totals = commits.embed_plan(work, planned, spec, probe)
        attempts = spark_io.read_all(spark, store, IMAGE_LEDGER, of_run=work.run_id)
        state = ledger.update_catalog(state, attempts)
    state, sound = spark_io.counting(state, sound=F.col("status") == "ok")
    spark_io.write_files(state, store, CATALOG, work.run_id)
    inputs = made_from.updated(backbone_id=spec.backbone_id)
    recorded = config.recorded()
    catalog = store.commit(CATALOG, work.run_id, config=recorded, inputs=inputs, counts=sound())
    store.clear(work.run_id)
    return {
        "images": catalog.rows,
        "attempted": totals.attempted,
        "fetched": totals.fetched,
        "embedded": totals.embedded,
        "saved": {
            "unchanged": catalog.rows - totals.attempted,
            "same_url": totals.attempted - totals.fetched,
            "same_content": totals.sound - totals.embedded,
        },
        "backbone_id": spec.backbone_id,
        "catalog": catalog.folder,
    }


def _images(work: Workspace, listings: DataFrame | None) -> tuple[DataFrame, Inputs]:
    """The user's images and tables; without listings, those of the last catalog, for a retry."""
    spark, config = work.spark, work.config
    if listings is not None:
        # keys are checked later: a listing that stands twice must not multiply its images before
        once = listings.dropDuplicates(["listing_id"])
        return user_tables.read_catalog(spark, config, once), Inputs.of_tables(config)
    last = work.store.require(CATALOG, doing="trying failed images again", step="embed")
    images = spark_io.read_run(spark, last).select(*IMAGES.columns)
    if not config.images.columns.content:
        return images.withColumn(user_tables.CONTENT, F.lit(None).cast("binary")), last.inputs
    contents = user_tables.read_catalog(spark, config).select("image_id", user_tables.CONTENT)
    return images.join(contents, on="image_id", how="left"), last.inputs


JOB = Job("embed_images", step, __doc__, prepare=int8.start_loading)

if __name__ == "__main__":
    JOB.submit()

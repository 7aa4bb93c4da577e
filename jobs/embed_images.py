"""Embeds the images of the catalog that have no embedding yet; the only step that reads all images.

spark-submit --py-files dist/*.whl jobs/embed_images.py --conf-file mytables.toml
"""

import logging

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config.command_line import Summary
from toiletspark.embedding import commits, hosts, int8, ledger, outcome, plan
from toiletspark.images.decoding import decoder_id
from toiletspark.images.statuses import STATUSES
from toiletspark.launch.job import Job
from toiletspark.model import registry
from toiletspark.tables import listing_checks, spark_io, user_tables
from toiletspark.tables.listing_checks import ListingCheck, Named
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.schemas import CATALOG, IMAGE_LEDGER, IMAGES
from toiletspark.tables.user_tables import HAS_LISTING
from toiletspark.tables.workspace import Workspace

_log = logging.getLogger("toiletspark")


def step(work: Workspace) -> Summary:
    """Reads the user's tables once, attempts what waits, and stores the catalog with statuses."""
    spark, store, config = work.spark, work.store, work.config
    store.clear_unfinished(config.output.unfinished_after_h)
    images, listings, made_from = _images(work)
    spec = int8.load_or_calibrate(store, config, images)
    probe = registry.probe(store, config.score.head, spec.backbone_id)

    embedded = ledger.embedded_contents(spark, store, spec.backbone_id).distinct()
    attempts = spark_io.read_all(spark, store, IMAGE_LEDGER)
    state = ledger.join_attempts(images.drop(user_tables.CONTENT), attempts, embedded)
    decoder = decoder_id(config.decode, config.fetch.max_image_bytes)
    state = state.withColumn("waits", ledger.needs_attempt(config.embed, decoder))
    state, counted = spark_io.counting(
        state,
        waiting=F.col("waits"),
        named=F.col(HAS_LISTING).isNotNull(),
        unknown=~F.col(HAS_LISTING),
    )
    state = spark_io.set_aside(state, store, work.run_id, "looked_at")
    user_tables.check_images(state, config)
    named = Named(counted()["named"], counted()["unknown"])
    unknown = state.where(~F.col(HAS_LISTING)).select("listing_id")
    listing_checks.require_listings(spark, config, named, unknown)

    totals, count = commits.Totals(), counted()["waiting"]
    alarms: list[str] = []
    if count:
        is_inline = bool(config.images.columns.content)
        planned = plan.make_plan(work, state.where("waits"), images, count, is_inline=is_inline)
        totals = commits.embed_plan(work, planned, spec, probe)
        attempts = spark_io.read_all(spark, store, IMAGE_LEDGER, of_run=work.run_id)
        alarms = hosts.alarms(attempts)
        state = ledger.update_catalog(state, attempts)
    of_status = {name: F.col("status") == name for name in STATUSES}
    state, counted = spark_io.counting(state, **of_status)
    spark_io.write_files(state, store, CATALOG, work.run_id)
    inputs = made_from.updated(backbone_id=spec.backbone_id)
    recorded = config.recorded()
    statuses = outcome.statuses(counted())
    counts = {"sound": statuses.get("ok", 0), "statuses": statuses}
    catalog = store.commit(CATALOG, work.run_id, config=recorded, inputs=inputs, counts=counts)
    store.clear(work.run_id)
    for alarm in alarms:
        _log.warning("ALARM: %s", alarm)
    outcome.require_sound(statuses)
    return {
        "images": catalog.rows,
        **named.summary,
        **listings.summary,
        "attempted": totals.attempted,
        "fetched": totals.fetched,
        "embedded": totals.embedded,
        "saved": {
            "unchanged": catalog.rows - totals.attempted,
            "same_url": totals.attempted - totals.fetched,
            "same_content": totals.sound - totals.embedded,
        },
        "statuses": statuses,
        "backbone_id": spec.backbone_id,
        "catalog": catalog.folder,
        "hosts": alarms,
    }


def _images(work: Workspace) -> tuple[DataFrame, ListingCheck, Inputs]:
    """The user's images and tables; for a retry of failures, those of the last catalog only."""
    spark, config = work.spark, work.config
    if not config.embed.only_retry:
        listings = listing_checks.check_listings(spark, config)
        return user_tables.read_catalog(spark, config), listings, Inputs.of_tables(config)
    unchecked = ListingCheck(0, {})
    last = work.store.require(CATALOG, doing="trying failed images again", step="embed")
    images = spark_io.read_run(spark, last).select(*IMAGES.columns)
    images = images.withColumn(HAS_LISTING, F.lit(None).cast("boolean"))
    if not config.images.columns.content:
        images = images.withColumn(user_tables.CONTENT, F.lit(None).cast("binary"))
        return images, unchecked, last.inputs
    contents = user_tables.read_catalog(spark, config).select("image_id", user_tables.CONTENT)
    return images.join(contents, on="image_id", how="left"), unchecked, last.inputs


JOB = Job("embed_images", step, __doc__, prepare=int8.start_loading)

if __name__ == "__main__":
    JOB.submit()

"""Embeds the images of the catalog that have no embedding yet; the only step that reads all images.

spark-submit --py-files dist/*.whl jobs/embed_images.py --conf-file mytables.toml
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.embedding import commits, ledger
from toiletspark.embedding import int8 as calibration
from toiletspark.embedding import locations as whereabouts
from toiletspark.embedding import plan as plans
from toiletspark.launch import job as entry
from toiletspark.model import head
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.runs import Store, new_run_id


@entry.while_spark_starts(calibration.begin)
def step(spark: SparkSession, config: Config) -> Summary:
    """Looks at the catalog once, works on what waits, and keeps the catalog with what has become of each image."""
    store, run_id = Store.open(config.output.root), new_run_id()
    store.clear_unfinished(config.output.unfinished_after_h)
    images = _images(spark, store, config)
    spec = calibration.settled(store, config, images)
    probe = head.probe(store, config.score.head, spec.backbone_id)

    files = whereabouts.files_in(store)
    embedded = whereabouts.of_contents(spark, store, files, spec.backbone_id)
    known = ledger.of_images(images, frames.read_all(spark, store, tables.IMAGE_LEDGER), embedded)
    known, waiting = frames.counting(
        known.withColumn("waits", ledger.wanted(config.embed)), waiting=F.col("waits")
    )
    looked_at = frames.set_aside(known, store, run_id, "looked_at")
    catalog.check_images(looked_at, config)

    totals, state, count = commits.Totals(), looked_at, waiting()["waiting"]
    if count:
        plan = plans.plan(looked_at.where("waits"), images, count, store, config, run_id)
        totals = commits.embed_plan(spark, store, config, plan, spec, run_id, probe)
        tried = frames.read_all(spark, store, tables.IMAGE_LEDGER, of_run=run_id)
        files = whereabouts.files_in(store, files)
        embedded = whereabouts.of_contents(spark, store, files, spec.backbone_id, among=tried)
        state = ledger.brought_up(looked_at, tried, embedded)
    state, sound = frames.counting(whereabouts.together(state), sound=F.col("status") == "ok")
    frames.write_files(state, store, tables.CATALOG, run_id)
    tables_read = {"images": config.images.path, "listings": config.listings.path}
    inputs = {**tables_read, "backbone_id": spec.backbone_id, whereabouts.FILES: files}
    seen = store.commit(
        tables.CATALOG, run_id, config=config.recorded(), inputs=inputs, counts=sound()
    )
    store.clear(run_id)
    return {
        "images": seen.rows,
        "attempted": totals.attempted,
        "fetched": totals.fetched,
        "embedded": totals.embedded,
        "saved": {
            "unchanged": seen.rows - totals.attempted,
            "same_url": totals.attempted - totals.fetched,
            "same_content": totals.sound - totals.embedded,
        },
        "backbone_id": spec.backbone_id,
        "catalog": seen.folder,
    }


def _images(spark: SparkSession, store: Store, config: Config) -> DataFrame:
    """The user's images; where only failures are tried again, those of the last run, so that no new ones come in."""
    if config.embed.only_retry:
        last = store.require(tables.CATALOG, doing="trying failed images again", step="embed")
        images = frames.read_run(spark, last).select(*tables.IMAGES.columns)
        if not config.images.columns.content:
            return images.withColumn(catalog.CONTENT, F.lit(None).cast("binary"))
        now = catalog.read_catalog(spark, config).select("image_id", catalog.CONTENT)
        return images.join(now, on="image_id", how="left")
    catalog.check_listings(spark, config)
    return catalog.read_catalog(spark, config)


if __name__ == "__main__":
    entry.submit(step)

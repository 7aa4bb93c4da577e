"""Embeds the images of the catalog that have no embedding yet; the only step that reads all images.

spark-submit --py-files dist/*.whl jobs/embed_images.py --conf-file mytables.toml
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import calibration, catalog, commits, entry, frames, golden, head, ledger, plans, tables
from toiletspark.backbone import BackboneSpec
from toiletspark.command import Summary
from toiletspark.config import Config, Embed
from toiletspark.golden import GoldenImage
from toiletspark.runs import Store, new_run_id
from toiletspark.runtimes import convert


def step(spark: SparkSession, config: Config) -> Summary:
    """Looks at the catalog once, works on what waits, and keeps the catalog with what has become of each image."""
    store, run_id = Store.open(config.output.root), new_run_id()
    store.clear_unfinished(config.output.unfinished_after_h)
    images = _images(spark, store, config)
    spec = _backbone(store, config, images)
    probe = _probe(store, config, spec)

    stored = frames.read_all(spark, store, tables.EMBEDDINGS)
    known = ledger.of_images(images, frames.read_all(spark, store, tables.IMAGE_LEDGER), stored, spec.backbone_id)
    known, waiting = frames.counting(known.withColumn("waits", _waits(config.embed)), waiting=F.col("waits"))
    looked_at = frames.set_aside(known, store, run_id, "looked_at")
    catalog.check_images(looked_at, config)

    totals, state, count = commits.Totals(), looked_at, waiting()["waiting"]
    if count:
        with ThreadPoolExecutor(1, "prepare") as beside:  # the driver's Python would only wait for the plan
            prepared = beside.submit(convert.prepared, spec)
            plan = plans.plan(looked_at.where("waits"), images, count, store, config, run_id)
        totals = commits.embed_plan(spark, store, config, plan, prepared.result(), run_id, probe)
        state = ledger.brought_up(looked_at, frames.read_all(spark, store, tables.IMAGE_LEDGER, of_run=run_id))
    state, sound = frames.counting(state, sound=F.col("status") == "ok")
    frames.write_files(state, store, tables.CATALOG, run_id)
    inputs = {"images": config.images.path, "listings": config.listings.path, "backbone_id": spec.backbone_id}
    seen = store.commit(tables.CATALOG, run_id, config=config.recorded(), inputs=inputs, counts=sound())
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


def _backbone(store: Store, config: Config, images: DataFrame) -> BackboneSpec:
    """The backbone of the configuration; int8 is calibrated on the catalog's own images, once for all runs."""
    spec = calibration.current(store, config.backbone)
    if spec.precision == "int8" and not spec.program:
        return calibration.calibrate(store, config, images, spec, head.newest_for(store, spec.fp32_id))
    return spec


def _probe(store: Store, config: Config, spec: BackboneSpec) -> GoldenImage | None:
    """What workers are checked with: of the head that will score; None before the first one for this backbone."""
    if not (config.score.head or store.newest(tables.HEADS)):
        return None
    chosen = head.current(store, config.score.head, doing="embedding")
    if chosen.backbone_id != spec.backbone_id:
        return None
    if not chosen.golden:
        print(f"toiletspark: the head {chosen.head_id} has no golden images, so no worker is checked", file=sys.stderr)
    return golden.probe(chosen.golden)


def _waits(embed: Embed) -> Column:
    if embed.only_retry:
        return ledger.failed(embed.only_retry)
    days = embed.refetch_after_days
    return ledger.waits(embed.retry, datetime.now(UTC) - timedelta(days=days) if days else None)


if __name__ == "__main__":
    entry.submit(step)

"""Publishes the exclusion list and its companion, the images without a score, as a new version.

    spark-submit --py-files dist/*.whl jobs/publish_exclusions.py --conf-file mytables.toml

Another operating threshold, or another policy that settles it, needs this step alone.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark import entry, exclusions, frames, held_out, tables, versions
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.runs import Store, new_run_id


def step(spark: SparkSession, config: Config) -> Summary:
    """Both tables are complete before the pointer moves; a version is never changed."""
    store, run_id, doing = Store.open(config.output.root), new_run_id(), "publishing the exclusion list"
    scores = store.require(tables.SCORES, doing=doing, step="score")
    seen = store.run(tables.CATALOG, scores.manifest["inputs"]["catalog"])
    seen = seen or store.require(tables.CATALOG, doing=doing, step="embed")

    settled = held_out.settle_for(store, config.publish, scores.manifest["inputs"]["head_id"], config.score.head)
    threshold = {"operating_threshold": settled.operating_threshold, "threshold_reason": settled.reason}
    excluded = exclusions.decide(frames.read_run(spark, scores), settled.operating_threshold, run_id)
    unscored = exclusions.unscored(frames.read_run(spark, seen))

    inputs = {**scores.manifest["inputs"], "scores": scores.run_id, **threshold}
    facts = {"config": config.recorded(), "inputs": inputs}
    excluded_run = frames.write_run(excluded.coalesce(1), store, tables.EXCLUSION_LIST, run_id, **facts)
    unscored_run = frames.write_run(unscored.coalesce(1), store, tables.UNSCORED, run_id, **facts)
    versions.publish(store, excluded_run, unscored_run, images=seen.rows, scored=scores.rows)

    per_status = frames.read_run(spark, unscored_run).groupBy("status").count().orderBy("status").collect()
    return {
        "images": seen.rows,
        "scored": scores.rows,
        "unscored": {row["status"]: row["count"] for row in per_status},
        "excluded": excluded_run.rows,
        **threshold,
        "exclusion_list": excluded_run.folder,
        "unscored_table": unscored_run.folder,
    }


if __name__ == "__main__":
    entry.submit(step)

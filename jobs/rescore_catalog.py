"""Brings everything up to the catalog of now: embeds what is new, scores, publishes. What a scheduler calls.

    spark-submit --py-files dist/*.whl jobs/rescore_catalog.py --conf-file mytables.toml

Costs what has changed since the last run.
"""

from __future__ import annotations

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.embedding import int8 as calibration
from toiletspark.jobs import embed_images, publish_exclusions, score_catalog
from toiletspark.launch import job as entry
from toiletspark.model import head
from toiletspark.tables.runs import Store

_DOING = "rescoring the catalog"


def begin(config: Config) -> None:
    """A head that is missing or damaged is told before Spark has started."""
    head.current(Store.open(config.output.root), config.score.head, doing=_DOING)
    calibration.begin(config)


@entry.while_spark_starts(begin)
def step(spark: SparkSession, config: Config) -> Summary:
    """A head that does not fit stops the run before the first image is read."""
    steps: list[entry.Step] = [
        require_fitting_head,
        embed_images.step,
        score_catalog.step,
        publish_exclusions.step,
    ]
    return entry.in_turn(steps, spark, config)


def require_fitting_head(_: SparkSession, config: Config) -> Summary:
    """Stops where the head that would score was fitted on another backbone than the configuration's."""
    store = Store.open(config.output.root)
    chosen = head.current(store, config.score.head, doing=_DOING)
    head.require_backbone(
        chosen, calibration.current(store, config.backbone).backbone_id, doing=_DOING
    )
    return {}


if __name__ == "__main__":
    entry.submit(step)

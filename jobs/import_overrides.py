"""Takes what people have decided of images (the table of overrides) as labels of these images.

    spark-submit --py-files dist/*.whl jobs/import_overrides.py --conf-file mytables.toml

`toiletspark labels import` and `toiletspark run` do the same on their way.
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession

from toiletspark import entry, labels, overrides, tables
from toiletspark.command import Summary
from toiletspark.config import Config
from toiletspark.runs import Store


def step(spark: SparkSession, config: Config) -> Summary:
    """Nothing where there is no such table, or nothing in it and there are no labels yet."""
    store, path = Store.open(config.output.root), config.overrides.path
    if not path:
        return {}
    said, missing = overrides.as_labels(spark, store, config)
    if not (said.labels or store.newest(tables.LABELS)):
        return {"labels_of_overrides": {"labels": 0, **missing}}
    run, merged = labels.keep(store, said, config.labels.labeller, config.recorded(), path)
    print(f"toiletspark: labels of overrides: {merged.told()}", file=sys.stderr)
    counts = run.manifest["counts"]
    return {
        "labelled": counts["images"],
        "per_class": counts["per_class"],
        "conflicts": counts["conflicts"],
        "labels": run.folder,
        "conflicts_table": store.folder(tables.CONFLICTS, run.run_id),
        "labels_of_overrides": {"labels": len(said.labels), **missing, "since_last": merged.told()},
    }


if __name__ == "__main__":
    entry.submit(step)

"""What is decided of each image: by its score, by what was decided last, by what people say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from toiletspark import decisions, tables
from toiletspark.decisions import Rules
from toiletspark.thresholds import excluded

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
FAILURES = {"content": "exclude", "transient": "unscored", "gone": "unscored", "policy": "exclude"}


def rules(**changed: Any) -> Rules:
    usual = {"operating_threshold": 0.5, "hysteresis": 0.0, "keep_score_days": 7.0, "failures": FAILURES}
    return Rules(**{**usual, "now": NOW, "scored_at": NOW - timedelta(hours=1), "run_id": "run", **changed})


def frame(spark: SparkSession, table: tables.Table, rows: list[Mapping[str, Any]]) -> DataFrame:
    full = [tuple(row.get(name) for name in table.columns) for row in rows]
    return spark.createDataFrame(full, table.schema)


def catalog(spark: SparkSession, statuses: Mapping[str, str]) -> DataFrame:
    usual = {"listing_id": "L", "stratum": "S", "image_version": "v1"}
    rows = [
        {**usual, "image_id": image_id, "status": status, "detail": "", "content_digest": f"digest of {image_id}"}
        for image_id, status in statuses.items()
    ]
    return frame(spark, tables.CATALOG, rows)


def scores(spark: SparkSession, found: Mapping[str, float]) -> DataFrame:
    rows = [{"image_id": name, "head_id": "H", "exclusion_score": float(score)} for name, score in found.items()]
    return frame(spark, tables.SCORES, rows)


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_a_score_at_the_threshold_is_excluded(spark: SparkSession, threshold: float) -> None:
    at = np.float32(threshold)
    values = [np.nextafter(at, np.float32(0)), at, np.nextafter(at, np.float32(2)), np.float32(0), np.float32(1)]
    found = {str(number): value for number, value in enumerate(values)}
    seen = catalog(spark, dict.fromkeys(found, "ok"))
    decided = decisions.decide(seen, scores(spark, found), None, None, rules(operating_threshold=threshold)).collect()
    listed = {row["image_id"] for row in decided if row["decision"] == "exclude"}
    assert listed == {"1", "2", "4"}
    assert [str(number) in listed for number in range(5)] == excluded(np.array(values), threshold).tolist()

"""A publisher that is killed changes nothing that readers see, and the next one publishes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from benchmarks import kills
from toiletspark.publishing.versions import log as versions
from toiletspark.tables.runs import Store


@pytest.mark.slow
def test_a_killed_publisher_changes_nothing_and_the_next_one_publishes(
    spark: SparkSession, tmp_path: Path
) -> None:
    """One of the five points, between commit and pointer; `make bench-publish` has them all."""
    root = str(tmp_path / "output")
    kills.first_version(spark, root)
    undisturbed = kills.undisturbed(spark, root, str(tmp_path / "undisturbed"))
    told = kills.kill(root, "between commit and pointer")
    assert told == {"point": "between commit and pointer", "unchanged": True, "versions_more": 1}
    assert len(kills.listed(root)) < len(undisturbed)
    assert kills.publish_again(spark, root, undisturbed)
    assert [version.number for version in versions.read_all(Store(root))] == [1, 2, 3]

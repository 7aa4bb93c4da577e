"""Twelve faults in real files: a named rule stops each, and readers see nothing of it.

The same faults, with twenty clean runs, are `make bench-faults`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from benchmarks import faults, portal
from benchmarks.portal import Portal
from toiletspark.config import Config
from toiletspark.config.command_line import Summary
from toiletspark.jobs import publish_exclusions
from toiletspark.publishing.versions import log
from toiletspark.tables.workspace import Workspace


@dataclass(frozen=True)
class Published:
    """A portal after two days, and what the second publication told."""

    shop: Portal
    told: Summary


@pytest.fixture(scope="module")
def published(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Published:
    shop = portal.opened(tmp_path_factory.mktemp("portal") / "store", 360, seed=3)
    faults.clean_day(spark, shop)
    shop.rng = np.random.default_rng(11)
    shop.live_on()
    return Published(shop, faults.clean_day(spark, shop))


def test_a_clean_day_is_published_with_all_its_audits(published: Published) -> None:
    assert (published.told["version"], published.told["alarms"]) == (2, [])
    counts = log.current(published.shop.store.root).counts
    judged = {check["rule"]: check["passed"] for check in counts["audits"]}
    assert judged.pop("recall") is None  # the head lacks its labels
    assert len(judged) == 27
    assert set(judged.values()) == {True}
    assert counts["alarms"] == []
    assert counts["drift"]["same_head"] is True
    assert 0 <= counts["drift"]["overall"]["psi"] < 0.1
    assert len(counts["drift"]["strata"]) == 8


@pytest.mark.parametrize(
    ("fault", "rule"), faults.FAULTS.items(), ids=[fault.__name__ for fault in faults.FAULTS]
)
def test_a_fault_is_stopped(
    spark: SparkSession,
    published: Published,
    fault: Callable[[Portal], None],
    rule: str,
    tmp_path: Path,
) -> None:
    outcome = faults.faulty_day(spark, published.shop, fault, tmp_path / "store")
    assert outcome.blocked_by(rule), outcome
    assert "the last version stays in force; " in outcome.message


def test_a_share_can_be_accepted_for_a_reason_that_is_kept(
    spark: SparkSession, published: Published, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    accept = ("share.unscored", "rate_of_change.unscored")

    def accepting(config: Config) -> Config:
        changed = config.publish.model_copy(
            update={"accept": list(accept), "because": "the store is being moved"}
        )
        return config.model_copy(update={"publish": changed})

    copy = faults.copied(published.shop, tmp_path / "store")
    faults.half_unscored(copy)
    told = publish_exclusions.step(
        Workspace.open(spark, accepting(faults.config_of(copy.store.root)))
    )
    kept = {
        check["rule"]: check["accepted"] for check in log.current(copy.store.root).counts["audits"]
    }
    assert {rule: because for rule, because in kept.items() if because} == dict.fromkeys(
        accept, "the store is being moved"
    )
    assert [alarm.partition(" failed")[0] for alarm in told["alarms"]] == list(accept)
    assert f"ALARM: {told['alarms'][0]}" in caplog.messages

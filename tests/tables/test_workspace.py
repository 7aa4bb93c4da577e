"""Steps of one run read what the step before made, whatever the clock says. Without Spark."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from pyspark.sql import SparkSession as Session

from tests.conftest import stored
from toiletspark.config import Config
from toiletspark.tables import runs, schemas
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

NO_SESSION = cast(Session, None)  # no table keeps versions, so none is asked


def begun(hours_ahead: float) -> str:
    return f"{runs.run_id_at(datetime.now(UTC) + timedelta(hours=hours_ahead))}-aaaa"


def test_the_catalog_of_this_run_counts_though_an_older_one_is_from_the_future(
    config: Config, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    tomorrow = begun(24)
    stored(store, schemas.CATALOG, [], run_id=tomorrow)
    work = Workspace.open(NO_SESSION, config)
    assert f"the newest run {tomorrow} is from the future" in caplog.text
    stored(store, schemas.CATALOG, [], run_id=work.run_id)
    newest = store.newest(schemas.CATALOG)
    assert newest is not None
    assert newest.run_id == work.run_id
    assert work.for_next_step().run_id > work.run_id > tomorrow


def test_runs_of_the_past_are_no_alarm(
    config: Config, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    stored(store, schemas.CATALOG, [], run_id=begun(-1))
    Workspace.open(NO_SESSION, config)
    assert "future" not in caplog.text

"""The state of each image, and the images that are tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from tests.conftest import stored, vector
from toiletspark.embedding import commits, ledger
from toiletspark.embedding.tasks import ATTEMPTS
from toiletspark.images import statuses
from toiletspark.tables import schemas, spark_io
from toiletspark.tables.runs import Store

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WITHOUT_EMBEDDING = {"never", "new version", "lost"}
TRANSIENT = {"missing", "denied", "refused", "bad_url", "timeout"}
DELAYED = set(statuses.DELAYED)
FAILURES = set(statuses.STATUSES) - {"ok"}
TRIED = set(statuses.STATUSES) | {"lost", "ok at last"}


@pytest.fixture(scope="module")
def known(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """One image for each thing that can be known; named by its status, where that says it all."""
    store = Store.open(str(tmp_path_factory.mktemp("ledger") / "output"))
    names = [*statuses.STATUSES, "never", "new version", "lost", "ok at last"]
    snapshot = stored(
        store, schemas.CATALOG, [{"image_id": name, "image_version": "2"} for name in names]
    )
    tried = [
        {
            "image_id": name,
            "image_version": "2",
            "status": name,
            "content_digest": name,
            "attempts": 2,
        }
        for name in statuses.STATUSES
    ]
    tried += [
        {
            "image_id": "new version",
            "image_version": "1",
            "status": "ok",
            "content_digest": "ok",
            "attempts": 1,
        },
        {
            "image_id": "lost",
            "image_version": "2",
            "status": "ok",
            "content_digest": "lost",
            "attempts": 1,
        },
        {"image_id": "ok at last", "image_version": "2", "status": "timeout", "attempts": 1},
    ]
    usual = {"attempted_at": NOW, "decoder": "D"}
    stored(store, schemas.IMAGE_LEDGER, [{**row, **usual} for row in tried])
    later = {
        "image_id": "ok at last",
        "image_version": "2",
        "status": "ok",
        "content_digest": "ok",
        "attempts": 2,
    }
    stored(store, schemas.IMAGE_LEDGER, [{**later, "attempted_at": NOW + timedelta(days=1)}])
    ours = {"content_digest": "ok", "backbone_id": "ours", "embedding": vector(1)}
    stored(
        store,
        schemas.EMBEDDINGS,
        [ours, {**ours, "content_digest": "lost", "backbone_id": "another"}],
    )
    stored(store, schemas.EMBEDDINGS, [ours])  # a second time, as after a run that broke
    return ledger.join_attempts(
        spark_io.read_run(spark, snapshot).select(*schemas.IMAGES.columns),
        spark_io.read_all(spark, store, schemas.IMAGE_LEDGER),
        ledger.embedded_contents(spark, store, "ours").distinct(),
    ).cache()


def test_each_image_is_there_once_with_its_newest_attempt(known: DataFrame) -> None:
    rows = {row["image_id"]: row for row in known.collect()}
    assert len(rows) == known.count() == len(TRIED) + 2
    assert known.columns == [
        *schemas.CATALOG.columns,
        *("attempts", "attempted_at", "decoder", "is_embedded"),
    ]
    assert {name: row["attempts"] for name, row in rows.items() if row["attempts"] != 2} == {
        "never": None,
        "new version": None,
        "lost": 1,
    }
    assert (rows["ok at last"]["status"], rows["ok at last"]["content_digest"]) == ("ok", "ok")
    assert {name for name, row in rows.items() if row["is_embedded"]} == {
        "ok",
        "ok at last",
    }


@pytest.mark.parametrize(
    ("retry", "refetch_before", "again"),
    [
        ("none", None, WITHOUT_EMBEDDING),
        ("transient", None, WITHOUT_EMBEDDING | TRANSIENT | DELAYED),
        ("failed", None, WITHOUT_EMBEDDING | FAILURES),
        ("none", NOW, WITHOUT_EMBEDDING),
        ("none", NOW + timedelta(hours=1), (WITHOUT_EMBEDDING | TRIED) - {"ok at last"}),
        ("failed", NOW + timedelta(days=2), WITHOUT_EMBEDDING | TRIED),
    ],
    ids=["none", "transient", "failed", "none is older", "older", "all are older"],
)
def test_what_is_tried_again(
    known: DataFrame, retry: Any, refetch_before: datetime | None, again: set[str]
) -> None:
    assert ids(known.where(ledger.is_due(retry, refetch_before, "D"))) == again
    assert (
        ids(known.where(~ledger.is_due(retry, refetch_before, "D")))
        == (TRIED | WITHOUT_EMBEDDING) - again
    )


@pytest.mark.parametrize(
    ("retry", "again"), [("transient", TRANSIENT | DELAYED), ("failed", FAILURES)]
)
def test_only_failures_are_tried_where_that_is_asked_for(
    known: DataFrame, retry: Any, again: set[str]
) -> None:
    assert ids(known.where(ledger.has_failed(retry))) == again


@pytest.mark.parametrize(
    ("decoder", "again"),
    [("D", TRANSIENT | DELAYED), ("another", FAILURES), ("", FAILURES)],
)
def test_what_depends_on_the_decoder_is_tried_again_by_another_one(
    known: DataFrame, decoder: str, again: set[str]
) -> None:
    due = ids(known.where(ledger.is_due("transient", None, decoder)))
    assert due == WITHOUT_EMBEDDING | again
    assert ids(known.where(ledger.is_due("none", None, decoder))) == WITHOUT_EMBEDDING


@pytest.mark.parametrize("status", sorted(DELAYED))
def test_what_the_circumstances_may_explain_waits_for_longer_each_time(
    spark: SparkSession, status: str
) -> None:
    """A nightly run counts as a day although it begins a little earlier than the one before."""
    now = datetime.now(UTC)
    waits = {1: 1, 2: 2, 3: 4, 4: 8, 5: 16, 40: 16, 2000: 16}  # days by number of attempts
    columns = {"image_id": "string", "status": "string", "attempts": "int", "days": "double"}
    rows = [
        (f"{attempts} {when}", status, attempts, days - 0.1 if when == "over" else days - 0.4)
        for attempts, days in waits.items()
        for when in ("over", "waits")
    ]
    frame = spark_io.of_rows(spark, rows, columns)
    at = F.lit(now).cast("timestamp").cast("double") - F.col("days") * 86_400
    frame = frame.withColumns(
        {
            "attempted_at": F.timestamp_seconds(at),
            "decoder": F.lit("D"),
            "is_embedded": F.lit(None).cast("boolean"),
        }
    )
    assert ids(frame.where(ledger.is_due("transient", None, "D"))) == {
        f"{attempts} over" for attempts in waits
    }
    assert len(ids(frame.where(ledger.is_due("transient", None, "another")))) == 2 * len(waits)


def ids(images: DataFrame) -> set[str]:
    result = [row["image_id"] for row in images.select("image_id").collect()]
    assert len(result) == len(set(result))
    return set(result)


def test_what_a_run_has_tried_is_brought_up_and_the_rest_stays(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store.open(str(tmp_path / "output"))
    before = [
        {
            "image_id": "same",
            "status": "ok",
            "content_digest": "digest-1",
            "listing_id": "L1",
        },
        {
            "image_id": "gone",
            "status": "ok",
            "content_digest": "digest-2",
            "detail": "",
            "listing_id": "L2",
        },
        {"image_id": "new", "listing_id": "L3"},
    ]
    tried = [
        {"image_id": "gone", "status": "missing", "detail": "http 404", "content_digest": None},
        {"image_id": "new", "status": "ok", "detail": "", "content_digest": "digest-3"},
    ]
    images = spark_io.read_run(spark, stored(store, schemas.CATALOG, before))
    attempts = spark_io.read_run(spark, stored(store, schemas.IMAGE_LEDGER, tried))
    now = ledger.update_catalog(images, attempts).collect()
    assert sorted(
        (row["image_id"], row["listing_id"], row["status"], row["detail"]) for row in now
    ) == [
        ("gone", "L2", "missing", "http 404"),
        ("new", "L3", "ok", ""),
        ("same", "L1", "ok", None),
    ]
    contents = {row["image_id"]: row["content_digest"] for row in now}
    assert contents == {"same": "digest-1", "gone": None, "new": "digest-3"}


def attempt(image_id: str, status: str, digest: str | None, width: int = 0) -> dict[str, Any]:
    detail = "" if status in ("ok", "") else f"why {status}"
    return {
        "image_id": image_id,
        "status": status,
        "detail": detail,
        "content_digest": digest,
        "width": width,
    }


def test_a_row_without_a_status_takes_that_of_its_content(spark: SparkSession) -> None:
    rows = [
        attempt("claimed", "ok", "digest-1", 64),
        attempt("same", "", "digest-1"),
        attempt("same again", "", "digest-1"),
        attempt("bad", "not_an_image", "digest-2"),
        attempt("as bad", "", "digest-2"),
        attempt("known twice", "not_an_image", "digest-2"),
        attempt("lost", "", "digest-3"),
        attempt("gone", "missing", None),
    ]
    made = spark.createDataFrame(
        [tuple(row.get(name) for name in ATTEMPTS.columns) for row in rows], ATTEMPTS.schema
    )
    result = commits.resolve_claims(made).collect()
    assert sorted(
        (row["image_id"], row["status"], row["detail"], row["width"]) for row in result
    ) == sorted(
        [
            ("claimed", "ok", "", 64),
            ("same", "ok", "", 64),
            ("same again", "ok", "", 64),
            ("bad", "not_an_image", "why not_an_image", 0),
            ("as bad", "not_an_image", "why not_an_image", 0),
            ("known twice", "not_an_image", "why not_an_image", 0),
            ("gone", "missing", "why missing", 0),
        ]
    )

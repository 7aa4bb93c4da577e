"""The images that agents should look at, the words for them, and a CSV without formulas."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.conftest import stored
from tests.support.feeds import decided, publish
from toiletspark.config import Config
from toiletspark.feed import alerts
from toiletspark.images import statuses
from toiletspark.jobs import build_feed
from toiletspark.tables import schemas
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
SINCE = datetime(2026, 11, 20, 8, tzinfo=UTC)


def decisions_of(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    full = [tuple(row.get(name) for name in schemas.DECISIONS.columns) for row in rows]
    return spark.createDataFrame(full, schemas.DECISIONS.schema)


def unread(image_id: str, decision: str, status: str, detail: str = "") -> dict[str, Any]:
    return decided(image_id, decision, "unscored", status=status, detail=detail, since=SINCE)


def test_every_cause_has_its_sentence(spark: SparkSession) -> None:
    rows = [
        decided("kept"),
        decided("kept by a person", "keep", "override", status="truncated", override="ada: fine"),
        decided("two toilets", "exclude"),
        decided("near", "exclude", "hysteresis", exclusion_score=0.51),
        decided("late", "exclude", "last_score", status="timeout", since=SINCE),
        decided(
            "said", "exclude", "override", override="ada: shows the neighbours", exclusion_score=0.2
        ),
        decided("said without words", "exclude", "override"),
        unread("cut", "exclude", "truncated"),
        unread("no image", "exclude", "not_an_image", "no decoder"),
        unread("large", "exclude", "too_large", "over 25000000 bytes"),
        unread("large of old", "exclude", "too_large"),
        unread("wide", "exclude", "too_many_pixels", "9000 x 9000, limit 50000000"),
        unread("tiny", "exclude", "too_small", "8 x 8, least side 16"),
        unread("damaged", "exclude", "decode_failed", "OSError"),
        unread("bomb", "exclude", "crashed", "signal 11"),
        unread("secret", "exclude", "denied", "http 403"),
        unread("gone", "unscored", "missing", "http 404"),
        unread("slow", "unscored", "timeout", "over 20 s, 3 tries"),
    ]
    found = alerts.alerts(decisions_of(spark, rows), alerts.shown_classes(None, ["toilet"]))
    assert found.columns == list(schemas.ALERTS.columns)
    assert {row["image_id"]: row["why"] for row in found.collect()} == {
        "two toilets": 'Not shown: it shows "toilet".',
        "near": 'Not shown: it shows "toilet".',
        "late": 'Not shown: it showed "toilet" when it was last read.',
        "said": "Not shown: a person has decided so (ada: shows the neighbours).",
        "said without words": "Not shown: a person has decided so.",
        "cut": "Not shown: the file ends before the picture does, "
        "so its upload was probably cut off.",
        "no image": "Not shown: the file is not an image, or of a kind that is not read here.",
        "large": "Not shown: the file is too large (the limit is 25.0 MB).",
        "large of old": "Not shown: the file is too large.",
        "wide": "Not shown: the picture has too many pixels (9000 x 9000, limit 50000000).",
        "tiny": "Not shown: the picture is too small to tell what it shows (8 x 8, least side 16).",
        "damaged": "Not shown: the file is damaged and cannot be opened.",
        "bomb": "Not shown: the file is damaged so badly that it breaks the program that opens it.",
        "secret": "Not shown: access to the file is denied.",
        "gone": "Could not be checked: no file was found at its address.",
        "slow": "Could not be checked: the file did not arrive in time.",
    }
    kept = {row["image_id"]: row for row in found.collect()}["late"]
    assert (kept["decision"], kept["status"], kept["listing_id"]) == ("exclude", "timeout", "Ll")
    assert (kept["score"], kept["since"].astimezone(UTC)) == (pytest.approx(0.9), SINCE)


def test_every_failure_has_a_cause() -> None:
    assert set(statuses.CAUSES) == set(statuses.FAILURE_CLASSES)


def test_of_two_excluded_classes_the_more_probable_one_is_named(spark: SparkSession) -> None:
    schema = "image_id string, p_toilet float, p_pool float, p_other float"
    scores = spark.createDataFrame(
        [("a", 0.5, 0.4, 0.1), ("b", 0.1, 0.2, 0.7), ("c", 0.4, 0.4, 0.2)], schema
    )
    rows = [decided(image_id, "exclude") for image_id in ("a", "b", "c", "of an older head")]
    found = alerts.alerts(
        decisions_of(spark, rows), alerts.shown_classes(scores, ["toilet", "pool"])
    )
    assert {row["image_id"]: row["why"] for row in found.collect()} == {
        "a": 'Not shown: it shows "toilet".',
        "b": 'Not shown: it shows "pool".',
        "c": 'Not shown: it shows "toilet".',
        "of an older head": "Not shown: it shows something that is kept out of the feed.",
    }
    for unknown in (None, scores.drop("p_pool")):
        shows = alerts.shown_classes(unknown, ["toilet", "pool"])
        why = alerts.alerts(decisions_of(spark, rows[:1]), shows).collect()[0]["why"]
        assert why == "Not shown: it shows something that is kept out of the feed."


# The file for people


@pytest.mark.parametrize(
    ("cell", "harmless"),
    [
        ("=1+1", "'=1+1"),
        ("+49", "'+49"),
        ("-2", "'-2"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("a=b", "a=b"),
        ("", ""),
        ("'=1", "'=1"),
    ],
)
def test_no_cell_is_a_formula(cell: str, harmless: str) -> None:
    assert alerts.defused(cell) == harmless
    read = list(csv.reader(io.StringIO(alerts.csv_text(["a", "=b"], [(cell, None)]), newline="")))
    assert read == [["a", "'=b"], [harmless, ""]]


def alert(image_id: str, listing_id: str, why: str = "Not shown.", **more: Any) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "listing_id": listing_id,
        "why": why,
        "decision": "exclude",
        "status": "ok",
        **more,
    }


def test_the_file_is_by_listing_with_dates_and_short_scores(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "output"))
    rows = [
        alert("b", "L2", 'Not shown: a person has decided so ("Zoë", no\nmore).'),
        alert("=cmd|' /C calc'!A0", "L1", score=0.91234, since=SINCE),
    ]
    run = stored(store, schemas.ALERTS, rows)
    place = alerts.write_csv(run, f"{store.root}/reports/alerts.csv")
    with Path(place).open(encoding="utf-8-sig", newline="") as file:
        assert list(csv.reader(file)) == [
            ["image_id", "listing_id", "why", "decision", "status", "score", "since"],
            ["'=cmd|' /C calc'!A0", "L1", "Not shown.", "exclude", "ok", "0.912", "2026-11-20"],
            [
                "b",
                "L2",
                'Not shown: a person has decided so ("Zoë", no\nmore).',
                "exclude",
                "ok",
                "",
                "",
            ],
        ]


def test_the_file_is_bounded_and_the_table_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "MAX_CSV_ROWS", 3)
    store = Store.open(str(tmp_path / "output"))
    run = stored(store, schemas.ALERTS, [alert(str(number), "L") for number in range(5)])
    read = pd.read_csv(alerts.write_csv(run, f"{store.root}/reports/alerts.csv"))
    assert (len(read), run.rows) == (3, 5)
    empty = stored(store, schemas.ALERTS, [])
    assert len(pd.read_csv(alerts.write_csv(empty, f"{store.root}/reports/none.csv"))) == 0


def test_the_job_alerts_of_the_whole_version_whatever_the_feed_table_holds(
    spark: SparkSession,
    make_config: MakeConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alerts, "MAX_CSV_ROWS", 1)
    pd.DataFrame({"image_id": ["a"]}).to_parquet(tmp_path / "feed.parquet")
    config = make_config({"feed.path": tmp_path / "feed.parquet", "feed.mode": "open"})
    rows = [decided("a"), decided("b", "exclude"), unread("c", "exclude", "truncated")]
    publish(Store.open(config.output.root), rows)
    told = build_feed.step(Workspace.open(spark, config))
    assert (told["feed_out"], told["alerts"], told["listings"]) == (1, 2, 1)
    assert pd.read_parquet(told["alerts_table"])["image_id"].sort_values().tolist() == ["b", "c"]
    assert len(pd.read_csv(told["alerts_csv"])) == 1
    said = "the CSV file has 1 of 2 alerts; the table has them all\n"
    assert said in caplog.text

"""The decision on each image: by its score, the last decision, and overrides."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from toiletspark.images import statuses
from toiletspark.model.head import excluded
from toiletspark.publishing import decisions, figures
from toiletspark.publishing.decisions import Rules
from toiletspark.tables import schemas, spark_io

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SCORED_AT = NOW - timedelta(hours=1)
FAILURES = {
    "content": "exclude",
    "transient": "unscored",
    "gone": "unscored",
    "input": "unscored",
    "policy": "exclude",
}
Rows = list[dict[str, Any]]


def rules(**changed: Any) -> Rules:
    usual = {
        "operating_threshold": 0.5,
        "hysteresis": 0.0,
        "keep_score_days": 7.0,
        "failures": FAILURES,
    }
    return Rules(
        **{**usual, "now": NOW, "scored_at": SCORED_AT, "head_id": "H", "run_id": "run", **changed}
    )


def frame(spark: SparkSession, table: schemas.Table, rows: Rows) -> DataFrame:
    """By way of Arrow, which starts no Python workers."""
    columns = {
        name: pd.Series(
            [row.get(name) for row in rows], dtype=None if kind == "timestamp" else object
        )
        for name, kind in table.columns.items()
    }
    return spark.createDataFrame(pd.DataFrame(columns), table.schema)


def catalog(spark: SparkSession, statuses: Mapping[str, str], **others: Any) -> DataFrame:
    usual = {"listing_id": "L", "stratum": "S", "image_version": "v1", "detail": ""}
    rows = [
        {
            **usual,
            "image_id": name,
            "status": status,
            "content_digest": content(name, status),
            **others,
        }
        for name, status in statuses.items()
    ]
    return frame(spark, schemas.CATALOG, rows)


def content(image_id: str, status: str = "ok") -> str | None:
    return f"digest of {image_id}" if status == "ok" else None


def scores(spark: SparkSession, found: Mapping[str, float], head_id: str = "H") -> DataFrame:
    rows = [
        {"image_id": name, "head_id": head_id, "exclusion_score": float(score)}
        for name, score in found.items()
    ]
    return frame(spark, schemas.SCORES, rows)


def said(spark: SparkSession, of_images: Mapping[str, str], of_contents: Mapping[str, str]) -> Any:
    """Overrides as `decisions.decide` takes them."""
    pair = []
    for key, of_it in (("image_id", of_images), ("content_digest", of_contents)):
        rows = [(name, word, f"ann: {word} {name}") for name, word in of_it.items()]
        pair.append(override_frame(spark, key, rows))
    return tuple(pair)


def override_frame(spark: SparkSession, key: str, rows: list[Any]) -> DataFrame:
    columns = dict.fromkeys((key, "override_decision", "override_note"), "string")
    return spark_io.of_rows(spark, rows, columns)


def decided(found: DataFrame) -> dict[str, Any]:
    """image_id -> (decision, reason)."""
    return {row["image_id"]: (row["decision"], row["reason"]) for row in found.collect()}


# The threshold


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_a_score_at_the_threshold_is_excluded(spark: SparkSession, threshold: float) -> None:
    at = np.float32(threshold)
    values = [
        np.nextafter(at, np.float32(0)),
        at,
        np.nextafter(at, np.float32(2)),
        np.float32(0),
        np.float32(1),
    ]
    found = {str(number): value for number, value in enumerate(values)}
    seen = catalog(spark, dict.fromkeys(found, "ok"))
    decided = decisions.decide(
        seen, scores(spark, found), None, None, rules(operating_threshold=threshold)
    ).collect()
    listed = {row["image_id"] for row in decided if row["decision"] == "exclude"}
    assert listed == {"1", "2", "4"}
    assert [str(number) in listed for number in range(5)] == excluded(
        np.array(values), threshold
    ).tolist()


# Everything at once, against an obvious version


def obvious(
    image: Mapping[str, Any],
    score: float | None,
    last: Mapping[str, Any] | None,
    of_images: Mapping[str, str],
    of_contents: Mapping[str, str],
    by: Rules,
) -> tuple[Any, ...]:
    """One image's decision, reason, score, head, times, digest, was, since and override."""
    last = last or {}
    same_version = bool(last) and last["image_version"] == image["image_version"]
    digest = image["content_digest"]
    kind = statuses.FAILURE_CLASSES.get(image["status"], "")
    is_unchanged = same_version or (bool(last) and kind == "input")
    if digest is None and image["status"] != "ok" and is_unchanged:
        digest = last["content_digest"]
    by_score_last = last.get("reason") in ("model", "hysteresis", "last_score")
    counts: tuple[Any, ...] = (None, None, None)
    since = None
    if image["status"] == "ok":
        counts = (score, "H", by.scored_at)
        same_content = bool(last) and last["content_digest"] == digest
        near = abs(float(np.float32(score)) - by.operating_threshold) < by.hysteresis
        decision = "exclude" if np.float32(score) >= np.float32(by.operating_threshold) else "keep"
        reason = "model"
        if near and same_content and by_score_last and last["decision"] != decision:
            decision = last["decision"]
            reason = "hysteresis"
    else:
        since = last["since"] if last and last["status"] != "ok" else by.now
        decision = by.failures[kind]
        reason = "unscored"
        fresh = last.get("scored_at") is not None and last["scored_at"] >= by.now - timedelta(
            days=by.keep_score_days
        )
        stands = kind == "input" or (kind == "transient" and same_version and fresh)
        if stands and last.get("exclusion_score") is not None:
            counts = (last["exclusion_score"], last["head_id"], last["scored_at"])
            kept = float(np.float32(last["exclusion_score"]))
            decision = (
                "exclude" if np.float32(kept) >= np.float32(by.operating_threshold) else "keep"
            )
            reason = "last_score"
            near = abs(kept - by.operating_threshold) < by.hysteresis
            if by_score_last and (near or last["head_id"] != by.head_id):
                decision = last["decision"]
    told = None
    for name, words in ((image["image_id"], of_images), (digest, of_contents)):
        if told is None and name in words:
            decision = words[name]
            reason = "override"
            told = f"ann: {words[name]} {name}"
    return (decision, reason, *counts, digest, last.get("decision"), since, told)


def drawn(rng: random.Random, count: int) -> tuple[Rows, dict[str, float], Rows]:
    """A catalog, its scores and the last version, in which whatever can come together does."""
    images = []
    found = {}
    last = []
    for number in range(count):
        name = f"i{number:04}"
        status = rng.choice(["ok", "ok", "timeout", *statuses.STATUSES])
        version = rng.choice(["v1", "v2"])
        changed = rng.random() < 0.2
        digest = rng.choice([f"c{number % 40}", "shared"]) if status == "ok" else None
        image = {
            "image_id": name,
            "listing_id": "L",
            "stratum": "S",
            "image_version": version,
            "status": status,
        }
        images.append({**image, "detail": "", "content_digest": digest})
        if status == "ok":
            found[name] = float(np.float32(round(rng.uniform(0.4, 0.6), 2)))
        if rng.random() < 0.15:
            continue  # a new image
        before = rng.choice(["ok", "ok", "timeout", "truncated"])
        score = (
            float(np.float32(round(rng.uniform(0.4, 0.6), 2))) if before != "truncated" else None
        )
        score = None if before == "timeout" and rng.random() < 0.3 else score
        of_score = rng.choice(["model", "hysteresis"]) if before == "ok" else "last_score"
        reason = "override" if rng.random() < 0.2 else of_score if score is not None else "unscored"
        last.append(
            {
                **{
                    "image_id": name,
                    "listing_id": "L",
                    "stratum": "S",
                    "status": before,
                    "detail": "",
                },
                "image_version": rng.choice(["v1", "v2"]) if changed else version,
                "content_digest": rng.choice([digest, f"c{number % 40}", None]),
                "exclusion_score": score,
                "head_id": rng.choice(["H", "older"]) if score is not None else None,
                "scored_at": NOW - timedelta(days=rng.choice([0.5, 6.9, 7, 7.1]))
                if score is not None
                else None,
                "decision": rng.choice(["keep", "exclude"]) if reason != "unscored" else "unscored",
                "reason": reason,
                "since": NOW - timedelta(days=rng.randint(1, 9)) if before != "ok" else None,
            }
        )
    return images, found, last


@pytest.mark.parametrize(("threshold", "hysteresis", "days"), [(0.5, 0.03, 7.0), (0.45, 0.0, 0.0)])
def test_every_decision_is_that_of_an_obvious_version(
    spark: SparkSession, threshold: float, hysteresis: float, days: float
) -> None:
    rng = random.Random(17)
    images, found, last = drawn(rng, 1500)
    by = rules(operating_threshold=threshold, hysteresis=hysteresis, keep_score_days=days)
    of_images = {
        row["image_id"]: rng.choice(["keep", "exclude"]) for row in rng.sample(images, 100)
    }
    of_contents = {f"c{number}": rng.choice(["keep", "exclude"]) for number in range(8)}
    made = decisions.decide(
        frame(spark, schemas.CATALOG, images),
        scores(spark, found),
        frame(spark, schemas.DECISIONS, last),
        said(spark, of_images, of_contents),
        by,
    )
    rows = {row["image_id"]: row for row in made.toPandas().astype(object).to_dict("records")}
    assert len(rows) == len(images)
    before = {row["image_id"]: row for row in last}
    names = ("decision", "reason", *decisions._SCORE, "content_digest", "was", "since", "override")
    seen: set[Any] = set()
    for image in images:
        name = image["image_id"]
        right = obvious(image, found.get(name), before.get(name), of_images, of_contents, by)
        got = tuple(plain(rows[name][column]) for column in names)
        assert got == tuple(plain(value) for value in right), (image, before.get(name))
        seen.add(right[:2])
    reasons = {reason for _, reason in seen}
    assert reasons == set(schemas.REASONS) - (set() if hysteresis else {"hysteresis"})


def plain(value: Any) -> Any:
    """Values as they compare: no NaN or NaT, times in UTC, scores as float32."""
    if value is None or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, (float, np.floating)):
        return float(np.float32(value))
    if isinstance(value, datetime):
        return (
            pd.Timestamp(value).tz_localize(None)
            if value.tzinfo is None
            else pd.Timestamp(value).tz_convert(None)
        )
    return value


# From run to run


def runs(
    spark: SparkSession, run: Callable[[int], tuple[DataFrame, DataFrame, Any, Rules]], count: int
) -> list[dict[str, Any]]:
    """Versions one after another, each decided upon the one before: image_id -> row."""
    last = None
    found = []
    for number in range(count):
        seen, scored, words, by = run(number)
        pandas = decisions.decide(seen, scored, last, words, by).toPandas()
        found.append({row["image_id"]: row for row in pandas.to_dict("records")})
        last = spark.createDataFrame(pandas, schemas.DECISIONS.schema)
    return found


def test_scores_that_jitter_inside_the_band_change_a_decision_once_at_most(
    spark: SparkSession,
) -> None:
    """Ten runs with a new head each; without the band, most of these images would come and go."""
    rng = np.random.default_rng(3)
    names = [f"i{number}" for number in range(50)]
    drawn = rng.uniform(0.481, 0.519, (10, len(names)))
    drawn[0, :10] = 0.9  # surely excluded at first: comes down into the band, and stays excluded
    drawn[5, 10:20] = 0.1  # leaves the band once
    seen = catalog(spark, dict.fromkeys(names, "ok"))

    def run(number: int) -> tuple[DataFrame, DataFrame, Any, Rules]:
        by = rules(hysteresis=0.02, head_id=f"H{number}")
        return (
            seen,
            scores(spark, dict(zip(names, drawn[number], strict=True)), f"H{number}"),
            None,
            by,
        )

    versions = runs(spark, run, 10)
    words = np.array([[version[name]["decision"] for name in names] for version in versions])
    changes = (words[1:] != words[:-1]).sum(axis=0)
    assert changes[:10].tolist() == [0] * 10
    assert changes[20:].tolist() == [0] * 30
    assert set(changes[10:20]) == {0, 1}  # excluded at first: once; kept at first: never
    assert (words[-1, 10:20] == "keep").all()
    plain_words = drawn >= 0.5
    assert np.median((plain_words[1:] != plain_words[:-1]).sum(axis=0)) > 3


def test_the_last_score_ends_and_an_override_gives_the_decision_back(spark: SparkSession) -> None:
    """Run 0 reads the images, which then time out daily. From 1 to 2, people decide otherwise."""
    found = {"a": 0.9, "b": 0.1, "changed": 0.9, "content": 0.1}

    def run(day: int) -> tuple[DataFrame, DataFrame, Any, Rules]:
        status = "timeout" if day else "ok"
        seen = catalog(spark, dict.fromkeys(found, status))
        if day:
            versions = decisions.F.when(decisions.F.col("image_id") == "changed", "v2").otherwise(
                "v1"
            )
            seen = seen.withColumn("image_version", versions)
        now = NOW + timedelta(days=day)
        by = rules(now=now, scored_at=now - timedelta(hours=1), keep_score_days=3.0)
        words = (
            said(spark, {"b": "exclude"}, {"digest of content": "exclude"})
            if day in (1, 2)
            else None
        )
        return seen, scores(spark, {} if day else found), words, by

    versions = runs(spark, run, 5)
    told = {name: [(v[name]["decision"], v[name]["reason"]) for v in versions] for name in found}
    gone = ("unscored", "unscored")
    assert told == {
        "a": [("exclude", "model"), *[("exclude", "last_score")] * 2, gone, gone],
        "b": [("keep", "model"), *[("exclude", "override")] * 2, gone, gone],
        "changed": [("exclude", "model"), *[gone] * 4],
        "content": [("keep", "model"), *[("exclude", "override")] * 2, gone, gone],
    }
    assert [pd.isna(version["a"]["exclusion_score"]) for version in versions] == [False] * 3 + [
        True
    ] * 2
    assert {version["a"]["scored_at"] for version in versions[:3]} == {
        versions[0]["a"]["scored_at"]
    }
    began = pd.Timestamp(NOW + timedelta(days=1)).tz_convert(None)
    assert [version["a"]["since"] for version in versions[1:]] == [began] * 4
    assert versions[1]["b"]["override"] == "ann: exclude b"
    assert versions[2]["b"]["exclusion_score"] == pytest.approx(0.1)
    assert versions[2]["content"]["content_digest"] == "digest of content"


def test_an_override_ends_while_the_last_score_still_counts(spark: SparkSession) -> None:
    def run(day: int) -> tuple[DataFrame, DataFrame, Any, Rules]:
        words = said(spark, {"a": "keep", "x": "keep"}, {}) if day < 2 else None
        seen = catalog(spark, {"a": "timeout" if day else "ok", "x": "truncated"})
        now = NOW + timedelta(days=day)
        return seen, scores(spark, {} if day else {"a": 0.9}), words, rules(now=now, scored_at=now)

    versions = runs(spark, run, 3)
    assert [(v["a"]["decision"], v["a"]["reason"]) for v in versions] == [
        *[("keep", "override")] * 2,
        ("exclude", "last_score"),
    ]
    assert [(v["x"]["decision"], v["x"]["reason"]) for v in versions] == [
        *[("keep", "override")] * 2,
        ("exclude", "unscored"),
    ]
    again = [
        frame(spark, schemas.DECISIONS, [dict(row) for row in version.values()])
        for version in versions[:2]
    ]
    assert [figures.gather(version).scores_amiss for version in again] == [0, 0]


def test_nulls_meet_nobody(spark: SparkSession) -> None:
    """An image without an id or a content is nobody else's, nor the override's."""
    seen = frame(
        spark,
        schemas.CATALOG,
        [
            {"image_id": None, "status": "ok", "content_digest": None, "image_version": "v1"},
            {"image_id": "a", "status": "timeout", "content_digest": None, "image_version": None},
        ],
    )
    last = frame(
        spark,
        schemas.DECISIONS,
        [
            {
                "image_id": None,
                "status": "ok",
                "decision": "keep",
                "reason": "model",
                "exclusion_score": 0.5,
            }
        ],
    )
    words: Any = [(None, "exclude", "ann: all")]
    nobody = (
        override_frame(spark, "image_id", words),
        override_frame(spark, "content_digest", words),
    )
    scored = frame(
        spark, schemas.SCORES, [{"image_id": None, "exclusion_score": 0.9, "head_id": "H"}]
    )
    found = decided(decisions.decide(seen, scored, last, nobody, rules(hysteresis=0.4)))
    assert found == {None: (None, "model"), "a": ("unscored", "unscored")}

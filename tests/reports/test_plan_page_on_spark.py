"""The changes of a plan: images that leave and return, per stratum, and those that are shown."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from toiletspark.reports.plan_page import gather
from toiletspark.reports.plan_page.page import StratumChanges
from toiletspark.tables import schemas as tables


def frame(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    full = [tuple(row.get(name) for name in tables.DECISIONS.columns) for row in rows]
    return spark.createDataFrame(full, tables.DECISIONS.schema)


def decided(
    image_id: str, stratum: str | None, was: str | None, decision: str | None, **more: Any
) -> dict[str, Any]:
    usual = {"listing_id": f"L{image_id}", "status": "ok", "reason": "model"}
    return {
        **usual,
        "image_id": image_id,
        "stratum": stratum,
        "was": was,
        "decision": decision,
        **more,
    }


LITERAL = [
    decided("stays", "A", "keep", "keep"),
    decided("stays out", "A", "exclude", "exclude"),
    decided("leaves", "A", "keep", "exclude"),
    decided("leaves, unscored before", "A", "unscored", "exclude"),
    decided("returns", "A", "exclude", "keep"),
    decided(
        "returns, unscored now", "B", "exclude", "unscored", reason="unscored", status="missing"
    ),
    decided("kept, unscored now", "B", "keep", "unscored", reason="unscored", status="timeout"),
    decided("new", "B", None, "keep"),
    decided("new and out", "B", None, "exclude"),
    decided("no decision, was out", "B", "exclude", None),
    decided("no decision, was kept", None, "keep", None),
    decided("new without a decision", None, None, None),
]


def test_who_leaves_and_who_returns(spark: SparkSession) -> None:
    result = frame(spark, LITERAL).select("image_id", gather.change().alias("change")).collect()
    assert {row["image_id"]: row["change"] for row in result if row["change"]} == {
        "leaves": "leaving",
        "leaves, unscored before": "leaving",
        "returns": "returning",
        "returns, unscored now": "returning",
        "kept, unscored now": "between",
        "new and out": "new",
        "no decision, was out": "returning",
        "no decision, was kept": "between",
    }


def test_the_counts_of_each_stratum(spark: SparkSession) -> None:
    assert gather.by_stratum(frame(spark, LITERAL)) == [
        StratumChanges("", 2, 1, 0, 0, 1, 0, 0, 0),
        StratumChanges("A", 5, 5, 2, 1, 0, 0, 2, 3),
        StratumChanges("B", 5, 3, 0, 2, 1, 1, 2, 1),
    ]
    assert gather.by_stratum(frame(spark, [])) == []


def some(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows with tied scores and missing scores, in strata of very different size."""
    chance = random.Random(seed)
    words = ["keep", "exclude", "unscored"]
    return [
        decided(
            f"{number:04}",
            chance.choice(["A", "A", "A", "A", "B", "C", None]),
            chance.choice([*words, None]),
            chance.choice([*words, None] if number % 20 == 0 else words),
            exclusion_score=None
            if number % 7 == 0
            else float(np.float32(round(chance.random(), 2))),
        )
        for number in range(count)
    ]


def slow_change(row: pd.Series) -> str:
    before, after = row["was"], row["decision"]
    if before is None:
        return "new" if after == "exclude" else ""
    if before == "exclude":
        return "" if after == "exclude" else "returning"
    return "leaving" if after == "exclude" else ""


def slow_to_show(rows: list[dict[str, Any]], most: int, threshold: float) -> dict[str, set[str]]:
    """Strata in turn, each with one of the top scores, one near the threshold, and so on."""
    table = pd.DataFrame(rows).astype({"stratum": object, "was": object, "decision": object})
    table["stratum"] = table["stratum"].fillna("")
    table["change"] = table.apply(slow_change, axis=1)
    table["distance"] = (table["exclusion_score"] - threshold).abs()
    table["rank"] = table["exclusion_score"] * np.where(table["change"] == "returning", 1, -1)
    shown: dict[str, set[str]] = {}
    for change, of_kind in table[table["change"] != ""].groupby("change"):
        locations = []
        for stratum, group in of_kind.groupby("stratum"):
            top = group.sort_values(["rank", "image_id"], na_position="last")["image_id"].tolist()
            near = group.sort_values(["distance", "image_id"], na_position="last")[
                "image_id"
            ].tolist()
            for image_id in group["image_id"]:
                position = min(2 * top.index(image_id), 2 * near.index(image_id) + 1)
                locations.append((position, -len(group), stratum, image_id))
        shown[str(change)] = {image_id for *_, image_id in sorted(locations)[:most]}
    return shown


@pytest.mark.parametrize(("most", "seed"), [(7, 1), (50, 2)])
def test_what_is_shown_equals_a_slow_obvious_choice(
    spark: SparkSession, most: int, seed: int
) -> None:
    rows = some(400, seed)
    result = gather.to_show(frame(spark, rows).repartition(5), most, 0.4)
    shown: dict[str, set[str]] = {}
    for row in result:
        shown.setdefault(row["change"], set()).add(row["image_id"])
    assert shown == slow_to_show(rows, most, 0.4)
    assert max(len(ids) for ids in shown.values()) == most
    scores = [-1.0 if row["exclusion_score"] is None else row["exclusion_score"] for row in result]
    assert scores == sorted(scores, reverse=True)


def test_nothing_is_shown_where_nothing_is_asked_for(spark: SparkSession) -> None:
    assert gather.to_show(frame(spark, LITERAL), 0, 0.5) == []

"""The counts of a version's decisions, on sound and on damaged rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from toiletspark.publishing import figures
from toiletspark.tables import arrow_io, schemas
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store


def decided(spark: SparkSession, found: list[dict[str, Any]]) -> DataFrame:
    usual = {
        "stratum": "S",
        "status": "ok",
        "reason": "model",
        "head_id": "H",
        "content_digest": "d",
    }
    full = [
        tuple({**usual, **row}.get(name) for name in schemas.DECISIONS.columns) for row in found
    ]
    return spark.createDataFrame(full, schemas.DECISIONS.schema)


def image(
    image_id: str | None,
    listing_id: str | None,
    decision: str | None,
    score: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "listing_id": listing_id,
        "decision": decision,
        "exclusion_score": score,
        **more,
    }


def broken(
    image_id: str, listing_id: str, decision: str, status: str, **more: Any
) -> dict[str, Any]:
    return image(
        image_id,
        listing_id,
        decision,
        status=status,
        **{"reason": "unscored", "head_id": None, **more},
    )


SOUND = [
    image("a", "L1", "keep", 0.0, was="exclude"),
    image("b", "L1", "exclude", 1.0, was="exclude"),
    image("c", "L2", "exclude", 0.995, was="keep"),
    image("d", "L2", "exclude", 0.5, stratum="T"),
    broken("e", "L3", "exclude", "truncated", was="exclude"),
    broken("f", "L4", "exclude", "denied"),
    broken("g", "L5", "unscored", "timeout", stratum="T"),
    broken("h", "L5", "keep", "timeout", reason="last_score", exclusion_score=0.2, head_id="H"),
    image("i", "i", "exclude", 0.9),
    image("j", None, "exclude", 0.9),
]
AMISS = [
    *[image("twice", "L", "keep", 0.1)] * 3,
    *[image(None, "L", "keep", 0.1)] * 2,
    image("nan", "L", "exclude", float("nan")),
    image("above", "L", "exclude", 1.5),
    image("none", "L", None, None),
    broken("score", "L", "unscored", "timeout", exclusion_score=0.3),
    image("word", "L", "perhaps", 0.1),
    image("status", "L", "keep", 0.1, status="fine"),
]


def test_the_figures_of_sound_decisions(spark: SparkSession, tmp_path: Path) -> None:
    found = figures.gather(decided(spark, SOUND))
    assert found.counts == {
        "images": 10,
        "kept": 2,
        "excluded": 7,
        "unscored": 1,
        "no_score": 4,
        "policy": 1,
    }
    assert (
        found.images,
        found.null_ids,
        found.repeated_ids,
        found.unknown_words,
        found.scores_amiss,
    ) == (10, 0, 0, 0, 0)
    assert found.statuses == {"denied": 1, "timeout": 2, "truncated": 1}
    # L2 had an image, L4 is new; L3 was empty before; i stands for itself and j for nothing
    assert (found.listings, found.emptied, found.newly_emptied) == (5, 3, 2)
    assert found.changed is None
    assert list(found.strata) == ["S", "T"]
    histogram = found.strata["S"].histogram
    assert {place: int(histogram[place]) for place in np.flatnonzero(histogram)} == {
        0: 1,
        90: 2,
        99: 2,
    }
    kept = arrow_io.write(
        Store.open(str(tmp_path / "store")),
        schemas.STRATA,
        "r",
        figures.rows_of(found),
        config={},
        inputs=Inputs(),
    )
    again = figures.strata_of(arrow_io.read(kept))
    assert {name: vars(one) | {"histogram": None} for name, one in again.items()} == {
        name: vars(one) | {"histogram": None} for name, one in found.strata.items()
    }
    assert again["S"].histogram.tolist() == histogram.tolist()


def test_rows_amiss_are_counted_by_what_is_amiss(spark: SparkSession) -> None:
    found = figures.gather(decided(spark, AMISS))
    assert (found.images, found.null_ids, found.repeated_ids) == (11, 2, 2)
    assert found.unknown_words == 3  # none, word, status
    # nan, above, none, score; and a score where the status is no sound one
    assert found.scores_amiss == 5


def test_what_changed_without_a_cause(spark: SparkSession) -> None:
    """Only `flipped` kept content and head, was decided by score both times, and has moved."""
    then = [
        image(name, "L", "keep", 0.4)
        for name in ("flipped", "rounded", "another content", "another head", "near", "overruled")
    ] + [image("held", "L", "keep", 0.4, reason="hysteresis")]
    now = [
        image("flipped", "L", "exclude", 0.6, was="keep"),
        image("rounded", "L", "exclude", 0.40001, was="keep"),
        image("another content", "L", "exclude", 0.6, was="keep", content_digest="e"),
        image("another head", "L", "exclude", 0.6, was="keep", head_id="I"),
        image("near", "L", "keep", 0.6, was="keep", reason="hysteresis"),
        image("overruled", "L", "exclude", 0.6, was="keep", reason="override"),
        image("held", "L", "exclude", 0.6, was="keep"),
        image("new", "L", "exclude", 0.6),
    ]
    assert figures.gather(decided(spark, now), decided(spark, then)).changed == 1
    same = [image("flipped", "L", "keep", 0.4, was="keep")]
    assert figures.gather(decided(spark, same), decided(spark, then)).changed == 0


def test_the_figures_of_nothing(spark: SparkSession) -> None:
    found = figures.gather(decided(spark, []))
    assert (found.images, found.counts["images"], found.listings, found.strata) == (0, 0, 0, {})

"""Each listing's best image: the agent's order or rooms, only what the feed shows, and none."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.conftest import LISTINGS
from tests.support.feeds import decided, publish
from toiletspark.config import Config
from toiletspark.errors import ConfigError, OutputError
from toiletspark.feed import best_images, feed
from toiletspark.jobs import build_feed
from toiletspark.tables import schemas
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
ROOMS = ("bathroom", "bedroom", "kitchen")


def frame(spark: SparkSession, rows: list[dict[str, Any]], schema: str) -> DataFrame:
    names = [column.split()[0] for column in schema.split(", ")]
    return spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], schema)


def images_of(
    spark: SparkSession, rows: list[dict[str, Any]], in_feed: list[str | None]
) -> DataFrame:
    decisions = frame(
        spark, rows, "image_id string, listing_id string, decision string, reason string"
    )
    return feed.standings(
        spark.createDataFrame([(name,) for name in in_feed], "id string"), decisions, "id"
    )


def catalog_of(spark: SparkSession, rows: list[dict[str, Any]]) -> DataFrame:
    return frame(spark, rows, "image_id string, position int")


def chosen(best: DataFrame) -> dict[str, tuple[Any, ...]]:
    columns = ("image_id", "position", "remaining", "excluded", "unscored", "why")
    return {row["listing_id"]: tuple(row[name] for name in columns) for row in best.collect()}


ORDER = "the first in the agent's order"
BY_ID = "the first by its id, for want of an order"


def test_the_first_in_the_agents_order_that_remains(spark: SparkSession) -> None:
    rows = [
        decided("a1", "exclude", listing_id="A", position=1),
        decided("a3", listing_id="A", position=3),
        decided("a2", listing_id="A", position=2),
        decided("b1", listing_id="B", position=None),
        decided("b0", listing_id="B", position=None),
        decided("b9", listing_id="B", position=9),
        decided("c2", listing_id="C"),
        decided("c1", listing_id="C"),
        decided("d1", "exclude", "unscored", listing_id="D", position=1),
        decided("d2", "unscored", "unscored", listing_id="D", position=2),
        decided("e1", "exclude", listing_id="E", position=1),
        decided("f1", listing_id="F", position=1),
        decided("none", listing_id=None, position=1),
    ]
    in_feed = [row["image_id"] for row in rows if row["image_id"] not in ("a2", "f1")]
    images = images_of(spark, rows, [*in_feed, "b9", None, "uploaded since"])
    seen = catalog_of(spark, rows)
    assert chosen(best_images.choose(images, seen, "mixed")) == {
        "A": ("a3", 3, 1, 1, 0, ORDER),  # a2 would be the first, and is not in the feed table
        "B": ("b9", 9, 3, 0, 0, ORDER),
        "C": ("c1", None, 2, 0, 0, BY_ID),
        "D": ("d2", 2, 1, 1, 1, ORDER),
        "E": (None, None, 0, 1, 0, "no image is left: 1 excluded, 0 that could not be checked"),
    }
    opened, closed = (
        chosen(best_images.choose(images, seen, mode))["D"] for mode in ("open", "closed")
    )
    assert opened == ("d1", 1, 2, 1, 1, ORDER)
    assert closed == (
        None,
        None,
        0,
        1,
        1,
        "no image is left: 1 excluded, 1 that could not be checked",
    )


SHOWN = "shows {}, the room that is wanted most of those the listing has"


def test_by_rooms_then_by_score_then_in_the_agents_order(spark: SparkSession) -> None:
    scores = {
        "a1": (0.1, 0.8, 0.1),  # bedroom
        "a2": (0.1, 0.3, 0.6),  # kitchen
        "a3": (0.1, 0.2, 0.7),  # kitchen, more surely
        "a4": (0.0, 0.0, 1.0),  # kitchen, and excluded
        "b1": (0.1, 0.9, 0.0),
        "b2": (0.9, 0.1, 0.0),
        "c2": (0.6, 0.2, 0.2),
        "c1": (0.9, 0.1, 0.0),
        "d2": (0.4, 0.2, 0.4),  # of equals the head's first: bathroom
        "d3": (0.1, 0.5, 0.4),
    }
    rows = [decided(name, listing_id=name[0].upper(), position=int(name[1])) for name in scores]
    rows[3] = decided("a4", "exclude", listing_id="A", position=4)
    rows += [decided("d1", "unscored", "unscored", listing_id="D", position=1)]
    rows += [
        decided(f"e{place}", "unscored", "unscored", listing_id="E", position=3 - place)
        for place in (1, 2)
    ]
    schema = "image_id string, " + ", ".join(f"p_{room} float" for room in ROOMS)
    scored = spark.createDataFrame([(name, *values) for name, values in scores.items()], schema)
    images = images_of(spark, rows, [row["image_id"] for row in rows])
    wanted = best_images.wanted_rooms(scored, ["kitchen", "bedroom"])
    assert chosen(best_images.choose(images, catalog_of(spark, rows), "mixed", wanted)) == {
        "A": ("a3", 3, 3, 1, 0, SHOWN.format("kitchen")),
        "B": ("b1", 1, 2, 0, 0, SHOWN.format("bedroom")),
        "C": ("c1", 1, 2, 0, 0, f"none of the rooms wanted; {ORDER}"),
        "D": ("d3", 3, 3, 0, 1, SHOWN.format("bedroom")),
        "E": ("e2", 1, 2, 0, 2, f"not known what it shows; {ORDER}"),
    }


def slowly(
    rows: list[dict[str, Any]], in_feed: set[str], prefer: list[str], mode: str
) -> dict[str, str | None]:
    """The best by a sort in Python."""
    removed = {"open": {"model", "override"}, "mixed": {"model", "override", "unscored"}}
    listings: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        if row["image_id"] not in in_feed:
            continue
        left = listings.setdefault(row["listing_id"], [])
        kept = row["decision"] == "keep"
        if kept or (
            mode != "closed"
            and not (row["decision"] == "exclude" and row["reason"] in removed[mode])
        ):
            room = max(ROOMS, key=lambda name: row["p"][name]) if row["p"] else None
            rank = prefer.index(room) if room in prefer else len(prefer) + (room is None)
            sure = -row["p"][room] if room in prefer else 0.0
            place = 99 if row["position"] is None else row["position"]
            left.append((rank, sure, place, row["image_id"]))
    return {name: min(left)[-1] if left else None for name, left in listings.items()}


def test_the_best_is_what_a_sort_gives(spark: SparkSession) -> None:
    chance = np.random.default_rng(5)
    rows = []
    kinds = [
        ("keep", "model"),
        ("exclude", "model"),
        ("exclude", "unscored"),
        ("unscored", "unscored"),
    ]
    for number in range(300):
        decision, reason = kinds[chance.integers(len(kinds))]
        scored = reason == "model"
        values = [float(np.float32(value)) for value in chance.dirichlet([1.0] * len(ROOMS))]
        position = None if chance.random() < 0.3 else int(chance.integers(1, 5))
        listing = f"L{chance.integers(90):02d}"
        row = decided(f"i{number:03d}", decision, reason, listing_id=listing, position=position)
        rows.append({**row, "p": dict(zip(ROOMS, values, strict=True)) if scored else {}})
    in_feed = {row["image_id"] for row in rows if chance.random() < 0.9}
    schema = "image_id string, " + ", ".join(f"p_{room} float" for room in ROOMS)
    scored_rows = [(row["image_id"], *row["p"].values()) for row in rows if row["p"]]
    wanted = best_images.wanted_rooms(
        spark.createDataFrame(scored_rows, schema), ["bedroom", "kitchen"]
    )
    images = images_of(spark, rows, sorted(in_feed)).localCheckpoint()
    for mode in ("open", "mixed", "closed"):
        best = best_images.choose(images, catalog_of(spark, rows), mode, wanted).collect()
        found = {row["listing_id"]: row["image_id"] for row in best}
        assert found == slowly(rows, in_feed, ["bedroom", "kitchen"], mode)
        assert None in found.values()


# The job


def test_the_job_by_rooms_writes_the_table_and_names_the_listings_with_none(
    spark: SparkSession, make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        decided(
            f"{listing}-{place}",
            "exclude" if listing in ("L2", "L5") else "keep",
            listing_id=listing,
            position=place,
        )
        for (listing, *_), place in itertools.product(LISTINGS, (1, 2, 3))
    ]
    scores = [
        {"image_id": "L1-3", "p_toilet": 0.1, "p_other": 0.9},
        {"image_id": "L1-2", "p_toilet": 0.2, "p_other": 0.8},
    ]
    config = make_config({"feed.best_by": "rooms"})
    publish(Store.open(config.output.root), rows, scores)
    told = build_feed.step(Workspace.open(spark, config))
    assert (told["listings"], told["listings_with_none"]) == (6, 2)
    assert "2 of 6 listings have no image left: 'L2', 'L5'\n" in caplog.text
    best = pd.read_parquet(told["best_images"]).set_index("listing_id")["image_id"]
    assert best.dropna().to_dict() == {"L1": "L1-3", "L3": "L3-1", "L4": "L4-1", "L6": "L6-1"}
    assert set(best.dropna()) <= set(pd.read_parquet(told["feed"])["image_id"])


def test_rooms_that_the_head_does_not_know_are_named(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    store = Store.open(str(tmp_path / "output"))
    scored = publish(store, [decided("a")], [{"image_id": "a", "p_toilet": 0.1, "p_kitchen": 0.9}])
    scores = store.newest(schemas.SCORES)
    assert scores is not None
    assert scored.number == 1
    config = make_config({"feed.prefer_classes": '["kitchn"]'})
    with pytest.raises(ConfigError) as stopped:
        best_images.preferred(config, scores)
    assert str(stopped.value) == (
        "while choosing the best image of each listing by rooms\n"
        "  expected: classes of the head that scored the version: 'toilet', 'kitchen'\n"
        "  found:    'kitchn' (did you mean 'kitchen'?)\n"
        "  do:       set feed.prefer_classes to classes of this head, or feed.best_by=position"
    )
    assert best_images.preferred(make_config({"feed.prefer_classes": '["kitchen"]'}), scores) == [
        "kitchen"
    ]
    assert best_images.preferred(
        make_config({"labels.classes": '["toilet", "kitchen"]'}), scores
    ) == ["kitchen"]


def test_a_catalog_that_is_gone_is_told(spark: SparkSession, make_config: MakeConfig) -> None:
    config = make_config()
    store = Store.open(config.output.root)
    publish(store, [decided("a")])
    Path(store.require(schemas.CATALOG, doing="", step="").folder, "_manifest.json").unlink()
    version = best_images.Current(
        store.root, 1, store.require(schemas.EXCLUSION_LIST, doing="", step="")
    )
    with pytest.raises(OutputError, match="the catalog that the version 1 was decided on"):
        best_images.of_version(spark, config, version, spark.range(1).toDF("image_id"))


def test_the_first_listings_are_named_and_the_rest_counted() -> None:
    assert best_images.named(["a", "b"], 2) == "'a', 'b'"
    assert best_images.named(["a", "b"], 7) == "'a', 'b' and 5 more"

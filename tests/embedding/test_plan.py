"""The plan: which images are worked on in one commit, and which by one task."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import SparkSession

from tests.conftest import literal_config
from toiletspark.embedding import plan as plans
from toiletspark.tables.runs import Store, new_run_id
from toiletspark.tables.workspace import Workspace

WAITING = "image_id string, image_version string, image_url string, attempts int"
CONTENTS = "image_id string, content binary"


def planned(
    spark: SparkSession,
    tmp_path: Path,
    waiting: list[tuple[str, str, str | None, int | None]],
    contents: list[tuple[str, bytes | None]],
    **sets: Any,
) -> tuple[pd.DataFrame, Path]:
    """The plan, by image_id, and the folder in which it was set aside."""
    named = {key.replace("__", "."): value for key, value in sets.items()}
    config = literal_config({"output.root": tmp_path / "output", **named})
    store = Store.open(config.output.root)
    run_id = new_run_id()
    frame, images = (
        spark.createDataFrame(waiting, WAITING),
        spark.createDataFrame(contents, CONTENTS),
    )
    made = plans.make_plan(
        Workspace(spark, store, config, run_id),
        frame,
        images,
        len(waiting),
        is_inline=bool(config.images.columns.content),
    )
    assert set(made.rows.columns) == set(plans.PLAN.columns)
    rows = made.rows.toPandas().set_index("image_id", verify_integrity=True)
    assert made.rows_by_commit == rows["commit"].value_counts().to_dict()
    return rows, Path(store.work_folder(run_id)) / "plan"


def test_every_image_is_in_one_commit_and_equal_locations_in_the_same(
    spark: SparkSession, tmp_path: Path
) -> None:
    waiting: list[tuple[str, str, str | None, int | None]] = [
        (f"i{number}", "v1", f"https://host/{number % 40}.jpg", number % 2 or None)
        for number in range(60)
    ]
    waiting += [
        ("in a tar", "v2", "tar://a/1.jpg::/photos/x.tar", 3),
        ("in the same", "v2", "tar://b.jpg::/photos/x.tar", 3),
        ("in another", "v2", "tar://a/1.jpg::/photos/y.tar", 3),
        ("no url", "v2", None, None),
        ("no url either", "v2", None, None),
    ]
    rows, folder = planned(spark, tmp_path, waiting, [], embed__images_per_commit=20)
    assert set(rows.index) == {row[0] for row in waiting}
    assert list(rows.loc["in a tar", ["image_version", "image_url", "attempts"]]) == [
        *waiting[60][1:3],
        3,
    ]
    assert (rows.loc["i0", "attempts"], rows.loc["i1", "attempts"]) == (0, 1)
    assert rows["content"].isna().all()
    assert set(rows["inline_bytes"]) == {0}
    location = rows["location"]
    assert (location["i3"], location["i43"]) == ("https://host/3.jpg",) * 2
    assert (location["in a tar"], location["in the same"], location["in another"]) == (
        *("/photos/x.tar", "/photos/x.tar"),
        "/photos/y.tar",
    )
    assert (location["no url"], location["no url either"]) == ("no url", "no url either")
    assert set(rows["commit"]) == set(range(math.ceil(65 / 20)))
    assert rows.groupby("location")["commit"].nunique().max() == 1
    assert rows["commit"].value_counts().max() < 2 * 20  # by hash: about as many in each
    assert {path.name for path in folder.glob("commit=*")} == {
        f"commit={number}" for number in range(4)
    }


def test_inline_bytes_are_in_the_plan_unless_they_are_too_many(
    spark: SparkSession, tmp_path: Path
) -> None:
    waiting = [
        (name, "v", "https://host/a.jpg", None)
        for name in ("small", "full", "over", "none", "unknown")
    ]
    contents = [
        ("small", b"x"),
        ("full", bytes(100)),
        ("over", bytes(101)),
        ("none", None),
        ("not waiting", b"y"),
    ]
    inline = {"images__columns__content": "bytes", "fetch__max_image_bytes": 100}
    rows, folder = planned(spark, tmp_path, waiting, contents, **inline)
    assert not folder.exists()  # a single commit is read where its rows are
    kept = {name: content and bytes(content) for name, content in rows["content"].items()}
    assert kept == {"small": b"x", "full": bytes(100), "over": None, "none": None, "unknown": None}
    assert dict(rows["inline_bytes"]) == {
        "small": 1,
        "full": 100,
        "over": 101,
        "none": 0,
        "unknown": 0,
    }
    # whether there are inline bytes is not known before they are read; a common location does them
    # no harm
    assert set(rows["location"]) == {"https://host/a.jpg"}
    assert set(rows["commit"]) == {0}


def test_no_commit_is_larger_than_asked_for(spark: SparkSession, tmp_path: Path) -> None:
    waiting: list[tuple[str, str, str | None, int | None]] = [
        (f"i{number}", "v1", f"https://host/{number}.jpg", None) for number in range(203)
    ]
    rows, _ = planned(spark, tmp_path, waiting, [], embed__images_per_commit=10)
    sizes = rows["commit"].value_counts()
    assert sizes.max() == 10
    assert sizes.sum() == 203
    assert sorted(sizes.index) == list(range(len(sizes)))
    # nearly full, but for the last of each and where a bucket would not fit
    assert len(sizes) <= 24

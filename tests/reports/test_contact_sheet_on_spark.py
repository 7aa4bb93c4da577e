"""`labels sheet` from tables to file: its images, what is known of them, what is left out."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import drawn_images, listings_frame, stored
from toiletspark.config import Config
from toiletspark.errors import OutputError
from toiletspark.hashing import content_digest
from toiletspark.jobs import draw_sample, make_sheet
from toiletspark.labels import merge as labels
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
HOSTILE = [
    "../../x",
    "/etc/passwd",
    "nul\0nul",
    "y" * 300,
    "<script>alert(1)</script>",
    "Twin",
    "twin",
]


def shown(path: str) -> dict[str, Any]:
    """The JSON of a page; it has as many pictures as tiles."""
    text = Path(path).read_text(encoding="utf-8")
    summary: dict[str, Any] = json.loads(text.partition('id="sheet">')[2].partition("</script>")[0])
    blocks = re.findall(
        r'<script type="text/plain" id="p\d+">(.*?)</script>', text, flags=re.DOTALL
    )
    assert sum(len(block.split("\n")) for block in blocks) == len(summary["tiles"])
    return summary


def sheet_of(spark: SparkSession, config: Config) -> list[dict[str, Any]]:
    tiles: list[dict[str, Any]] = shown(
        make_sheet.step(Workspace.open(spark, config))["sheets"][0]
    )["tiles"]
    return tiles


def digest_of(images: pd.DataFrame, image_id: str) -> str:
    return content_digest(
        Path(images.set_index("image_id").loc[image_id, "image_url"]).read_bytes()
    )


def direction(angle: float) -> bytes:
    vector = np.zeros(512)
    vector[:2] = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return vector.astype("<f2").tobytes()


def scores(config: Config, rows: list[dict[str, Any]]) -> None:
    table = tables.SCORES.with_columns(tables.probability_columns(("toilet", "other")))
    stored(Store(config.output.root), table, rows)


def test_before_anything_is_known_the_order_is_by_listing_and_position(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    Path(images.loc[0, "image_url"]).write_bytes(b"broken")  # L1-1
    config = make_config(
        {"sample.size": 18, "sheet.max_images": 7, "images.columns.position": "position"},
        images=images,
    )
    draw_sample.step(Workspace.open(spark, config))
    summary = make_sheet.step(Workspace.open(spark, config))
    assert {name: summary[name] for name in ("asked", "shown", "left_out", "suggested")} == {
        "asked": 18,
        "shown": 17,
        "left_out": 1,
        "suggested": 0,
    }
    pages = [shown(path) for path in summary["sheets"]]
    tiles = list(itertools.chain.from_iterable(page["tiles"] for page in pages))
    assert [tile["image_id"] for tile in tiles] == sorted(set(images["image_id"]) - {"L1-1"})
    assert [len(page["tiles"]) for page in pages] == [7, 7, 3]
    assert [Path(path).name for path in summary["sheets"]] == [
        f"sheet-{page['id']}.html" for page in pages
    ]
    assert all(tile["content_digest"] == digest_of(images, tile["image_id"]) for tile in tiles)
    assert {
        (tile["score"], tile["suggested"], tile["label"], tile["section"]) for tile in tiles
    } == {(None, None, None, "")}
    reports = tmp_path / "output" / "reports"
    assert {path.name for path in reports.glob("sheet-*")} == {
        Path(path).name for path in summary["sheets"]
    }
    # the same sheet has the same id
    assert make_sheet.step(Workspace.open(spark, config))["sheets"] == summary["sheets"]
    assert not list((tmp_path / "output" / "_work").iterdir())


def test_what_is_known_of_the_sample_and_of_this_very_content(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Scores and labels of images changed since are ignored; the later labeller counts."""
    images = drawn_images(tmp_path / "pictures").iloc[:6]
    config = make_config(images=images)
    store = Store.open(config.output.root)
    ids = images["image_id"].tolist()
    digest = {image_id: digest_of(images, image_id) for image_id in ids}
    stored(store, tables.SAMPLE, [{"image_id": name, "listing_id": name[:2]} for name in ids])
    stored(store, tables.CATALOG, [], inputs={"backbone_id": "ours"})
    vectors = dict(zip(ids, (0, 60, 1, 61, 30, 0), strict=True))
    kept = [
        {
            "content_digest": digest[name],
            "backbone_id": backbone_id,
            "embedding": direction(factor * angle),
        }
        for (name, angle), (backbone_id, factor) in itertools.product(
            vectors.items(), (("another", 0), ("ours", 1))
        )
    ]
    stored(store, tables.EMBEDDINGS, kept + kept[:1])
    summary = {"L1-1": 0.99, "L1-2": 0.98, "L1-3": 0.97, "L2-1": 0.96, "L2-2": 0.5, "L2-3": 0.999}
    rows = [
        {
            "image_id": name,
            "content_digest": digest[name],
            "p_toilet": toilet,
            "p_other": 1 - toilet,
        }
        for name, toilet in summary.items()
    ]
    rows[-1]["content_digest"] = "of an earlier file"
    scores(config, rows)
    labels.save(
        store, SourceLabels([Label("L1-1", "other", None, "table")]), "ann", {}, "an older run"
    )
    at = pd.Timestamp("2026-11-24", tz="UTC")
    words = [
        ("L1-2", "ann", "other", None, 1),
        ("L1-2", "bob", "toilet", None, 2),
        ("L1-3", "ann", "toilet", "old", 1),
    ]
    stored(
        store,
        tables.LABELS,
        [
            {
                "image_id": name,
                "labeller": who,
                "class": given,
                "content_digest": of,
                "labelled_at": at.replace(hour=hour),
            }
            for name, who, given, of, hour in words
        ],
    )
    result = sheet_of(spark, config)
    assert [
        (tile["image_id"], tile["suggested"], tile["score"], tile["label"]) for tile in result
    ] == [
        ("L1-1", "toilet", 0.99, None),
        ("L1-3", "toilet", 0.97, None),  # looks like L1-1
        ("L1-2", "toilet", 0.98, "toilet"),
        ("L2-1", "toilet", 0.96, None),
        ("L2-2", "toilet", 0.5, None),  # as probable as other, and the first class
        ("L2-3", None, None, None),
    ]
    assert [tile["section"] for tile in result] == [
        *["toilet? 0.95 to 1"] * 4,
        "toilet? 0.5 to 0.8",
        "no suggestion",
    ]
    groups = [tile["group"] for tile in result]
    assert groups[0] == groups[1] == groups[5]
    assert groups[2] == groups[3]
    assert len(set(groups)) == 3


def test_a_queue_by_rank_with_what_it_says(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    config = make_config({"labels.of": "second_look"}, images=images)
    store = Store.open(config.output.root)

    def row(image_id: str, rank: int, **more: Any) -> dict[str, Any]:
        return {
            "image_id": image_id,
            "listing_id": "L",
            "rank": rank,
            "score": 0.5 + rank,
            "label": "toilet",
            **more,
        }

    older = [row("L6-1", 1)]
    stored(store, tables.QUEUES, older, inputs={"kind": "second_look"})
    queued = [
        row("L3-1", 3, suggested="other", content_digest=digest_of(images, "L3-1")),
        row("L1-1", 2, suggested="cellar"),
        row("L2-2", 1, suggested="other", content_digest="of an earlier file"),
        row("gone", 4),
    ]
    stored(store, tables.QUEUES, queued, inputs={"kind": "second_look"})
    stored(store, tables.QUEUES, [row("L5-1", 1)], inputs={"kind": "suggest"})
    summary = make_sheet.step(Workspace.open(spark, config))
    assert (summary["asked"], summary["shown"], summary["left_out"]) == (4, 3, 1)
    page = shown(summary["sheets"][0])
    assert page["asks_about_labels"] is True
    assert [
        (tile["image_id"], tile["suggested"], tile["score"], tile["label"])
        for tile in page["tiles"]
    ] == [
        ("L2-2", None, None, None),  # the image has changed
        ("L1-1", None, 2.5, "toilet"),  # `cellar` is no class
        ("L3-1", "other", 3.5, "toilet"),
    ]


@pytest.mark.parametrize("of", ["leaks", "second_look"])
def test_a_queue_with_nothing_to_label_says_so(
    spark: SparkSession, make_config: MakeConfig, caplog: pytest.LogCaptureFixture, of: str
) -> None:
    config = make_config({"labels.of": of})
    caplog.set_level("INFO", "toiletspark")
    stored(Store.open(config.output.root), tables.QUEUES, [], inputs={"kind": of})
    summary = make_sheet.step(Workspace.open(spark, config))
    assert (summary["asked"], summary["shown"], summary["sheets"]) == (0, 0, [])
    assert "nothing to label: each image of the queue has a label already" in caplog.text


def test_hostile_ids_stay_in_their_file(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = (
        drawn_images(tmp_path / "pictures")
        .iloc[: len(HOSTILE)]
        .assign(image_id=HOSTILE, listing_id=HOSTILE)
    )
    listings = listings_frame().iloc[:1].drop(columns="listing_id")
    listings = listings.merge(images[["listing_id"]], how="cross")
    sets = {"sample.size": len(HOSTILE), "sample.method": "exact"}
    config = make_config(sets, images=images, listings=listings)
    draw_sample.step(Workspace.open(spark, config))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    summary = make_sheet.step(Workspace.open(spark, config))
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == set(
        map(Path, summary["sheets"])
    )
    assert sorted(tile["image_id"] for tile in shown(summary["sheets"][0])["tiles"]) == sorted(
        HOSTILE
    )


@pytest.mark.parametrize(
    ("of", "expected", "todo"),
    [
        (
            "sample",
            "a complete run of sample in {root}/sample",
            "run `toiletspark sample` with the same",
        ),
        (
            "suggest",
            "a queue of kind suggest (labels.of) in {root}/queues",
            "run `toiletspark labels suggest` with the same",
        ),
        (
            "second_look",
            "a queue of kind second_look (labels.of) in {root}/queues",
            "run `toiletspark labels second-look` with",
        ),
        (
            "leaks",
            "a queue of kind leaks (labels.of) in {root}/queues",
            "run `toiletspark leaks draw` with the same",
        ),
    ],
)
def test_without_a_sample_or_a_queue_the_step_is_named(
    spark: SparkSession, make_config: MakeConfig, of: str, expected: str, todo: str
) -> None:
    config = make_config({"labels.of": of})
    with pytest.raises(OutputError) as raised:
        make_sheet.step(Workspace.open(spark, config))
    assert raised.value.expected == expected.format(root=config.output.root)
    assert raised.value.found == "none"
    assert raised.value.todo.startswith(todo)

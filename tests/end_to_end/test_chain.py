"""Every step in order, on a small drawn catalog; real photos and broken files: see test_photos."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import SparkSession

from tests.conftest import FIXED, LOCAL_CONF, NEARBY, REPOSITORY, training_python
from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.demo.catalog import DemoCatalog, draw_catalog
from toiletspark.demo.labelling import label_like_a_person
from toiletspark.demo.odd_files import BROKEN
from toiletspark.demo.tour import CLASS_OF_ROOM
from toiletspark.errors import LabelsError
from toiletspark.feed import readers as exclusions
from toiletspark.images import statuses
from toiletspark.jobs import rescore_catalog, run_chain
from toiletspark.labels import class_folders
from toiletspark.publishing.versions import log as versions
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

LISTINGS, IMAGES = 60, 240
SIZES = {
    "sample.size": 150,
    "train.validation_share": 0.4,
    "backbone.weights": "random",
    "backbone.resize_px": 128,
    "backbone.crop_px": 112,
}


@dataclass
class Chain:
    """The input of a chain, its first error, and its summary afterwards."""

    config: Config
    drawn: DemoCatalog
    stopped: LabelsError
    exported: list[str]
    summary: dict[str, Any]


@pytest.fixture(scope="module")
def chain(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    folder = tmp_path_factory.mktemp("chain")
    drawn = draw_catalog(folder / "catalog", listings=LISTINGS)
    paths = {
        "listings.path": drawn.listings,
        "images.path": drawn.images,
        "output.root": folder / "output",
    }
    paths |= {"train.python": training_python()}
    config = conf_files.load(
        [LOCAL_CONF, REPOSITORY / "conf" / "demo.toml"],
        [f"{key}={value}" for key, value in {**paths, **SIZES, **NEARBY, **FIXED}.items()],
    )
    with pytest.raises(LabelsError) as stopped:
        run_chain.step(Workspace.open(spark, config))
    exported = sorted(class_folders.exported_ids(Path(config.labels_folder)))
    label_like_a_person(Path(config.labels_folder), drawn.truth, CLASS_OF_ROOM)
    for slip in sorted(Path(config.labels_folder, "other").glob("*.jpg"))[
        ::20
    ]:  # people make mistakes
        slip.rename(slip.parent.parent / "toilet" / slip.name)
    return Chain(
        config, drawn, stopped.value, exported, run_chain.step(Workspace.open(spark, config))
    )


def excluded_ids(spark: SparkSession, config: Config) -> list[str]:
    rows = exclusions.read_current(spark, config.output.root).collect()
    return sorted(row["image_id"] for row in rows)


def test_without_labels_the_chain_stops_and_says_what_to_do(chain: Chain) -> None:
    folder = chain.config.labels_folder
    assert str(chain.stopped) == (
        "while going on from the sample to the training\n"
        f"  expected: pictures in the class folders of {folder}: toilet, other\n"
        "  found:    all of them still in unlabelled\n"
        f"  do:       drag them from {folder}/unlabelled into the class folders and run this "
        "again; meanwhile `toiletspark embed` can embed the catalog"
    )
    sample = Store(chain.config.output.root).newest(tables.SAMPLE)
    assert sample is not None
    assert 130 <= sample.rows <= 170  # of 150 asked by sampleby
    drawn_ids = set(pd.read_parquet(sample.folder)["image_id"])
    assert set(chain.exported) <= drawn_ids
    # broken ones are left out, and few are
    assert len(chain.exported) >= sample.rows - IMAGES // 20


def test_the_second_run_draws_the_same_sample_and_exports_nothing_again(chain: Chain) -> None:
    first, second = Store(chain.config.output.root).runs(tables.SAMPLE)
    ids = [sorted(pd.read_parquet(run.folder)["image_id"]) for run in (first, second)]
    assert ids[0] == ids[1]
    assert chain.summary["exported"] == 0


def test_the_summary_adds_up(chain: Chain) -> None:
    told = chain.summary
    assert told["images"] == IMAGES == told["scored"] + sum(told["unscored"].values())
    assert told["attempted"] == IMAGES
    assert 0 < told["embedded"] < told["scored"]  # the demo shows some images twice
    assert set(told["unscored"]) <= set(statuses.STATUSES) - {"ok"}
    assert sum(told["unscored"].values()) >= len(BROKEN)
    assert 0 < told["excluded"] <= told["scored"]
    assert told["feed_out"] == told["feed_in"] - told["feed_removed"]
    assert told["feed_in"] == IMAGES
    assert told["feed_removed"] == told["excluded"]
    assert sum(told["feed_rows"].values()) == told["feed_in"]
    assert sum(told["feed_removed_rows"].values()) == told["feed_removed"]
    assert told["alerts"] == IMAGES - told["feed_rows"]["keep"]


def test_every_listing_has_its_best_image_in_the_feed(chain: Chain) -> None:
    told = chain.summary
    best = pd.read_parquet(told["best_images"])
    shown = pd.read_parquet(told["feed"]).groupby("listing_id").size()
    images = pd.read_parquet(chain.config.images.path)
    assert set(best["listing_id"]) == set(images["listing_id"])
    assert best.set_index("listing_id")["remaining"].loc[shown.index].tolist() == shown.tolist()
    assert set(best["listing_id"][best["image_id"].isna()]) == set(best["listing_id"]) - set(
        shown.index
    )
    assert best["image_id"].isna().sum() == told["listings_with_none"]


def test_the_summary_tells_times_and_validation(chain: Chain) -> None:
    steps = ["draw_sample", "export_labels", "import_labels", "embed_images", "train_head"]
    steps += ["score_catalog", "publish_exclusions", "build_feed", "write_report"]
    assert list(chain.summary["seconds"]) == steps
    assert all(seconds >= 0 for seconds in chain.summary["seconds"].values())
    validation = chain.summary["validation"]
    assert (
        {"accuracy", "precision", "recall", "n"}
        <= set(validation["intervals"]) | {"n"}
        <= set(validation)
    )
    assert validation["figures_of"] == "catalog"
    # the sample, drawn a second time, holds all labels
    assert validation["held_out"] == validation["n"]
    assert validation["held_out"] + chain.summary["trained_on"] == chain.summary["labelled"]


def test_validation_is_what_the_scores_of_the_held_out_listings_say(chain: Chain) -> None:
    told = chain.summary
    columns = ["image_id", "listing_id", "exclusion_score"]
    scored = pd.read_parquet(told["scores"])[columns].merge(
        pd.read_parquet(told["labels"]), on="image_id"
    )
    made_with = pd.read_parquet(f"{told['head']}/part-0.parquet")
    held = scored["image_id"].isin(made_with["image_id"][made_with["held_out"]])
    assert not set(scored["listing_id"][held]) & set(scored["listing_id"][~held])
    sample = pd.read_parquet(Store(chain.config.output.root).newest(tables.SAMPLE).folder)[
        ["image_id", "weight"]
    ]
    rows = scored[held].merge(sample, on="image_id")
    decided = rows["exclusion_score"] >= 0.5
    toilet = rows["class"] == "toilet"
    weight = rows["weight"]
    assert told["validation"]["n"] == len(rows) > 10
    assert told["validation"]["accuracy"] == pytest.approx(
        weight[decided == toilet].sum() / weight.sum()
    )
    assert told["validation"]["precision"] == pytest.approx(
        weight[decided & toilet].sum() / weight[decided].sum()
    )
    assert told["validation"]["recall"] == pytest.approx(
        weight[decided & toilet].sum() / weight[toilet].sum()
    )


def test_the_heads_page_shows_its_mistakes(chain: Chain) -> None:
    place = Path(chain.summary["head_report"])
    assert place.parent == Path(chain.config.output.root) / "reports"
    told = json.loads(place.with_suffix(".json").read_text())
    assert told["head_id"] == chain.summary["head_id"]
    mistakes = [row["image_id"] for row in told["mistakes"]]
    page = place.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,/9j/") == len(mistakes) > 0
    assert all(f"Thumbnail of image {image_id}" in page for image_id in mistakes)


def test_the_feed_is_the_images_table_without_what_is_excluded(
    spark: SparkSession, chain: Chain
) -> None:
    feed = pd.read_parquet(chain.summary["feed"])
    images = pd.read_parquet(chain.drawn.images)
    gone = excluded_ids(spark, chain.config)
    assert len(gone) == chain.summary["excluded"]
    assert sorted(feed["image_id"]) == sorted(set(images["image_id"]) - set(gone))
    assert list(feed.columns) == list(images.columns)


def test_the_report_shows_what_is_excluded(chain: Chain) -> None:
    page = Path(chain.summary["report"]).read_text(encoding="utf-8")
    thumbnails = re.findall(r"data:image/jpeg;base64,/9j/[A-Za-z0-9+/=]+", page)
    borderline = min(chain.config.report.max_borderline, chain.summary["scored"])
    listed = pd.read_parquet(chain.summary["exclusion_list"])
    seen = int((listed["reason"] != "unscored").sum())  # what cannot be read has no picture either
    assert len(thumbnails) == min(chain.config.report.max_excluded, seen) + borderline
    assert 0 < seen < len(listed)
    assert "randomly initialised" in page
    for status, count in chain.summary["unscored"].items():
        assert re.search(rf"{status}\D*{count}\b", page), status


def test_a_second_rescore_embeds_nothing_and_gives_the_same_list(
    spark: SparkSession, chain: Chain
) -> None:
    before = frames.read_run(spark, versions.current(chain.config.output.root)).toPandas()
    again = rescore_catalog.step(Workspace.open(spark, chain.config))
    after = frames.read_run(spark, versions.current(chain.config.output.root)).toPandas()
    assert again["embedded"] == 0
    assert again["attempted"] == sum(
        chain.summary["unscored"].get(status, 0) for status in statuses.TRANSIENT
    )
    assert list(again["seconds"]) == [
        "rescore_catalog",
        "embed_images",
        "score_catalog",
        "publish_exclusions",
    ]
    assert set(before["run_id"]) != set(after["run_id"])
    columns = ["image_id", "listing_id", "reason", "exclusion_score", "head_id"]
    one, two = (
        frame.sort_values("image_id")[columns].reset_index(drop=True) for frame in (before, after)
    )
    pd.testing.assert_frame_equal(one, two)

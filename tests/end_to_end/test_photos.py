"""Every step in order, in processes of their own: on real photos, and on broken files."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import second_look as second_look_figures
from benchmarks.whole_network import agreement
from tests.conftest import REPOSITORY, SMALL_SPARK, training_python
from tests.support.shared_folder import shared
from toiletspark.config import loading as conf_files
from toiletspark.images import statuses

pytestmark = pytest.mark.slow

COMMAND = [Path(sys.executable).parent / "toiletspark", "run"]
PHOTOS_CONF = REPOSITORY / "tests" / "conf" / "photos.toml"
# the chain, then a second look at labels that stand in another table, without a second JVM
CHAIN_AND_SECOND_LOOK = """
import json, sys
from toiletspark.jobs import import_labels, run_chain, second_look
from toiletspark.config import loading as conf_files
from toiletspark.launch import session
from toiletspark.tables.workspace import Workspace

conf, table, *sets = sys.argv[1:]
config = conf_files.load([conf], sets)
doubtful = conf_files.load([conf], [*sets, f"labels.table.path={table}"])
spark = session.start(config.spark)
work, second = Workspace.open(spark, config), Workspace.open(spark, doubtful)
told = [run_chain.step(work), import_labels.step(second), second_look.step(second.for_next_step())]
print(json.dumps(told, default=str))
"""


@dataclass
class Photos:
    """Summaries of the chain, and of a second look after 5 % of the labels were flipped."""

    root: Path
    chain: dict[str, Any]
    imported: dict[str, Any]
    second_look: dict[str, Any]
    wrong: set[str]


def run(*words: Any) -> Any:
    """A program in a checkout; returns the JSON of its last line."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYSPARK", "SPARK"))
    }
    done = subprocess.run(
        [*map(str, words)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    shared("weights")
    folder = tmp_path_factory.mktemp("photos")
    truth = pd.read_csv(shared("photos", "photos.csv")).set_index("photo_id")["room"].to_dict()
    classes = conf_files.load([PHOTOS_CONF], []).labels.classes
    labels, wrong = second_look_figures.flipped(truth, classes, seed=7)
    table = folder / "labels.csv"
    pd.DataFrame(list(labels.items()), columns=["photo_id", "room"]).to_csv(table, index=False)
    sets = [SMALL_SPARK, f"output.root={folder / 'output'}", f"train.python={training_python()}"]
    told = run(sys.executable, "-c", CHAIN_AND_SECOND_LOOK, PHOTOS_CONF, table, *sets)
    return Photos(folder / "output", *told, wrong)


def test_real_photos_end_to_end(photos: Photos) -> None:
    told = photos.chain
    assert told["images"] == 800 == told["scored"] + sum(told["unscored"].values())
    assert told["scored"] == 800
    validation = told["validation"]
    assert validation["accuracy"] >= 0.95
    assert validation["n"] + told["trained_on"] + told["in_conflict"] == told["labelled"] == 800
    assert told["in_conflict"] == 2  # one photo stands there twice, under two room types
    assert 0.15 * 800 < told["excluded"] < 0.35 * 800  # 200 of the 800 are bathrooms
    assert told["feed_out"] == told["feed_in"] - told["excluded"] == 800 - told["excluded"]
    rooms = pd.read_csv(shared("photos", "photos.csv")).set_index("photo_id")["room"]
    gone = pd.read_parquet(told["exclusion_list"])["image_id"].astype(str)
    rooms.index = rooms.index.astype(str)
    assert (rooms[gone] == "bathroom").mean() >= 0.9


def test_the_scores_are_those_of_the_whole_network(
    photos: Photos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ResNet18 with the head as its final layer; all 800 are compared by `make bench-photos`.

    Each of 512 numbers is off by up to 2^-11 of itself, as float16 has them.
    """
    monkeypatch.chdir(REPOSITORY)
    config = conf_files.load([PHOTOS_CONF], [f"output.root={photos.root}"])
    files = sorted(Path(config.images.url_prefix).rglob("*.jpg"))
    assert len(files) == 800
    found = agreement(config, photos.chain, files[::16])
    assert found["images"] == 50
    assert 0 < found["relative"] <= 2**-11
    assert found["largest_logit_difference"] <= 2e-3
    assert found["decisions_changed"] == 0


def test_a_second_look_finds_flipped_labels(photos: Photos) -> None:
    """5 % of the labels are flipped: 80 % of these stand in the first 10 % of the queue."""
    told = photos.imported
    assert (told["new"], sum(told["changed"].values()), told["unchanged"], told["gone"]) == (
        0,
        40,
        760,
        0,
    )
    told = photos.second_look
    assert told["looked_at"] == told["labelled"] == 800
    queue = pd.read_parquet(told["queue"]).sort_values("rank")
    assert len(photos.wrong & set(queue["image_id"][:80])) >= 0.8 * len(photos.wrong)


def test_broken_and_hostile_files_each_end_as_one_row(tmp_path: Path) -> None:
    """By the real command, as a person would type it."""
    shared("badimages", "SOURCES.tsv")
    sets = (f"output.root={tmp_path / 'output'}", SMALL_SPARK, f"train.python={training_python()}")
    words = [f"--set={text}" for text in sets]
    told = run(*COMMAND, "--conf", "tests/conf/badimages.toml", *words, "--json")
    assert told["images"] == 349 == told["scored"] + sum(told["unscored"].values())
    assert set(told["unscored"]) <= set(statuses.STATUSES) - {"ok"}
    assert {"not_an_image", "truncated", "too_small", "decode_failed"} <= set(told["unscored"])
    unscored = pd.read_parquet(told["unscored_table"])
    names = set(pd.read_csv(shared("badimages", "SOURCES.tsv"), sep="\t")["file"])
    scores = pd.read_parquet(told["scores"])
    assert sorted([*unscored["image_id"], *scores["image_id"]]) == sorted(names)
    assert unscored["status"].isin(statuses.STATUSES).all()

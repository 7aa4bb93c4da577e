"""What a labelled image stands for: its draw, and what of its draw is labelled."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from tests.conftest import stored
from toiletspark import design_weights, frames, tables
from toiletspark.runs import Run, Store

WHOLE = {"asked": {"S": 2, "T": 1}, "units": {"S": 9, "T": 9}}
PART = {"asked": {"S": 3, "T": 0}, "units": {"S": 9, "T": 9}}


def drawn_with(chance: float, *image_ids: str, stratum: str = "S") -> list[dict[str, Any]]:
    return [{"image_id": name, "inclusion_probability": chance, "stratum": stratum} for name in image_ids]


def sample(store: Store, rows: list[dict[str, Any]], counts: dict[str, Any] = WHOLE) -> Run:
    return stored(store, tables.SAMPLE, rows, counts=counts)


def queue(store: Store, rows: list[dict[str, Any]], kind: str = "suggest") -> Run:
    return stored(store, tables.QUEUES, rows, inputs={"kind": kind})


def weighed(
    spark: SparkSession, store: Store, labelled: Iterable[str], sound: Iterable[str]
) -> dict[str, tuple[float, str, int, int]]:
    """Of each labelled image weight, draw, and of the draw how many images count and how many are labelled."""
    labels = spark.createDataFrame([(name,) for name in labelled], "image_id string")
    status = [{"image_id": name, "status": "ok"} for name in sound]
    catalog = stored(store, tables.CATALOG, [*status, {"image_id": "broken", "status": "truncated"}])
    found = design_weights.weigh(labels, design_weights.drawn(spark, store), frames.read_run(spark, catalog))
    return {row["image_id"]: (row["weight"], row["draw"], row["drawn"], row["labelled"]) for row in found.collect()}


def test_what_is_labelled_weighs_as_much_as_what_was_drawn(spark: SparkSession, tmp_path: Path) -> None:
    """Half of one stratum, a third of another, nothing of a third; what is broken or gone could not be labelled."""
    store = Store.open(str(tmp_path))
    s, t = drawn_with(0.5, *"abcd", "broken", "gone"), drawn_with(0.25, *"efg", stratum="T")
    run = sample(store, s + t + drawn_with(1.0, "h", "i", stratum="U"))
    found = weighed(spark, store, ["a", "b", "e", "elsewhere"], "abcdefghi")
    # S: 4 images of 2; T: 3 of 4; the two of U are left to all: (8 + 12 + 2) / (8 + 12)
    assert found == {
        "a": (pytest.approx(4 * 1.1), run.run_id, 9, 3),
        "b": (pytest.approx(4 * 1.1), run.run_id, 9, 3),
        "e": (pytest.approx(12 * 1.1), run.run_id, 9, 3),
    }
    assert sum(weight for weight, *_ in found.values()) == pytest.approx(4 * 2 + 3 * 4 + 2 * 1)


def test_a_label_of_an_image_that_has_ended_counts_as_drawn(spark: SparkSession, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    run = sample(store, drawn_with(0.5, "here", "ended"))
    assert weighed(spark, store, ["here", "ended"], ["here"]) == {
        "here": (2.0, run.run_id, 2, 2),
        "ended": (2.0, run.run_id, 2, 2),
    }


def test_a_sample_keeps_its_images_whatever_is_drawn_later(spark: SparkSession, tmp_path: Path) -> None:
    """A queue takes the doubtful ones first, and a sample of few strata all of theirs: the rest would stand askew."""
    store = Store.open(str(tmp_path))
    sample(store, drawn_with(0.1, "a"))
    newest = sample(store, drawn_with(0.5, "a", "b"))
    some = sample(store, drawn_with(0.2, "b", "c"), PART)
    asked = queue(store, drawn_with(0.125, *"acd"))
    queue(store, [{"image_id": "b", "rank": 1}], "second_look")
    found = weighed(spark, store, "abcd", "abcd")
    assert {name: (draw, labelled) for name, (_, draw, _, labelled) in found.items()} == {
        "a": (newest.run_id, 2),
        "b": (newest.run_id, 2),
        "c": (some.run_id, 1),
        "d": (asked.run_id, 1),
    }
    assert [found[name][0] for name in "abcd"] == pytest.approx([2.0, 2.0, 10.0, 24.0])  # with those that others took


def test_a_larger_sample_takes_over_once_it_is_labelled(spark: SparkSession, tmp_path: Path) -> None:
    """The same seed draws the smaller one again: until the rest has labels, the smaller stands for the catalog."""
    store = Store.open(str(tmp_path))
    small = sample(store, drawn_with(0.25, *"abcdefghij"))
    large = sample(store, drawn_with(0.5, *"abcdefghijklmnopqrst"))
    everything = "abcdefghijklmnopqrst"
    early = weighed(spark, store, everything[:12], everything)
    assert {early[name][:2] for name in "abcdefghij"} == {(4.0, small.run_id)}
    assert early["k"][1:] == early["l"][1:] == (large.run_id, 20, 2)
    late = weighed(spark, store, everything[:18], everything)
    assert {one[1:] for one in late.values()} == {(large.run_id, 20, 18)}
    assert [one[0] for one in late.values()] == pytest.approx([2 * 20 / 18] * 18)


def test_what_a_queue_of_another_kind_or_no_chance_has_chosen_has_no_draw(spark: SparkSession, tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    queue(store, drawn_with(0.5, "leak"), "leaks")
    queue(store, [{"image_id": "doubt", "rank": 1}])
    assert weighed(spark, store, ["leak", "doubt"], ["leak", "doubt"]) == {}
    assert weighed(spark, Store.open(str(tmp_path / "new")), ["a"], ["a"]) == {}


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_those_of_the_slow_and_obvious_way(spark: SparkSession, tmp_path: Path, seed: int) -> None:
    rng, store, ids = np.random.default_rng(seed), Store.open(str(tmp_path)), [f"i{number}" for number in range(60)]
    runs: dict[str, tuple[int, list[dict[str, Any]]]] = {}
    for number in range(5):
        chosen = [
            {"image_id": name, "stratum": f"S{rng.integers(4)}", "inclusion_probability": float(rng.choice([0.1, 0.5]))}
            for name in rng.choice(ids, int(rng.integers(5, 40)), replace=False).tolist()
        ]
        if number % 2:
            chosen = [{**row, "stratum": None} for row in chosen]
            runs[queue(store, chosen).run_id] = (0, chosen)
        else:
            runs[sample(store, chosen).run_id] = (2, chosen)
    labelled, sound = ({name for name in ids if rng.random() < share} for share in (0.8, 0.9))
    found = weighed(spark, store, labelled, sound)
    wanted = obvious(runs, labelled, sound)
    assert {name: (draw, drawn, known) for name, (_, draw, drawn, known) in found.items()} == {
        name: one[1:] for name, one in wanted.items()
    }
    assert len(wanted) > 20
    assert {name: one[0] for name, one in found.items()} == pytest.approx(
        {name: one[0] for name, one in wanted.items()}
    )


def obvious(
    runs: dict[str, tuple[int, list[dict[str, Any]]]], labelled: set[str], sound: set[str]
) -> dict[str, tuple[float, str, int, int]]:
    possible = {
        run_id: [row for row in rows if row["image_id"] in labelled | sound] for run_id, (_, rows) in runs.items()
    }
    home: dict[str, tuple[int, bool, str]] = {}
    for run_id, rows in possible.items():
        known = sum(row["image_id"] in labelled for row in rows)
        for row in rows:
            place = (runs[run_id][0], known >= 0.9 * len(rows), run_id)
            home[row["image_id"]] = max(home.get(row["image_id"], place), place)
    found = {}
    for run_id, rows in possible.items():
        mine = [row for row in rows if row["image_id"] in labelled and home[row["image_id"]][2] == run_id]
        total, known_in = defaultdict[str | None, float](float), defaultdict[str | None, float](float)
        for row in rows:
            total[row["stratum"]] += 1 / row["inclusion_probability"]
        for row in mine:
            known_in[row["stratum"]] += 1 / row["inclusion_probability"]
        for row in mine:
            of_stratum = total[row["stratum"]] / known_in[row["stratum"]]
            of_all = sum(total.values()) / sum(total[stratum] for stratum in known_in)
            weight = of_stratum * of_all / row["inclusion_probability"]
            found[row["image_id"]] = (weight, run_id, len(rows), len(mine))
    return found

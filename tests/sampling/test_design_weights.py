"""Design weights: the draw of a labelled image, and the labelled part of that draw."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from pyspark.sql import SparkSession

from tests.conftest import stored
from toiletspark.sampling import design_weights
from toiletspark.tables import schemas, spark_io
from toiletspark.tables.runs import Run, Store


class Weighed(NamedTuple):
    """A labelled image's weight, its draw, and of that the drawn and labelled images."""

    weight: float
    draw: str
    drawn: int
    labelled: int
    share: float


WHOLE = {"asked": {"S": 2, "T": 1}, "units": {"S": 9, "T": 9}}
PART = {"asked": {"S": 3, "T": 0}, "units": {"S": 9, "T": 9}}


def drawn_with(chance: float, *image_ids: str, stratum: str = "S") -> list[dict[str, Any]]:
    return [
        {"image_id": name, "inclusion_probability": chance, "stratum": stratum}
        for name in image_ids
    ]


def sample(store: Store, rows: list[dict[str, Any]], counts: dict[str, Any] = WHOLE) -> Run:
    return stored(store, schemas.SAMPLE, rows, counts=counts)


def queue(store: Store, rows: list[dict[str, Any]], kind: str = "suggest") -> Run:
    return stored(store, schemas.QUEUES, rows, inputs={"kind": kind})


def weighed(
    spark: SparkSession,
    store: Store,
    labelled: Iterable[str],
    sound: Iterable[str],
    broken: Iterable[str] = (),
) -> dict[str, Weighed]:
    """The result for each labelled image."""
    labels = spark.createDataFrame([(name,) for name in labelled], "image_id string")
    status = [
        *((name, "ok") for name in sound),
        *((name, "truncated") for name in broken),
        ("late", "timeout"),
    ]
    rows = [{"image_id": name, "status": one} for name, one in [*status, ("taken down", "missing")]]
    catalog = spark_io.read_run(spark, stored(store, schemas.CATALOG, rows))
    result = design_weights.weigh(
        labels, design_weights.read_draws(spark, store), catalog
    ).collect()
    assert len({row["image_id"] for row in result}) == len(result)
    return {row["image_id"]: Weighed(*(row[name] for name in Weighed._fields)) for row in result}


def test_what_is_labelled_weighs_as_much_as_what_was_drawn(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Half of one stratum, a third of another, nothing of a third; what has nothing to show could
    not be labelled.
    """
    store = Store.open(str(tmp_path))
    s, t = drawn_with(0.5, *"abcd", "broken", "taken down"), drawn_with(0.25, *"efg", stratum="T")
    run = sample(store, s + t + drawn_with(1.0, "h", "i", stratum="U"))
    result = weighed(spark, store, ["a", "b", "e", "elsewhere"], "abcdefghi", ["broken"])
    # S: 4 images of 2; T: 3 of 4; the two of U are left to all: (8 + 12 + 2) / (8 + 12)
    part = (run.run_id, 9, 3, pytest.approx((2 + 2 + 4) / 22))
    assert result == {"a": (4 * 1.1, *part), "b": (4 * 1.1, *part), "e": (12 * 1.1, *part)}
    assert sum(one.weight for one in result.values()) == 4 * 2 + 3 * 4 + 2 * 1


def test_waiting_until_images_end_does_not_finish_a_sample(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Drawn images that left the catalog could have been labelled; late ones still can be."""
    store = Store.open(str(tmp_path))
    run = sample(store, drawn_with(0.5, "here", "ended and labelled", "ended", "late"))
    part = (4.0, run.run_id, 4, 2, 0.5)
    assert weighed(spark, store, ["here", "ended and labelled"], ["here"]) == dict.fromkeys(
        ["here", "ended and labelled"], part
    )


def test_how_much_is_labelled_goes_by_weight(spark: SparkSession, tmp_path: Path) -> None:
    """One image that stands for 80 others is not a hundredth of them."""
    store = Store.open(str(tmp_path))
    names = [f"i{number}" for number in range(20)]
    sample(store, drawn_with(1.0, *names) + drawn_with(1 / 80, "large", stratum="T"))
    (one, *_) = weighed(spark, store, names, [*names, "large"]).values()
    assert (one.drawn, one.labelled, one.share, one.weight) == (21, 20, 0.2, 5.0)


def test_a_sample_keeps_its_images_whatever_is_drawn_later(
    spark: SparkSession, tmp_path: Path
) -> None:
    """A queue takes the doubtful ones first, and a sample of few strata all of theirs: the rest
    would stand askew.
    """
    store = Store.open(str(tmp_path))
    sample(store, drawn_with(0.1, "a"))
    larger = sample(store, drawn_with(0.5, "a", "b"))
    some = sample(store, drawn_with(0.2, "b", "c"), PART)
    asked = queue(store, drawn_with(0.125, *"acd"))
    queue(store, [{"image_id": "b", "rank": 1}], "second_look")
    result = weighed(spark, store, "abcd", "abcd")
    assert {name: one.draw for name, one in result.items()} == {
        "a": larger.run_id,
        "b": larger.run_id,
        "c": some.run_id,
        "d": asked.run_id,
    }
    # with those that others took
    assert [result[name].weight for name in "abcd"] == [2.0, 2.0, 10.0, 24.0]


def test_a_larger_sample_takes_over_once_it_is_labelled(
    spark: SparkSession, tmp_path: Path
) -> None:
    """The same seed draws the smaller one again: until the rest has labels, the smaller stands for
    the catalog.
    """
    store = Store.open(str(tmp_path))
    small = sample(store, drawn_with(0.25, *"abcdefghij"))
    large = sample(store, drawn_with(0.5, *"abcdefghijklmnopqrst"))
    smaller = sample(store, drawn_with(0.125, *"abcde"))  # labelled at once, and takes nothing
    everything = "abcdefghijklmnopqrst"
    early = weighed(spark, store, everything[:12], everything)
    assert {early[name][:2] for name in "abcdefghij"} == {(4.0, small.run_id)}
    assert early["k"] == early["l"] == (20.0, large.run_id, 20, 12, 0.6)
    late = weighed(spark, store, everything[:18], everything)
    assert {one[1:] for one in late.values()} == {(large.run_id, 20, 18, 0.9)}
    assert [one.weight for one in late.values()] == pytest.approx([2 * 20 / 18] * 18)
    begun = weighed(spark, store, "abcdfgh", everything)  # 0.7 of the small one, 0.8 of the smaller
    assert {name: one.draw for name, one in begun.items()} == {
        **dict.fromkeys("abcd", smaller.run_id),
        **dict.fromkeys("fgh", small.run_id),
    }


def test_what_a_queue_of_another_kind_or_no_chance_has_chosen_has_no_draw(
    spark: SparkSession, tmp_path: Path
) -> None:
    store = Store.open(str(tmp_path))
    queue(store, drawn_with(0.5, "leak"), "leaks")
    queue(store, [{"image_id": "doubt", "rank": 1}])
    assert weighed(spark, store, ["leak", "doubt"], ["leak", "doubt"]) == {}
    assert weighed(spark, Store.open(str(tmp_path / "new")), ["a"], ["a"]) == {}


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_those_of_the_slow_and_obvious_way(
    spark: SparkSession, tmp_path: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    store = Store.open(str(tmp_path))
    ids = [f"i{number}" for number in range(60)]
    runs: dict[str, tuple[int, list[dict[str, Any]]]] = {}
    for number in range(5):
        chosen = [
            {
                "image_id": name,
                "stratum": f"S{rng.integers(4)}",
                "inclusion_probability": float(rng.choice([0.1, 0.5])),
            }
            for name in rng.choice(ids, int(rng.integers(5, 40)), replace=False).tolist()
        ]
        if number % 2:
            chosen = [{**row, "stratum": None} for row in chosen]
            runs[queue(store, chosen).run_id] = (0, chosen)
        else:
            runs[sample(store, chosen).run_id] = (2, chosen)
    labelled, sound, broken = (
        {name for name in ids if rng.random() < share} for share in (0.8, 0.6, 0.3)
    )
    result = weighed(spark, store, labelled, sound, broken - sound)
    wanted = obvious(runs, labelled, broken - sound)
    assert {name: one[1:] for name, one in result.items()} == {
        name: one[1:] for name, one in wanted.items()
    }
    assert len(wanted) > 20
    weights, right = ({name: one.weight for name, one in of.items()} for of in (result, wanted))
    assert weights == pytest.approx(right, rel=1e-7)


def obvious(
    runs: dict[str, tuple[int, list[dict[str, Any]]]], labelled: set[str], broken: set[str]
) -> dict[str, Weighed]:
    possible = {
        run_id: [
            row for row in rows if row["image_id"] in labelled or row["image_id"] not in broken
        ]
        for run_id, (_, rows) in runs.items()
    }
    known, share = {}, {}
    for run_id, rows in possible.items():
        with_label = [row for row in rows if row["image_id"] in labelled]
        known[run_id] = len(with_label)
        share[run_id] = round(total(with_label) / total(rows), 9)
    home: dict[str, tuple[Any, ...]] = {}
    for run_id, rows in possible.items():
        enough = share[run_id] >= 0.9
        rank = (runs[run_id][0], enough, known[run_id] if enough else 0, share[run_id], run_id)
        for row in rows:
            home[row["image_id"]] = max(home.get(row["image_id"], rank), rank)
    result = {}
    for run_id, rows in possible.items():
        mine = [
            row
            for row in rows
            if row["image_id"] in labelled and home[row["image_id"]][-1] == run_id
        ]
        strata = {row["stratum"] for row in mine}
        of_all = (
            total(rows) / total([row for row in rows if row["stratum"] in strata]) if mine else 0.0
        )
        for row in mine:
            drawn, has = (
                [one for one in of if one["stratum"] == row["stratum"]] for of in (rows, mine)
            )
            weight = total(drawn) / total(has) * of_all / row["inclusion_probability"]
            result[row["image_id"]] = Weighed(
                weight, run_id, len(rows), known[run_id], share[run_id]
            )
    return result


def total(rows: list[dict[str, Any]]) -> float:
    return sum(1 / row["inclusion_probability"] for row in rows)

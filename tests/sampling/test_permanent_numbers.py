"""Permanent random numbers: 20,000 simulated designs at once, as copies of a small catalog, through
four draws on Spark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from tests.conftest import drawn_images
from toiletspark.config import Config
from toiletspark.jobs import draw_sample
from toiletspark.sampling import permanent_numbers
from toiletspark.tables import schemas
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
COPIES, SEED = 20_000, 20
# Units by stratum, and the fractions, of each draw. d and h leave and come back, e changes its
# stratum, leaves and comes back, b changes its stratum, g, i, j and k come later. The third draw is
# smaller than the second, and asks nothing of C; the fourth is larger.
DRAWS = [
    ({"A": "abcd", "B": "ef", "C": "lm"}, {"A": 0.25, "B": 0.5, "C": 0.0}),
    ({"A": "abeg", "B": "fch", "C": "lmn"}, {"A": 0.5, "B": 1 / 3, "C": 2 / 3}),
    ({"A": "abdgi", "B": "fc", "C": "lo"}, {"A": 0.2, "B": 0.5, "C": 0.0}),
    ({"A": "adegij", "B": "bfhk", "C": "lo"}, {"A": 0.5, "B": 0.75, "C": 1.0}),
]
# The inclusion probabilities of each draw, by hand: the highest fraction that the unit has met.
CHANCES = [
    {**dict.fromkeys("abcd", 0.25), "e": 0.5, "f": 0.5, "l": 0.0, "m": 0.0},
    {"a": 0.5, "b": 0.5, "e": 0.5, "g": 0.5, "f": 0.5, "c": 1 / 3, "h": 1 / 3}
    | dict.fromkeys("lmn", 2 / 3),
    {"a": 0.5, "b": 0.5, "d": 0.25, "g": 0.5, "i": 0.2, "f": 0.5, "c": 0.5, "l": 2 / 3, "o": 0.0},
    {**dict.fromkeys("adegij", 0.5), **dict.fromkeys("bfhk", 0.75), "l": 1.0, "o": 1.0},
]


@dataclass
class Simulation:
    """Four draws of one design."""

    frames: list[pd.DataFrame]  # of each draw: image_id, stratum
    drawn: list[pd.DataFrame]  # of each draw: image_id, stratum, fraction
    numbers: list[pd.DataFrame]  # `schemas.SAMPLE_UNITS` after each draw
    hashes: pd.DataFrame  # of each id that occurs: unit, uniform
    by_spark: set[str]  # that Spark's sampleBy draws from the first frame


def frame_of(spark: SparkSession, units: dict[str, str], copies: int) -> DataFrame:
    """Each unit in each copy, image_id and stratum; an id is the letter and the copy's number."""
    letters = [(letter, stratum) for stratum in units for letter in units[stratum]]
    rows = F.broadcast(spark.createDataFrame(pd.DataFrame(letters, columns=["letter", "stratum"])))
    image_id = F.concat("letter", F.col("id").cast("string")).alias("image_id")
    return spark.range(0, copies, 1, 2).crossJoin(rows).select(image_id, "stratum")


def draw_all(spark: SparkSession, folder: Path, copies: int) -> Simulation:
    """Draws with a seed; files are faster than `toPandas`."""

    def stored(rows: DataFrame) -> tuple[DataFrame, pd.DataFrame]:
        path = str(folder / f"{len(list(folder.iterdir()))}")
        rows.write.parquet(path)
        return spark.read.schema(rows.schema).parquet(path), pd.read_parquet(path)

    known: DataFrame | None = None
    frames, drawn, numbers = [], [], []
    for units, fractions in DRAWS:
        frame, as_pandas = stored(frame_of(spark, units, copies))
        frames.append(as_pandas)
        assigned = permanent_numbers.assign_numbers(frame, ["image_id"], fractions, SEED, known)
        known, as_pandas = stored(assigned)
        numbers.append(as_pandas)
        drawn.append(stored(permanent_numbers.drawn_units(frame, ["image_id"], known))[1])
    first = spark.read.parquet(str(folder / "0"))
    laid_out = first.repartition(32, "image_id").sortWithinPartitions("image_id")
    by_spark = stored(laid_out.sampleBy("stratum", DRAWS[0][1], SEED).select("image_id"))[1]
    letters = {"A": "abcdefghijklmno"}
    unit = frame_of(spark, letters, copies).withColumn("unit", F.xxhash64("image_id"))
    hashes = stored(unit.withColumn("uniform", permanent_numbers._uniform(SEED)))[1]
    return Simulation(frames, drawn, numbers, hashes, set(by_spark["image_id"]))


@pytest.fixture(scope="module")
def simulation(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    return draw_all(spark, tmp_path_factory.mktemp("numbers"), COPIES)


def test_the_first_draw_is_sparks_and_a_drawn_unit_stays_drawn(simulation: Simulation) -> None:
    drawn = [set(rows["image_id"]) for rows in simulation.drawn]
    assert not drawn[0] ^ simulation.by_spark
    ever: set[str] = set()
    for ids, frame in zip(drawn, simulation.frames, strict=True):
        assert not ever & set(frame["image_id"]) - ids
        ever |= ids


def test_the_share_of_draws_of_each_unit_is_its_recorded_probability(
    simulation: Simulation,
) -> None:
    for rows, chances in zip(simulation.drawn, CHANCES, strict=True):
        letters = rows["image_id"].str[0]
        counts = letters.value_counts()
        assert not set(counts.index) - set(chances)
        for letter, chance in chances.items():
            recorded = rows["fraction"][letters == letter]
            assert (recorded == chance).all()
            share = counts.get(letter, 0) / COPIES
            assert abs(share - chance) <= 4 * (chance * (1 - chance) / COPIES) ** 0.5


def test_units_are_drawn_independently_of_each_other(simulation: Simulation) -> None:
    """The number of drawn units of a copy varies as that of independent ones."""
    for rows, chances in zip(simulation.drawn, CHANCES, strict=True):
        copy = rows["image_id"].str[1:].astype(int)
        counts = np.bincount(copy, minlength=COPIES)
        variance = sum(chance * (1 - chance) for chance in chances.values())
        assert abs(counts.var(ddof=1) / variance - 1) <= 0.04  # 4 deviations of a variance


def test_weighted_totals_are_unbiased_over_20_000_draws(simulation: Simulation) -> None:
    """Totals, of a value that follows the unit and its stratum and of 1, of the units that had a
    chance; estimated from the recorded probabilities in each copy.
    """
    for frame, rows, chances in zip(simulation.frames, simulation.drawn, CHANCES, strict=True):
        with_chance = frame[frame["image_id"].str[0].map(chances) > 0]
        for name in ("value", "count"):
            total = _values(with_chance)[name].sum() / COPIES
            parts = _values(rows)[name] / rows["fraction"]
            copy = rows["image_id"].str[1:].astype(int)
            estimates = np.bincount(copy, parts, minlength=COPIES)
            error = estimates.std(ddof=1) / COPIES**0.5
            assert abs(estimates.mean() - total) <= 3.5 * error


def _values(rows: pd.DataFrame) -> pd.DataFrame:
    letters = rows["image_id"].str[0].map(ord) - ord("a")
    return pd.DataFrame({"value": 3.0 + letters + 10 * (rows["stratum"] == "B"), "count": 1.0})


def test_numbers_and_chances_are_those_of_a_dictionary(simulation: Simulation) -> None:
    """A slow and obvious version of the bookkeeping, over all four draws."""
    hashes = {row.image_id: row for row in simulation.hashes.itertuples()}
    assert 0 < simulation.hashes["uniform"].min() < simulation.hashes["uniform"].max() <= 1
    number: dict[int, float] = {}
    chance: dict[int, float] = {}
    draws = zip(simulation.frames, DRAWS, simulation.numbers, simulation.drawn, strict=True)
    for draw, (frame, (_, fractions), stored, drawn) in enumerate(draws):
        expected = set()
        for image_id, stratum in zip(frame["image_id"], frame["stratum"], strict=True):
            unit, uniform = hashes[image_id].unit, hashes[image_id].uniform
            fraction = fractions[stratum]
            if unit not in number:
                if draw:
                    number[unit] = uniform
                elif image_id in simulation.by_spark:
                    number[unit] = fraction * uniform
                else:
                    number[unit] = fraction + (1 - fraction) * uniform
            chance[unit] = max(fraction, chance.get(unit, 0.0))
            if number[unit] <= chance[unit]:
                expected.add(image_id)
        rows = pd.DataFrame({"number": number, "chance": chance}).rename_axis("unit").sort_index()
        pd.testing.assert_frame_equal(stored.set_index("unit").sort_index(), rows, check_exact=True)
        assert not set(drawn["image_id"]) ^ expected


def test_ids_with_one_hash_are_drawn_together_and_stay_two_rows(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ids share 4 hashes."""
    monkeypatch.setattr(permanent_numbers, "_key", lambda ids: F.pmod(F.xxhash64(*ids), F.lit(4)))
    frame = frame_of(spark, {"A": "ab"}, 20)
    numbers = permanent_numbers.assign_numbers(frame, ["image_id"], {"A": 0.03}, SEED, None).cache()
    drawn = permanent_numbers.drawn_units(frame, ["image_id"], numbers).toPandas()
    assert numbers.count() == 4
    assert drawn["image_id"].is_unique
    assert 0 < len(drawn) < 40
    groups = frame.withColumn("unit", F.pmod(F.xxhash64("image_id"), F.lit(4))).toPandas()
    units = set(groups["unit"][groups["image_id"].isin(drawn["image_id"])])
    assert set(drawn["image_id"]) == set(groups["image_id"][groups["unit"].isin(units)])
    numbers.unpersist()


# The job


def test_the_job_keeps_drawn_units_when_listings_come_and_another_seed_begins_anew(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = drawn_images(tmp_path / "pictures")
    images = pd.concat([images] * 30, ignore_index=True)
    images["image_id"] = [f"i{number:04}" for number in range(len(images))]
    sets = {"sample.size": 150, "sample.min_per_stratum": 1, "sample.method": "sampleby"}
    first = draw_sample.step(Workspace.open(spark, make_config(sets, images=images)))
    drawn = pd.read_parquet(first["sample"])
    store = Store(make_config().output.root)
    # every 50th id is new, before, between and after the others; every 60th of the old ones is gone
    new = images.iloc[::50].assign(image_id=lambda rows: "h" + rows["image_id"].str[1:])
    new.loc[new.index[::2], "image_id"] = new["image_id"].str.replace("h", "i") + "x"
    later = pd.concat([images.drop(images.index[5::60]), new], ignore_index=True)
    second = draw_sample.step(Workspace.open(spark, make_config(sets, images=later)))
    again = pd.read_parquet(second["sample"])
    kept = set(drawn["image_id"]) & set(later["image_id"])
    assert 100 < len(kept) < len(drawn)
    assert kept <= set(again["image_id"])
    assert set(again["image_id"]) - kept <= set(later["image_id"]) - set(drawn["image_id"])
    both = drawn.merge(again, on="image_id", suffixes=("", "_again"))
    assert len(both) == len(kept)
    assert (both["inclusion_probability_again"] >= both["inclusion_probability"]).all()

    runs = store.runs(schemas.SAMPLE_UNITS)
    assert [run.run_id for run in runs] == [run.run_id for run in store.runs(schemas.SAMPLE)]
    assert [run.inputs.before for run in runs] == [None, runs[0].run_id]
    assert [run.rows for run in runs] == [len(images), len(images) + len(new)]

    other = make_config({**sets, "sample.seed": 21}, images=later)
    third = draw_sample.step(Workspace.open(spark, other))
    assert not kept <= set(pd.read_parquet(third["sample"])["image_id"])
    assert store.runs(schemas.SAMPLE_UNITS)[-1].inputs.before is None
    assert permanent_numbers.last_numbers(store, make_config(sets).sample) == runs[1]
    assert (
        permanent_numbers.last_numbers(store, make_config({"sample.unit": "listing"}).sample)
        is None
    )

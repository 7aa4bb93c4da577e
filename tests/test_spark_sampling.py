"""The stratified sample: how many of each stratum, which, and with what weight."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from jobs import draw_sample
from tests.conftest import drawn_images
from toiletspark import sampling, tables
from toiletspark.config import Config
from toiletspark.errors import TableError
from toiletspark.sampling import Stratum, allocate

MakeConfig = Callable[..., Config]
# name, images, listings, active listings
ODD_STRATA = [
    ("O'Neil's \"Corner\" | rent", 90, 30, 20),
    ("Ærøskøbing 日本 | sale", 60, 20, 15),
    ("unknown | unknown", 40, 10, 0),
    ("`tick` $x \\ | rent", 30, 15, 10),
    ("100 % _ | sale", 25, 5, 5),
    ("tiny | rent", 5, 5, 1),
]
IMAGES = 250


# How many, without Spark


def random_cells(rng: random.Random) -> list[Stratum]:
    cells = []
    for number in range(rng.randint(1, 40)):
        images = rng.choice([1, 2, rng.randint(1, 20), rng.randint(1, 2000)])
        cells.append(Stratum(f"s{number:02}", images, rng.choice([0, rng.randint(0, images), rng.randint(0, 3)])))
    return cells


def test_allocation_adds_up_within_its_bounds() -> None:
    rng = random.Random(11)
    for _ in range(300):
        cells, least = random_cells(rng), rng.choice([1, 3, 10, 50])
        size = rng.choice([1, rng.randint(1, 100), rng.randint(1, 20_000)])
        found = allocate(cells, size, least)
        low = sum(min(cell.images, least) for cell in cells)
        catalog = sum(cell.images for cell in cells)
        assert list(found) == sorted(cell.name for cell in cells)
        assert all(min(cell.images, least) <= found[cell.name] <= cell.images for cell in cells), (cells, size, least)
        assert sum(found.values()) == min(catalog, max(size, low)), (cells, size, least)


def test_allocation_is_proportional_between_its_bounds() -> None:
    """Strata at neither bound share by active listings: their rates differ by the rounding alone."""
    rng = random.Random(12)
    compared = 0
    for _ in range(300):
        cells, least = random_cells(rng), rng.choice([1, 3, 10])
        found = allocate(cells, rng.randint(1, 5000), least)
        free = [cell for cell in cells if cell.active_listings and least < found[cell.name] < cell.images]
        for one, two in itertools.pairwise(free):
            # found = rate * active_listings, rounded by less than one
            least_rate = max((found[cell.name] - 1) / cell.active_listings for cell in (one, two))
            most_rate = min((found[cell.name] + 1) / cell.active_listings for cell in (one, two))
            assert least_rate < most_rate, (cells, one, two)
            compared += 1
    assert compared > 300


def test_without_bounds_shares_are_within_one_of_proportional() -> None:
    rng = random.Random(13)
    for _ in range(100):
        cells = [Stratum(f"s{number}", 100_000, rng.randint(1, 500)) for number in range(rng.randint(1, 30))]
        size, active = rng.randint(2000, 50_000), sum(cell.active_listings for cell in cells)
        found = allocate(cells, size, 1)
        for cell in cells:
            assert abs(found[cell.name] - size * cell.active_listings / active) < 1 or found[cell.name] == 1
        assert sum(found.values()) == size


@pytest.mark.parametrize(
    ("cells", "size", "least", "wanted"),
    [
        ([("a", 100, 3), ("b", 100, 1)], 40, 1, {"a": 30, "b": 10}),
        ([("a", 100, 1), ("b", 100, 1), ("c", 100, 1)], 10, 1, {"a": 4, "b": 3, "c": 3}),
        ([("a", 100, 99), ("b", 100, 1)], 50, 10, {"a": 40, "b": 10}),
        ([("a", 100, 99), ("b", 5, 1)], 50, 10, {"a": 45, "b": 5}),
        ([("a", 10, 90), ("b", 100, 10), ("c", 100, 1)], 100, 10, {"a": 10, "b": 80, "c": 10}),
        ([("a", 5, 3), ("b", 100, 0)], 50, 10, {"a": 5, "b": 45}),
        ([("a", 30, 0), ("b", 10, 0)], 20, 1, {"a": 15, "b": 5}),
        ([("a", 7, 1), ("b", 5, 1)], 1000, 10, {"a": 7, "b": 5}),
        ([("a", 70, 1), ("b", 50, 1), ("c", 3, 1)], 1, 10, {"a": 10, "b": 10, "c": 3}),
        ([], 10, 1, {}),
    ],
    ids=[
        "by active listings", "ties go to the first", "a minimum", "a stratum below the minimum",
        "what a full stratum leaves goes to those at their minimum", "and to those without an active listing",
        "no active listing at all", "more than there is", "less than the minima", "no strata",
    ],
)  # fmt: skip
def test_literal_allocations(cells: list[tuple[str, int, int]], size: int, least: int, wanted: dict[str, int]) -> None:
    assert allocate([Stratum(*cell) for cell in cells], size, least) == wanted
    assert allocate([Stratum(*cell) for cell in reversed(cells)], size, least) == wanted


# Which


@pytest.fixture(scope="module")
def catalog(spark: SparkSession) -> DataFrame:
    """250 images in six strata with odd names."""
    rows = []
    for number, (name, images, listings, active) in enumerate(ODD_STRATA):
        for image in range(images):
            listing = image % listings
            rows.append((f"{number}-{image}", f"{number}-L{listing}", name, listing < active))
    frame = spark.createDataFrame(rows, "image_id string, listing_id string, stratum string, active boolean")
    return frame.repartition(3).cache()


@pytest.fixture(scope="module")
def cells(catalog: DataFrame) -> list[Stratum]:
    return sampling.strata(catalog)


def drawn_ids(frame: DataFrame) -> list[str]:
    return sorted(row["image_id"] for row in frame.select("image_id").collect())


def test_strata_count_images_and_active_listings(cells: list[Stratum]) -> None:
    assert cells == sorted((Stratum(name, images, active) for name, images, _, active in ODD_STRATA), key=str)


@pytest.mark.parametrize("method", ["sampleby", "exact"])
def test_the_same_images_are_drawn_whatever_the_layout(
    spark: SparkSession, catalog: DataFrame, cells: list[Stratum], method: str
) -> None:
    allocation = allocate(cells, 60, 3)
    wanted = drawn_ids(sampling.draw(catalog, cells, allocation, method, 20))
    layouts = [catalog.repartition(7), catalog.coalesce(1), catalog.orderBy(F.rand(5))]
    for layout in layouts:
        assert drawn_ids(sampling.draw(layout, cells, allocation, method, 20)) == wanted
    before = spark.conf.get("spark.sql.shuffle.partitions")
    try:
        spark.conf.set("spark.sql.shuffle.partitions", "11")
        assert drawn_ids(sampling.draw(catalog, cells, allocation, method, 20)) == wanted
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)
    other = drawn_ids(sampling.draw(catalog, cells, allocation, method, 21))
    assert other != wanted
    assert 30 <= len(wanted) <= 95


def test_exact_meets_the_allocation_and_grows_with_it(catalog: DataFrame, cells: list[Stratum]) -> None:
    draws = {}
    for size in (20, 40):
        allocation = allocate(cells, size, 1)
        rows = sampling.draw(catalog, cells, allocation, "exact", 20).collect()
        assert Counter(row["stratum"] for row in rows) == Counter(allocation)
        assert len(rows) == len({row["image_id"] for row in rows}) == size
        draws[size] = {row["image_id"] for row in rows}
    assert draws[20] < draws[40]


def test_a_drawn_row_carries_its_probability_and_weight(catalog: DataFrame, cells: list[Stratum]) -> None:
    allocation = allocate(cells, 60, 3)
    images = {cell.name: cell.images for cell in cells}
    listing_of = {row["image_id"]: (row["listing_id"], row["stratum"]) for row in catalog.collect()}
    for method in ("sampleby", "exact"):
        frame = sampling.draw(catalog, cells, allocation, method, 20)
        assert frame.columns == list(tables.SAMPLE.columns)
        rows = frame.collect()
        assert len({row["stratum"] for row in rows}) == 6
        for row in rows:
            probability = allocation[row["stratum"]] / images[row["stratum"]]
            assert row["inclusion_probability"] == pytest.approx(probability)
            assert 0 < row["inclusion_probability"] <= 1
            assert row["weight"] == pytest.approx(1 / probability)
            assert (row["listing_id"], row["stratum"]) == listing_of[row["image_id"]]


def test_over_many_seeds_bernoulli_draws_are_right_in_the_mean(
    catalog: DataFrame, cells: list[Stratum], monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 draws: counts within 4 standard errors each, their mean too; the weights add up to the catalog's size."""
    allocation, seeds = allocate(cells, 60, 3), 40
    fractions = {cell.name: allocation[cell.name] / cell.images for cell in cells}
    monkeypatch.setattr(sampling, "_LAYOUT_PARTITIONS", 2)  # 40 x 32 tasks would take half a minute
    ids = catalog.select("image_id", "stratum")
    draws = [sampling._sample_by(ids, fractions, seed).withColumn("seed", F.lit(seed)) for seed in range(seeds)]
    rows = reduce(DataFrame.unionByName, draws).collect()
    drawn = Counter((row["seed"], row["stratum"]) for row in rows)
    variance = {}
    for cell in cells:
        wanted = allocation[cell.name]
        variance[cell.name] = wanted * (1 - fractions[cell.name])
        counts = [drawn[seed, cell.name] for seed in range(seeds)]
        assert all(abs(count - wanted) <= max(1, 4 * variance[cell.name] ** 0.5) for count in counts), cell
        assert abs(sum(counts) / seeds - wanted) <= 4 * (variance[cell.name] / seeds) ** 0.5 + 1e-9, cell
    totals = [sum(drawn[seed, cell.name] / fractions[cell.name] for cell in cells) for seed in range(seeds)]
    error = sum(variance[cell.name] / fractions[cell.name] ** 2 for cell in cells) ** 0.5
    assert len(set(totals)) > 10
    assert abs(sum(totals) / seeds - IMAGES) <= 4 * error / seeds**0.5


def test_the_weights_of_an_exact_draw_add_up_to_the_catalog(catalog: DataFrame, cells: list[Stratum]) -> None:
    rows = sampling.draw(catalog, cells, allocate(cells, 60, 3), "exact", 5).groupBy().sum("weight").collect()
    assert rows[0][0] == pytest.approx(IMAGES)


# The job


def test_the_job_draws_from_the_users_tables(spark: SparkSession, make_config: MakeConfig) -> None:
    config = make_config({"sample.size": 9, "sample.method": "exact", "sample.min_per_stratum": 1})
    told = draw_sample.step(spark, config)
    rows = pd.read_parquet(told["sample"])
    # active listings: rent in Harbour 2, rent in Old Mill 1, sale in Old Mill 1; two strata have none
    assert Counter(rows["stratum"]) == {
        "Harbour | rent": 3,
        "Old Mill | rent": 2,
        "Old Mill | sale": 2,
        "Harbour | sale": 1,
        "unknown | sale": 1,
    }
    assert (told["images"], told["strata"], told["sampled"]) == (18, 5, 9)
    assert rows["weight"].sum() == pytest.approx(18)


def test_more_than_there_is_draws_everything(spark: SparkSession, make_config: MakeConfig) -> None:
    for method in ("sampleby", "exact"):
        told = draw_sample.step(spark, make_config({"sample.size": 5000, "sample.method": method}))
        rows = pd.read_parquet(told["sample"])
        assert sorted(rows["image_id"]) == sorted(pd.read_parquet(make_config().images.path)["image_id"])
        assert set(rows["weight"]) == {1.0}


def test_a_draw_without_an_image_is_told(spark: SparkSession, make_config: MakeConfig, tmp_path: Path) -> None:
    images = pd.concat([drawn_images(tmp_path / "pictures")] * 3, ignore_index=True)
    images["image_id"] = [f"i{number}" for number in range(len(images))]
    images["listing_id"] = "L1"
    sets = {"sample.size": 1, "sample.min_per_stratum": 1, "sample.method": "sampleby"}
    # seeds at which Bernoulli draws nothing of 54 images at 1/54: about every third
    for seed in range(20):
        config = make_config({**sets, "sample.seed": seed}, images=images)
        try:
            draw_sample.step(spark, config)
        except TableError as error:
            assert str(error) == (
                "while drawing the sample\n"
                "  expected: at least one image\n"
                "  found:    none of 54 was drawn (method sampleby, size 1)\n"
                "  do:       raise sample.size, or set sample.method=exact"
            )
            return
    pytest.fail("20 seeds drew an image each")

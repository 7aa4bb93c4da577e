"""The stratified sample: which units of each stratum, with what probability, and what comes of it
on the whole.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from tests.conftest import drawn_images, literal_config
from toiletspark.config import Config, Sample
from toiletspark.errors import TableError
from toiletspark.jobs import draw_sample, preview_sample
from toiletspark.sampling import allocation, strata
from toiletspark.sampling import draw as sampling
from toiletspark.sampling.allocation import Stratum
from toiletspark.tables import schemas
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
# name, images, listings
ODD_STRATA = [
    ("O'Neil's \"Corner\" | rent", 90, 30),
    ("Ærøskøbing 日本 | sale", 60, 20),
    ("unknown | unknown", 40, 10),
    ("`tick` $x \\ | rent", 30, 15),
    ("100 % _ | sale", 25, 5),
    ("tiny | rent", 5, 5),
]
IMAGES = 250
UNITS = {
    "image": {},
    "listing, one image": {"images_per_listing": 1},
    "listing, two": {"images_per_listing": 2},
}


def sample_of(unit: str, **sets: Any) -> Sample:
    """The section `sample`; unit as in UNITS."""
    values = {"unit": unit.partition(",")[0], "min_per_stratum": 2, **UNITS[unit], **sets}
    return literal_config({f"sample.{key}": value for key, value in values.items()}).sample


class Population:
    """Images and their frame, as `strata.read_frame` would give it; what is set aside is cached
    until the end.
    """

    def __init__(self, images: DataFrame) -> None:
        self.images = images
        self._kept: list[DataFrame] = []
        weight = F.count("*").cast("double").alias("weight")
        counted = images.groupBy("listing_id", "stratum").agg(F.count("*").alias("images"), weight)
        self.frame = self.keep(
            counted.withColumns({"lone": F.lit(False), "has_listing": F.lit(True)}), "frame"
        )

    def keep(self, frame: DataFrame, name: str) -> DataFrame:
        self._kept.append(frame.coalesce(4).cache())
        return self._kept[-1]

    def draw(self, sample: Sample, wanted: dict[str, int] | None = None) -> pd.DataFrame:
        cells = strata.count_strata(self.frame, sample)
        wanted = allocation.allocate_sample(cells, sample) if wanted is None else wanted
        drawn = sampling.draw(self.images, self.frame, cells, wanted, sample, self.keep)
        return drawn.images.toPandas()

    def forget(self) -> None:
        for frame in self._kept:
            frame.unpersist()


# Which


@pytest.fixture(scope="module")
def images(spark: SparkSession) -> DataFrame:
    """250 images in six strata with odd names."""
    rows = []
    for number, (name, images, listings) in enumerate(ODD_STRATA):
        rows += [
            (f"{number}-{image}", f"{number}-L{image % listings}", name) for image in range(images)
        ]
    return (
        spark.createDataFrame(rows, "image_id string, listing_id string, stratum string")
        .repartition(3)
        .cache()
    )


@pytest.fixture(scope="module")
def population(images: DataFrame) -> Iterator[Population]:
    made = Population(images)
    yield made
    made.forget()


@pytest.mark.parametrize("method", ["sampleby", "exact"])
@pytest.mark.parametrize("unit", ["image", "listing, two"])
def test_the_same_images_are_drawn_whatever_the_layout(
    spark: SparkSession, images: DataFrame, population: Population, unit: str, method: str
) -> None:
    sample = sample_of(unit, method=method, size=40)
    wanted = sorted(population.draw(sample)["image_id"])
    assert 20 <= len(wanted) <= 130
    before = spark.conf.get("spark.sql.shuffle.partitions")
    layouts = [images.repartition(7), images.orderBy(F.rand(5)).coalesce(2)]
    try:
        for partitions, layout in zip(("11", "2"), layouts, strict=True):
            spark.conf.set("spark.sql.shuffle.partitions", partitions)
            other = Population(layout)
            assert sorted(other.draw(sample)["image_id"]) == wanted
            other.forget()
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)
    assert sorted(population.draw(sample.model_copy(update={"seed": 21}))["image_id"]) != wanted


@pytest.mark.parametrize("unit", ["image", "listing, two"])
def test_exact_meets_the_allocation_and_a_larger_draw_holds_the_smaller(
    population: Population, unit: str
) -> None:
    before: set[str] = set()
    for size in (12, 20, 50):
        sample = sample_of(unit, method="exact", size=size)
        wanted = allocation.allocate_sample(strata.count_strata(population.frame, sample), sample)
        rows = population.draw(sample)
        units = rows.drop_duplicates("image_id" if unit == "image" else "listing_id")
        assert Counter(units["stratum"]) == Counter(wanted)
        assert rows["image_id"].is_unique
        assert len(units) == size
        assert before < set(rows["image_id"])
        before = set(rows["image_id"])


def test_the_cut_is_found_where_it_was_not_expected(
    population: Population, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zones so narrow that no cut is in them at first."""
    sample = sample_of("image", method="exact", size=60)
    wanted = sorted(population.draw(sample)["image_id"])
    monkeypatch.setattr(sampling, "_ZONE_DEVIATIONS", 0.0)
    monkeypatch.setattr(sampling, "_ZONE_UNITS", 0.02)
    looked: list[int] = []
    look = sampling._search
    monkeypatch.setattr(
        sampling, "_search", lambda placed, zones: looked.append(len(zones)) or look(placed, zones)
    )
    assert sorted(population.draw(sample)["image_id"]) == wanted
    assert len(looked) >= 3
    assert looked == sorted(looked, reverse=True)
    assert looked[0] == 6 > looked[-1]


def test_no_task_sees_more_of_a_large_stratum_than_lies_near_its_cut() -> None:
    for units, wanted in (
        (10_000_000, 40_000),
        (10_000_000, 5_000_000),
        (10_000_000, 9_999_999),
        (1000, 3),
    ):
        zone = sampling._zone(Stratum("s", units, units, 1.0), wanted, 1.0)
        width = (zone.high - zone.low) / 2**64 * units
        assert width <= 2 * (6 * min(wanted, units - wanted) ** 0.5 + 10) + 1
        expected = -(2**63) + wanted / units * 2**64
        assert zone.low <= expected <= zone.high
        assert -(2**63) <= zone.low < zone.high < 2**63


def test_a_table_that_shrinks_meanwhile_is_told(population: Population) -> None:
    sample = sample_of("image", method="exact")
    cells = [Stratum("tiny | rent", 50, 50, 1.0)]
    with pytest.raises(TableError, match=r"fewer of 'tiny \| rent'"):
        sampling.draw(
            population.images, population.frame, cells, {"tiny | rent": 45}, sample, population.keep
        )


@pytest.mark.parametrize("method", ["sampleby", "exact"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_drawn_row_carries_the_probabilities_of_both_stages(
    population: Population, unit: str, method: str
) -> None:
    sample = sample_of(unit, method=method, size=40)
    cells = {cell.name: cell for cell in strata.count_strata(population.frame, sample)}
    wanted = allocation.allocate_sample(list(cells.values()), sample)
    truth = population.images.toPandas().set_index("image_id")
    of_listing = truth["listing_id"].value_counts()
    rows = population.draw(sample)
    assert list(rows.columns) == list(schemas.SAMPLE.columns)
    assert len(set(rows["stratum"])) >= 5
    for row in rows.itertuples():
        assert (row.listing_id, row.stratum) == tuple(
            truth.loc[row.image_id, ["listing_id", "stratum"]]
        )
        first = wanted[row.stratum] / cells[row.stratum].units
        second = min(1.0, sample.images_per_listing / of_listing[row.listing_id])
        stages = (1.0, first) if unit == "image" else (first, second)
        assert (row.listing_probability, row.image_probability) == pytest.approx(stages)
        assert row.inclusion_probability == pytest.approx(stages[0] * stages[1])
        assert row.weight * row.inclusion_probability == pytest.approx(1.0)


def test_all_images_of_a_listing_are_a_cluster(population: Population) -> None:
    rows = population.draw(sample_of("listing, two", images_per_listing=0, method="exact", size=20))
    whole = population.images.toPandas()["listing_id"].value_counts()
    assert dict(rows["listing_id"].value_counts()) == {
        name: whole[name] for name in rows["listing_id"]
    }
    assert set(rows["image_probability"]) == {1.0}


def test_a_stratum_that_is_asked_for_nothing_gives_nothing(population: Population) -> None:
    wanted = {name: 0 for name, *_ in ODD_STRATA} | {"tiny | rent": 5, "100 % _ | sale": 99}
    for method in ("sampleby", "exact"):
        rows = population.draw(sample_of("image", method=method), wanted)
        assert Counter(rows["stratum"]) == {"tiny | rent": 5, "100 % _ | sale": 25}
        assert set(rows["weight"]) == {1.0}


# On the whole: 200 draws at once, as 200 copies of a small catalog with ids of their own

DRAWS = 200
# stratum, listings, drawn as listings, drawn as images
SMALL = [("a | rent", 20, 6, 17), ("b | sale", 9, 3, 4), ("c | rent", 12, 4, 20)]


@pytest.fixture(scope="module")
def small() -> pd.DataFrame:
    """One copy: image, listing, stratum and y, which follows stratum, size of the listing and
    position in it.

    The first image of a listing is called like the listing: its hash must not follow it into the
    second stage.
    """
    rng = random.Random(5)
    rows = []
    for name, listings, *_ in SMALL:
        for listing in range(listings):
            images = rng.choice([1, 2, 3, 5])
            for position in range(images):
                image = f"{name[0]}{listing}" + (f"-{position}" if position else "")
                y = 5 * (position == 0) + images + rng.random() + (name[0] == "b") * 10
                rows.append((image, f"{name[0]}{listing}", name, y))
    return pd.DataFrame(rows, columns=["image_id", "listing_id", "stratum", "y"])


@pytest.fixture(scope="module")
def copies(spark: SparkSession, small: pd.DataFrame) -> Iterator[Population]:
    all_copies = pd.concat(
        small[["image_id", "listing_id", "stratum"]].radd(f"{number:03}:")
        for number in range(DRAWS)
    )
    made = Population(spark.createDataFrame(all_copies).coalesce(4).cache())
    yield made
    made.forget()


@pytest.mark.parametrize("method", ["sampleby", "exact"])
@pytest.mark.parametrize("unit", UNITS)
def test_weighted_totals_are_unbiased_over_200_draws(
    copies: Population, small: pd.DataFrame, unit: str, method: str
) -> None:
    per_copy = {name: image if unit == "image" else listing for name, _, listing, image in SMALL}
    pairs = itertools.product(range(DRAWS), per_copy.items())
    wanted = {f"{number:03}:{name}": count for number, (name, count) in pairs}
    rows = copies.draw(sample_of(unit, method=method), wanted)
    rows[["copy", "name"]] = rows["stratum"].str.split(":", n=1, expand=True)
    truth = small.set_index("image_id")
    rows["y"] = rows["image_id"].str[4:].map(truth["y"])
    for values, total in (
        (rows["y"], truth["y"].sum()),
        (1.0, len(truth)),
    ):  # a total, and the size of the catalog
        estimates = (
            (rows["weight"] * values)
            .groupby(rows["copy"])
            .sum()
            .reindex(_numbers(), fill_value=0.0)
        )
        error = estimates.std(ddof=1) / DRAWS**0.5
        assert error > 0 or estimates.iloc[0] == pytest.approx(total)
        assert abs(estimates.mean() - total) <= 3 * error + 1e-9

    units = rows.drop_duplicates(["copy", "image_id" if unit == "image" else "listing_id"])
    for name, listings, *_ in SMALL:
        counts = (
            units[units["name"] == name].groupby("copy").size().reindex(_numbers(), fill_value=0)
        )
        if method == "exact":
            assert set(counts) == {per_copy[name]}
            continue
        population = int((truth["stratum"] == name).sum()) if unit == "image" else listings
        variance = per_copy[name] * (1 - per_copy[name] / population)
        assert abs(counts.mean() - per_copy[name]) <= 3.5 * (variance / DRAWS) ** 0.5
        # chi-squared, 199: 0.01 and 99.99 %
        assert 132 < (DRAWS - 1) * counts.var(ddof=1) / variance < 280


def _numbers() -> list[str]:
    return [f"{number:03}" for number in range(DRAWS)]


# The job


def test_the_job_draws_from_the_users_tables(spark: SparkSession, make_config: MakeConfig) -> None:
    config = make_config({"sample.size": 9, "sample.method": "exact", "sample.min_per_stratum": 1})
    summary = draw_sample.step(Workspace.open(spark, config))
    rows = pd.read_parquet(summary["sample"])
    # active listings: rent in Harbour 2, rent in Old Mill 1, sale in Old Mill 1; two strata have
    # none
    assert Counter(rows["stratum"]) == {
        "Harbour | rent": 3,
        "Old Mill | rent": 2,
        "Old Mill | sale": 2,
        "Harbour | sale": 1,
        "unknown | sale": 1,
    }
    assert (summary["images"], summary["strata"], summary["sampled"]) == (18, 5, 9)
    assert list((Path(config.output.root) / "_work").iterdir()) == []
    assert rows["weight"].sum() == pytest.approx(18)


def test_more_than_there_is_draws_everything(spark: SparkSession, make_config: MakeConfig) -> None:
    for method in ("sampleby", "exact"):
        summary = draw_sample.step(
            Workspace.open(spark, make_config({"sample.size": 5000, "sample.method": method}))
        )
        rows = pd.read_parquet(summary["sample"])
        assert sorted(rows["image_id"]) == sorted(
            pd.read_parquet(make_config().images.path)["image_id"]
        )
        assert set(rows["weight"]) == {1.0}


def test_a_draw_without_an_image_is_told(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = pd.concat([drawn_images(tmp_path / "pictures")] * 3, ignore_index=True)
    images["image_id"] = [f"i{number}" for number in range(len(images))]
    images["listing_id"] = "L1"
    sets = {"sample.size": 1, "sample.min_per_stratum": 0, "sample.method": "sampleby"}
    # seeds at which Bernoulli draws nothing of 54 images at 1/54: about every third
    for seed in range(20):
        config = make_config({**sets, "sample.seed": seed}, images=images)
        try:
            draw_sample.step(Workspace.open(spark, config))
        except TableError as error:
            assert str(error) == (
                "while drawing the sample\n"
                "  expected: at least one image\n"
                "  found:    none of 54 was drawn (method sampleby, size 1)\n"
                "  do:       raise sample.size, or set sample.method=exact"
            )
            # this one is not among them
            assert len(Store(config.output.root).runs(schemas.SAMPLE)) == seed
            return
    pytest.fail("20 seeds drew an image each")


def test_the_job_draws_listings_and_images_inside_them(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    sets = {
        "sample.unit": "listing",
        "sample.images_per_listing": 2,
        "sample.method": "exact",
        "sample.size": 4,
    }
    images = drawn_images(Path(make_config().output.root).parent / "pictures")
    images.loc[[0, 1], "listing_id"] = None  # two images without a listing are two listings
    summary = draw_sample.step(
        Workspace.open(spark, make_config({**sets, "sample.min_per_stratum": 1}, images=images))
    )
    rows = pd.read_parquet(summary["sample"])
    assert summary["strata"] == 6
    units = rows["listing_id"].fillna(rows["image_id"])
    assert Counter(rows.assign(unit=units).drop_duplicates("unit")["stratum"]) == Counter(
        [
            "Harbour | rent",
            "Harbour | sale",
            "Old Mill | rent",
            "Old Mill | sale",
            "unknown | sale",
            "unknown | unknown",
        ]
    )
    assert rows.loc[rows["stratum"] == "unknown | unknown", "listing_id"].isna().all()
    assert rows.loc[rows["stratum"] == "unknown | unknown", "weight"].tolist() == [2.0]
    assert rows.loc[rows["stratum"] == "Old Mill | sale", "weight"].tolist() == [1.5, 1.5]


def test_bands_are_recorded_so_that_the_next_draw_can_have_them(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    listings = pd.DataFrame(
        {"listing_id": [f"L{n}" for n in range(1, 7)], "location": "H", "listing_type": "rent"}
    )
    listings["active"] = True
    listings["price"] = [100.0, 200.0, 300.0, 400.0, None, 50.5]
    sets = {"sample.method": "exact", "sample.size": 6, "sample.min_per_stratum": 1}
    bands = '[{ column = "price", bands = 2 }]'
    summary = draw_sample.step(
        Workspace.open(spark, make_config({**sets, "sample.stratify_by": bands}, listings=listings))
    )
    run = Store(make_config().output.root).newest(schemas.SAMPLE)
    assert run is not None
    (band,) = run.inputs.bands
    assert band == {"column": "price", "cuts": [200.0]}
    assert run.schema_version == 2
    assert run.counts["asked"] == {
        "H | rent | price below 200": 2,
        "H | rent | price from 200": 3,
        "H | rent | price unknown": 1,
    }
    again = make_config(
        {**sets, "sample.stratify_by": f"[{{ column = 'price', cuts = {band['cuts']} }}]"}
    )
    assert again.sample.stratify_by[0].cuts == [200.0]
    listings.to_parquet(again.listings.path)
    ids = [
        sorted(pd.read_parquet(one)["image_id"])
        for one in (summary["sample"], draw_sample.step(Workspace.open(spark, again))["sample"])
    ]
    assert ids[0] == ids[1]


def test_the_report_tells_asked_against_got(spark: SparkSession, make_config: MakeConfig) -> None:
    values = '{ "Harbour | rent" = 9, "Old Mill | sale" = 3, other = 0 }'
    summary = draw_sample.step(
        Workspace.open(spark, make_config({"sample.strata": values, "sample.method": "exact"}))
    )
    page = json.loads(Path(summary["sample_report"]).with_suffix(".json").read_text())
    rows = {row["stratum"]: row for row in page["strata"]}
    assert {name: (row["asked"], row["got"], row["thin"]) for name, row in rows.items()} == {
        "Harbour | rent": (9, 6, False),  # all that there is, so nothing is left to guess
        "Old Mill | sale": (3, 3, False),
        "Old Mill | rent": (0, 0, True),
        "Harbour | sale": (0, 0, True),
        "unknown | sale": (0, 0, True),
    }
    assert page["covered_images"] == page["covered_units"] == summary["covered"] == 0.5
    assert page["design_effect"] == summary["design_effect"] == 1.0
    assert page["totals"]["thin"] == summary["thin_strata"] == 3
    html = Path(summary["sample_report"]).read_text()
    assert "3 of 5 strata had no chance to be drawn: they hold 9 images" in " ".join(html.split())


def test_the_design_effect_is_kishs(spark: SparkSession, make_config: MakeConfig) -> None:
    values = '{ "Harbour | rent" = 2, other = 3 }'
    summary = draw_sample.step(
        Workspace.open(spark, make_config({"sample.strata": values, "sample.method": "exact"}))
    )
    weights = np.array([3.0] * 2 + [1.0] * 12)
    assert sorted(pd.read_parquet(summary["sample"])["weight"], reverse=True) == weights.tolist()
    assert (
        summary["design_effect"] == round(14 * (weights**2).sum() / weights.sum() ** 2, 4) == 1.2963
    )


@pytest.mark.parametrize("unit", ["image", "listing"])
def test_a_preview_tells_what_the_draw_will_take_and_writes_nothing(
    spark: SparkSession, make_config: MakeConfig, unit: str
) -> None:
    config = make_config(
        {
            "sample.size": 5,
            "sample.method": "exact",
            "sample.min_per_stratum": 1,
            "sample.unit": unit,
        }
    )
    shown = preview_sample.step(Workspace(spark, Store(config.output.root), config))
    assert not Path(config.output.root).exists()
    draw_sample.step(Workspace.open(spark, config))
    run = Store(config.output.root).newest(schemas.SAMPLE)
    assert run is not None
    assert {row["stratum"]: row["n"] for row in shown["strata"]} == run.counts["asked"]
    assert {row["stratum"]: row["N"] for row in shown["strata"]} == run.counts["units"]
    (row,) = (row for row in shown["strata"] if row["stratum"] == "Harbour | rent")
    units = {"image": 6, "listing": 2}[unit]
    assert row == {
        "stratum": "Harbour | rent",
        "N": units,
        "n": 1,
        "fraction": 1 / units,
        "weight": units,
    }
    assert (shown["units"], shown["sampled"]) == ({"image": 18, "listing": 6}[unit], 5)

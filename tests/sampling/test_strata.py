"""Strata: listings, images, weights, bands of further columns, and their deviations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.conftest import stored
from toiletspark.config import Config
from toiletspark.errors import OutputError, TableError
from toiletspark.sampling import strata
from toiletspark.tables import schemas, user_tables
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

MakeConfig = Callable[..., Config]
PRICES = [100.0, 150.0, 150.0, 200.0, None, float("nan"), 90.5, 300.0]


def tables_of(prices: list[Any] = PRICES) -> dict[str, pd.DataFrame]:
    """Eight listings with one, two, ... images of an odd id, one image without a listing and one of
    an unknown one.
    """
    ids = [f"L{number}" for number in range(len(prices))]
    listings = pd.DataFrame(
        {"listing_id": ids, "location": "H", "listing_type": ["rent", "sale"] * (len(ids) // 2)}
    )
    listings = listings.assign(active=[number % 4 != 0 for number in range(len(ids))], price=prices)
    listings["garden"] = ["yes", "no", None, "yes"] * (len(ids) // 4)
    listings["views"] = [5, None, 7, 0, 1, 2, 3, 4]
    rows = []
    for number, one in enumerate(ids):
        rows += [(f"{one}-{location}", one) for location in range(number % 3 + 1)]
    rows += [("L0", None), ("far", "nobody's")]
    images = pd.DataFrame(rows, columns=["image_id", "listing_id"]).assign(image_url="x.jpg")
    return {"listings": listings, "images": images}


def counted(spark: SparkSession, config: Config) -> dict[str, tuple[int, int, float]]:
    bands = strata.cut_bands(spark, config, 8)
    cells = strata.count_strata(strata.read_frame(spark, config, bands), config.sample)
    assert [cell.name for cell in cells] == sorted(cell.name for cell in cells)
    return {cell.name: (cell.units, cell.images, cell.weight) for cell in cells}


def test_listings_images_and_active_listings_are_counted(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    """The image without a listing is called like a listing, and still is one of its own."""
    config = make_config({"sample.unit": "listing"}, **tables_of())
    wanted = {"H | rent": (4, 7, 2.0), "H | sale": (4, 8, 4.0), "unknown | unknown": (2, 2, 0.0)}
    assert counted(spark, config) == wanted
    config = make_config({"sample.unit": "image", "sample.weigh_by": "views"}, **tables_of())
    wanted = {"H | rent": (7, 7, 16.0), "H | sale": (8, 8, 6.0), "unknown | unknown": (2, 2, 0.0)}
    assert counted(spark, config) == wanted


def test_without_a_listings_table_everything_is_one_stratum(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config({"listings.path": "", "sample.unit": "listing"}, **tables_of())
    assert counted(spark, config) == {"all | all": (10, 17, 10.0)}


def test_numbers_are_cut_into_bands_and_what_is_none_is_unknown(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    sets = {
        "sample.unit": "listing",
        "sample.stratify_by": '[{ column = "price", bands = 3 }, { column = "garden" }]',
    }
    config = make_config(sets, **tables_of())
    assert strata.cut_bands(spark, config, 8) == [
        strata.Band("price", [100.0, 150.0]),
        strata.Band("garden", None),
    ]
    result = {name: units for name, (units, *_) in counted(spark, config).items()}
    assert result == {
        "H | rent | price below 100 | garden unknown": 1,
        "H | rent | price 100 to below 150 | garden yes": 1,
        "H | rent | price from 150 | garden unknown": 1,
        "H | rent | price unknown | garden yes": 1,
        "H | sale | price from 150 | garden no": 1,
        "H | sale | price from 150 | garden yes": 2,
        "H | sale | price unknown | garden no": 1,
        "unknown | unknown | price unknown | garden unknown": 2,
    }
    # the catalog's own stratum stays as it is
    known = {
        row["stratum"]
        for row in user_tables.read_catalog(spark, config).select("stratum").collect()
    }
    assert known == {"H | rent", "H | sale", "unknown | unknown"}


def test_equal_numbers_make_fewer_bands(spark: SparkSession, make_config: MakeConfig) -> None:
    config = make_config(
        {"sample.stratify_by": '[{ column = "price", bands = 4 }]'},
        **tables_of([7.0, 7, 7, 7, 7, 7, 7, 8]),
    )
    assert strata.cut_bands(spark, config, 8) == [strata.Band("price", [])]
    names = {
        "H | rent | price known",
        "H | sale | price known",
        "unknown | unknown | price unknown",
    }
    assert set(counted(spark, config)) == names


def test_quantiles_of_a_large_table_are_those_of_a_part_that_is_chosen_by_hash(
    spark: SparkSession, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strata, "_LISTINGS_FOR_CUTS", 4000)
    prices = np.random.default_rng(3).normal(size=20_000)
    listings = pd.DataFrame(
        {"listing_id": [f"L{n}" for n in range(20_000)], "location": "H", "listing_type": "rent"}
    )
    listings = listings.assign(active=True, price=prices)
    config = make_config(
        {"sample.stratify_by": '[{ column = "price", bands = 4 }]'}, listings=listings
    )
    (band,) = strata.cut_bands(spark, config, 20_000)
    assert band.cuts is not None
    shares = [(prices < cut).mean() for cut in band.cuts]
    assert shares == pytest.approx([0.25, 0.5, 0.75], abs=3 * (0.25 / 4000) ** 0.5)
    assert shares != pytest.approx([0.25, 0.5, 0.75], abs=1e-4)  # a part indeed
    listings.sample(frac=1, random_state=1).to_parquet(config.listings.path, row_group_size=999)
    assert strata.cut_bands(spark, config, 20_000) == [band]


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"sample.stratify_by": '[{ column = "garden", bands = 2 }]'}, "'yes'"),
        ({"sample.stratify_by": '[{ column = "prise", bands = 2 }]'}, "(did you mean 'price'?)"),
        ({"sample.weigh_by": "vews"}, "(did you mean 'views'?)"),
        (
            {"sample.weigh_by": "garden"},
            "a negative number or no number, in 2 strata, among them 'H | rent'",
        ),
        (
            {"sample.weigh_by": "loss"},
            "a negative number or no number, in 1 strata, among them 'H | sale'",
        ),
        ({"sample.max_strata": 2}, "more"),
    ],
)
def test_what_cannot_stratify_or_weigh_is_told(
    spark: SparkSession, make_config: MakeConfig, sets: dict[str, Any], message: str
) -> None:
    made = tables_of()
    made["listings"]["loss"] = [0, -1, 0, 2, 0, 0, 0, 0]
    with pytest.raises(TableError) as caught:
        counted(spark, make_config(sets, **made))
    assert caught.value.found.endswith(message)


def test_bands_need_a_listings_table(spark: SparkSession, make_config: MakeConfig) -> None:
    config = make_config({"listings.path": "", "sample.weigh_by": "views"}, **tables_of())
    with pytest.raises(TableError, match=r"one of listings\.path, listings\.table and"):
        strata.read_frame(spark, config, [])


# How they vary


def scored(images: pd.DataFrame) -> list[dict[str, Any]]:
    rng = np.random.default_rng(4)
    kept = images[images["image_id"] != "far"]
    return [
        {
            "image_id": row.image_id,
            "listing_id": row.listing_id,
            "exclusion_score": float(np.float32(rng.random())),
        }
        for row in kept.itertuples()
    ]


@pytest.fixture
def made(make_config: MakeConfig) -> tuple[MakeConfig, list[dict[str, Any]]]:
    given = tables_of()
    rows = scored(given["images"])
    store = Store.open(make_config(**given).output.root)
    stored(store, schemas.SCORES, rows)
    return lambda sets: make_config(sets, **given), rows


def deviations(spark: SparkSession, config: Config) -> dict[str, float]:
    frame: DataFrame = strata.read_frame(spark, config, [])
    cells = strata.measure_strata(Workspace(spark, Store(config.output.root), config), frame)
    return {cell.name: cell.deviation for cell in cells}


def by_stratum(rows: list[dict[str, Any]]) -> dict[str, pd.DataFrame]:
    frame = pd.DataFrame(rows)
    number = frame["listing_id"].str[1:].astype(float)
    frame["stratum"] = np.where(
        number.isna(), "unknown | unknown", np.where(number % 2 == 0, "H | rent", "H | sale")
    )
    return dict(iter(frame.groupby("stratum")))


def test_images_vary_like_coins(spark: SparkSession, made: Any) -> None:
    make, rows = made
    result = deviations(spark, make({"sample.allocation": "neyman"}))
    wanted = {name: part["exclusion_score"].mean() for name, part in by_stratum(rows).items()}
    assert result == pytest.approx({name: (p * (1 - p)) ** 0.5 for name, p in wanted.items()})


@pytest.mark.parametrize("inside", [0, 1, 2])
def test_listings_vary_by_their_totals_and_by_what_is_not_seen_of_them(
    spark: SparkSession, made: Any, inside: int
) -> None:
    """Against drawing each listing's images with replacement and throwing each one's coin, a
    hundred thousand times.
    """
    make, rows = made
    config = make(
        {
            "sample.allocation": "neyman",
            "sample.unit": "listing",
            "sample.images_per_listing": inside,
        }
    )
    result = deviations(spark, config)
    rng = np.random.default_rng(6)
    for name in ("H | rent", "H | sale"):
        part = by_stratum(rows)[name]
        totals = []
        for _, listing in part.groupby("listing_id"):
            scores = listing["exclusion_score"].to_numpy()
            m = min(inside or 99, len(listing))
            coins = rng.random((25_000, m)) < rng.choice(scores, size=(25_000, m))
            totals.append(len(scores) * coins.mean(axis=1))
        assert result[name] == pytest.approx(np.concatenate(totals).std(), rel=0.02)


def test_a_stratum_without_scores_varies_like_the_others(spark: SparkSession, made: Any) -> None:
    make, rows = made
    store = Store(make({}).output.root)
    stored(store, schemas.SCORES, [row for row in rows if row["listing_id"]])
    result = deviations(spark, make({"sample.allocation": "neyman"}))
    assert result["unknown | unknown"] == pytest.approx(
        (result["H | rent"] + result["H | sale"]) / 2
    )


def test_neyman_without_scores_is_told(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config({"sample.allocation": "neyman"}, **tables_of())
    with pytest.raises(OutputError) as caught:
        strata.measure_strata(
            Workspace(spark, Store(config.output.root), config),
            strata.read_frame(spark, config, []),
        )
    assert str(caught.value) == (
        "while allocating the sample by neyman\n"
        f"  expected: a complete run of scores in {tmp_path}/output/scores, to measure how strata "
        "vary inside\n"
        "  found:    none\n"
        "  do:       draw a first sample with another sample.allocation, train and score, then "
        "draw again"
    )

"""The user's tables under our names: formats, mappings, and early errors."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from tests.conftest import listings_frame
from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.errors import TableError
from toiletspark.images.fetching.allow_rules import AllowRules
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.ip_addresses import Networks
from toiletspark.tables import schemas as tables
from toiletspark.tables import user_tables as catalog

MakeConfig = Callable[..., Config]
IMAGES = [
    ("a", "L1", 1, "/pictures/a.jpg"),
    ("b", "L1", 2, "/pictures/b.jpg"),
    ("c", "L5", 1, "/pictures/c.jpg"),
    ("d", "L6", 1, "/pictures/d.jpg"),
    ("e", "nobody's", None, None),
    ("f", None, 1, "/pictures/f.jpg"),
]
IMAGE_COLUMNS = ["image_id", "listing_id", "position", "image_url"]
WANTED = {  # listing_id, position, image_url, location, listing_type, active, stratum
    "a": ("L1", 1, "/pictures/a.jpg", "Harbour", "rent", True, "Harbour | rent"),
    "b": ("L1", 2, "/pictures/b.jpg", "Harbour", "rent", True, "Harbour | rent"),
    "c": ("L5", 1, "/pictures/c.jpg", "Old Mill", "sale", True, "Old Mill | sale"),
    "d": ("L6", 1, "/pictures/d.jpg", "unknown", "sale", False, "unknown | sale"),
    "e": ("nobody's", None, None, "unknown", "unknown", False, "unknown | unknown"),
    "f": (None, 1, "/pictures/f.jpg", "unknown", "unknown", False, "unknown | unknown"),
}


def images_frame() -> pd.DataFrame:
    return pd.DataFrame(IMAGES, columns=IMAGE_COLUMNS).astype({"position": "Int32"})


def read(spark: SparkSession, config: Config) -> dict[str, Row]:
    rows = catalog.read_catalog(spark, config).collect()
    found = {row["image_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def plain(row: Row) -> tuple[Any, ...]:
    return tuple(
        row[name] for name in tables.IMAGES.columns if name not in ("image_id", "image_version")
    )


def loaded(tmp_path: Path, **sets: Any) -> Config:
    named = {key.replace("__", "."): value for key, value in sets.items()}
    texts = {"output.root": tmp_path / "output", **named}
    return conf_files.load([], [f"{key}={value}" for key, value in texts.items()])


# Formats


def test_parquet_tables_and_images_of_unknown_listings(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    config = make_config({"images.columns.position": "position"}, images=images_frame())
    frame = catalog.read_catalog(spark, config)
    assert frame.columns == [*tables.IMAGES.columns, "content"]
    assert dict(frame.dtypes) == {**tables.IMAGES.columns, "content": "binary"}
    assert {image_id: plain(row) for image_id, row in read(spark, config).items()} == WANTED
    assert catalog.check(spark, config) == {"images": 6, "listings": 6}


def test_csv_tables_with_another_separator(spark: SparkSession, tmp_path: Path) -> None:
    images_frame().to_csv(tmp_path / "images.tsv", sep="\t", index=False)
    listings_frame().to_csv(tmp_path / "listings.csv", index=False)
    config = loaded(
        tmp_path,
        images__path=tmp_path / "images.tsv",
        images__format="csv",
        images__options='{ sep = "\\t" }',
        images__columns__position="position",
        listings__path=tmp_path / "listings.csv",
        listings__format="csv",
    )
    assert {image_id: plain(row) for image_id, row in read(spark, config).items()} == WANTED


def test_json_lines(spark: SparkSession, tmp_path: Path) -> None:
    images_frame().to_json(tmp_path / "images.json", orient="records", lines=True)
    listings_frame().to_json(tmp_path / "listings.json", orient="records", lines=True)
    config = loaded(
        tmp_path,
        images__path=tmp_path / "images.json",
        images__format="json",
        images__columns__position="position",
        listings__path=tmp_path / "listings.json",
        listings__format="json",
    )
    assert {image_id: plain(row) for image_id, row in read(spark, config).items()} == WANTED


def test_without_a_listings_table_all_are_one_active_stratum(
    spark: SparkSession, tmp_path: Path
) -> None:
    images_frame().to_csv(tmp_path / "images.csv", index=False)
    config = loaded(
        tmp_path,
        images__path=tmp_path / "images.csv",
        images__format="csv",
        images__columns__listing_id="",
    )
    found = read(spark, config)
    assert {image_id: plain(row) for image_id, row in found.items()} == {
        image_id: (image_id, None, url, "all", "all", True, "all | all")
        for image_id, _, _, url in IMAGES
    }
    assert catalog.check(spark, config) == {"images": 6, "listings": 0}


# Mappings


def test_columns_with_dots_blanks_and_backticks(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    images = images_frame().set_axis(["photo.key", "listing id", "a`b", "cdn.url"], axis=1)
    listings = listings_frame().set_axis(
        ["listing id", "city name", "offer.ing", "is live?"], axis=1
    )
    mapped = {
        "images.columns.image_id": "photo.key",
        "images.columns.listing_id": "listing id",
        "images.columns.position": "a`b",
        "images.columns.image_url": "cdn.url",
        "listings.columns.listing_id": "listing id",
        "listings.columns.location": "city name",
        "listings.columns.listing_type": "offer.ing",
        "listings.columns.active": "is live?",
    }
    config = make_config(mapped, images=images, listings=listings)
    assert {image_id: plain(row) for image_id, row in read(spark, config).items()} == WANTED
    assert catalog.check(spark, config) == {"images": 6, "listings": 6}


def test_a_prefix_for_relative_urls(spark: SparkSession, make_config: MakeConfig) -> None:
    config = make_config({"images.url_prefix": "https://cdn.example"}, images=images_frame())
    urls = {image_id: row["image_url"] for image_id, row in read(spark, config).items()}
    assert urls["a"] == "https://cdn.example/pictures/a.jpg"
    assert urls["e"] is None  # a null stays missing and does not become the prefix


def test_a_url_that_nobody_would_serve_is_kept_short_and_refused(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    """A file of some kilobytes with 100 URLs of a million characters: an executor's memory."""
    longest = "https://cdn.example/".ljust(catalog.MAX_URL_CHARS, "a")
    urls = [longest, longest + "a", *["https://cdn.example/" + "b" * 1_000_000] * 100]
    images = pd.DataFrame(
        {"image_id": [f"i{number}" for number in range(len(urls))], "image_url": urls}
    )
    images["listing_id"] = "L1"
    images["position"] = 1
    config = make_config(images=images)
    assert (tmp_path / "tables" / "images.parquet").stat().st_size < 200_000
    found = {image_id: row["image_url"] for image_id, row in read(spark, config).items()}
    assert found["i0"] == longest
    assert {len(url) for image_id, url in found.items() if image_id != "i0"} == {
        len("too-long:") + 64
    }
    assert len({found["i1"], found["i2"], found["i101"]}) == 2
    with pytest.raises(FetchError, match="scheme"):
        AllowRules(config.fetch.allow, Networks([])).check(found["i1"])


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([True, False, None], [True, False, False]),
        ([1, 0, 2], [True, False, False]),
        ([1.0, 0.0, None], [True, False, False]),
        (["yes", "no", None], [True, False, False]),
        ([" TRUE ", "False", ""], [True, False, False]),
        (["Y", "t", "active"], [True, True, False]),
    ],
    ids=["booleans", "integers", "floats", "words", "case and blanks", "letters"],
)
def test_what_counts_as_active(
    spark: SparkSession, make_config: MakeConfig, values: list[Any], wanted: list[bool]
) -> None:
    listings = pd.DataFrame(
        {"listing_id": ["L1", "L2", "L3"], "location": "x", "listing_type": "y", "active": values}
    )
    images = pd.DataFrame(
        {"image_id": ["1", "2", "3"], "listing_id": ["L1", "L2", "L3"], "image_url": "u"}
    )
    found = read(spark, make_config(images=images, listings=listings))
    assert [found[image_id]["active"] for image_id in "123"] == wanted


def test_every_listing_is_active_where_no_column_says_so(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    listings = listings_frame().drop(columns="active")
    found = read(
        spark,
        make_config({"listings.columns.active": ""}, images=images_frame(), listings=listings),
    )
    assert {image_id: row["active"] for image_id, row in found.items()} == dict.fromkeys(
        "abcd", True
    ) | dict.fromkeys("ef", False)


def test_numeric_ids_become_texts_and_meet(spark: SparkSession, make_config: MakeConfig) -> None:
    listings = pd.DataFrame(
        {"listing_id": [7, 8], "location": "x", "listing_type": "y", "active": True}
    )
    images = pd.DataFrame({"image_id": [1, 2], "listing_id": ["7", "8"], "image_url": "u"})
    found = read(spark, make_config(images=images, listings=listings))
    assert {image_id: row["location"] for image_id, row in found.items()} == {"1": "x", "2": "x"}


def test_ids_that_pandas_has_made_floats_are_texts_without_a_point(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    """An integer column with one null is float64 to pandas, and double in its Parquet file."""
    listings = pd.DataFrame(
        {"listing_id": [7, 12345678], "location": "x", "listing_type": "y", "active": True}
    )
    images = pd.DataFrame(
        {"image_id": [1.0, 12345678.0, 2.0], "listing_id": [7, 12345678, None], "image_url": "u"}
    )
    assert images["listing_id"].dtype == "float64"
    found = read(spark, make_config(images=images, listings=listings))
    told = {image_id: (row["listing_id"], row["location"]) for image_id, row in found.items()}
    assert told == {"1": ("7", "x"), "12345678": ("12345678", "x"), "2": (None, "unknown")}
    alone = read(
        spark,
        make_config({"images.columns.listing_id": ""}, images=images.drop(columns="listing_id")),
    )
    assert {row["listing_id"] for row in alone.values()} == {"1", "12345678", "2"}
    floats = listings.astype({"listing_id": "float64"})
    rows = catalog.read_listings(spark, make_config(images=images, listings=floats)).collect()
    assert sorted(row["listing_id"] for row in rows) == ["12345678", "7"]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            "double",
            {
                "1": "1",
                "12345678": "12345678",
                "1152921504606846976": "1152921504606846976",
                "-0.0": "0",
                "-3": "-3",
                "1.5": "1.5",
                "1e20": "1.0E20",
                "Infinity": "Infinity",
                "NaN": None,
                None: None,
            },
        ),
        ("float", {"1": "1", "12345678": "12345678", "0.5": "0.5", "NaN": None, None: None}),
        ("decimal(38,10)", {"1": "1", "12345678": "12345678", "1.5": "1.5000000000", None: None}),
        ("decimal(38,0)", {"99999999999999999999999": "99999999999999999999999", None: None}),
        ("bigint", {"7": "7", None: None}),
        ("string", {"1.0": "1.0", "007": "007", "NaN": "NaN", "": "", None: None}),
    ],
)
def test_how_a_column_becomes_a_text(
    spark: SparkSession, kind: str, texts: dict[str | None, str | None]
) -> None:
    frame = spark.createDataFrame([(text,) for text in texts], "`the.id` string")
    frame = frame.select(
        F.col("`the.id`").alias("asked"), F.col("`the.id`").cast(kind).alias("the.id")
    )
    found = frame.select("asked", catalog.text(frame, "the.id").alias("text")).collect()
    assert {row["asked"]: row["text"] for row in found} == texts


# Versions


def test_the_version_is_the_users_column(spark: SparkSession, make_config: MakeConfig) -> None:
    images = images_frame().assign(image_version=["v1", "v2", None, "v4", "v5", "v6"])
    found = read(spark, make_config(images=images))
    assert {image_id: row["image_version"] for image_id, row in found.items()} == dict(
        zip("abcdef", ["v1", "v2", "", "v4", "v5", "v6"], strict=True)
    )


def test_the_version_follows_from_the_url_or_the_inline_bytes(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    images = images_frame().assign(bytes=[b"one", b"two", None, None, None, b""])
    found = read(spark, make_config({"images.columns.content": "bytes"}, images=images))

    def digest(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()[:16]

    assert {image_id: row["image_version"] for image_id, row in found.items()} == {
        "a": digest(b"one"),
        "b": digest(b"two"),
        "c": digest(b"/pictures/c.jpg"),
        "d": digest(b"/pictures/d.jpg"),
        "e": "",
        "f": digest(b""),
    }
    assert bytes(found["a"]["content"]) == b"one"
    assert found["c"]["content"] is None


# Mistakes


def told(spark: SparkSession, config: Config) -> str:
    with pytest.raises(TableError) as stopped:
        catalog.check(spark, config)
    assert stopped.value.exit_code == 2
    return str(stopped.value)


def test_no_path(spark: SparkSession, tmp_path: Path) -> None:
    assert told(spark, loaded(tmp_path)) == (
        "while reading the images table\n"
        "  expected: one of images.path, images.table and images.query\n"
        "  found:    nothing\n"
        "  do:       add `[images]` with `path = ...` to your configuration "
        "(see conf/mytables.example.toml)"
    )


@pytest.mark.parametrize("name", ["images", "listings"])
def test_a_missing_table(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path, name: str
) -> None:
    text = told(spark, make_config({f"{name}.path": tmp_path / "nowhere"}, images=images_frame()))
    lines = text.splitlines()
    assert lines[0] == f"while reading the {name} table {tmp_path}/nowhere"
    assert lines[1] == "  expected: a parquet file or folder with at least one row"
    assert "Path does not exist" in lines[2]
    assert lines[3:] == [f"  do:       check {name}.path and {name}.format"]


def test_an_empty_folder_is_no_table(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    text = told(spark, make_config({"images.path": tmp_path / "empty"}, images=images_frame()))
    assert "expected: a parquet file or folder with at least one row" in text


def test_another_format_than_the_files(spark: SparkSession, tmp_path: Path) -> None:
    images_frame().to_csv(tmp_path / "images.csv", index=False)
    lines = told(spark, loaded(tmp_path, images__path=tmp_path / "images.csv")).splitlines()
    assert lines[:2] == [
        f"while reading the images table {tmp_path}/images.csv",
        "  expected: a parquet file or folder with at least one row",
    ]
    assert lines[2].startswith(f"  found:    file:{tmp_path}/images.csv is not a Parquet file.")
    assert lines[3:] == ["  do:       check images.path and images.format"]


def test_a_missing_column_names_the_nearest(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    images = images_frame().rename(columns={"image_id": "image_ids"}).drop(columns="position")
    assert told(spark, make_config(images=images)) == (
        f"while reading the images table {tmp_path}/tables/images.parquet\n"
        "  expected: the column 'image_id' (images.columns.image_id)\n"
        "  found:    the columns 'image_ids', 'listing_id', "
        "'image_url' (did you mean 'image_ids'?)\n"
        "  do:       write the name of your column into the configuration: "
        'images.columns.image_id = "..."'
    )


def test_all_missing_columns_are_named_at_once(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    listings = listings_frame().rename(columns={"location": "city", "active": "live"})
    text = told(spark, make_config(images=images_frame(), listings=listings))
    assert (
        "expected: the column 'location' (listings.columns.location), "
        "the column 'active' (listings.columns.active)" in text
    )


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (["a", None, "c", None, "e", "f"], "2 rows where it is null"),
        (["a", "b", "b", "a", "a", "f"], "2 ids that occur more than once, among them 'a'"),
        (
            [None, None, "c", "c", "e", "f"],
            "2 rows where it is null; 1 ids that occur more than once, among them 'c'",
        ),
        ([], "no rows"),
    ],
    ids=["null", "twice", "both", "empty"],
)
@pytest.mark.parametrize("name", ["images", "listings"])
def test_keys_that_are_none(
    spark: SparkSession,
    make_config: MakeConfig,
    tmp_path: Path,
    name: str,
    ids: list[str | None],
    found: str,
) -> None:
    key = f"{name.removesuffix('s')}_id"
    frame = (
        (images_frame() if name == "images" else listings_frame())
        .head(len(ids))
        .assign(**{key: ids})
    )
    frame[key] = frame[key].astype("string")
    config = make_config(**{"images": images_frame(), name: frame})
    assert told(spark, config) == (
        f"while checking the {name} table {tmp_path}/tables/{name}.parquet\n"
        f"  expected: at least one row, and {key} unique and never null\n"
        f"  found:    {found}\n"
        f"  do:       correct the table, or map {name}.columns.{key} to the column that identifies "
        "a row"
    )


def test_an_id_that_both_tables_have_is_no_duplicate(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    listings = listings_frame()
    images = images_frame().assign(image_id=listings["listing_id"])
    config = make_config(images=images, listings=listings)
    assert catalog.check(spark, config) == {"images": 6, "listings": 6}


# The feed's own table


def test_the_feed_is_the_images_table_without_its_bytes(
    spark: SparkSession, make_config: MakeConfig
) -> None:
    images = images_frame().assign(bytes=b"x")
    frame, image_id = catalog.read_feed(
        spark, make_config({"images.columns.content": "bytes"}, images=images)
    )
    assert (frame.columns, image_id, frame.count()) == (IMAGE_COLUMNS, "image_id", 6)


def test_the_feed_is_its_own_table_as_it_is(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    pd.DataFrame({"content": ["x"], "photo": ["a"]}).to_csv(tmp_path / "feed.csv", index=False)
    sets = {"feed.path": tmp_path / "feed.csv", "feed.format": "csv", "feed.image_id": "photo"}
    frame, image_id = catalog.read_feed(spark, make_config(sets, images=images_frame()))
    assert (frame.columns, image_id) == (["content", "photo"], "photo")
    assert [tuple(row) for row in frame.collect()] == [("x", "a")]


def test_a_feed_table_that_is_not_there(
    spark: SparkSession, make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(TableError, match=f"while reading the feed table {tmp_path}/nowhere"):
        catalog.read_feed(
            spark, make_config({"feed.path": tmp_path / "nowhere"}, images=images_frame())
        )

"""Draws 40,000 of LISTINGS listings in 5,000 strata: `make bench-sample LISTINGS=10000000`.

The input is made: a listings table and an images table with one to some images a listing, two in
the mean, as Parquet of a million listings a file. `toiletspark sample` is run four times, each in a
process of its own: 40,000 listings with two images inside each; 20,000; and 40,000 again from the
same rows in seven files and in another order. What is timed is the whole step, keys checked and
report written, Spark's start not counted.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import typer

from benchmarks.measure import TemporaryIn, command, machine
from toiletspark.tables import storage
from toiletspark.tables.runs import MANIFEST

FILE_LISTINGS = 1_000_000
ROW_GROUP_ROWS = 125_000
STRATA = 5000
TYPES = ("rent", "sale", "share", "holiday", "land")
IMAGES_PER_LISTING = 2.0
SIZE = 40_000
DRIVER_MEMORY = "1200m"  # the heap; the whole process is then some 300 MB larger
SEED = 3


def main(
    listings: Annotated[
        int, typer.Option(help="about 100 bytes of disk each, three times")
    ] = 10_000_000,
    folder: TemporaryIn = None,
) -> None:
    """Measures, and prints one JSON line."""
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-", dir=folder) as made:
        root = Path(made)
        images = make_tables(root / "tables", listings)
        first = draw(root / "tables", root / "first", SIZE)
        smaller = draw(root / "tables", root / "smaller", SIZE // 2)
        otherwise(root / "tables", root / "repartitioned", shuffled=False)
        otherwise(root / "tables", root / "sorted", shuffled=True)
        others = [
            draw(root / layout, root / f"{layout}-out", SIZE)
            for layout in ("repartitioned", "sorted")
        ]
    print(
        json.dumps(
            {
                "listings": listings,
                "images": images,
                "strata": first["strata"],
                "seconds": first["seconds"],
                "driver_peak_mb": max(one["driver_peak_mb"] for one in (first, smaller, *others)),
                "exact": first["exact"] and smaller["exact"],
                "same_after_repartition": all(one["ids"] == first["ids"] for one in others),
                "nested": smaller["ids"] < first["ids"],
                "listings_drawn": first["listings_drawn"],
                "images_drawn": len(first["ids"]),
                "seconds_of_all": [one["seconds"] for one in (first, smaller, *others)],
                "driver_python_peak_mb": max(
                    one["driver_python_peak_mb"] for one in (first, smaller, *others)
                ),
                "tree_peak_mb": max(one["tree_peak_mb"] for one in (first, smaller, *others)),
                "cpu_s": first["cpu_s"],
                "machine": machine(),
            }
        )
    )


def draw(tables: Path, output: Path, size: int) -> dict[str, Any]:
    """Runs `toiletspark sample`.

    Returns:
        `seconds` without Spark's start, `ids` of the drawn images, `exact` (each stratum gave what
        was asked, and all together `size` listings), and what `measure.command` tells.
    """
    sets = {
        "images.path": tables / "images",
        "listings.path": tables / "listings",
        "output.root": output,
        "sample.unit": "listing",
        "sample.images_per_listing": 2,
        "sample.method": "exact",
        "sample.min_per_stratum": 2,
        "sample.size": size,
        'spark.settings."spark.driver.memory"': f'"{DRIVER_MEMORY}"',
    }
    words = [f"--set={key}={value}" for key, value in sets.items()]
    summary, figures = command("sample", "--conf", "conf/local.toml", *words)
    rows = pd.read_parquet(summary["sample"])
    counts = (storage.read_json(f"{summary['sample']}/{MANIFEST}") or {})["counts"]
    got = Counter(rows.drop_duplicates("listing_id")["stratum"])
    seconds = summary["seconds"]["draw_sample"]
    exact = got == Counter(counts["asked"]) and sum(got.values()) == size
    told = {
        "strata": counts["strata"],
        "listings_drawn": sum(got.values()),
        "seconds": seconds,
        "exact": exact,
    }
    return {**told, "ids": set(rows["image_id"]), **figures}


def make_tables(folder: Path, listings: int) -> int:
    """Writes listings and images; returns how many images. The same rows for the same number of
    listings.

    Strata are uneven: the share of listings in the first s of 5,000 is the root of s / 5,000.
    """
    cities = pa.array([f"City {number}" for number in range(STRATA // len(TYPES))])
    for name in ("listings", "images"):
        (folder / name).mkdir(parents=True)
    images = 0
    for file, start in enumerate(range(0, listings, FILE_LISTINGS)):
        numbers = np.arange(start, min(start + FILE_LISTINGS, listings))
        rng = np.random.default_rng([SEED, start])
        stratum = (STRATA * rng.random(len(numbers)) ** 2).astype(np.int64)
        listing = {
            "listing_id": _names("L", numbers),
            "location": cities.take(pa.array(stratum // len(TYPES))),
            "listing_type": pa.array(TYPES).take(pa.array(stratum % len(TYPES))),
            "active": pa.array(rng.random(len(numbers)) < 0.8),
        }
        owners = np.repeat(numbers, 1 + rng.poisson(IMAGES_PER_LISTING - 1, len(numbers)))
        image_ids = _names("i", np.arange(images, images + len(owners)))
        urls = pc.binary_join_element_wise("photos/", image_ids, ".jpg", "")
        images += len(owners)
        _write(folder / "listings", file, pa.table(listing))
        _write(
            folder / "images",
            file,
            pa.table({"image_id": image_ids, "listing_id": _names("L", owners), "image_url": urls}),
        )
    return images


def otherwise(tables: Path, folder: Path, *, shuffled: bool) -> None:
    """The same rows in seven files: dealt out in turn, or sorted by the end of their ids, the last
    first.
    """
    for name in ("listings", "images"):
        (folder / name).mkdir(parents=True)
        rows = ds.dataset(tables / name).to_table()
        if shuffled:
            key = pc.utf8_reverse(rows.column(0))
            rows = rows.take(pc.sort_indices(key, sort_keys=[("", "descending")]))
        for part in range(7):
            _write(folder / name, part, rows.take(pa.array(np.arange(part, len(rows), 7))))


def _write(folder: Path, number: int, rows: pa.Table) -> None:
    pq.write_table(rows, folder / f"part-{number:05}.parquet", row_group_size=ROW_GROUP_ROWS)


def _names(prefix: str, numbers: np.ndarray[Any, Any]) -> pa.Array:
    return pc.binary_join_element_wise(
        prefix, pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0"), ""
    )


if __name__ == "__main__":
    typer.run(main)

"""Gathers the page of a sample from the rows that were drawn, and writes it beside the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Sample
from toiletspark.config.command_line import Summary
from toiletspark.reports.sample_page import page as sample_page
from toiletspark.sampling.allocation import Stratum
from toiletspark.sampling.estimates import half_width
from toiletspark.tables import spark_io as frames
from toiletspark.tables import storage
from toiletspark.tables.runs import Run, Store


def write_page(
    spark: SparkSession,
    store: Store,
    run: Run,
    cells: Sequence[Stratum],
    wanted: Mapping[str, int],
    sample: Sample,
) -> Summary:
    """Writes <root>/reports/sample-<run_id>.html and .json.

    Args:
        spark: the session.
        store: where.
        run: the sample.
        cells: the strata that it was drawn from.
        wanted: units that were asked of each.
        sample: how it was drawn.

    Returns:
        Where the page lies, and its main figures.
    """
    page = gather(spark, run, cells, wanted, sample)
    place = f"{store.root}/reports/sample-{run.run_id}"
    # a lone surrogate (a badly decoded name) has no UTF-8 form; it must not cost us the page
    storage.replace_bytes(
        f"{place}.html", sample_page.render(page).encode("utf-8", errors="backslashreplace")
    )
    storage.replace_bytes(
        f"{place}.json", (json.dumps(sample_page.as_json(page), indent=1) + "\n").encode()
    )
    return {
        "covered": round(page.covered_images, 6),
        "design_effect": round(page.design_effect, 4),
        "thin_strata": sample_page.totals(page)["thin"],
        "sample_report": f"{place}.html",
    }


def gather(
    spark: SparkSession,
    run: Run,
    cells: Sequence[Stratum],
    wanted: Mapping[str, int],
    sample: Sample,
) -> sample_page.SamplePage:
    """Everything that the page says; see `write_page`. One pass over the drawn rows."""
    listing = F.struct(F.coalesce("listing_id", "image_id"), F.col("listing_id").isNull())
    got = F.count("*") if sample.unit == "image" else F.count_distinct(listing)
    sums = [F.sum("weight").alias("weights"), F.sum(F.col("weight") ** 2).alias("squares")]
    drawn = (
        frames.read_run(spark, run)
        .groupBy("stratum")
        .agg(got.alias("got"), F.count("*").alias("images"), *sums)
    )
    found = {row["stratum"]: row for row in drawn.collect()}
    rows = [
        _row(cell, wanted[cell.name], found.get(cell.name), sample.max_half_width) for cell in cells
    ]
    weights, squares = (sum(row[name] for row in found.values()) for name in ("weights", "squares"))
    effect = sample_page.design_effect(run.rows, weights, squares)
    covered = [cell for cell in cells if wanted[cell.name]]
    return sample_page.SamplePage(
        run_id=run.run_id,
        made_at=run.made_at,
        unit=sample.unit,
        how=_how(sample),
        images_per_listing=sample.images_per_listing if sample.unit == "listing" else None,
        max_half_width=sample.max_half_width,
        covered_images=sum(cell.images for cell in covered) / sum(cell.images for cell in cells),
        covered_units=sum(cell.units for cell in covered) / sum(cell.units for cell in cells),
        design_effect=effect,
        effective_images=run.rows / effect,
        strata=sorted(rows, key=lambda row: (not row.thin, -row.images, row.stratum)),
    )


def _row(
    cell: Stratum, asked: int, drawn: Row | None, max_half_width: float
) -> sample_page.StratumRow:
    got, images_got = (drawn["got"], drawn["images"]) if drawn else (0, 0)
    width = half_width(got, images_got, cell.images)
    return sample_page.StratumRow(
        stratum=cell.name,
        units=cell.units,
        images=cell.images,
        asked=asked,
        got=got,
        images_got=images_got,
        fraction=min(1.0, asked / cell.units),
        half_width=width,
        thin=width is None or width > max_half_width,
    )


def _how(sample: Sample) -> list[tuple[str, str]]:
    inside = (
        [("images per listing", str(sample.images_per_listing or "all"))]
        if sample.unit == "listing"
        else []
    )
    return [
        ("unit", sample.unit),
        *inside,
        ("allocation", "as configured" if sample.strata else sample.allocation),
        ("weighed by", sample.weigh_by or "active listings"),
        ("method", sample.method),
        ("seed", str(sample.seed)),
    ]

"""Gathers the page of a sample from the drawn rows, and writes it beside the tables."""

from collections.abc import Mapping, Sequence

from pyspark.sql import Row
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Sample
from toiletspark.config.command_line import Summary
from toiletspark.reports import html
from toiletspark.reports.sample_page import page
from toiletspark.reports.sample_page.page import SamplePage, StratumRow
from toiletspark.sampling.allocation import Stratum
from toiletspark.sampling.estimates import half_width
from toiletspark.tables import spark_io
from toiletspark.tables.runs import Run
from toiletspark.tables.workspace import Workspace


def write_page(
    work: Workspace, run: Run, strata: Sequence[Stratum], wanted: Mapping[str, int]
) -> Summary:
    """Writes <root>/reports/sample-<run_id>.html and .json; returns location and main figures.

    `wanted` has the units that each stratum of the catalog should give.
    """
    sample = gather(work, run, strata, wanted)
    location = f"{work.store.root}/reports/sample-{run.run_id}"
    html.write(f"{location}.html", page.render(sample))
    html.write_json(f"{location}.json", page.as_json(sample))
    return {
        "covered": round(sample.covered_images, 6),
        "design_effect": round(sample.design_effect, 4),
        "thin_strata": page.totals(sample)["thin"],
        "sample_report": f"{location}.html",
    }


def gather(
    work: Workspace, run: Run, strata: Sequence[Stratum], wanted: Mapping[str, int]
) -> SamplePage:
    """Everything on the page; see `write_page`. One pass over the drawn rows."""
    sample = work.config.sample
    listing = F.struct(F.coalesce("listing_id", "image_id"), F.col("listing_id").isNull())
    got = F.count("*") if sample.unit == "image" else F.count_distinct(listing)
    weight = F.col("weight")
    sums = [F.sum(weight).alias("weights"), F.sum(weight**2).alias("squares")]
    groups = spark_io.read_run(work.spark, run).groupBy("stratum")
    drawn = groups.agg(got.alias("got"), F.count("*").alias("images"), *sums).collect()
    by_name = {row["stratum"]: row for row in drawn}
    rows = []
    for stratum in strata:
        row = by_name.get(stratum.name)
        rows.append(_row(stratum, wanted[stratum.name], row, sample.max_half_width))
    weights, squares = (sum(row[name] for row in drawn) for name in ("weights", "squares"))
    effect = page.design_effect(run.rows, weights, squares)
    covered = [stratum for stratum in strata if wanted[stratum.name]]
    images, units = (sum(getattr(row, name) for row in strata) for name in ("images", "units"))
    return SamplePage(
        run_id=run.run_id,
        made_at=run.made_at,
        unit=sample.unit,
        how=_how(sample),
        images_per_listing=sample.images_per_listing if sample.unit == "listing" else None,
        max_half_width=sample.max_half_width,
        covered_images=sum(stratum.images for stratum in covered) / images,
        covered_units=sum(stratum.units for stratum in covered) / units,
        design_effect=effect,
        effective_images=run.rows / effect,
        strata=sorted(rows, key=lambda row: (not row.thin, -row.images, row.stratum)),
    )


def _row(stratum: Stratum, asked: int, drawn: Row | None, max_half_width: float) -> StratumRow:
    got, images_got = (drawn["got"], drawn["images"]) if drawn else (0, 0)
    width = half_width(got, images_got, stratum.images)
    return StratumRow(
        stratum=stratum.name,
        units=stratum.units,
        images=stratum.images,
        asked=asked,
        got=got,
        images_got=images_got,
        fraction=min(1.0, asked / stratum.units),
        half_width=width,
        thin=width is None or width > max_half_width,
    )


def _how(sample: Sample) -> list[tuple[str, str]]:
    pairs = [
        ("unit", sample.unit),
        ("images per listing", str(sample.images_per_listing or "all")),
        ("allocation", "as configured" if sample.strata else sample.allocation),
        ("weighed by", sample.weigh_by or "active listings"),
        ("method", sample.method),
        ("seed", str(sample.seed)),
    ]
    if sample.unit == "image":
        del pairs[1]
    return pairs

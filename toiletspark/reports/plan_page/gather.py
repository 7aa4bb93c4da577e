"""Gathers the page of a plan: what its decisions change against the live version, with thumbnails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.images import thumbnails
from toiletspark.publishing import approvals, publication
from toiletspark.publishing.publication import Made
from toiletspark.publishing.versions.log import Version
from toiletspark.reports.plan_page import page as diff_page
from toiletspark.reports.plan_page.changes import (
    LEAVING,
    NEW,
    RETURNING,
    Changed,
    Changes,
    Side,
    Stratum,
)
from toiletspark.reports.run_page.gather import RANDOM_BACKBONE
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import storage
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.workspace import Workspace

_BETWEEN = "between"
_COUNTS = tuple(name for name in Stratum.__dataclass_fields__ if name != "stratum")
_SHOWN = ("listing_id", "content_digest", "status", "exclusion_score", "reason", "override")


def write_page(work: Workspace, made: Made) -> str:
    """Writes <root>/reports/plan-<run_id>.html; returns where it lies."""
    page = diff_page.render(gather(work, made))
    place = f"{work.store.root}/reports/plan-{made.listed.run_id}.html"
    # a lone surrogate (a badly decoded file name) has no UTF-8 form; it must not cost us the page
    storage.replace_bytes(place, page.encode("utf-8", errors="backslashreplace"))
    return place


def gather(work: Workspace, made: Made) -> Changes:
    """Everything that the page says.

    Cost: a pass over the plan's decisions for the counts, one for the images to show, which alone are looked up in the
    live version and fetched.
    """
    planned, last = frames.read_run(work.spark, made.decisions), made.sources.last
    strata = by_stratum(planned)
    found = to_show(planned, work.config.report.max_excluded, made.settled.operating_threshold)
    before = _rows_of(work.spark, last, [row["image_id"] for row in found])
    wanted = {
        row["image_id"]: row["content_digest"] for row in found if row["image_id"] is not None
    }
    pictures = thumbnails.of_few(work.spark, work.config, wanted)
    changed: dict[str, list[Changed]] = {}
    for row in found:
        changed.setdefault(row["change"], []).append(
            _image(row, before.get(row["image_id"]), pictures)
        )
    return Changes(
        before=_live_side(work.store, made.sources.live),
        after=_side("this plan", made.listed),
        comparable=last is not None,
        strata=strata,
        gone=last.rows - sum(stratum.known for stratum in strata) if last else 0,
        changed=changed,
        audits=[check.told() for check in publication.checks_of(made.listed)],
        warnings=_warnings(made),
        command=approvals.command(made.listed.run_id),
        removed_after_days=work.config.publish.keep_unpublished_days,
    )


def change() -> Column:
    """What becomes of a row of `tables.DECISIONS`: leaving, returning, new (and excluded), between; null: nothing.

    An undecided image (null, which the audits find) is on no exclusion list, so it counts as not excluded.
    """
    was, decision = F.col("was"), F.coalesce("decision", F.lit("unscored"))
    out = decision == "exclude"
    return (
        F.when(was.isNull(), F.when(out, NEW))
        .when((was != "exclude") & out, LEAVING)
        .when((was == "exclude") & ~out, RETURNING)
        .when(was != decision, _BETWEEN)
    )


def by_stratum(decisions: DataFrame) -> list[Stratum]:
    """Counts the changes of each stratum; images without one are the stratum "".

    Args:
        decisions: `tables.DECISIONS`.

    Cost: one pass, and a row per stratum to the driver.
    """
    marked = decisions.select(
        F.coalesce("stratum", F.lit("")).alias("stratum"),
        "was",
        "decision",
        change().alias("change"),
    )
    which = {
        "images": F.lit(True),
        "known": F.col("was").isNotNull(),
        "leaving": F.col("change") == LEAVING,
        "returning": F.col("change") == RETURNING,
        "between": F.col("change") == _BETWEEN,
        "new_excluded": F.col("change") == NEW,
        "excluded_before": F.col("was") == "exclude",
        "excluded": F.col("decision") == "exclude",
    }
    counted = marked.groupBy("stratum").agg(
        *(F.count_if(which[name]).alias(name) for name in _COUNTS)
    )
    return [Stratum(**row.asDict()) for row in counted.orderBy("stratum").collect()]


def to_show(decisions: DataFrame, most: int, operating_threshold: float) -> list[dict[str, Any]]:
    """The images to look at: of each kind of change at most so many, every stratum in turn.

    Of a stratum that has more, the surest (of their new side) and the nearest to the threshold are taken in equal
    parts: the former show what the change is for, the latter where it may be wrong. Where there are too many strata,
    those with most changes have their turn.

    Args:
        decisions: `tables.DECISIONS`.
        most: of each kind.
        operating_threshold: of the plan.

    Returns:
        Rows with image_id, change, stratum and what the page tells of an image; by score, the highest first, those
        without one at the end.

    Cost: a shuffle of what has changed, by kind and stratum; 3 x `most` rows to the driver.
    """
    group, score = Window.partitionBy("change", "stratum"), F.col("exclusion_score")
    side = F.when(F.col("change") == RETURNING, -score).otherwise(score)
    surest = F.row_number().over(group.orderBy(side.desc_nulls_last(), "image_id"))
    distance = F.abs(score.cast("double") - F.lit(operating_threshold))
    nearest = F.row_number().over(group.orderBy(distance.asc_nulls_last(), "image_id"))
    changed = decisions.select(
        "image_id",
        F.coalesce("stratum", F.lit("")).alias("stratum"),
        *_SHOWN,
        change().alias("change"),
    ).where(F.col("change").isin(LEAVING, RETURNING, NEW))
    size = F.count("*").over(group)
    placed = changed.withColumns({"place": F.least(2 * surest - 1, 2 * nearest), "size": size})
    turns = Window.partitionBy("change").orderBy("place", F.desc("size"), "stratum")
    few = placed.where(
        F.col("place") <= 2 * most
    )  # an image may be among the surest and the nearest
    taken = few.withColumn("turn", F.row_number().over(turns)).where(F.col("turn") <= most)
    found = [row.asDict() for row in taken.drop("place", "size", "turn").collect()]
    return sorted(
        found, key=lambda row: (-_or(row["exclusion_score"], -1.0), row["image_id"] or "")
    )


def _or(score: float | None, otherwise: float) -> float:
    return otherwise if score is None else score


def _rows_of(
    spark: SparkSession, run: Run | None, image_ids: list[str | None]
) -> dict[str | None, dict[str, Any]]:
    """What the live version says of a few images, by image_id."""
    known = [image_id for image_id in image_ids if image_id is not None]
    if run is None or not known:
        return {}
    rows = frames.read_run(spark, run).where(F.col("image_id").isin(known))
    return {
        row["image_id"]: row.asDict()
        for row in rows.select("image_id", "exclusion_score", "reason").collect()
    }


def _image(
    row: dict[str, Any], before: dict[str, Any] | None, pictures: Mapping[str, bytes]
) -> Changed:
    return Changed(
        image_id=row["image_id"] or "",
        listing_id=row["listing_id"] or "",
        stratum=row["stratum"],
        score_before=before["exclusion_score"] if before else None,
        score=row["exclusion_score"],
        why=diff_page.why(before, row),
        thumbnail_jpeg=pictures.get(row["image_id"]),
    )


def _live_side(store: Store, live: Version | None) -> Side | None:
    listed = store.run(tables.EXCLUSION_LIST, live.run_id) if live else None
    return _side(f"version {live.number}", listed) if live and listed else None


def _side(name: str, listed: Run) -> Side:
    inputs, counts = listed.inputs, listed.counts
    return Side(
        name=name,
        run_id=listed.run_id,
        made_at=listed.made_at,
        head_id=inputs.head_id,
        operating_threshold=inputs.operating_threshold,
        threshold_reason=inputs.threshold_reason,
        images=int(counts.get("images", 0)),
        excluded=listed.rows,
    )


def _warnings(made: Made) -> list[str]:
    seen = made.sources.seen.manifest.config
    random = seen.get("backbone", {}).get("weights") == "random"
    return [
        *made.listed.counts.get("alarms", []),
        *([RANDOM_BACKBONE] if random else []),
    ]

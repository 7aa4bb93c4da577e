"""Gathers the page of a plan: its changes against the live version, with thumbnails."""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.images import thumbnails
from toiletspark.images.statuses import MEANINGS
from toiletspark.publishing import approvals, publication
from toiletspark.publishing.publication import Made
from toiletspark.publishing.versions.log import Version
from toiletspark.reports import html
from toiletspark.reports.plan_page import page
from toiletspark.reports.plan_page.page import ChangedImage, PlanPage, Side, StratumChanges
from toiletspark.reports.run_page.gather import RANDOM_BACKBONE
from toiletspark.tables import spark_io
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import DECISIONS, EXCLUSION_LIST
from toiletspark.tables.workspace import Workspace

_BETWEEN = "between"
_SHOWN = ("listing_id", "content_digest", "status", "exclusion_score", "reason", "override")


def write_page(work: Workspace, made: Made) -> str:
    """Writes <root>/reports/plan-<run_id>.html; returns its location."""
    location = f"{work.store.root}/reports/plan-{made.exclusion_list.run_id}.html"
    html.write(location, page.render(gather(work, made)))
    return location


def gather(work: Workspace, made: Made) -> PlanPage:
    """Everything on the page.

    Cost: a pass over the plan's decisions for the counts, and one for the images to show. Only
    these are looked up in the live version and fetched.
    """
    decisions = spark_io.read_run(work.spark, made.decisions)
    last = made.sources.history.run(DECISIONS)
    strata = by_stratum(decisions)
    threshold = made.exclusion_list.inputs.operating_threshold
    rows = to_show(decisions, work.config.report.max_excluded, threshold)
    before = _rows_before(work, last, [row["image_id"] for row in rows])
    digests = {row["image_id"]: row["content_digest"] for row in rows if row["image_id"]}
    pictures = thumbnails.of_few(work.spark, work.config, digests)
    changed: dict[str, list[ChangedImage]] = {}
    for row in rows:
        image = _image(row, before.get(row["image_id"]), pictures)
        changed.setdefault(row["change"], []).append(image)
    return PlanPage(
        before=_live_side(work.store, made.sources.history.live),
        after=_side("this plan", made.exclusion_list),
        strata=strata,
        gone=last.rows - sum(stratum.known for stratum in strata) if last else 0,
        changed=changed,
        audits=publication.checks_of(made.exclusion_list),
        warnings=_warnings(made),
        command=approvals.command(made.exclusion_list.run_id),
        removed_after_days=work.config.publish.keep_unpublished_days,
    )


def change() -> Column:
    """The change of a row of `schemas.DECISIONS`: leaving, returning, new (and excluded), between.

    Null where nothing changes. An undecided image (null, which the audits report) is on no
    exclusion list, so it counts as not excluded.
    """
    was, decision = F.col("was"), F.coalesce("decision", F.lit("unscored"))
    out = decision == "exclude"
    return (
        F.when(was.isNull(), F.when(out, page.NEW))
        .when((was != "exclude") & out, page.LEAVING)
        .when((was == "exclude") & ~out, page.RETURNING)
        .when(was != decision, _BETWEEN)
    )


def by_stratum(decisions: DataFrame) -> list[StratumChanges]:
    """Counts the changes in `schemas.DECISIONS` by stratum; images without one are the stratum "".

    Cost: one pass, and a row per stratum to the driver.
    """
    stratum = F.coalesce("stratum", F.lit("")).alias("stratum")
    marked = decisions.select(stratum, "was", "decision", change().alias("change"))
    counted = {
        "images": F.lit(True),
        "known": F.col("was").isNotNull(),
        "leaving": F.col("change") == page.LEAVING,
        "returning": F.col("change") == page.RETURNING,
        "between": F.col("change") == _BETWEEN,
        "new_excluded": F.col("change") == page.NEW,
        "excluded_before": F.col("was") == "exclude",
        "excluded": F.col("decision") == "exclude",
    }
    counts = [F.count_if(counted[name]).alias(name) for name in page.COUNTS]
    rows = marked.groupBy("stratum").agg(*counts).orderBy("stratum").collect()
    return [StratumChanges(**row.asDict()) for row in rows]


def to_show(decisions: DataFrame, most: int, operating_threshold: float) -> list[dict[str, Any]]:
    """The images to look at: of each change at most `most`, every stratum in turn.

    From a stratum with more, the surest (of their new side) and the nearest to the threshold are
    taken in equal parts: the former show the purpose of the change, the latter where it may be
    wrong. If there are too many strata, those with most changes come first.

    Returns rows with image_id, change, stratum and what the page shows of an image; the highest
    score first, those without one at the end.

    Cost: a shuffle of the changes by stratum; 3 x `most` rows to the driver.
    """
    group, score = Window.partitionBy("change", "stratum"), F.col("exclusion_score")
    side = F.when(F.col("change") == page.RETURNING, -score).otherwise(score)
    surest = F.row_number().over(group.orderBy(side.desc_nulls_last(), "image_id"))
    distance = F.abs(score.cast("double") - F.lit(operating_threshold))
    nearest = F.row_number().over(group.orderBy(distance.asc_nulls_last(), "image_id"))
    stratum = F.coalesce("stratum", F.lit("")).alias("stratum")
    changed = decisions.select("image_id", stratum, *_SHOWN, change().alias("change"))
    changed = changed.where(F.col("change").isin(page.LEAVING, page.RETURNING, page.NEW))
    ranked = changed.withColumns(
        {"rank": F.least(2 * surest - 1, 2 * nearest), "size": F.count("*").over(group)}
    )
    # an image may be among the surest and the nearest, so twice as many ranks
    few = ranked.where(F.col("rank") <= 2 * most)
    turns = Window.partitionBy("change").orderBy("rank", F.desc("size"), "stratum")
    taken = few.withColumn("turn", F.row_number().over(turns)).where(F.col("turn") <= most)
    rows = [row.asDict() for row in taken.drop("rank", "size", "turn").collect()]
    return sorted(rows, key=_by_score)


def why(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """The reason of an image's decision in a few words; "" where it is simply its score.

    `before` and `now` are its rows of `schemas.DECISIONS` in the live version and in the plan.
    """
    reason_before = before["reason"] if before else None
    if now["reason"] == "override":
        return f"override: {now['override'] or 'without a name and a reason'}"
    if now["reason"] == "unscored":
        return f"no score: {MEANINGS.get(now['status'], now['status'])}"
    if now["reason"] == "last_score":
        return "It could not be fetched now: its last score decides."
    if reason_before == "override":
        return "An override has ended: the score decides."
    if reason_before == "unscored":
        return "It had no score before: now the score decides."
    return ""


def _by_score(row: Mapping[str, Any]) -> tuple[float, str]:
    score = row["exclusion_score"]
    return (1.0 if score is None else -score, row["image_id"] or "")


def _rows_before(
    work: Workspace, run: Run | None, image_ids: list[str | None]
) -> dict[str | None, dict[str, Any]]:
    """Score and reason of a few images in the live version, by image_id."""
    ids = [image_id for image_id in image_ids if image_id is not None]
    if run is None or not ids:
        return {}
    rows = spark_io.read_run(work.spark, run).where(F.col("image_id").isin(ids))
    few = rows.select("image_id", "exclusion_score", "reason").collect()
    return {row["image_id"]: row.asDict() for row in few}


def _image(
    row: Mapping[str, Any], before: Mapping[str, Any] | None, pictures: Mapping[str, bytes]
) -> ChangedImage:
    return ChangedImage(
        **{name: row[name] or "" for name in ("image_id", "listing_id", "stratum")},
        score_before=before["exclusion_score"] if before else None,
        score=row["exclusion_score"],
        why=why(before, row),
        thumbnail_jpeg=pictures.get(row["image_id"]),
    )


def _live_side(store: Store, live: Version | None) -> Side | None:
    exclusion_list = store.run(EXCLUSION_LIST, live.run_id) if live else None
    return _side(f"version {live.number}", exclusion_list) if live and exclusion_list else None


def _side(name: str, exclusion_list: Run) -> Side:
    inputs = exclusion_list.inputs
    return Side(
        name=name,
        run_id=exclusion_list.run_id,
        made_at=exclusion_list.made_at,
        head_id=inputs.head_id,
        operating_threshold=float(inputs.operating_threshold),
        threshold_reason=inputs.threshold_reason,
        images=exclusion_list.counts["images"],
        excluded=exclusion_list.rows,
    )


def _warnings(made: Made) -> list[str]:
    backbone = made.sources.catalog.config.get("backbone", {})
    random = [RANDOM_BACKBONE] if backbone.get("weights") == "random" else []
    return [*made.exclusion_list.counts["alarms"], *random]

"""What a version decides of each image: its score against the threshold, what was decided last, and what people say.

A score decides; near the threshold the last decision stands (hysteresis); an image that could not be fetched this time
keeps its last score for a while; what has no score is treated by the class of its failure; an override always wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import statuses
from toiletspark.tables import schemas as tables

_ABOUT = ("listing_id", "stratum", "image_version", "status", "detail")  # of the catalog, as it is
_SCORE = ("exclusion_score", "head_id", "scored_at")
_LAST = ("image_version", "content_digest", *_SCORE, "decision", "reason", "since", "status")
_BY_SCORE = ("model", "hysteresis", "last_score")  # reasons that a score has given


@dataclass(frozen=True)
class Rules:
    """How scores become decisions.

    Attributes:
        operating_threshold: excluded when exclusion_score >= this, both as float32.
        hysteresis: while a score is nearer to the threshold than this, the last decision stands.
        keep_score_days: how long an image that could not be fetched keeps its last score, in days.
        failures: what becomes of images without a score, by failure class: exclude or unscored.
        now: when it is decided, with its time zone.
        scored_at: when the scores were made, with its time zone.
        head_id: of the head that made the scores.
        run_id: of the version.
    """

    operating_threshold: float
    hysteresis: float
    keep_score_days: float
    failures: Mapping[str, str]
    now: datetime
    scored_at: datetime
    head_id: str
    run_id: str


def decide(
    catalog: DataFrame,
    scores: DataFrame,
    last: DataFrame | None,
    overrides: tuple[DataFrame, DataFrame] | None,
    rules: Rules,
) -> DataFrame:
    """One decision for each image of the catalog.

    Args:
        catalog: `tables.CATALOG`.
        scores: `tables.SCORES`, of this catalog.
        last: `tables.DECISIONS` of the version that is live, or None.
        overrides: `overrides.Read.frames`, or None.
        rules: see `Rules`.

    Returns:
        The columns of `tables.DECISIONS`, one row per row of the catalog. decision is null where a sound image has no
        score, which the audits find. Cost: one join by image_id for scores and one for the last version; overrides are
        broadcast.
    """
    now = scores.select(
        "image_id", F.col("exclusion_score").alias("score"), F.col("head_id").alias("score_head")
    )
    known = catalog.select("image_id", "content_digest", *_ABOUT).join(
        now, on="image_id", how="left"
    )
    known = _with_overrides(_with_last_content(_with_last(known, last)), overrides)
    scored, overridden = F.col("status") == "ok", F.col("override_decision").isNotNull()
    found = {
        "exclusion_score": F.col("score"),
        "head_id": F.col("score_head"),
        "scored_at": F.lit(rules.scored_at),
    }
    kept = _keeps_last_score(rules)
    known = known.withColumns(
        {name: F.when(scored, new).when(kept, F.col(f"last_{name}")) for name, new in found.items()}
        | {"kept": kept}
    )
    decision, reason = _by_score(rules)
    known = known.withColumns({"by_score": decision, "reason_of_score": reason})
    still = F.when(F.col("last_status") != "ok", F.col("last_since"))
    return known.select(
        "image_id",
        "content_digest",
        *_ABOUT,
        *_SCORE,
        F.when(overridden, F.col("override_decision"))
        .otherwise(F.col("by_score"))
        .alias("decision"),
        F.when(overridden, "override").otherwise(F.col("reason_of_score")).alias("reason"),
        F.col("last_decision").alias("was"),
        F.when(~scored, F.coalesce(still, F.lit(rules.now))).alias("since"),
        F.col("override_told").alias("override"),
        F.lit(rules.run_id).alias("run_id"),
    ).select(*tables.DECISIONS.columns)


def exclusion_list(decisions: DataFrame) -> DataFrame:
    """The excluded images: the columns of `tables.EXCLUSION_LIST`."""
    reason = F.when(F.col("reason").isin(*_BY_SCORE), "model").otherwise(F.col("reason"))
    excluded = decisions.where(F.col("decision") == "exclude")
    return excluded.withColumn("reason", reason).select(*tables.EXCLUSION_LIST.columns)


def unscored(decisions: DataFrame) -> DataFrame:
    """The images that have no score now, and what becomes of them: the columns of `tables.UNSCORED`."""
    rest = decisions.where(F.col("status") != "ok")
    return rest.withColumn("failure_class", failure_class()).select(*tables.UNSCORED.columns)


def failure_class() -> Column:
    """The class of `status` (`statuses.FAILURE_CLASSES`); null for sound images."""
    return F.element_at(_map(statuses.FAILURE_CLASSES), F.col("status"))


def _by_score(rules: Rules) -> tuple[Column, Column]:
    """Decision and reason without overrides, from what `decide` knows of an image.

    Near the threshold the last decision stands if a score has given it to this content. It also stands where the last
    score is another head's, whose threshold was another one.
    """
    scored, kept, score = F.col("status") == "ok", F.col("kept"), F.col("exclusion_score")
    over = score >= F.lit(rules.operating_threshold).cast("float")
    plain = F.when(over, "exclude").when(~over, "keep")  # null where there is no score
    near = F.abs(score.cast("double") - rules.operating_threshold) < rules.hysteresis
    others = kept & ~F.col("last_head_id").eqNullSafe(F.lit(rules.head_id))
    same = F.col("last_content_digest").eqNullSafe(F.col("content_digest"))
    stands = (
        (near | others)
        & same
        & F.col("last_reason").isin(*_BY_SCORE)
        & (F.col("last_decision") != plain)
    )
    decision = F.when(scored | kept, F.when(stands, F.col("last_decision")).otherwise(plain))
    reason = F.when(scored, F.when(stands, "hysteresis").otherwise("model")).when(
        kept, "last_score"
    )
    return decision.otherwise(_of_failures(rules)), reason.otherwise("unscored")


def _keeps_last_score(rules: Rules) -> Column:
    """Whether an image without a score has one of before that still counts for it."""
    since = F.lit(rules.now - timedelta(days=rules.keep_score_days))
    known = F.col("last_exclusion_score").isNotNull() & (F.col("last_scored_at") >= since)
    return F.coalesce((failure_class() == "transient") & _same_version() & known, F.lit(False))


def _same_version() -> Column:
    return F.col("last_image_version").eqNullSafe(F.col("image_version"))


def _of_failures(rules: Rules) -> Column:
    return F.element_at(_map(dict(rules.failures)), failure_class())


def _map(words: Mapping[str, str]) -> Column:
    return F.create_map(*(F.lit(word) for pair in words.items() for word in pair))


def _with_last(known: DataFrame, last: DataFrame | None) -> DataFrame:
    """Adds what the last version says of each image, as last_<name>."""
    if last is None:
        kinds = {name: F.lit(None).cast(tables.DECISIONS.columns[name]) for name in _LAST}
        return known.withColumns({f"last_{name}": null for name, null in kinds.items()})
    renamed = last.select("image_id", *(F.col(name).alias(f"last_{name}") for name in _LAST))
    return known.join(renamed, on="image_id", how="left")


def _with_last_content(known: DataFrame) -> DataFrame:
    """Fills in the content of the same images that could not be read now: what is said of it still holds."""
    last = F.when((F.col("status") != "ok") & _same_version(), F.col("last_content_digest"))
    return known.withColumn("content_digest", F.coalesce("content_digest", last))


def _with_overrides(known: DataFrame, overrides: tuple[DataFrame, DataFrame] | None) -> DataFrame:
    """Adds override_decision and override_told; what is said of an image goes before what is said of its content."""
    said = ("override_decision", "override_told")
    if overrides is None:
        return known.withColumns({name: F.lit(None).cast("string") for name in said})
    by_image, by_content = (
        frame.select(key, *(F.col(name).alias(f"{key}_{name}") for name in said))
        for key, frame in zip(("image_id", "content_digest"), overrides, strict=True)
    )
    joined = known.join(F.broadcast(by_image), on="image_id", how="left")
    joined = joined.join(F.broadcast(by_content), on="content_digest", how="left")
    of_image = F.col("image_id_override_decision").isNotNull()
    return joined.withColumns(
        {
            name: F.when(of_image, F.col(f"image_id_{name}")).otherwise(
                F.col(f"content_digest_{name}")
            )
            for name in said
        }
    )

"""One decision for each image of a version.

The score decides. Near the threshold the last decision stands (hysteresis). An image that could not
be fetched this time keeps its last score for a while. An image without a score is decided by the
class of its failure. An override always wins.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.images import statuses
from toiletspark.tables.schemas import DECISIONS, EXCLUSION_LIST, UNSCORED

_COPIED = ("listing_id", "stratum", "image_version", "status", "detail")  # from the catalog
_SCORE = ("exclusion_score", "head_id", "scored_at")
_LAST = ("image_version", "content_digest", *_SCORE, "decision", "reason", "since", "status")
_OVERRIDE = ("override_decision", "override_note")
_BY_SCORE = ("model", "hysteresis", "last_score")  # reasons that a score has given
Frames = tuple[DataFrame, DataFrame] | None  # of overrides: by image_id, by content_digest


@dataclass(frozen=True)
class Rules:
    """Everything that turns scores into decisions. Both times have their time zone."""

    operating_threshold: float  # excluded when exclusion_score >= this, both as float32
    hysteresis: float  # nearer to the threshold than this, the last decision stands
    keep_score_days: float  # an image that could not be fetched keeps its last score so long
    failures: Mapping[str, str]  # exclude or unscored for images without a score, by failure class
    now: datetime
    scored_at: datetime
    head_id: str  # of the scores
    run_id: str  # of the version


def decide(
    catalog: DataFrame, scores: DataFrame, last: DataFrame | None, overrides: Frames, rules: Rules
) -> DataFrame:
    """Decides on each image of the catalog.

    Args:
        catalog: `schemas.CATALOG`.
        scores: `schemas.SCORES`, of this catalog.
        last: `schemas.DECISIONS` of the live version, or None.

    Returns the columns of `schemas.DECISIONS`, one row per row of the catalog. decision is null
    where a sound image has no score; the audits notice it. Cost: one join by image_id for scores
    and one for the last version; overrides are broadcast.
    """
    fresh = scores.select(
        "image_id", F.col("exclusion_score").alias("score"), F.col("head_id").alias("score_head")
    )
    images = catalog.select("image_id", "content_digest", *_COPIED)
    images = images.join(fresh, on="image_id", how="left")
    images = _with_overrides(_with_last_content(_with_last(images, last)), overrides)
    is_scored, is_overridden = F.col("status") == "ok", F.col("override_decision").isNotNull()
    keeps_score = _keeps_last_score(rules)
    new = {
        "exclusion_score": F.col("score"),
        "head_id": F.col("score_head"),
        "scored_at": F.lit(rules.scored_at),
    }
    for name, column in new.items():
        score = F.when(is_scored, column).when(keeps_score, F.col(f"last_{name}"))
        images = images.withColumn(name, score)
    images = images.withColumn("keeps_score", keeps_score)
    decision, reason = _by_score(rules)
    images = images.withColumns({"by_score": decision, "reason_of_score": reason})
    since = F.when(F.col("last_status") != "ok", F.col("last_since"))
    decided = {
        "decision": F.when(is_overridden, F.col("override_decision")).otherwise(F.col("by_score")),
        "reason": F.when(is_overridden, "override").otherwise(F.col("reason_of_score")),
        "was": F.col("last_decision"),
        "since": F.when(~is_scored, F.coalesce(since, F.lit(rules.now))),
        "override": F.col("override_note"),
        "run_id": F.lit(rules.run_id),
    }
    return images.withColumns(decided).select(*DECISIONS.columns)


def exclusion_list(decisions: DataFrame) -> DataFrame:
    """The excluded images: the columns of `schemas.EXCLUSION_LIST`."""
    reason = F.when(F.col("reason").isin(*_BY_SCORE), "model").otherwise(F.col("reason"))
    excluded = decisions.where(F.col("decision") == "exclude")
    return excluded.withColumn("reason", reason).select(*EXCLUSION_LIST.columns)


def unscored(decisions: DataFrame) -> DataFrame:
    """The images without a score now, and their decisions: the columns of `schemas.UNSCORED`."""
    rest = decisions.where(F.col("status") != "ok")
    return rest.withColumn("failure_class", failure_class()).select(*UNSCORED.columns)


def failure_class() -> Column:
    """The class of `status` (`statuses.FAILURE_CLASSES`); null for sound images."""
    return F.element_at(_map(statuses.FAILURE_CLASSES), F.col("status"))


def _by_score(rules: Rules) -> tuple[Column, Column]:
    """Decision and reason without overrides.

    Near the threshold, the last decision stands if a score has given it to this content; also if
    the last score is kept and comes from another head, which had another threshold.
    """
    is_scored, keeps_score = F.col("status") == "ok", F.col("keeps_score")
    score = F.col("exclusion_score")
    is_over = score >= F.lit(rules.operating_threshold).cast("float")
    plain = F.when(is_over, "exclude").when(~is_over, "keep")  # null where there is no score
    is_near = F.abs(score.cast("double") - rules.operating_threshold) < rules.hysteresis
    of_another_head = keeps_score & ~F.col("last_head_id").eqNullSafe(F.lit(rules.head_id))
    stands = (
        (is_near | of_another_head)
        & F.col("last_content_digest").eqNullSafe(F.col("content_digest"))
        & F.col("last_reason").isin(*_BY_SCORE)
        & (F.col("last_decision") != plain)
    )
    by_score = F.when(stands, F.col("last_decision")).otherwise(plain)
    by_failure = F.element_at(_map(rules.failures), failure_class())
    decision = F.when(is_scored | keeps_score, by_score).otherwise(by_failure)
    reason = F.when(is_scored, F.when(stands, "hysteresis").otherwise("model"))
    return decision, reason.when(keeps_score, "last_score").otherwise("unscored")


def _keeps_last_score(rules: Rules) -> Column:
    """True if an image has no score now and its last one still counts.

    An address that cannot be read says nothing of the image, so that its last score does not age;
    nor does it count as another version, which may be a digest of the address.
    """
    since = F.lit(rules.now - timedelta(days=rules.keep_score_days))
    is_recent = F.col("last_exclusion_score").isNotNull() & (F.col("last_scored_at") >= since)
    stands = (failure_class() == "transient") & _is_same_version() & is_recent
    is_unread = _has_bad_input() & F.col("last_exclusion_score").isNotNull()
    return F.coalesce(stands | is_unread, F.lit(False))


def _has_bad_input() -> Column:
    return F.coalesce(failure_class() == "input", F.lit(False))


def _is_same_version() -> Column:
    return F.col("last_image_version").eqNullSafe(F.col("image_version"))


def _map(words: Mapping[str, str]) -> Column:
    return F.create_map(*(F.lit(word) for pair in words.items() for word in pair))


def _with_last(images: DataFrame, last: DataFrame | None) -> DataFrame:
    """Adds the last version's columns as last_<name>."""
    if last is None:
        types = {name: DECISIONS.columns[name] for name in _LAST}
        nulls = {f"last_{name}": F.lit(None).cast(type_) for name, type_ in types.items()}
        return images.withColumns(nulls)
    renamed = last.select("image_id", *(F.col(name).alias(f"last_{name}") for name in _LAST))
    return images.join(renamed, on="image_id", how="left")


def _with_last_content(images: DataFrame) -> DataFrame:
    """Fills in the content of an unchanged image that could not be read now: its override holds."""
    is_unchanged = (F.col("status") != "ok") & (_is_same_version() | _has_bad_input())
    last = F.when(is_unchanged, F.col("last_content_digest"))
    return images.withColumn("content_digest", F.coalesce("content_digest", last))


def _with_overrides(images: DataFrame, overrides: Frames) -> DataFrame:
    """Adds override_decision and override_note; one of the image wins over one of its content."""
    if overrides is None:
        return images.withColumns({name: F.lit(None).cast("string") for name in _OVERRIDE})
    for key, frame in zip(("image_id", "content_digest"), overrides, strict=True):
        renamed = [F.col(name).alias(f"{key}_{name}") for name in _OVERRIDE]
        images = images.join(F.broadcast(frame.select(key, *renamed)), on=key, how="left")
    both = {name: (f"image_id_{name}", f"content_digest_{name}") for name in _OVERRIDE}
    return images.withColumns({name: F.coalesce(*names) for name, names in both.items()})

"""The figures of a version that audits judge, counted on its written decisions."""

import functools
import operator
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.images import statuses
from toiletspark.publishing.decisions import failure_class
from toiletspark.tables import schemas

SAME_SCORE = 1e-4  # differences of one head's score for one content between machines, in float32
COUNTS = ("images", "kept", "excluded", "unscored", "no_score", "policy")
BINS = 100  # of exclusion scores, equal, over [0, 1]; a score of 1 falls into the last


@dataclass(frozen=True)
class Stratum:
    """One row of `schemas.STRATA`; histogram: int64, (100,)."""

    stratum: str
    images: int
    kept: int
    excluded: int
    unscored: int
    no_score: int
    policy: int
    histogram: NDArray[np.int64]


@dataclass(frozen=True)
class Figures:
    """Counts of the decisions of a version."""

    images: int
    null_ids: int
    repeated_ids: int  # images whose id another one has too, the first of each not counted
    unknown_words: int  # images whose decision, reason or status is in none of our lists
    scores_amiss: int  # images whose score is missing, NaN, outside [0, 1], or impossible
    statuses: dict[str, int]  # images by status, except ok
    strata: dict[str, Stratum]
    listings: int = 0  # those with images; an image that is its own listing is none
    emptied: int = 0  # listings all of whose images are excluded
    newly_emptied: int = 0  # of them, those that had an image in the last version, or are new
    changed: int | None = None  # see `_changed`; None if the versions cannot be compared

    def total(self, name: str) -> int:
        """The sum of a count over all strata."""
        return sum(int(getattr(stratum, name)) for stratum in self.strata.values())

    @property
    def counts(self) -> dict[str, int]:
        """The counts of a version: images, kept, excluded, unscored, no_score, policy."""
        return {name: self.total(name) for name in COUNTS}


def gather(decisions: DataFrame, last: DataFrame | None = None) -> Figures:
    """Counts a version's decisions, as written.

    `last` are those of the last version if the same head and threshold made them, else None. Cost:
    three passes over some columns of the files. Ids and listings are compared by hash, 8 bytes a
    row in a shuffle each. Rare cases cost more only where they occur: equal hashes, and decisions
    that a score has changed.
    """
    ids, listings = _ids(decisions), _listings(decisions)
    groups = _groups(decisions).collect()
    changed = None
    if last is not None:
        is_any_turned = any(row["turned"] for row in groups)
        changed = _changed(decisions, last) if is_any_turned else 0
    return Figures(
        images=int(ids["rows"]),
        null_ids=int(ids["nulls"]),
        repeated_ids=_repeated(decisions) if ids["is_any_repeated"] else 0,
        unknown_words=sum(row["unknown"] for row in groups),
        scores_amiss=sum(row["amiss"] for row in groups),
        statuses=_statuses(groups),
        strata=_strata(groups),
        **listings.asDict(),
        changed=changed,
    )


def _ids(decisions: DataFrame) -> Row:
    """rows, nulls, and is_any_repeated: True if two ids have the same hash."""
    is_null = F.col("image_id").isNull()
    hashes = decisions.select(F.xxhash64("image_id").alias("hash"), is_null.alias("null"))
    hashes = hashes.repartition("hash")  # first, because counting before the shuffle merges nothing
    counts = (F.count("*").alias("rows"), F.count_if("null").alias("nulls"))
    per_hash = hashes.groupBy("hash").agg(*counts)
    is_repeated = F.max(F.col("rows") - F.col("nulls")) > 1
    totals = per_hash.agg(
        F.coalesce(F.sum("rows"), F.lit(0)).alias("rows"),
        F.coalesce(F.sum("nulls"), F.lit(0)).alias("nulls"),
        F.coalesce(is_repeated, F.lit(False)).alias("is_any_repeated"),
    )
    return totals.collect()[0]


def _repeated(decisions: DataFrame) -> int:
    """Rows too many, counted on the ids themselves."""
    per_id = decisions.where(F.col("image_id").isNotNull()).groupBy("image_id").count()
    return int(per_id.agg(F.sum(F.col("count") - 1).alias("more")).collect()[0]["more"])


def _listings(decisions: DataFrame) -> Row:
    """listings, emptied and newly_emptied; ids are told apart by their hash of 64 bits."""
    images = decisions.where(F.col("listing_id") != F.col("image_id")).select(
        F.xxhash64("listing_id").alias("listing"),
        F.coalesce(F.col("decision") != "exclude", F.lit(True)).alias("shown"),
        F.coalesce(F.col("was") != "exclude", F.lit(False)).alias("had"),
        F.col("was").isNotNull().alias("known"),
    )
    names = ("shown", "had", "known")
    per_listing = images.groupBy("listing").agg(*(F.max(name).alias(name) for name in names))
    is_emptied = ~F.col("shown")
    totals = per_listing.agg(
        F.count("*").alias("listings"),
        F.count_if(is_emptied).alias("emptied"),
        F.count_if(is_emptied & (F.col("had") | ~F.col("known"))).alias("newly_emptied"),
    )
    return totals.collect()[0]


def _changed(decisions: DataFrame, last: DataFrame) -> int:
    """Images that a score has decided otherwise than before, though nothing else has changed.

    Content, head and threshold are the same, and the score has moved by more than `SAME_SCORE`.
    """
    same, score = ("content_digest", "head_id", "reason"), "exclusion_score"
    renamed = [F.col(name).alias(f"last_{name}") for name in (*same, score)]
    before = last.select("image_id", *renamed)
    turned = decisions.where(_is_turned()).select("image_id", *same, score)
    turned = turned.join(before, on="image_id", how="inner")
    for name in same:
        turned = turned.where(F.col(name) == F.col(f"last_{name}"))
    move = F.abs(F.col(score).cast("double") - F.col(f"last_{score}"))
    return turned.where(move > SAME_SCORE).count()


def _is_turned() -> Column:
    """True if a score, without hysteresis, has decided otherwise than the last version."""
    return (F.col("reason") == "model") & (F.col("was") != F.col("decision"))


def _groups(decisions: DataFrame) -> DataFrame:
    """Counts by stratum, status and bin of the score: a few dozen rows a stratum."""
    score, reason = F.col("exclusion_score"), F.col("reason")
    is_sound = F.col("status") == "ok"
    is_in_range = F.coalesce(score.between(0, 1) & ~F.isnan(score), F.lit(False))
    is_amiss = (
        F.when(is_sound | (reason == "last_score"), ~is_in_range)
        # an override keeps the last score, if any, which counts again after the override
        .when(reason == "override", score.isNotNull() & ~is_in_range)
        .otherwise(score.isNotNull())
    )
    words = {
        "decision": schemas.DECISIONS_OF_IMAGES,
        "reason": schemas.REASONS,
        "status": statuses.STATUSES,
    }
    is_known = [F.coalesce(F.col(name).isin(*known), F.lit(False)) for name, known in words.items()]
    bin_ = F.least(F.floor(score * BINS), F.lit(BINS - 1)).cast("int")
    decision = F.col("decision")
    marked = decisions.select(
        F.coalesce("stratum", F.lit("")).alias("stratum"),
        F.coalesce("status", F.lit("")).alias("status"),
        F.when(is_sound & is_in_range, bin_).alias("bin"),
        (decision == "keep").alias("kept"),
        (decision == "exclude").alias("excluded"),
        (decision == "unscored").alias("unscored"),
        (F.col("status") != "ok").alias("no_score"),
        (failure_class() == "policy").alias("policy"),
        (~functools.reduce(operator.and_, is_known)).alias("unknown"),
        is_amiss.alias("amiss"),
        F.coalesce(_is_turned(), F.lit(False)).alias("turned"),
    )
    names = (*COUNTS[1:], "unknown", "amiss", "turned")
    counts = [F.count_if(name).alias(name) for name in names]
    return marked.groupBy("stratum", "status", "bin").agg(F.count("*").alias("images"), *counts)


def _strata(groups: Iterable[Row]) -> dict[str, Stratum]:
    sums: dict[str, Counter[str]] = {}
    histograms: dict[str, NDArray[np.int64]] = {}
    for row in groups:
        counts = sums.setdefault(row["stratum"], Counter())
        counts.update({name: row[name] for name in COUNTS})
        histogram = histograms.setdefault(row["stratum"], np.zeros(BINS, np.int64))
        if row["bin"] is not None:
            histogram[row["bin"]] += row["images"]
    return {
        name: Stratum(name, **counts, histogram=histograms[name])
        for name, counts in sorted(sums.items())
    }


def _statuses(groups: Iterable[Row]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for row in groups:
        if row["status"] != "ok":
            counts[row["status"]] += row["images"]
    return dict(sorted(counts.items()))


def rows_of(figures: Figures) -> list[dict[str, Any]]:
    """The rows of `schemas.STRATA`."""
    return [
        {**vars(stratum), "histogram": stratum.histogram.astype("<i8").tobytes()}
        for stratum in figures.strata.values()
    ]


def strata_of(rows: list[dict[str, Any]]) -> dict[str, Stratum]:
    """The strata of a run of `schemas.STRATA`, as `arrow_io.read` gives its rows."""
    strata = {}
    for row in rows:
        histogram = np.frombuffer(row["histogram"], "<i8").astype(np.int64)
        strata[row["stratum"]] = Stratum(**{**row, "histogram": histogram})
    return strata

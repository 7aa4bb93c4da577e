"""The figures of a version that audits judge, counted on the files that readers will get."""

from __future__ import annotations

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

from toiletspark import statuses
from toiletspark.publishing.decisions import failure_class
from toiletspark.tables import schemas as tables

SAME_SCORE = 1e-4  # what one head may give one content on two days, in float32 on other machines
COUNTS = ("images", "kept", "excluded", "unscored", "no_score", "policy")
BINS = 100  # of exclusion scores, equal, over [0, 1]; a score of 1 falls into the last


@dataclass(frozen=True)
class Stratum:
    """One row of `tables.STRATA`; histogram: int64, (100,)."""

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
    """What the decisions of a version hold.

    Attributes:
        images: rows.
        null_ids: rows without an image_id.
        repeated_ids: rows whose image_id another row has too, the first of each not counted.
        unknown_words: rows with a decision, a reason or a status that none of `tables`' lists has.
        scores_amiss: rows whose score is missing where there must be one, is NaN, lies outside [0, 1], or is there
            though there can be none.
        statuses: rows by status, but for ok.
        strata: by stratum.
        listings: listings with images; an image that stands for itself (listing_id is its own id) is none.
        emptied: those of them all of whose images are excluded.
        newly_emptied: of these, those of whose images one was not excluded in the last version, or none was in it.
        changed: images with another decision than the last version's by the same content, head and threshold, whose
            score has moved by more than `SAME_SCORE`; None where the versions cannot be compared.
    """

    images: int
    null_ids: int
    repeated_ids: int
    unknown_words: int
    scores_amiss: int
    statuses: dict[str, int]
    strata: dict[str, Stratum]
    listings: int = 0
    emptied: int = 0
    newly_emptied: int = 0
    changed: int | None = None

    def total(self, name: str) -> int:
        """The sum over all strata of one of their counts."""
        return sum(int(getattr(stratum, name)) for stratum in self.strata.values())

    @property
    def counts(self) -> dict[str, int]:
        """As versions tell them: images, kept, excluded, unscored, no_score, policy."""
        return {name: self.total(name) for name in COUNTS}


def gather(decisions: DataFrame, last: DataFrame | None = None) -> Figures:
    """Counts a version's decisions.

    Args:
        decisions: `tables.DECISIONS`, as written.
        last: those of the last version, where it was decided by the same head and threshold; else None.

    Cost: three passes over some columns of the files. Ids and listings are compared by hash, 8 bytes a row in a shuffle
    each. What is rare costs more only where it occurs: equal hashes, and decisions that a score has changed.
    """
    ids, counted, listings = _ids(decisions), _counted(decisions).collect(), _listings(decisions)
    changed = None
    if last is not None:
        changed = _changed(decisions, last) if any(row["turned"] for row in counted) else 0
    return Figures(
        images=int(ids["rows"]),
        null_ids=int(ids["nulls"]),
        repeated_ids=_repeated(decisions) if ids["again"] else 0,
        unknown_words=sum(row["unknown"] for row in counted),
        scores_amiss=sum(row["amiss"] for row in counted),
        statuses=_statuses(counted),
        strata=_strata(counted),
        listings=listings["listings"],
        emptied=listings["emptied"],
        newly_emptied=listings["newly_emptied"],
        changed=changed,
    )


def _ids(decisions: DataFrame) -> Row:
    """rows, nulls, and again: whether two rows have one hash of their image_id, as ids that are repeated do."""
    hashed = decisions.select(
        F.xxhash64("image_id").alias("hashed"), F.col("image_id").isNull().alias("null")
    )
    per_hash = (
        hashed.repartition(
            "hashed"
        )  # laid out by hash first, since counting before the shuffle merges nothing
        .groupBy("hashed")
        .agg(F.count("*").alias("rows"), F.count_if("null").alias("nulls"))
    )
    sums = {
        **{name: F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in ("rows", "nulls")},
        "again": F.coalesce(F.max(F.col("rows") - F.col("nulls")) > 1, F.lit(False)).alias("again"),
    }
    return per_hash.agg(*sums.values()).collect()[0]


def _repeated(decisions: DataFrame) -> int:
    """Rows too many, counted on the ids themselves."""
    per_id = decisions.where(F.col("image_id").isNotNull()).groupBy("image_id").count()
    return int(
        per_id.agg(F.coalesce(F.sum(F.col("count") - 1), F.lit(0)).alias("more")).collect()[0][
            "more"
        ]
    )


def _listings(decisions: DataFrame) -> Row:
    """Listings with images, emptied and newly emptied; ids are told apart by their hash of 64 bits."""
    shown = F.coalesce(F.col("decision") != "exclude", F.lit(True))
    images = decisions.where(F.col("listing_id") != F.col("image_id")).select(
        F.xxhash64("listing_id").alias("listing"),
        shown.alias("shown"),
        F.coalesce(F.col("was") != "exclude", F.lit(False)).alias("had"),
        F.col("was").isNotNull().alias("known"),
    )
    marks = [F.max(name).alias(name) for name in ("shown", "had", "known")]
    emptied = ~F.col("shown")
    return (
        images.groupBy("listing")
        .agg(*marks)
        .agg(
            F.count("*").alias("listings"),
            F.count_if(emptied).alias("emptied"),
            F.count_if(emptied & (F.col("had") | ~F.col("known"))).alias("newly_emptied"),
        )
        .collect()[0]
    )


def _changed(decisions: DataFrame, last: DataFrame) -> int:
    """Images that a score has decided otherwise than the last version, though nothing else has changed."""
    names = ("content_digest", "head_id", "exclusion_score", "reason")
    then = last.select("image_id", *(F.col(name).alias(f"last_{name}") for name in names))
    turned = (
        decisions.where(_turned()).select("image_id", *names).join(then, on="image_id", how="inner")
    )
    same = [
        F.col(name) == F.col(f"last_{name}") for name in ("content_digest", "head_id", "reason")
    ]
    moved = (
        F.abs(F.col("exclusion_score").cast("double") - F.col("last_exclusion_score")) > SAME_SCORE
    )
    return turned.where(functools.reduce(operator.and_, [*same, moved])).count()


def _turned() -> Column:
    """Whether a score, without hysteresis, has decided otherwise than the last version."""
    return (F.col("reason") == "model") & (F.col("was") != F.col("decision"))


def _counted(decisions: DataFrame) -> DataFrame:
    """Counts by stratum, status and bin of the score: a few dozen rows a stratum."""
    score = F.col("exclusion_score")
    has_score = (F.col("status") == "ok") | (F.col("reason") == "last_score")
    may_have_score = (
        F.col("reason") == "override"
    )  # the last one, which counts again once the override ends
    sane = F.coalesce(score.between(0, 1) & ~F.isnan(score), F.lit(False))
    lists = {
        "decision": tables.DECISIONS_OF_IMAGES,
        "reason": tables.REASONS,
        "status": statuses.STATUSES,
    }
    known = [F.coalesce(F.col(name).isin(*words), F.lit(False)) for name, words in lists.items()]
    inside = F.least(F.floor(score * BINS), F.lit(BINS - 1)).cast("int")
    sides = (("kept", "keep"), ("excluded", "exclude"), ("unscored", "unscored"))
    marked = decisions.select(
        F.coalesce("stratum", F.lit("")).alias("stratum"),
        F.coalesce("status", F.lit("")).alias("status"),
        F.when((F.col("status") == "ok") & sane, inside).alias("bin"),
        *((F.col("decision") == word).alias(name) for name, word in sides),
        (F.col("status") != "ok").alias("no_score"),
        (failure_class() == "policy").alias("policy"),
        (~functools.reduce(operator.and_, known)).alias("unknown"),
        F.when(has_score, ~sane)
        .when(may_have_score, score.isNotNull() & ~sane)
        .otherwise(score.isNotNull())
        .alias("amiss"),
        F.coalesce(_turned(), F.lit(False)).alias("turned"),
    )
    counts = [F.count_if(name).alias(name) for name in (*COUNTS[1:], "unknown", "amiss", "turned")]
    return marked.groupBy("stratum", "status", "bin").agg(F.count("*").alias("images"), *counts)


def _strata(counted: Iterable[Row]) -> dict[str, Stratum]:
    sums: dict[str, dict[str, int]] = {}
    histograms: dict[str, NDArray[np.int64]] = {}
    for row in counted:
        so_far = sums.setdefault(row["stratum"], dict.fromkeys(COUNTS, 0))
        for name in COUNTS:
            so_far[name] += row[name]
        histogram = histograms.setdefault(row["stratum"], np.zeros(BINS, np.int64))
        if row["bin"] is not None:
            histogram[row["bin"]] += row["images"]
    return {
        name: Stratum(name, **of_it, histogram=histograms[name])
        for name, of_it in sorted(sums.items())
    }


def _statuses(counted: Iterable[Row]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in counted:
        if row["status"] != "ok":
            found[row["status"]] += row["images"]
    return dict(sorted(found.items()))


def rows_of(counted: Figures) -> list[dict[str, Any]]:
    """The rows of `tables.STRATA`."""
    return [
        {**vars(stratum), "histogram": stratum.histogram.astype("<i8").tobytes()}
        for stratum in counted.strata.values()
    ]


def strata_of(found: list[dict[str, Any]]) -> dict[str, Stratum]:
    """The strata of a run of `tables.STRATA`, as `rows.read` gives it."""
    strata = (
        Stratum(**{**row, "histogram": np.frombuffer(row["histogram"], "<i8").astype(np.int64)})
        for row in found
    )
    return {stratum.stratum: stratum for stratum in strata}

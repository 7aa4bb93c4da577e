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
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import tables
from toiletspark.decisions import failure_class

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
        repeated_ids: rows whose image_id (or its hash of 64 bits) another row has too, the first of each not counted.
        unknown_words: rows with a decision, a reason or a status that none of `tables`' lists has.
        scores_amiss: rows whose score is missing where there must be one, is NaN, lies outside [0, 1], or is there
            though there can be none.
        statuses: rows by status, but for ok.
        strata: by stratum.
    """

    images: int
    null_ids: int
    repeated_ids: int
    unknown_words: int
    scores_amiss: int
    statuses: dict[str, int]
    strata: dict[str, Stratum]

    def total(self, name: str) -> int:
        """The sum over all strata of one of their counts."""
        return sum(int(getattr(stratum, name)) for stratum in self.strata.values())

    @property
    def counts(self) -> dict[str, int]:
        """As versions tell them: images, kept, excluded, unscored, no_score, policy."""
        return {name: self.total(name) for name in COUNTS}


def gather(decisions: DataFrame) -> Figures:
    """Counts a version's decisions.

    Args:
        decisions: `tables.DECISIONS`, as written.

    Cost: two passes over the files; ids are compared by hash (8 bytes a row in one shuffle).
    """
    hashed = decisions.select(F.xxhash64("image_id").alias("hashed"), F.col("image_id").isNull().alias("null"))
    per_hash = (
        hashed.repartition("hashed")
        .groupBy("hashed")
        .agg(F.count("*").alias("rows"), F.count_if("null").alias("nulls"))
    )
    ids = per_hash.agg(
        F.coalesce(F.sum("rows"), F.lit(0)).alias("rows"),
        F.coalesce(F.sum("nulls"), F.lit(0)).alias("nulls"),
        F.coalesce(F.sum(F.greatest(F.col("rows") - F.greatest(F.lit(1), F.col("nulls")), F.lit(0))), F.lit(0)).alias(
            "again"
        ),
    ).collect()[0]
    counted = _counted(decisions).collect()
    return Figures(
        images=int(ids["rows"]),
        null_ids=int(ids["nulls"]),
        repeated_ids=int(ids["again"]),
        unknown_words=sum(row["unknown"] for row in counted),
        scores_amiss=sum(row["amiss"] for row in counted),
        statuses=_statuses(counted),
        strata=_strata(counted),
    )


def _counted(decisions: DataFrame) -> DataFrame:
    """Counts by stratum, status and bin of the score: a few dozen rows a stratum."""
    score = F.col("exclusion_score")
    has_score = (F.col("status") == "ok") | (F.col("reason") == "last_score")
    may_have_score = F.col("reason") == "override"  # the last one, which counts again once the override ends
    sane = F.coalesce(score.between(0, 1) & ~F.isnan(score), F.lit(False))
    lists = {"decision": tables.DECISIONS_OF_IMAGES, "reason": tables.REASONS, "status": tables.STATUSES}
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
    )
    counts = [F.count_if(name).alias(name) for name in (*COUNTS[1:], "unknown", "amiss")]
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
    return {name: Stratum(name, **of_it, histogram=histograms[name]) for name, of_it in sorted(sums.items())}


def _statuses(counted: Iterable[Row]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in counted:
        if row["status"] != "ok":
            found[row["status"]] += row["images"]
    return dict(sorted(found.items()))


def rows_of(counted: Figures) -> list[dict[str, Any]]:
    """The rows of `tables.STRATA`."""
    return [
        {**vars(stratum), "histogram": stratum.histogram.astype("<i8").tobytes()} for stratum in counted.strata.values()
    ]


def strata_of(found: list[dict[str, Any]]) -> dict[str, Stratum]:
    """The strata of a run of `tables.STRATA`, as `rows.read` gives it."""
    strata = (Stratum(**{**row, "histogram": np.frombuffer(row["histogram"], "<i8").astype(np.int64)}) for row in found)
    return {stratum.stratum: stratum for stratum in strata}

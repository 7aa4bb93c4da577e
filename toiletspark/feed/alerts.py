"""Which images agents should look at, and why, in words for people who know nothing of heads and thresholds."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import chain

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark import statuses
from toiletspark.config import Config
from toiletspark.feed.readers import Current
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables import storage
from toiletspark.tables.runs import Run

MAX_CSV_ROWS = 100_000  # of the file for people; the table has them all
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_WITH_DETAIL = ("too_many_pixels", "too_small")  # "9000 x 9000, limit 50000000" helps


def of_version(
    spark: SparkSession, config: Config, version: Current, decisions: DataFrame
) -> DataFrame:
    """`alerts` of a version; where its scores are gone, they do not name classes, unless only one is excluded."""
    scores = version.source(tables.SCORES)
    classes = config.labels.exclude_classes
    return alerts(
        decisions, shown_classes(frames.read_run(spark, scores) if scores else None, classes)
    )


def alerts(decisions: DataFrame, shows: Column | DataFrame) -> DataFrame:
    """The images of a version that are excluded, or that nobody could decide on.

    Args:
        decisions: `tables.DECISIONS`.
        shows: the class that images excluded on a score show: one for all of them, or by image_id, as `shown_classes`
            gives it; null where it is not known.

    Returns:
        The columns of `tables.ALERTS`, one row per image whose decision is not keep. Cost: one join by id where
        classes are told by image; else none.
    """
    told = decisions.where(~F.col("decision").eqNullSafe("keep"))
    if isinstance(shows, DataFrame):
        told = told.join(shows, on="image_id", how="left")
    else:
        told = told.withColumn("shows", shows)
    by_score, by_person = F.col("exclusion_score").isNotNull(), F.col("reason") == "override"
    cause = (
        F.when(by_person, _decided_by_a_person())
        .when(by_score, _what_it_shows())
        .otherwise(_why_unread())
    )
    outcome = F.when(F.col("decision") == "exclude", "Not shown: ").otherwise(
        "Could not be checked: "
    )
    return told.select(
        "image_id",
        "listing_id",
        F.concat(outcome, cause, F.lit(".")).alias("why"),
        "decision",
        "status",
        F.col("exclusion_score").alias("score"),
        "since",
    )


def shown_classes(scores: DataFrame | None, exclude_classes: Sequence[str]) -> Column | DataFrame:
    """The most probable excluded class of each scored image, for `alerts`.

    Args:
        scores: the run of `tables.SCORES` that the version was decided on; None where it is gone.
        exclude_classes: what the feed must not show. Where it is one, nothing is read.

    Returns:
        The class for all images; or image_id, shows.
    """
    columns = {f"p_{name}": name for name in exclude_classes}
    if len(columns) == 1:
        return F.lit(next(iter(columns.values())))
    if scores is None or not set(columns) <= set(scores.columns):
        return F.lit(None).cast("string")
    top = F.greatest(*(F.col(f"`{column}`") for column in columns))
    shows = F.coalesce(
        *(F.when(F.col(f"`{column}`") == top, name) for column, name in columns.items())
    )
    return scores.select("image_id", shows.alias("shows"))


def write_csv(run: Run, location: str) -> str:
    """Writes the alerts of a run as a CSV file for a spreadsheet, by listing; returns its location.

    Cost: at most `MAX_CSV_ROWS` rows in memory.
    """
    rows = sorted(_first_rows(run, MAX_CSV_ROWS), key=lambda row: (str(row[1]), str(row[0])))
    text = csv_text(list(tables.ALERTS.columns), rows)
    storage.replace_bytes(
        location, text.encode("utf-8-sig")
    )  # with its mark, or spreadsheets misread umlauts
    return location


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A header line and a line per row; null is an empty cell. Texts from strangers are defused."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow([defused(name) for name in header])
    writer.writerows([["" if cell is None else defused(str(cell)) for cell in row] for row in rows])
    return written.getvalue()


def defused(cell: str) -> str:
    """The cell with an apostrophe before it, where a spreadsheet would calculate it.

    Source: OWASP, "CSV Injection".

    >>> defused("=HYPERLINK(1)"), defused("Bonn")
    ("'=HYPERLINK(1)", 'Bonn')
    """
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _first_rows(run: Run, limit: int) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for file in run.files:
        if len(found) >= limit:
            break
        filesystem, path = storage.open_filesystem(f"{run.folder}/{file.name}")
        with filesystem.open(path, "rb") as opened:
            for batch in pq.ParquetFile(opened).iter_batches(columns=list(tables.ALERTS.columns)):
                found += [
                    _for_people(row) for row in batch.slice(0, limit - len(found)).to_pylist()
                ]
                if len(found) >= limit:
                    break
    return found


def _for_people(row: dict[str, object]) -> tuple[object, ...]:
    score, since = row["score"], row["since"]
    told = {
        **row,
        "score": None if score is None else f"{score:.3f}",
        "since": since and f"{since:%Y-%m-%d}",
    }
    return tuple(told[name] for name in tables.ALERTS.columns)


def _decided_by_a_person() -> Column:
    said = F.concat(F.lit("a person has decided so ("), F.col("override"), F.lit(")"))
    return F.coalesce(said, F.lit("a person has decided so"))


def _what_it_shows() -> Column:
    earlier = F.col("reason") == "last_score"
    shows = F.coalesce(
        F.concat(F.lit('"'), F.col("shows"), F.lit('"')),
        F.lit("something that is kept out of the feed"),
    )
    return F.when(
        earlier, F.concat(F.lit("it showed "), shows, F.lit(" when it was last read"))
    ).otherwise(F.concat(F.lit("it shows "), shows))


def _why_unread() -> Column:
    words = [F.lit(word) for word in chain.from_iterable(statuses.CAUSES.items())]
    cause = F.coalesce(
        F.element_at(F.create_map(*words), F.col("status")), F.lit("it has no score")
    )
    detailed = F.col("status").isin(*_WITH_DETAIL) & (F.col("detail") != "")
    over = F.regexp_extract(F.coalesce("detail", F.lit("")), r"over (\d+) bytes", 1)
    limit = F.format_string(" (the limit is %.1f MB)", over.cast("double") / 1e6)
    return (
        F.when(detailed, F.concat(cause, F.lit(" ("), F.col("detail"), F.lit(")")))
        .when((F.col("status") == "too_large") & (over != ""), F.concat(cause, limit))
        .otherwise(cause)
    )

"""Images that agents should look at, with reasons for people who know no thresholds."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.feed.best_images import most_probable
from toiletspark.feed.readers import Current
from toiletspark.images import statuses
from toiletspark.tables import spark_io, storage
from toiletspark.tables.runs import Run
from toiletspark.tables.schemas import ALERTS, SCORES

MAX_CSV_ROWS = 100_000  # of the file for people; the table has them all
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # source: OWASP, "CSV Injection"
_WITH_DETAIL = ("too_many_pixels", "too_small")  # "9000 x 9000, limit 50000000" helps


def of_version(
    spark: SparkSession, config: Config, version: Current, decisions: DataFrame
) -> DataFrame:
    """`alerts` of a version. Without its scores they name no class, unless only one is excluded."""
    scores, classes = version.source(SCORES), config.labels.exclude_classes
    frame = spark_io.read_run(spark, scores) if scores else None
    return alerts(decisions, shown_classes(frame, classes))


def alerts(decisions: DataFrame, shows: Column | DataFrame) -> DataFrame:
    """The images of a version that are excluded, or that could not be decided.

    `decisions` are `schemas.DECISIONS`, and `shows` is the class of images that were excluded by
    score, from `shown_classes`. Returns the columns of `schemas.ALERTS`, one row per image. Cost:
    one join by id if `shows` is a frame.
    """
    images = decisions.where(~F.col("decision").eqNullSafe("keep"))
    if isinstance(shows, DataFrame):
        images = images.join(shows, on="image_id", how="left")
    else:
        images = images.withColumn("shows", shows)
    by_score, by_person = F.col("exclusion_score").isNotNull(), F.col("reason") == "override"
    plain = F.lit("a person has decided so")
    person = F.coalesce(F.concat(plain, F.lit(" ("), "override", F.lit(")")), plain)
    cause = F.when(by_person, person).when(by_score, _by_score())
    is_excluded = F.col("decision") == "exclude"
    outcome = F.when(is_excluded, "Not shown: ").otherwise("Could not be checked: ")
    return images.select(
        "image_id",
        "listing_id",
        F.concat(outcome, cause.otherwise(_without_score()), F.lit(".")).alias("why"),
        "decision",
        "status",
        F.col("exclusion_score").alias("score"),
        "since",
    )


def shown_classes(scores: DataFrame | None, exclude_classes: Sequence[str]) -> Column | DataFrame:
    """The most probable excluded class of each scored image.

    `scores` is the run of `schemas.SCORES` that the version was decided on; None if it is gone. It
    is not read if there is one class only. Returns one class for all images (null if unknown), or a
    frame of image_id and shows.
    """
    if len(exclude_classes) == 1:
        return F.lit(exclude_classes[0])
    if scores is None or not {f"p_{name}" for name in exclude_classes} <= set(scores.columns):
        return F.lit(None).cast("string")
    shows, _ = most_probable(exclude_classes)
    return scores.select("image_id", shows.alias("shows"))


def write_csv(run: Run, location: str) -> str:
    """Writes up to `MAX_CSV_ROWS` alerts of a run as CSV, by listing; returns the location."""
    rows = [_for_people(row) for row in islice(_rows(run), MAX_CSV_ROWS)]
    rows.sort(key=lambda row: (str(row[1]), str(row[0])))
    text = csv_text(list(ALERTS.columns), rows)
    # with the byte order mark, or spreadsheets misread umlauts
    storage.replace_bytes(location, text.encode("utf-8-sig"))
    return location


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A header line and a line per row; null is an empty cell; no cell becomes a formula."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([defused(name) for name in header])
    writer.writerows([["" if cell is None else defused(str(cell)) for cell in row] for row in rows])
    return file.getvalue()


def defused(cell: str) -> str:
    """The cell, with an apostrophe before it if a spreadsheet would calculate it.

    >>> defused("=HYPERLINK(1)"), defused("Bonn")
    ("'=HYPERLINK(1)", 'Bonn')
    """
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _rows(run: Run) -> Iterator[dict[str, object]]:
    for file in run.files:
        filesystem, path = storage.open_filesystem(f"{run.folder}/{file.name}")
        with filesystem.open(path, "rb") as opened:
            for batch in pq.ParquetFile(opened).iter_batches(columns=list(ALERTS.columns)):
                yield from batch.to_pylist()


def _for_people(row: dict[str, object]) -> tuple[object, ...]:
    score, since = row["score"], row["since"]
    if score is not None:
        row = {**row, "score": f"{score:.3f}"}
    if since is not None:
        row = {**row, "since": f"{since:%Y-%m-%d}"}
    return tuple(row[name] for name in ALERTS.columns)


def _by_score() -> Column:
    quoted = F.concat(F.lit('"'), F.col("shows"), F.lit('"'))
    shows = F.coalesce(quoted, F.lit("something that is kept out of the feed"))
    past = F.concat(F.lit("it showed "), shows, F.lit(" when it was last read"))
    now = F.concat(F.lit("it shows "), shows)
    return F.when(F.col("reason") == "last_score", past).otherwise(now)


def _without_score() -> Column:
    words = [F.lit(word) for word in chain.from_iterable(statuses.CAUSES.items())]
    cause = F.element_at(F.create_map(*words), F.col("status"))
    cause = F.coalesce(cause, F.lit("it has no score"))
    has_detail = F.col("status").isin(*_WITH_DETAIL) & (F.col("detail") != "")
    detail = F.concat(F.lit(" ("), F.col("detail"), F.lit(")"))
    bytes_ = F.regexp_extract(F.coalesce("detail", F.lit("")), r"over (\d+) bytes", 1)
    has_limit = (F.col("status") == "too_large") & (bytes_ != "")
    limit = F.format_string(" (the limit is %.1f MB)", bytes_.cast("double") / 1e6)
    detailed = F.when(has_detail, F.concat(cause, detail))
    return detailed.when(has_limit, F.concat(cause, limit)).otherwise(cause)

"""The overrides table, read and checked: as frames for a version, and as labels.

The rows come to the driver: people make them, so they are few.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.errors import TableError, nearest, shown
from toiletspark.labels import merge
from toiletspark.labels.merge import SourceLabels
from toiletspark.publishing import override_rules
from toiletspark.publishing.override_rules import Override, Resolved
from toiletspark.tables import joins, spark_io
from toiletspark.tables.formats.column_types import require_types
from toiletspark.tables.manifest import TableInput
from toiletspark.tables.schemas import CATALOG, quoted
from toiletspark.tables.table_reader import read_table
from toiletspark.tables.user_tables import text
from toiletspark.tables.workspace import Workspace

MOST = 1_000_000  # rows: so many take 18 s and 1.1 GB of the driver's Python


@dataclass(frozen=True)
class ActiveOverrides:
    """The overrides that count now.

    Attributes:
        frames: by image_id and by content_digest (unique), each with override_decision and
            override_note.
        counts: rows of the table (`total`); of these, how many count (`in_force`), have expired
            (`expired`), or are replaced by another about the same subject (`superseded`).
        subjects: those of `in_force`, see `Override.key`.
    """

    frames: tuple[DataFrame, DataFrame]
    counts: dict[str, int]
    subjects: frozenset[tuple[str, str]]

    def summary(self, decisions: DataFrame) -> dict[str, Any]:
        """`counts`, and the fate of the overrides in the decisions of a version, as written.

        `met`: images that overrides decide; `unmet`: overrides that no image has; `unmet_among`:
        the first five of these. Cost: one pass over three columns.
        """
        is_overridden = F.col("override").isNotNull()
        overridden = decisions.where(is_overridden).select("image_id", "content_digest")
        for frame in self.frames:
            key = frame.columns[0]
            keys = frame.select(key, F.col(key).alias(f"{key}_met"))
            overridden = overridden.join(F.broadcast(keys), on=key, how="left")
        row = overridden.agg(
            F.count("*").alias("met"),
            F.collect_set("image_id_met").alias("images"),
            F.collect_set("content_digest_met").alias("contents"),
        ).collect()[0]
        met = {(image_id, "") for image_id in row["images"]}
        met |= {("", digest) for digest in row["contents"]}
        unmet = sorted(image_id or digest for image_id, digest in self.subjects - met)
        counts = {**self.counts, "met": row["met"], "unmet": len(unmet)}
        return {**counts, "unmet_among": unmet[:5]}


def require_met(
    active: ActiveOverrides, summary: Mapping[str, Any], decisions: DataFrame, *, is_first: bool
) -> None:
    """Stops if no override is about an image, in the first version with a table of overrides.

    Later all may have left, which is no mistake: only ids in another spelling are one then.
    `summary` is that of these decisions.
    """
    if summary["met"] or not summary["in_force"]:
        return
    ids = [frame.select(frame.columns[0]) for frame in active.frames]
    pairs = [joins.neighbours(frame, decisions.select(frame.columns[0])) for frame in ids]
    pair = next(filter(None, pairs), None)
    if is_first or (pair and pair.differ_in_spelling):
        raise TableError(
            doing="joining the overrides with the images",
            expected="overrides of images that the catalog has",
            found=f"{unmet_sentence(summary)}" + (f"; for instance {pair}" if pair else ""),
            todo="write the ids as the images table has them, or map overrides.columns.image_id "
            "(content_digest) to the right column; remove the overrides of photos that have left",
        )


def unmet_sentence(summary: Mapping[str, Any]) -> str:
    """A sentence about the overrides that no image has, from `ActiveOverrides.summary`."""
    rest = summary["unmet"] - len(summary["unmet_among"])
    examples = shown(summary["unmet_among"]) + (f" and {rest} more" if rest else "")
    unmet, in_force = summary["unmet"], summary["in_force"]
    return f"{unmet} of {in_force} overrides are about no image of the catalog: {examples}"


def read(spark: SparkSession, config: Config, now: datetime) -> ActiveOverrides | None:
    """The overrides that count at a moment, see `read_rows`; None if there is no table of them."""
    if not config.overrides.is_set:
        return None
    rows = read_rows(spark, config)
    valid = [override for override in rows if override.counts_at(now)]
    resolved = override_rules.resolve(valid)
    counts = {
        "total": len(rows),
        "in_force": len(resolved),
        "expired": len(rows) - len(valid),
        "superseded": len(valid) - len(resolved),
    }
    frames = _decided(spark, "image_id", resolved), _decided(spark, "content_digest", resolved)
    return ActiveOverrides(frames, counts, frozenset(resolved))


def read_rows(spark: SparkSession, config: Config) -> list[Override]:
    """All rows of the table, also those that have expired.

    Raises TableError if the table or a column is missing, there are more than `MOST` rows, or a
    row is not sound (see `override_rules.parse`).
    """
    section = config.overrides
    doing = f"reading the overrides table {section.label}"
    raw = read_table(spark, section, "overrides", section.columns.model_dump().values())
    _require_columns(raw, section.columns.model_dump(by_alias=True), doing)
    names = section.columns.model_dump()
    columns = [_text(raw, name).alias(ours) for ours, name in names.items() if name]
    frame = raw.select(*columns).limit(MOST + 1).toPandas()
    if len(frame) > MOST:
        raise TableError(
            doing=doing,
            expected=f"at most {MOST:,} overrides: exceptions that people have made",
            found="more",
            todo="remove the expired ones; so many decisions are labels: import them "
            "(labels.table) and train a head",
        )
    rows: list[dict[str, str | None]] = frame.to_dict("records")  # type: ignore[assignment]
    return override_rules.parse(rows, config.labels.classes, doing=doing)


def as_labels(work: Workspace) -> tuple[SourceLabels, dict[str, int]]:
    """Overrides as labels (see `read_rows`); also expired ones: the class of the image stays true.

    Returns the labels, with the content that the newest catalog, if any, knows of their images, and
    the number of overrides that give none. A row that is gone from the table takes its label back,
    unless somebody has labelled the image otherwise since.
    """
    section = work.config.labels
    resolved = override_rules.resolve(read_rows(work.spark, work.config))
    earlier = merge.labelled_contents(work.store, work.config.overrides.source, "override")
    digests, images = _in_catalog(work, resolved)
    images |= {digest: image_id for image_id, digest in earlier.items() if ("", digest) in resolved}
    labels, missing = override_rules.as_labels(
        resolved, digests, images, section.classes, section.exclude_classes
    )
    shows = frozenset([*earlier, *(label.image_id for label in labels)])
    table = TableInput.of(work.config.overrides)
    return SourceLabels(labels, shows, table=table), missing


def _in_catalog(work: Workspace, resolved: Resolved) -> tuple[dict[str, str], dict[str, str]]:
    """The contents of the named images, and the first image of each named content. Two passes."""
    catalog = work.store.newest(CATALOG)
    if catalog is None:
        return {}, {}
    pairs = spark_io.read_run(work.spark, catalog).select("image_id", "content_digest")
    pairs = pairs.where("content_digest is not null")
    by_image = _decided(work.spark, "image_id", resolved)
    by_content = _decided(work.spark, "content_digest", resolved)
    digests = pairs.join(F.broadcast(by_image), on="image_id", how="left_semi").collect()
    of_content = pairs.join(F.broadcast(by_content), on="content_digest", how="left_semi")
    images = of_content.groupBy("content_digest").agg(F.min("image_id").alias("image_id")).collect()
    return (
        {row["image_id"]: row["content_digest"] for row in digests},
        {row["content_digest"]: row["image_id"] for row in images},
    )


def _decided(spark: SparkSession, key: str, resolved: Resolved) -> DataFrame:
    """The overrides whose subject is a `key`: image_id or content_digest."""
    overrides = [override for override in resolved.values() if getattr(override, key)]
    rows = [(getattr(override, key), override.decision, override.note) for override in overrides]
    columns = dict.fromkeys((key, "override_decision", "override_note"), "string")
    return spark_io.of_rows(spark, rows, columns)


def _text(raw: DataFrame, name: str) -> Column:
    """A column as text; moments with their zone, because the session may have another one."""
    if dict(raw.dtypes)[name] != "timestamp":
        return text(raw, name)
    column = F.col(quoted(name))
    return F.date_format(column, "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX")


def _require_columns(raw: DataFrame, names: Mapping[str, str], doing: str) -> None:
    missing = {key: name for key, name in names.items() if name and name not in raw.columns}
    if missing:
        first = next(iter(missing.values()))
        columns = [
            f"the column '{name}' (overrides.columns.{key})" for key, name in missing.items()
        ]
        raise TableError(
            doing=doing,
            expected=", ".join(columns),
            found=f"the columns {shown(raw.columns, 20)}{nearest(first, raw.columns)}",
            todo='set overrides.columns to the names of your columns; "" = your table has no such '
            "column (image_id or content_digest, class, when, until)",
        )
    mapped = {f"overrides.columns.{key}": name for key, name in names.items()}
    require_types(raw, mapped, doing)

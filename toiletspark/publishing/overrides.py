"""What people have decided of images: their table read and checked, as frames for a version and as labels.

The rows come to the driver: people make them, so they are few. What they mean: see `override_rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.config import Overrides as Section
from toiletspark.errors import TableError, nearest, shown
from toiletspark.labels import merge as labels
from toiletspark.labels.merge import SourceLabels
from toiletspark.publishing import override_rules
from toiletspark.publishing.override_rules import Override
from toiletspark.tables import schemas as tables
from toiletspark.tables import spark_io as frames
from toiletspark.tables.runs import Store
from toiletspark.tables.user_tables import read_table, text
from toiletspark.tables.workspace import Workspace

MOST = 1_000_000  # rows: so many take 18 s and 1.1 GB of the driver's Python
_SAID = ("override_decision", "override_told")
_SHOWN = 5  # subjects without an image that are named


@dataclass(frozen=True)
class Read:
    """The overrides that count now.

    Attributes:
        frames: those of images and those of contents, as `decisions.decide` takes them: image_id or content_digest
            (unique), override_decision, override_told.
        counts: rows of the table (`total`); how many count (`in_force`), are past their until (`expired`), or give way
            to another about the same (`superseded`).
        subjects: what `in_force` are about, see `Override.key`.
    """

    frames: tuple[DataFrame, DataFrame]
    counts: dict[str, int]
    subjects: frozenset[tuple[str, str]]

    def told(self, decisions: DataFrame) -> dict[str, Any]:
        """The counts, and what a version made of it.

        Args:
            decisions: `tables.DECISIONS`, as written.

        Returns:
            `counts` with `met`: images that overrides decide; `unmet`: overrides that no image has; `unmet_among`: the
            first of these. Cost: one pass over three columns.
        """
        overridden = decisions.where(F.col("override").isNotNull()).select(
            "image_id", "content_digest"
        )
        for frame in self.frames:
            key = frame.columns[0]
            overridden = overridden.join(
                F.broadcast(frame.select(key, F.col(key).alias(f"{key}_met"))), on=key, how="left"
            )
        found = overridden.agg(
            F.count("*").alias("met"),
            F.collect_set("image_id_met").alias("images"),
            F.collect_set("content_digest_met").alias("contents"),
        ).collect()[0]
        met = {(image_id, "") for image_id in found["images"]} | {
            ("", digest) for digest in found["contents"]
        }
        unmet = sorted(image_id or digest for image_id, digest in self.subjects - met)
        return {
            **self.counts,
            "met": found["met"],
            "unmet": len(unmet),
            "unmet_among": unmet[:_SHOWN],
        }


def shown_unmet(told: Mapping[str, Any]) -> str:
    """A sentence about the overrides that no image has, from `Read.told`."""
    rest = told["unmet"] - len(told["unmet_among"])
    named = shown(told["unmet_among"]) + (f" and {rest} more" if rest else "")
    return f"{told['unmet']} of {told['in_force']} overrides are about no image of the catalog: {named}"


def read(spark: SparkSession, config: Config, now: datetime) -> Read | None:
    """The overrides that count at a moment, or None where there is no table of them.

    Raises:
        TableError: see `read_rows`.
    """
    if not config.overrides.path:
        return None
    everything = read_rows(spark, config)
    valid = [override for override in everything if override.counts_at(now)]
    counting = override_rules.resolve(valid)
    counts = {
        "total": len(everything),
        "in_force": len(counting),
        "expired": len(everything) - len(valid),
        "superseded": len(valid) - len(counting),
    }
    by_image = [(one.image_id, one.decision, one.told) for one in counting.values() if one.image_id]
    by_content = [
        (one.content_digest, one.decision, one.told)
        for one in counting.values()
        if one.content_digest
    ]
    pair = _frame(spark, "image_id", by_image), _frame(spark, "content_digest", by_content)
    return Read(pair, counts, frozenset(counting))


def read_rows(spark: SparkSession, config: Config) -> list[Override]:
    """All rows of the table, also those that have expired.

    Raises:
        TableError: the table or a column is missing, there are more than `MOST` rows, or a row is not sound (see
            `override_rules.parse`).
    """
    section, doing = config.overrides, f"reading the overrides table {config.overrides.path}"
    raw = read_table(spark, section, "overrides")
    _require_columns(raw, section, doing)
    names = section.columns.model_dump()
    asked = raw.select(*(_text(raw, name).alias(ours) for ours, name in names.items() if name))
    found = asked.limit(MOST + 1).toPandas()
    if len(found) > MOST:
        raise TableError(
            doing=doing,
            expected=f"at most {MOST:,} overrides: exceptions that people have made",
            found="more",
            todo="remove what has expired; so many words are labels: import them (labels.table) and train a head",
        )
    said: list[dict[str, str | None]] = found.to_dict("records")  # type: ignore[assignment]
    return override_rules.parse(said, config.labels.classes, doing=doing)


def as_labels(work: Workspace) -> tuple[SourceLabels, dict[str, int]]:
    """What overrides say as labels; also those that have expired, since what was seen stays true.

    Returns:
        The labels, with the content that the newest catalog knows of their images (without a catalog, none), and how
        many overrides give none. It shows all that the table has said and nobody has said otherwise since: a row that
        is gone takes its label back.

    Raises:
        TableError: see `read_rows`.
    """
    resolved = override_rules.resolve(read_rows(work.spark, work.config))
    earlier = labels.labelled_contents(work.store, work.config.overrides.path, "override")
    digests, images = _in_catalog(work.spark, work.store, resolved)
    images.update(
        {digest: image_id for image_id, digest in earlier.items() if ("", digest) in resolved}
    )
    section = work.config.labels
    said, missing = override_rules.as_labels(
        resolved, digests, images, section.classes, section.exclude_classes
    )
    return SourceLabels(said, frozenset([*earlier, *(label.image_id for label in said)])), missing


def _in_catalog(
    spark: SparkSession, store: Store, resolved: Iterable[tuple[str, str]]
) -> tuple[dict[str, str], dict[str, str]]:
    """The contents of the images that are named, and the first image of each content that is. Two passes."""
    seen, named = store.newest(tables.CATALOG), list(resolved)
    if seen is None:
        return {}, {}
    pairs = (
        frames.read_run(spark, seen)
        .select("image_id", "content_digest")
        .where("content_digest is not null")
    )
    by_image = _frame(spark, "image_id", [(image_id, "", "") for image_id, _ in named if image_id])
    by_content = _frame(
        spark, "content_digest", [(digest, "", "") for _, digest in named if digest]
    )
    digests = pairs.join(F.broadcast(by_image), on="image_id", how="left_semi").collect()
    of_content = pairs.join(F.broadcast(by_content), on="content_digest", how="left_semi")
    images = of_content.groupBy("content_digest").agg(F.min("image_id").alias("image_id")).collect()
    return (
        {row["image_id"]: row["content_digest"] for row in digests},
        {row["content_digest"]: row["image_id"] for row in images},
    )


def _frame(spark: SparkSession, key: str, told: list[tuple[str, str, str]]) -> DataFrame:
    return frames.of_rows(spark, told, dict.fromkeys((key, *_SAID), "string"))


def _text(raw: DataFrame, name: str) -> Column:
    """A column as text; moments with their zone, whatever the session's is."""
    if dict(raw.dtypes)[name] != "timestamp":
        return text(raw, name)
    column = F.col("`" + name.replace("`", "``") + "`")
    return F.date_format(column, "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX")


def _require_columns(raw: DataFrame, section: Section, doing: str) -> None:
    named: Mapping[str, str] = section.columns.model_dump(by_alias=True)
    missing = {key: name for key, name in named.items() if name and name not in raw.columns}
    if missing:
        first = next(iter(missing.values()))
        raise TableError(
            doing=doing,
            expected=", ".join(
                f"the column '{name}' (overrides.columns.{key})" for key, name in missing.items()
            ),
            found=f"the columns {shown(raw.columns, 20)}{nearest(first, raw.columns)}",
            todo='say in the configuration what your column is called; "" = there is none (image_id or content_digest, '
            "class, when, until)",
        )

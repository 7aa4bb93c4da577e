"""Labels that a table already holds, and labelled images checked against the catalog. The Spark side of `labels`."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Labels as LabelsSection
from toiletspark.errors import LabelsError, TableError, nearest, shown
from toiletspark.labels.merge import Label, Said
from toiletspark.tables import spark_io as frames
from toiletspark.tables.user_tables import read_table, text


def import_table(spark: SparkSession, section: LabelsSection, catalog: DataFrame) -> Said:
    """Reads the labels table; rows without a class are images that nobody has labelled.

    Args:
        spark: the session.
        section: labels.table says where, labels.classes what may stand there.
        catalog: column image_id; every labelled image must be in it.

    Returns:
        One label per image, on the driver: labels are made by hand, so they are few. The table shows the images of
        all its rows.

    Raises:
        TableError: the table or a column is missing.
        LabelsError: an unknown class or image, or an image with two classes.
    """
    table = section.table
    doing = f"importing labels from {table.path}"
    raw = read_table(spark, table, "labels.table")
    for key, name in table.columns.model_dump(by_alias=True).items():
        if name not in raw.columns:
            raise TableError(
                doing=doing,
                expected=f"the column '{name}' (labels.table.columns.{key})",
                found=f"the columns {shown(raw.columns, 20)}{nearest(name, raw.columns)}",
                todo="say in the configuration what your column is called",
            )
    everything = raw.select(
        text(raw, table.columns.image_id).alias("image_id"),
        text(raw, table.columns.label).alias("class"),
    )
    labelled = everything.where(F.col("class").isNotNull() & (F.col("class") != ""))
    rows = labelled.distinct().collect()
    _check(rows, section.classes, doing)
    unknown = (
        labelled.join(catalog, on="image_id", how="left_anti")
        .select("image_id")
        .distinct()
        .limit(6)
        .collect()
    )
    if unknown:
        raise LabelsError(
            doing=doing,
            expected="labels of images that the images table has",
            found=f"labels of unknown images: {shown(sorted(str(row['image_id']) for row in unknown))}",
            todo="correct the ids, or map labels.table.columns.image_id to the right column",
        )
    shows = frozenset(row["image_id"] for row in everything.select("image_id").distinct().collect())
    return Said([Label(row["image_id"], row["class"], None, "table") for row in rows], shows)


def require_known(
    spark: SparkSession, labels: Iterable[Label], catalog: DataFrame, source: str
) -> None:
    """Stops where a file of labels was made for another catalog: it knows none of the images.

    Some unknown ones are taken: listings end while people label, and a label outlives its image by its digest.

    Raises:
        LabelsError: the catalog (column image_id) has none of the labelled images.
    """
    ids = sorted({label.image_id for label in labels})
    asked = frames.of_rows(spark, [(image_id,) for image_id in ids], {"image_id": "string"})
    if not catalog.join(F.broadcast(asked), on="image_id", how="left_semi").limit(1).count():
        raise LabelsError(
            doing=f"importing labels from {source}",
            expected="labels of images that the images table has",
            found=f"{len(ids)} images, all of them unknown: {shown(ids)}",
            todo="use the configuration with which the sheet or the tasks were made",
        )


def _check(rows: list[Row], classes: list[str], doing: str) -> None:
    """Classes are known, ids are there, and no image has two classes."""
    unknown = sorted({label for _, label in rows if label not in classes})
    if unknown or not rows:
        raise LabelsError(
            doing=doing,
            expected=f"at least one label, each one of labels.classes: {', '.join(classes)}",
            found=f"{shown(unknown)}{nearest(unknown[0], classes)}" if unknown else "no labels",
            todo="mend the table, or set labels.classes to the classes that it holds",
        )
    times = collections.Counter(image_id for image_id, _ in rows)
    doubled = sorted(
        (image_id for image_id, count in times.items() if image_id is None or count > 1), key=str
    )
    if doubled:
        raise LabelsError(
            doing=doing,
            expected="one class per image, and no null image_id",
            found=f"{len(doubled)} images with several classes or no id: {shown(doubled)}",
            todo="keep the right label of each",
        )

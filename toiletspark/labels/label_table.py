"""Labels from a table, and labelled images checked against the catalog. With Spark."""

import collections
from collections.abc import Iterable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Labels as LabelsSection
from toiletspark.errors import LabelsError, TableError, nearest, shown
from toiletspark.labels.label_files import require_classes
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.tables import spark_io
from toiletspark.tables.manifest import TableInput
from toiletspark.tables.table_reader import read_table
from toiletspark.tables.user_tables import text


def import_table(spark: SparkSession, section: LabelsSection, catalog: DataFrame) -> SourceLabels:
    """Reads the labels table: one label per image, on the driver, since people make few of them.

    The source covers the images of all rows; those without a class are images that nobody has
    labelled. `catalog` (column image_id) must have every labelled image.

    Raises:
        TableError: the table or a column is missing.
        LabelsError: an unknown class or image, or an image with two classes.
    """
    table = section.table
    doing = f"importing labels from {table.label}"
    raw = read_table(spark, table, "labels.table")
    for key, name in table.columns.model_dump(by_alias=True).items():
        if name not in raw.columns:
            raise TableError(
                doing=doing,
                expected=f"the column '{name}' (labels.table.columns.{key})",
                found=f"the columns {shown(raw.columns, 20)}{nearest(name, raw.columns)}",
                todo="write the name of your column into the configuration",
            )
    image_id = text(raw, table.columns.image_id).alias("image_id")
    rows = raw.select(image_id, text(raw, table.columns.label).alias("class"))
    labelled = rows.where(F.col("class").isNotNull() & (F.col("class") != ""))
    labels = labelled.distinct().collect()
    require_classes({row["class"] for row in labels}, section.classes, doing)
    counts = collections.Counter(row["image_id"] for row in labels)
    repeated = [image_id for image_id, count in counts.items() if image_id is None or count > 1]
    if repeated:
        ids = shown(sorted(repeated, key=str))
        raise LabelsError(
            doing=doing,
            expected="one class per image, and no null image_id",
            found=f"{len(repeated)} images with several classes or no id: {ids}",
            todo="keep the right label of each",
        )
    strangers = labelled.join(catalog, on="image_id", how="left_anti").select("image_id")
    unknown = [str(row["image_id"]) for row in strangers.distinct().limit(6).collect()]
    if unknown:
        raise LabelsError(
            doing=doing,
            expected="labels of images that the images table has",
            found=f"labels of unknown images: {shown(sorted(unknown))}",
            todo="correct the ids, or map labels.table.columns.image_id to the right column",
        )
    covers = frozenset(row["image_id"] for row in rows.select("image_id").distinct().collect())
    named = [Label(row["image_id"], row["class"], None, "table") for row in labels]
    return SourceLabels(named, covers, table=TableInput.of(table))


def require_known(
    spark: SparkSession, labels: Iterable[Label], catalog: DataFrame, source: str
) -> None:
    """Raises a LabelsError if the catalog (column image_id) has none of the labelled images.

    A file of labels was made for another catalog then. Some unknown ones are taken: listings end
    while people label, and a label outlives its image by its digest.
    """
    ids = sorted({label.image_id for label in labels})
    labelled = spark_io.of_rows(spark, [(image_id,) for image_id in ids], {"image_id": "string"})
    known = catalog.join(F.broadcast(labelled), on="image_id", how="left_semi")
    if not known.limit(1).count():
        raise LabelsError(
            doing=f"importing labels from {source}",
            expected="labels of images that the images table has",
            found=f"{len(ids)} images, all of them unknown: {shown(ids)}",
            todo="use the configuration with which the sheet or the tasks were made",
        )

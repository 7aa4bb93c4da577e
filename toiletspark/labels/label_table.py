"""Labels from a table, and labelled images checked against the catalog. With Spark."""

import collections
import logging
from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Labels as LabelsSection
from toiletspark.errors import LabelsError, TableError, nearest, shown
from toiletspark.labels.label_files import require_classes
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.tables import spark_io
from toiletspark.tables.manifest import TableInput
from toiletspark.tables.table_reader import read_table
from toiletspark.tables.user_tables import FALSE_WORDS, TRUE_WORDS, text, word

_log = logging.getLogger("toiletspark")


def import_table(spark: SparkSession, section: LabelsSection, catalog: DataFrame) -> SourceLabels:
    """Reads the labels table: one label per image, on the driver, since people make few of them.

    The source covers the images of all rows; those without a class are images that nobody has
    labelled. In a wide table, rows with several classes are no labels either, and are named in the
    log. `catalog` (column image_id) must have every labelled image.

    Raises:
        TableError: the table or a column is missing.
        LabelsError: an unknown class or image, an image with two classes in two rows, or a mark in
            a wide table that is neither true nor false.
    """
    table = section.table
    doing = f"importing labels from {table.label}"
    raw = read_table(spark, table, "labels.table", [*table.columns.model_dump().values()])
    _require_columns(raw, section, doing)
    image_id = text(raw, table.columns.image_id).alias("image_id")
    if table.columns.label:
        rows = raw.select(image_id, text(raw, table.columns.label).alias("class"))
    else:
        rows = _of_marks(raw, image_id, section.classes, doing)
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


def _require_columns(raw: DataFrame, section: LabelsSection, doing: str) -> None:
    columns = section.table.columns
    names = {"labels.table.columns.image_id": columns.image_id}
    if columns.label:
        names["labels.table.columns.class"] = columns.label
    else:
        names |= {f"labels.table.columns.class is empty: {name}": name for name in section.classes}
    for key, name in names.items():
        if name in raw.columns:
            continue
        is_wide = name == columns.label and set(section.classes) <= set(raw.columns)
        hint = ', or set labels.table.columns.class = "" for a column for each class'
        raise TableError(
            doing=doing,
            expected=f"the column '{name}' ({key})",
            found=f"the columns {shown(raw.columns, 20)}{nearest(name, raw.columns)}",
            todo=f"write the name of your column into the configuration{hint if is_wide else ''}",
        )


def _of_marks(raw: DataFrame, image_id: Column, classes: list[str], doing: str) -> DataFrame:
    """image_id and class of a wide table; class is null unless exactly one column is true."""
    marks = {name: F.coalesce(word(text(raw, name)), F.lit("")) for name in classes}
    of_class = [F.when(mark.isin(*TRUE_WORDS), F.lit(name)) for name, mark in marks.items()]
    chosen = F.array_compact(F.array(*of_class)).alias("chosen")
    strange = [F.when(~mark.isin(*TRUE_WORDS, *FALSE_WORDS), mark) for mark in marks.values()]
    rows = raw.select(image_id, chosen, F.array_compact(F.array(*strange)).alias("strange"))
    others = rows.where((F.size("chosen") != 1) | (F.size("strange") > 0)).collect()
    if words := sorted({word for row in others for word in row["strange"]}):
        raise LabelsError(
            doing=doing,
            expected=f"1 or 0, true or false, yes or no in the columns {shown(classes)}",
            found=shown(words),
            todo="write 1 into the column of the image's class; a table of probabilities is none "
            "of labels",
        )
    several = [row["image_id"] for row in others if row["chosen"]]
    if several:
        _log.warning("no label, several classes in one row: %d (%s)", len(several), shown(several))
    if len(others) > len(several):
        _log.info("rows without a class: %d", len(others) - len(several))
    return rows.select("image_id", F.when(F.size("chosen") == 1, F.col("chosen")[0]).alias("class"))


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

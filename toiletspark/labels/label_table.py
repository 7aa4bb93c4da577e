"""Labels from a table, and labelled images checked against the catalog. With Spark."""

import collections
import logging
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config
from toiletspark.config import Labels as LabelsSection
from toiletspark.errors import LabelsError, TableError, nearest, shown
from toiletspark.labels.label_files import of_known_classes
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.tables import joins, spark_io, user_tables
from toiletspark.tables.formats.column_types import require_types
from toiletspark.tables.manifest import TableInput
from toiletspark.tables.schemas import PICTURE
from toiletspark.tables.table_reader import read_table
from toiletspark.tables.user_tables import FALSE_WORDS, TRUE_WORDS, text, word
from toiletspark.tables.words import require_few_unknown

_log = logging.getLogger("toiletspark")


def import_table(spark: SparkSession, section: LabelsSection) -> SourceLabels:
    """Reads the labels table, on the driver, since people make few labels.

    The source covers the images of all rows; those without a class are images that nobody has
    labelled. Rows with different classes for an image are the words of different people. In a wide
    table, rows with several classes are no labels, and are named in the log.

    Raises:
        TableError: the table or a column is missing.
        LabelsError: unknown classes, or marks in a wide table that are neither true nor false, in
            more than 1 row of 100; a label without an image_id.
    """
    table = section.table
    doing = f"importing labels from {table.label}"
    raw = read_table(spark, table, "labels.table", [*table.columns.model_dump().values()])
    _require_columns(raw, section, doing)
    image_id = text(raw, table.columns.image_id).alias("image_id")
    counts: dict[str, Any] = {}
    if table.columns.label:
        rows = raw.select(image_id, text(raw, table.columns.label).alias("class"))
    else:
        rows, unknown = _of_marks(raw, image_id, section.classes, doing)
        counts = {"unknown_marks": unknown} if unknown else {}
    labelled = rows.where(F.col("class").isNotNull() & (F.col("class") != ""))
    by_image: dict[str | None, list[str]] = collections.defaultdict(list)
    for row in labelled.distinct().orderBy("image_id", "class").collect():
        by_image[row["image_id"]].append(row["class"])
    if None in by_image:
        raise LabelsError(
            doing=doing,
            expected="an image_id in each row with a class",
            found=f"rows without one, of the classes {shown(by_image[None])}",
            todo="fill it in, leave these rows out (labels.table.where), or map "
            "labels.table.columns.image_id to the right column",
        )
    covers = frozenset(row["image_id"] for row in rows.select("image_id").distinct().collect())
    labels = [label for image_id, names in by_image.items() for label in _words(image_id, names)]
    source = SourceLabels(labels, covers, table=TableInput.of(table), counts=counts)
    return of_known_classes(source, section.classes, doing)


def _words(image_id: str | None, names: list[str]) -> Iterator[Label]:
    """The labels of an image; a table names no people, so those who contradict get names here."""
    for name in names:
        labeller = f"somebody who says {name}" if len(names) > 1 else ""
        yield Label(str(image_id), name, None, "table", labeller)


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
    require_types(raw, names, doing)


def _of_marks(
    raw: DataFrame, image_id: Column, classes: list[str], doing: str
) -> tuple[DataFrame, dict[str, int]]:
    """image_id and class of a wide table, and the marks that are neither true nor false.

    class is null unless exactly one column is true.
    """
    marks = {name: F.coalesce(word(text(raw, name)), F.lit("")) for name in classes}
    of_class = [F.when(mark.isin(*TRUE_WORDS), F.lit(name)) for name, mark in marks.items()]
    chosen = F.array_compact(F.array(*of_class)).alias("chosen")
    strange = [F.when(~mark.isin(*TRUE_WORDS, *FALSE_WORDS), mark) for mark in marks.values()]
    rows = raw.select(image_id, chosen, F.array_compact(F.array(*strange)).alias("strange"))
    others = rows.where((F.size("chosen") != 1) | (F.size("strange") > 0)).collect()
    unknown = dict(collections.Counter(row["strange"][0] for row in others if row["strange"]))
    require_few_unknown(
        unknown,
        raw.count() if unknown else 0,
        (*TRUE_WORDS, *FALSE_WORDS),
        LabelsError,
        doing=doing,
        expected=f"1 or 0, true or false, yes or no in the columns {shown(classes)}",
        todo="write 1 into the column of the image's class; a table of probabilities is none "
        "of labels",
    )
    several = [row["image_id"] for row in others if row["chosen"]]
    if several:
        _log.warning("no label, several classes in one row: %d (%s)", len(several), shown(several))
    if len(others) > len(several):
        _log.info("rows without a class: %d", len(others) - len(several))
    of_image = F.when(F.size("chosen") == 1, F.col("chosen")[0]).alias("class")
    return rows.select("image_id", of_image), unknown


def count_unknown(
    spark: SparkSession, config: Config, labels: Iterable[Label], earlier: Collection[str], of: str
) -> int:
    """Counts the labelled images that the images table does not have, for any source of labels.

    Some unknown ones are taken: photos leave while people label, and a label outlives its image by
    its digest. Raises a LabelsError if all are unknown, unless the source `of` has labelled one of
    them before (`earlier`): it is of another catalog then, or spells the ids in another way.
    """
    named = {label.image_id for label in labels}
    ids = sorted(image_id for image_id in named if not image_id.startswith(PICTURE))
    labelled = spark_io.of_rows(spark, [(image_id,) for image_id in ids], {"image_id": "string"})
    images = user_tables.read_images(spark, config).select("image_id")
    known = images.join(F.broadcast(labelled), "image_id", "left_semi").distinct().count()
    if ids and not known and not set(ids) & set(earlier):
        pair = joins.neighbours(labelled, images)
        raise LabelsError(
            doing=f"importing labels from {of}",
            expected="labels of images that the images table has",
            found=f"{len(ids)} images, all of them unknown, for instance {pair or shown(ids)}",
            todo="write the ids as the images table has them, or use the configuration with which "
            "the sheet, the tasks or the folder were made",
        )
    return len(ids) - known

"""Labels from a folder that people made themselves, matched with the catalog by content.

A file whose content the catalog has, or whose name is an image_id, labels that image. Any other
sound file becomes a labelled picture of its own: its bytes are kept once in `schemas.PICTURES`, it
is embedded once, and it trains. Nothing here was drawn at random, so none of these labels counts
for a draw (`training_set.settle`). With Spark; the folder is on the driver's machine.
"""

import collections
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config.command_line import Summary
from toiletspark.embedding import commits, int8, ledger, plan
from toiletspark.errors import shown
from toiletspark.hashing import content_digest
from toiletspark.images.decoding import decoder_id
from toiletspark.labels import image_folder, merge
from toiletspark.labels.image_folder import FolderLabels, LabelledFile, SkippedFile
from toiletspark.labels.merge import IMAGE_FOLDER, Label, SourceLabels
from toiletspark.model import registry
from toiletspark.tables import arrow_io, spark_io, user_tables
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.schemas import CATALOG, IMAGE_LEDGER, IMAGES, PICTURE, PICTURES
from toiletspark.tables.workspace import Workspace

_ID = {"image_id": "string"}
_WAITING = {
    name: plan.PLAN.columns[name] for name in (*_ID, "image_version", "image_url", "attempts")
}
_BYTES_PER_FILE = 64_000_000  # of pictures in one Parquet file, and in the driver's memory


@dataclass(frozen=True)
class FolderImport:
    """The labels of a folder, and what an import has to say of its files."""

    labels: SourceLabels
    notes: list[str]  # sentences for people
    summary: Summary  # counts


@dataclass(frozen=True)
class Known:
    """The images that the contents and names of a folder's files stand for."""

    by_content: dict[str, list[str]]  # image_ids of the catalog by content_digest
    names: set[str]  # file names, with or without ending, that are an image_id
    labelled: dict[str, list[str]]  # image_ids that have a label, by content_digest

    def label(self, file: LabelledFile) -> Label:
        """Returns the label that a file gives, of the first of these that exists.

        1. An image of the catalog with this content. If there are several, one that has a label
           already: the same folder then labels the same image again.
        2. The image that the file is named after, with the content that it has now.
        3. An image that had this content when it was labelled.
        4. A picture of its own.
        """
        digest = file.content_digest
        ids = self.by_content.get(digest, [])
        labelled = self.labelled.get(digest, [])
        named = [name for name in _names(file) if name in self.names and not ids]
        if named:
            return Label(named[0], file.label, None, IMAGE_FOLDER)
        known = sorted(set(ids) & set(labelled)) or sorted(ids) or sorted(labelled)
        return Label([*known, PICTURE + digest][0], file.label, digest, IMAGE_FOLDER)


def read(work: Workspace, folder: Path) -> FolderImport:
    """Reads an `ImageFolder`, keeps and embeds the pictures that the catalog does not have.

    The source covers all that it has ever labelled: a label is taken back once its file is gone.

    Raises:
        LabelsError: see `image_folder.read`; also if unsound files leave less than two classes.

    Cost: hashes each file; embeds each new content once.
    """
    doing = f"importing labels from {folder}"
    files = image_folder.read(folder, work.config.labels.classes)
    known = _known(work, files)
    foreign = [file for file in files.files if known.label(file).image_id.startswith(PICTURE)]
    skipped = _keep(work, folder, foreign) if foreign else []
    unsound = embed(work) if foreign else {}
    for file in foreign:
        if status := unsound.get(PICTURE + file.content_digest):
            skipped.append(SkippedFile(file.path, status))
    _skip(files, skipped)
    labels = _labels(files, known)
    image_folder.require_two_classes(files, doing)
    source = str(folder)
    covers = merge.covered_images(work.store, source) | {label.image_id for label in labels}
    by_name = [file.path for file in files.files if known.label(file).content_digest is None]
    notes = files.notes()
    if by_name:
        notes.append(
            f"files that label the image they are named after: {len(by_name)} ({shown(by_name)})"
        )
    return FolderImport(SourceLabels(labels, covers), notes, _summary(files, labels))


def embed(work: Workspace) -> dict[str, str]:
    """Embeds the kept pictures that have no embedding of the configured backbone.

    Failed ones are tried again as embed.retry says. Returns the status of each picture that is not
    ok, by image_id. Cost: reads the digests of all pictures and the ledger; no catalog.
    """
    spark, store, config = work.spark, work.store, work.config
    if not store.runs(PICTURES):
        return {}
    images = stored(work).dropDuplicates(["image_id"])
    spec = int8.load_or_calibrate(store, config, user_tables.read_catalog(spark, config))
    columns = {name: F.lit(None).cast(kind) for name, kind in IMAGES.columns.items()}
    columns |= {"image_id": F.col("image_id"), "image_version": F.lit("")}
    rows = images.select(*(column.alias(name) for name, column in columns.items()))
    embedded = ledger.embedded_contents(spark, store, spec.backbone_id).distinct()
    attempts = spark_io.read_all(spark, store, IMAGE_LEDGER)
    attempts = attempts.where(F.col("image_id").startswith(PICTURE))
    state = ledger.join_attempts(rows, attempts, embedded)
    decoder = decoder_id(config.decode, config.fetch.max_image_bytes)
    state = state.withColumn("waits", ledger.is_due(config.embed.retry, None, decoder))
    known = state.select("image_id", "attempts", "status", "waits").collect()
    statuses = {row["image_id"]: row["status"] for row in known}
    if waiting := [(row["image_id"], "", None, row["attempts"]) for row in known if row["waits"]]:
        frame = spark_io.of_rows(spark, waiting, _WAITING)
        planned = plan.make_plan(work, frame, images, len(waiting), is_inline=True)
        probe = registry.probe(store, config.score.head, spec.backbone_id)
        commits.embed_plan(work, planned, spec, probe)
        new = spark_io.read_all(spark, store, IMAGE_LEDGER, of_run=work.run_id)
        statuses |= {row["image_id"]: row["status"] for row in new.collect()}
        store.clear(work.run_id)
    return {image_id: name for image_id, name in statuses.items() if name != "ok"}


def stored(work: Workspace) -> DataFrame:
    """The kept pictures: image_id, content_digest, content. A content may stand twice."""
    rows = spark_io.read_all(work.spark, work.store, PICTURES)
    image_id = F.concat(F.lit(PICTURE), "content_digest").alias("image_id")
    return rows.select(image_id, "content_digest", "content")


def _known(work: Workspace, files: FolderLabels) -> Known:
    """Looks the contents up in the newest catalog, and the names in the images table."""
    spark, store = work.spark, work.store
    digests = [(file.content_digest,) for file in files.files]
    wanted = F.broadcast(spark_io.of_rows(spark, digests, {"content_digest": "string"}))
    catalog = spark_io.read_if_any(spark, store.newest(CATALOG), CATALOG).where("status = 'ok'")
    same = catalog.join(wanted, "content_digest", "left_semi").select("content_digest", "image_id")
    by_content: dict[str, list[str]] = collections.defaultdict(list)
    for digest, image_id in same.collect():
        by_content[digest].append(image_id)
    names = sorted({name for file in files.files for name in _names(file)})
    wanted = F.broadcast(spark_io.of_rows(spark, [(name,) for name in names], _ID))
    images = user_tables.read_images(spark, work.config).join(wanted, "image_id", "left_semi")
    ids = {row["image_id"] for row in images.select("image_id").distinct().collect()}
    labelled: dict[str, list[str]] = collections.defaultdict(list)
    for label in merge.newest(store):
        if label.content_digest:
            labelled[label.content_digest].append(label.image_id)
    return Known(dict(by_content), ids, dict(labelled))


def _names(file: LabelledFile) -> tuple[str, str]:
    """The image_ids that a file may be named after: its name, with its ending and without."""
    path = Path(file.path)
    return path.name, path.stem


def _keep(work: Workspace, folder: Path, files: list[LabelledFile]) -> list[SkippedFile]:
    """Stores the bytes of new contents as a run of `PICTURES`; returns what cannot be kept."""
    stored_rows = spark_io.read_all(work.spark, work.store, PICTURES).select("content_digest")
    known = {row["content_digest"] for row in stored_rows.collect()}
    new = [file for file in files if file.content_digest not in known]
    skipped: list[SkippedFile] = []
    rows = _contents(folder, new, work.config.fetch.max_image_bytes, skipped)
    number = 0
    for number, batch in enumerate(_batches(rows), 1):
        arrow_io.write_file(work.store, PICTURES, work.run_id, batch, number - 1)
    if number:
        inputs = Inputs(source=str(folder))
        work.store.commit(PICTURES, work.run_id, config=work.config.recorded(), inputs=inputs)
    return skipped


def _contents(
    folder: Path, files: Iterable[LabelledFile], max_bytes: int, skipped: list[SkippedFile]
) -> Iterator[dict[str, Any]]:
    """The rows of `PICTURES`; too large files and changed ones are skipped."""
    for file in files:
        path = folder / file.path
        content = b""
        with contextlib.suppress(OSError):  # gone since: as a change
            if path.stat().st_size > max_bytes:
                skipped.append(SkippedFile(file.path, "too_large"))
                continue
            content = path.read_bytes()
        if content_digest(content) == file.content_digest:
            yield {"content_digest": file.content_digest, "file": file.path, "content": content}
        else:
            skipped.append(SkippedFile(file.path, "changed during the import"))


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row["content"])
        if size >= _BYTES_PER_FILE:
            yield batch
            batch = []
            size = 0
    if batch:
        yield batch


def _skip(files: FolderLabels, skipped: list[SkippedFile]) -> None:
    paths = {file.path for file in skipped}
    files.skipped += skipped
    files.files = [file for file in files.files if file.path not in paths]


def _labels(files: FolderLabels, known: Known) -> list[Label]:
    """One label for each image; files that say different things of one image are left out."""
    by_image: dict[str, list[LabelledFile]] = collections.defaultdict(list)
    for file in files.files:
        by_image[known.label(file).image_id].append(file)
    files.files = []
    files.add_groups(by_image.values())
    return [known.label(file) for file in files.files]


def _summary(files: FolderLabels, labels: list[Label]) -> Summary:
    pictures = [label for label in labels if label.image_id.startswith(PICTURE)]
    by_name = [label for label in labels if label.content_digest is None]
    return {
        "in_catalog": len(labels) - len(pictures),
        "by_name": len(by_name),
        "pictures": len(pictures),
        "repeated": len(files.duplicates),
        "in_two_classes": len(files.contradictions),
        "skipped": dict(collections.Counter(file.reason for file in files.skipped)),
        "leftovers": dict(files.leftovers),
    }

"""Labels: a folder of pictures that people sort into class folders, and what is read back from it.

    <folder>/index.csv            file, image_id, content_digest: maps every exported file back
    <folder>/unlabelled/<hash>.jpg    where exported pictures wait
    <folder>/<class>/             where people drag them

File names are hashes, because an image_id may hold anything, also "../". The pictures are made anew from
pixels. Nothing here needs Spark.
"""

from __future__ import annotations

import csv
import getpass
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from toiletspark import storage, tables
from toiletspark.errors import LabelsError, shown
from toiletspark.runs import Run, Store, new_run_id

INDEX = "index.csv"
UNLABELLED = "unlabelled"
_INDEX_COLUMNS = ("file", "image_id", "content_digest")
_SYSTEM_FILES = {".DS_Store", "Thumbs.db", "desktop.ini", ".directory"}  # dropped by file managers, no labels
_SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("labeller", pa.string()),
        ("class", pa.string()),
        ("content_digest", pa.string()),
        ("labelled_at", pa.timestamp("us", tz="UTC")),
        ("how", pa.string()),
    ]
)


@dataclass(frozen=True)
class ExportedImage:
    """One picture for people: a JPEG, and the digest of the file that it was made from."""

    image_id: str
    content_digest: str
    jpeg: bytes


@dataclass(frozen=True)
class Label:
    """What a person says of one image; content_digest is None where the label came without its picture."""

    image_id: str
    label: str
    content_digest: str | None
    how: str


def export(images: Iterable[ExportedImage], folder: Path, classes: Iterable[str]) -> int:
    """Puts pictures into `folder`/unlabelled and makes the class folders.

    A folder that already holds an export is topped up: pictures that are in its index stay where people have
    put them.

    Returns:
        The number of new pictures.

    Raises:
        LabelsError: the folder holds something else.
    """
    index = _open_export(folder)
    for name in (UNLABELLED, *classes):
        (folder / name).mkdir(exist_ok=True)
    known = {row["image_id"] for row in index}
    before = len(index)
    for image in images:
        if image.image_id in known:
            continue
        file = f"{UNLABELLED}/{hashlib.sha256(image.image_id.encode()).hexdigest()[:16]}.jpg"
        (folder / file).write_bytes(image.jpeg)
        known.add(image.image_id)
        index.append({"file": file, "image_id": image.image_id, "content_digest": image.content_digest})
    _write_index(folder, index)
    return len(index) - before


def exported_ids(folder: Path) -> set[str]:
    """The image_ids that an export folder knows; none where there is no export."""
    return {row["image_id"] for row in _read_index(folder)} if (folder / INDEX).exists() else set()


def any_labelled(folder: Path, classes: Iterable[str]) -> bool:
    """Whether somebody has begun to drag files into the class folders."""
    files = (path for name in classes for path in (folder / name).glob("*") if path.is_file())
    return any(path.name not in _SYSTEM_FILES for path in files)


def import_folder(folder: Path, classes: list[str]) -> list[Label]:
    """Reads the class folders with torchvision's `ImageFolder`.

    Args:
        folder: an export.
        classes: the class folders that there must be; `unlabelled` may hold what nobody has sorted yet.

    Raises:
        LabelsError: no export, a folder that is no class, a class without a picture, a file that was never
            exported, or a picture in two classes.
    """
    doing = f"importing labels from {folder}"
    if not (folder / INDEX).exists():
        raise LabelsError(
            doing=doing,
            expected=f"a folder that `toiletspark labels export` made, with its {INDEX}",
            found="no such folder" if not folder.exists() else f"no {INDEX} in it",
            todo="run `toiletspark labels export`, or set labels.folder",
        )
    by_name = {Path(row["file"]).name: row for row in _read_index(folder)}
    found = _files_by_class(folder, classes, doing)
    unknown = [path.relative_to(folder).as_posix() for path, _ in found if path.name not in by_name]
    if unknown:
        raise LabelsError(
            doing=doing,
            expected=f"only files that were exported (they are listed in {INDEX}), under their own names",
            found=f"{len(unknown)} others: {shown(unknown)}",
            todo="remove them or give them their names back; pictures from elsewhere have no image_id",
        )
    _check_once(found, folder, doing)
    rows = ((by_name[path.name], label) for path, label in found)
    return [Label(row["image_id"], label, row["content_digest"] or None, "folder") for row, label in rows]


def write(store: Store, found: list[Label], labeller: str, config: dict[str, Any], source: str) -> Run:
    """Keeps labels as a run of the labels table; the newest run holds all labels that count."""
    run_id, now = new_run_id(), datetime.now(UTC)
    who = labeller or getpass.getuser()
    rows = [
        {
            "image_id": label.image_id,
            "labeller": who,
            "class": label.label,
            "content_digest": label.content_digest,
            "labelled_at": now,
            "how": label.how,
        }
        for label in sorted(found, key=lambda label: label.image_id)
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, _SCHEMA), file)
    storage.replace_bytes(f"{store.folder(tables.LABELS, run_id)}/part-0.parquet", file.getvalue())
    per_class: dict[str, int] = {}
    for label in found:
        per_class[label.label] = per_class.get(label.label, 0) + 1
    return store.commit(
        tables.LABELS, run_id, config=config, inputs={"source": source}, counts={"per_class": per_class}
    )


def _open_export(folder: Path) -> list[dict[str, str]]:
    """The index of an export folder; a new folder is made, a foreign one refused."""
    if (folder / INDEX).exists():
        return _read_index(folder)
    if folder.exists() and any(folder.iterdir()):
        raise LabelsError(
            doing=f"exporting images for labelling to {folder}",
            expected="a new or empty folder, or an earlier export",
            found=f"a folder without {INDEX} that holds {shown(sorted(path.name for path in folder.iterdir()), 3)}",
            todo="set labels.folder to a folder of its own; nothing was touched",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return []


def _read_index(folder: Path) -> list[dict[str, str]]:
    with (folder / INDEX).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_index(folder: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _INDEX_COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    storage.replace_bytes(str(folder / INDEX), text.getvalue().encode())


def _files_by_class(folder: Path, classes: list[str], doing: str) -> list[tuple[Path, str]]:
    """Every file in the class folders with its class, as torchvision's ImageFolder finds them."""
    from torchvision.datasets import ImageFolder  # here, because export and the error paths need no torch

    _check_folders(folder, classes, doing)

    class ClassFolders(ImageFolder):  # type: ignore[misc]
        """The configured classes and nothing else; `unlabelled` is not a class."""

        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            return classes, {name: index for index, name in enumerate(classes)}

    found = ClassFolders(str(folder), is_valid_file=lambda path: Path(path).name not in _SYSTEM_FILES)
    return [(Path(path), classes[index]) for path, index in found.samples]


def _check_folders(folder: Path, classes: list[str], doing: str) -> None:
    """ImageFolder takes every folder for a class, and gives all classes other numbers when one is too many."""
    stray = sorted(_stray(folder, classes))
    if stray:
        raise LabelsError(
            doing=doing,
            expected=f"the folders {', '.join(classes)} and {UNLABELLED}, and {INDEX}",
            found=f"also {shown(stray)}",
            todo="remove what is no class (notebooks leave .ipynb_checkpoints), or add it to labels.classes",
        )
    empty = [name for name in classes if not any_labelled(folder, [name])]
    if empty:
        raise LabelsError(
            doing=doing,
            expected=f"at least one picture in each of {', '.join(classes)}",
            found=f"none in {', '.join(empty)}",
            todo=f"drag pictures from {UNLABELLED} into the class folders, or shorten labels.classes",
        )


def _stray(folder: Path, classes: list[str]) -> Iterator[str]:
    for path in folder.iterdir():
        if path.name not in {*classes, UNLABELLED, INDEX} | _SYSTEM_FILES:
            yield path.name
    for name in classes:  # ImageFolder would take what lies deeper for the class too
        yield from (f"{name}/{path.name}" for path in (folder / name).glob("*") if path.is_dir())


def _check_once(found: list[tuple[Path, str]], folder: Path, doing: str) -> None:
    places: dict[str, list[str]] = {}
    for path, _ in found:
        places.setdefault(path.name, []).append(path.relative_to(folder).as_posix())
    doubled = [both for both in places.values() if len(both) > 1]
    if doubled:
        raise LabelsError(
            doing=doing,
            expected="each picture in one class folder",
            found=f"{len(doubled)} in more than one, among them {' and '.join(doubled[0])}",
            todo="keep the right one of each and remove the other",
        )

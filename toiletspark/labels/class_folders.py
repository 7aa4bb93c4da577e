"""A folder of pictures that people sort into class folders, and what is read back from it.

    <folder>/index.csv            file, image_id, content_digest: where every picture was put, and what it is
    <folder>/unlabelled/<hash>.jpg    where exported pictures wait
    <folder>/<class>/             where people drag them, or where the scores have put them (`labels.presort`)

A presorted picture that lies where it was put is no label until somebody says that he has looked through its class
(`labels.reviewed`): otherwise the head would be taught its own mistakes.

File names are hashes, because an image_id may hold anything, also "../". The pictures are made anew from
pixels. Nothing here needs Spark.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toiletspark.errors import LabelsError, shown
from toiletspark.labels.merge import Label, Said
from toiletspark.tables import storage

INDEX = "index.csv"
UNLABELLED = "unlabelled"
_INDEX_COLUMNS = ("file", "image_id", "content_digest")
_SYSTEM_FILES = {
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    ".directory",
}  # dropped by file managers, no labels
_OF_MACOS = "._"  # begins the name of what macOS writes beside each file of a network share, as in ._picture.jpg
_INDEXED_AT_ONCE = (
    500  # pictures that an export puts between two states of its index, which is written as a whole
)


@dataclass(frozen=True)
class ExportedImage:
    """One picture for people: a JPEG, and the digest of the file that it was made from."""

    image_id: str
    content_digest: str
    jpeg: bytes
    suggested: str | None = None  # the class whose folder it is put into; None: nobody suggests one


def export(images: Iterable[ExportedImage], folder: Path, classes: Iterable[str]) -> int:
    """Puts pictures into the folder of the class that is suggested, or into `unlabelled`; makes the class folders.

    A folder that already holds an export is topped up: pictures that are in its index stay where people have
    put them. One that was cut off goes on: the index is there before the first picture, and what it has missed since it
    was last written stays where it lies, as presorted, since nobody knows who has put it there.

    Returns:
        The number of new pictures.

    Raises:
        LabelsError: the folder holds something else.
    """
    index = _open_export(folder)
    _write_index(folder, index)
    classes = list(classes)
    for name in (UNLABELLED, *classes):
        (folder / name).mkdir(exist_ok=True)
    lying = {path.name: name for name in (UNLABELLED, *classes) for path in _pictures(folder, name)}
    known = {row["image_id"] for row in index}
    before = len(index)
    for image in images:
        if image.image_id in known:
            continue
        name = f"{hashlib.sha256(image.image_id.encode()).hexdigest()[:16]}.jpg"
        file = f"{lying.get(name) or (image.suggested if image.suggested in classes else UNLABELLED)}/{name}"
        (folder / file).write_bytes(image.jpeg)
        known.add(image.image_id)
        index.append(
            {"file": file, "image_id": image.image_id, "content_digest": image.content_digest}
        )
        if (len(index) - before) % _INDEXED_AT_ONCE == 0:
            _write_index(folder, index)
    _write_index(folder, index)
    return len(index) - before


def exported_ids(folder: Path) -> set[str]:
    """The image_ids that an export folder knows; none where there is no export."""
    return {row["image_id"] for row in _read_index(folder)} if (folder / INDEX).exists() else set()


def any_labelled(folder: Path, classes: Iterable[str]) -> bool:
    """Whether somebody has begun: a picture lies in a class folder, and we have not put it there."""
    if not (folder / INDEX).exists():
        return any(_pictures(folder, name) for name in classes)
    put = {row["file"] for row in _read_index(folder)}
    return any(
        f"{name}/{path.name}" not in put for name in classes for path in _pictures(folder, name)
    )


def read(folder: Path, classes: list[str], reviewed: Iterable[str] = ()) -> Said:
    """Reads the class folders with torchvision's `ImageFolder`.

    Args:
        folder: an export.
        classes: the class folders that there must be; `unlabelled` may hold what nobody has sorted yet.
        reviewed: classes that somebody has looked through; what was presorted into them is a label then.

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
            todo="run `toiletspark labels export` again if it was cut off; else remove them or give them their names "
            "back; pictures from elsewhere have no image_id",
        )
    _check_once(found, folder, doing)
    placed = [_placed(by_name[path.name], label) for path, label in found]
    confirmed = set(reviewed)
    return Said(
        labels=[label for label in placed if label.how == "folder" or label.label in confirmed],
        shows=frozenset(row["image_id"] for row in by_name.values()),
        waiting=[
            label for label in placed if label.how != "folder" and label.label not in confirmed
        ],
    )


def _placed(row: dict[str, str], label: str) -> Label:
    moved = Path(row["file"]).parent.name != label
    how = "folder" if moved else "folder_presorted"
    return Label(row["image_id"], label, row["content_digest"] or None, how)


def _pictures(folder: Path, name: str) -> list[Path]:
    return [
        path for path in (folder / name).glob("*") if path.is_file() and not _of_system(path.name)
    ]


def _of_system(name: str) -> bool:
    """Whether a file manager or the system has put a file of this name there, not people."""
    return name in _SYSTEM_FILES or name.startswith(_OF_MACOS)


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
    """The rows of the index, each with all its columns.

    Raises:
        LabelsError: it is no such table any more; spreadsheets save it with other columns, or in another encoding.
    """
    try:
        with (folder / INDEX).open(newline="", encoding="utf-8") as file:
            rows = [{name: row[name] for name in _INDEX_COLUMNS} for row in csv.DictReader(file)]
        if any(None in row.values() for row in rows):
            raise ValueError("a row that ends too early")
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise LabelsError(
            doing=f"reading {folder / INDEX}",
            expected=f"a table with the columns {', '.join(_INDEX_COLUMNS)}, as `toiletspark labels export` wrote it",
            found=f"no column {error}" if isinstance(error, KeyError) else str(error),
            todo="take the file from its backup; without it nobody knows which image a picture is",
        ) from None
    return rows


def _write_index(folder: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _INDEX_COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    storage.replace_bytes(str(folder / INDEX), text.getvalue().encode())


def _files_by_class(folder: Path, classes: list[str], doing: str) -> list[tuple[Path, str]]:
    """Every file in the class folders with its class, as torchvision's ImageFolder finds them."""
    from torchvision.datasets import (
        ImageFolder,
    )  # here, because export and the error paths need no torch

    _check_folders(folder, classes, doing)

    class ClassFolders(ImageFolder):  # type: ignore[misc]
        """The configured classes and nothing else; `unlabelled` is not a class."""

        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            return classes, {name: index for index, name in enumerate(classes)}

    found = ClassFolders(str(folder), is_valid_file=lambda path: not _of_system(Path(path).name))
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
    empty = [name for name in classes if not _pictures(folder, name)]
    if empty:
        raise LabelsError(
            doing=doing,
            expected=f"at least one picture in each of {', '.join(classes)}",
            found=f"none in {', '.join(empty)}",
            todo=f"drag pictures from {UNLABELLED} into the class folders, or shorten labels.classes",
        )


def _stray(folder: Path, classes: list[str]) -> Iterator[str]:
    for path in folder.iterdir():
        if path.name not in {*classes, UNLABELLED, INDEX} and not _of_system(path.name):
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

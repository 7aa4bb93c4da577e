"""A folder of pictures that people sort into class folders: the export, and the labels read back.

    <folder>/index.csv            file, image_id, content_digest: each picture, and where it was put
    <folder>/unlabelled/<hash>.jpg    where exported pictures wait
    <folder>/<class>/             where people drag them, or the scores put them (`labels.presort`)

A presorted picture that lies where it was put is no label until somebody says that he has looked
through its class (`labels.reviewed`): otherwise the head would learn its own mistakes.

File names are hashes of the image_id, because that may hold anything, also "../". So each row of
the index can be checked. A spreadsheet that saves it makes numbers of ids; then a hidden copy of
the index counts. The pictures are encoded anew from pixels. Nothing here needs Spark.
"""

import collections
import csv
import hashlib
import io
import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from toiletspark.errors import LabelsError, shown
from toiletspark.labels import image_folder
from toiletspark.labels.image_folder import is_leftover
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.tables import storage

INDEX = "index.csv"
_log = logging.getLogger("toiletspark")
UNLABELLED = image_folder.UNLABELLED
_COLUMNS = ("file", "image_id", "content_digest")
_COPY = ".index.csv"  # nobody opens it with a spreadsheet
# the names of exported pictures; downloads and file managers write "... (1).jpg", "... - Copy.jpg"
_EXPORTED = re.compile(r"(?:.*[^0-9a-f])?([0-9a-f]{16})(?:[^0-9a-f].*)?\.jpg")
_INDEX_EVERY = 500  # new pictures between two writes of the index, which is written as a whole


@dataclass(frozen=True)
class ExportedImage:
    """A JPEG for people, the digest of its source file, and a suggested class or None."""

    image_id: str
    content_digest: str
    jpeg: bytes
    suggested: str | None = None


def export(images: Iterable[ExportedImage], folder: Path, classes: Iterable[str]) -> int:
    """Puts pictures into the folder of the suggested class, or into `unlabelled`.

    An export is topped up: pictures of its index stay where people have put them. One that was cut
    off goes on. Pictures that it wrote after its last index stay where they lie and count as
    presorted, since nobody knows who put them there.

    Returns the number of new pictures; raises a LabelsError if the folder holds something else.
    """
    index = _open_export(folder)
    _write_index(folder, index)  # before the first picture, so that a cut-off export can go on
    names = [UNLABELLED, *classes]
    for name in names:
        (folder / name).mkdir(exist_ok=True)
    present = {path.name: name for name in names for path in _pictures(folder, name)}
    exported = {row["image_id"] for row in index}
    before = len(index)
    for image in images:
        if image.image_id in exported:
            continue
        name = _picture_name(image.image_id)
        target = image.suggested if image.suggested in names else UNLABELLED
        file = f"{present.get(name, target)}/{name}"
        (folder / file).write_bytes(image.jpeg)
        exported.add(image.image_id)
        digest = image.content_digest
        index.append({"file": file, "image_id": image.image_id, "content_digest": digest})
        if (len(index) - before) % _INDEX_EVERY == 0:
            _write_index(folder, index)
    _write_index(folder, index)
    return len(index) - before


def exported_ids(folder: Path) -> set[str]:
    """The image_ids that an export folder knows; none where there is no export."""
    return {row["image_id"] for row in _read_index(folder)} if (folder / INDEX).exists() else set()


def is_plain(folder: Path, classes: list[str]) -> bool:
    """Returns True for a folder with class folders that no export made, see `image_folder`.

    An export that has lost its index is none: its pictures are copies, and some only presorted.
    """
    if (folder / INDEX).exists() or not image_folder.has_class_folder(folder, classes):
        return False
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    return not all(_EXPORTED.fullmatch(name) for name in names if not is_leftover(name))


def any_labelled(folder: Path, classes: Iterable[str]) -> bool:
    """Returns True once a class folder holds a picture that the export did not put there."""
    rows = _read_index(folder) if (folder / INDEX).exists() else []
    present = {f"{name}/{path.name}" for name in classes for path in _pictures(folder, name)}
    return not present <= {row["file"] for row in rows}


def read(folder: Path, classes: list[str], reviewed: Iterable[str] = ()) -> SourceLabels:
    """Reads the class folders of an export with torchvision's `ImageFolder`.

    Presorted pictures are labels in the `reviewed` classes, which somebody has looked through.

    Raises:
        LabelsError: no export, a folder that is no class, a class without a picture, a file that
            was never exported, or a picture in two classes.
    """
    doing = f"importing labels from {folder}"
    if not (folder / INDEX).exists():
        raise LabelsError(
            doing=doing,
            expected=f"a folder that `toiletspark labels export` made, with its {INDEX}; or a "
            f"folder of your own, with class folders such as {classes[0]}/ and {classes[1]}/",
            found=f"no {INDEX}, and {_shown_folders(folder)}"
            if folder.exists()
            else "no such folder",
            todo="run `toiletspark labels export`, name your folder (--folder), or set "
            "labels.classes to the names of its class folders",
        )
    index = {Path(row["file"]).name: row for row in _read_index(folder)}
    files = _files_by_class(folder, classes, doing)
    names = {path: _exported_name(path.name) for path, _ in files}
    unknown = [path.relative_to(folder).as_posix() for path, _ in files if names[path] not in index]
    if unknown:
        raise LabelsError(
            doing=doing,
            expected=f"only exported files (those in {INDEX}), under their own names",
            found=f"{len(unknown)} others: {shown(unknown)}",
            todo="run `toiletspark labels export` again if it was cut off; else remove them or "
            "give them their names back; pictures from elsewhere have no image_id",
        )
    of_name: dict[str, dict[str, str]] = defaultdict(dict)
    for path, class_name in files:
        of_name[names[path]][class_name] = f"{class_name}/{path.name}"
    repeated = [list(paths.values()) for paths in of_name.values() if len(paths) > 1]
    if repeated:
        raise LabelsError(
            doing=doing,
            expected="each picture in one class folder",
            found=f"{len(repeated)} in more than one, among them {' and '.join(repeated[0])}",
            todo="keep the right one of each and remove the other",
        )
    confirmed = set(reviewed)
    source = SourceLabels([], frozenset(row["image_id"] for row in index.values()))
    for name, class_names in of_name.items():
        row, class_name = index[name], next(iter(class_names))
        is_moved = Path(row["file"]).parent.name != class_name
        how = "folder" if is_moved else "folder_presorted"
        label = Label(row["image_id"], class_name, row["content_digest"] or None, how)
        (source.labels if is_moved or class_name in confirmed else source.waiting).append(label)
    return source


def _shown_folders(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return f"the folders {shown(names)}" if names else "no folder"


def _pictures(folder: Path, name: str) -> list[Path]:
    files = (path for path in (folder / name).glob("*") if path.is_file())
    return [path for path in files if not is_leftover(path.name)]


def _open_export(folder: Path) -> list[dict[str, str]]:
    """The index of an export folder; makes a new folder, refuses a foreign one."""
    if (folder / INDEX).exists():
        return _read_index(folder)
    if folder.exists() and any(folder.iterdir()):
        names = sorted(path.name for path in folder.iterdir())
        raise LabelsError(
            doing=f"exporting images for labelling to {folder}",
            expected="a new or empty folder, or an earlier export",
            found=f"a folder without {INDEX} that holds {shown(names, 3)}",
            todo="set labels.folder to a folder of its own; nothing was touched",
        )
    folder.mkdir(parents=True, exist_ok=True)
    return []


def _read_index(folder: Path) -> list[dict[str, str]]:
    """The rows of the index as the export wrote it: of its copy, if the index was altered since."""
    try:
        return _rows(folder / INDEX)
    except LabelsError as error:
        if not (folder / _COPY).exists():
            raise
        rows = _rows(folder / _COPY)
        _log.warning("%s was altered (%s); its copy %s counts", folder / INDEX, error.found, _COPY)
        return rows


def _rows(file: Path) -> list[dict[str, str]]:
    """The rows of an index; spreadsheets save it with other columns, encodings or ids."""
    doing = f"reading {file}"
    todo = "take the file from its backup; without it nobody knows which image a picture is"
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            rows = [{name: row[name] for name in _COLUMNS} for row in csv.DictReader(text)]
        if any(None in row.values() for row in rows):
            raise ValueError("a row that ends too early")
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise LabelsError(
            doing=doing,
            expected=f"a table with the columns {', '.join(_COLUMNS)}, as `toiletspark labels "
            "export` wrote it",
            found=f"no column {error}" if isinstance(error, KeyError) else str(error),
            todo=todo,
        ) from None
    names = [Path(row["file"]).name for row in rows]
    altered = [row for row in rows if Path(row["file"]).name != _picture_name(row["image_id"])]
    problems = []
    if altered:
        example = f"{altered[0]['file']!r} is not the picture of {altered[0]['image_id']!r}"
        problems.append(f"{len(altered)} of {len(rows)} rows are altered, for instance {example}")
    if repeated := sorted(
        {name for name, count in collections.Counter(names).items() if count > 1}
    ):
        problems.append(f"{len(repeated)} pictures with two rows: {shown(repeated)}")
    if problems:
        expected = "one row for each picture, whose name is a digest of its image_id"
        raise LabelsError(doing=doing, expected=expected, found="; ".join(problems), todo=todo)
    return rows


def _write_index(folder: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    for name in (INDEX, _COPY):
        storage.replace_bytes(str(folder / name), text.getvalue().encode())


def _files_by_class(folder: Path, classes: list[str], doing: str) -> list[tuple[Path, str]]:
    """Every file in the class folders with its class, as torchvision's ImageFolder lists them."""
    _require_folders(folder, classes, doing)
    from torchvision.datasets import ImageFolder  # here, because export and errors need no torch

    class ClassFolders(ImageFolder):  # type: ignore[misc]
        """The configured classes and nothing else; `unlabelled` is not a class."""

        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            return classes, {name: index for index, name in enumerate(classes)}

    everything = ClassFolders(str(folder), is_valid_file=lambda path: True).samples
    files = [(Path(path), classes[index]) for path, index in everything]
    return [(path, name) for path, name in files if not _is_below_leftover(path, folder)]


def _is_below_leftover(path: Path, folder: Path) -> bool:
    return any(is_leftover(part) for part in path.relative_to(folder).parts)


def _picture_name(image_id: str) -> str:
    return f"{hashlib.sha256(image_id.encode()).hexdigest()[:16]}.jpg"


def _exported_name(name: str) -> str:
    """The name under which a picture was exported, also of a copy with another name."""
    match = _EXPORTED.fullmatch(name)
    return f"{match.group(1)}.jpg" if match else name


def _require_folders(folder: Path, classes: list[str], doing: str) -> None:
    """Checks the folders: ImageFolder takes every folder for a class, and renumbers all of them."""
    stray = sorted(_stray(folder, classes))
    if stray:
        raise LabelsError(
            doing=doing,
            expected=f"the folders {', '.join(classes)} and {UNLABELLED}, and {INDEX}",
            found=f"also {shown(stray)}",
            todo="remove what is no class, or add it to labels.classes",
        )
    empty = [name for name in classes if not _pictures(folder, name)]
    if empty:
        raise LabelsError(
            doing=doing,
            expected=f"at least one picture in each of {', '.join(classes)}",
            found=f"none in {', '.join(empty)}",
            todo=f"drag pictures from {UNLABELLED} into the class folders, or shorten "
            "labels.classes",
        )


def _stray(folder: Path, classes: list[str]) -> Iterator[str]:
    for path in folder.iterdir():
        if path.name not in {*classes, UNLABELLED, INDEX} and not is_leftover(path.name):
            yield path.name
    for name in classes:  # ImageFolder would count the files of deeper folders as well
        folders = (path for path in (folder / name).glob("*") if path.is_dir())
        yield from (f"{name}/{path.name}" for path in folders if not is_leftover(path.name))

"""A folder of pictures that people sorted by hand, in the layout of torchvision's `ImageFolder`.

    <folder>/<class>/a.jpg          deeper folders belong to their class too
    <folder>/train/<class>/a.jpg    or below train/ and val/, which are read as one set of labels

Files are listed and hashed, never decoded. Nothing here needs Spark or torch.
"""

import collections
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toiletspark.errors import LabelsError, nearest, shown

UNLABELLED = "unlabelled"
SPLITS = ("train", "val", "valid", "validation", "test")
# of file managers, file servers, archives and downloads; whole folders too
_LEFTOVER = re.compile(
    r"\..*|~\$.*|.*~|[@#$][a-z].*|(eh)?thumbs(_vista)?\.db|(desktop|picasa)\.ini|icon\r|__macosx|"
    r"lost\+found|system volume information|.*\.(part|crdownload|tmp)",
    re.IGNORECASE | re.DOTALL,
)
_MACOS_PREFIX = "._"  # macOS writes ._picture.jpg beside each file of a network share


@dataclass(frozen=True)
class LabelledFile:
    """A file in a class folder."""

    path: str  # relative to the folder, with "/"
    label: str
    content_digest: str


@dataclass(frozen=True)
class SkippedFile:
    """A file that gives no label."""

    path: str  # relative to the folder, with "/"
    reason: str  # in words, the same for all files of a type


@dataclass
class FolderLabels:
    """The labels in a folder: one file for each distinct content, in the order of the paths."""

    folder: Path
    classes: list[str]  # in the caller's order; else by name
    splits: list[str]  # folders such as train and val that were read as one set, if there are any
    files: list[LabelledFile] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)  # a path, and its first equal
    contradictions: list[list[LabelledFile]] = field(default_factory=list)  # by content; left out
    skipped: list[SkippedFile] = field(default_factory=list)
    leftovers: collections.Counter[str] = field(default_factory=collections.Counter)  # by name

    def add_groups(self, groups: Iterable[list[LabelledFile]]) -> None:
        """Keeps the first file of each group that shows the same; leaves it out in two classes."""
        for group in groups:
            if len({file.label for file in group}) > 1:
                self.contradictions.append(group)
                continue
            self.files.append(group[0])
            self.duplicates += [(file.path, group[0].path) for file in group[1:]]

    def per_class(self) -> dict[str, int]:
        """Distinct contents of each class; 0 for a class without any."""
        counts = collections.Counter(file.label for file in self.files)
        return {name: counts[name] for name in self.classes}

    def notes(self) -> list[str]:
        """Sentences on all that is not simply a label; none for a clean folder."""
        notes = []
        if self.splits:
            names = " and ".join(f"{name}/" for name in self.splits)
            notes.append(f"{names} are one set of labels here; training makes its own split")
        if self.duplicates:
            pairs = shown((f"{path} = {first}" for path, first in self.duplicates), 3)
            notes.append(f"{len(self.duplicates)} files repeat another one of their class: {pairs}")
        if self.contradictions:
            groups = [" and ".join(file.path for file in group) for group in self.contradictions]
            number = len(groups)
            notes.append(f"{number} contents lie in two classes and are left out: {shown(groups)}")
        notes += shown_reasons(self.skipped)
        if self.leftovers:
            counts = ", ".join(f"{name} {count}" for name, count in sorted(self.leftovers.items()))
            notes.append(f"leftovers of other programs, not read: {counts}")
        return notes


def read(folder: Path, classes: Sequence[str] = ()) -> FolderLabels:
    """Lists the pictures of the class folders; reads each file once, for its digest.

    A content that lies twice in one class counts once. A content in two classes is left out. Hidden
    files, zero bytes and what cannot be read are left out as well; `FolderLabels` names them all.

    Args:
        classes: the class folders that may be there; () takes every folder for a class.

    Raises:
        LabelsError: no such folder, a folder that is no class, or pictures of fewer than two
            classes.
    """
    doing = f"reading labels from {folder}"
    if not folder.is_dir():
        raise LabelsError(
            doing=doing,
            expected="a folder with one folder of pictures for each class",
            found="a file" if folder.exists() else "no such folder",
            todo="give the folder that holds the class folders, on the machine that runs this",
        )
    splits = _splits(folder, classes)
    tops = [folder / name for name in splits] or [folder]
    names = list(classes) or _folder_names(tops)
    _require_known(tops, names, doing)
    labels = FolderLabels(folder, names, splits)
    by_content: dict[str, list[LabelledFile]] = {}
    for path in sorted(_files(folder, labels)):
        relative = path.relative_to(folder)
        digest = _digest(path, labels) if (label := _label(relative, labels)) else None
        if label and digest:
            file = LabelledFile(relative.as_posix(), label, digest)
            by_content.setdefault(digest, []).append(file)
    labels.add_groups(by_content.values())
    require_two_classes(labels, doing)
    return labels


def has_class_folder(folder: Path, classes: Sequence[str]) -> bool:
    """Returns True if the folder, or its train/ or val/, has the folder of a class."""
    if not folder.is_dir():
        return False
    tops = [folder / name for name in _splits(folder, classes)] or [folder]
    return not set(classes).isdisjoint(_folder_names(tops))


def require_two_classes(labels: FolderLabels, doing: str) -> None:
    """Raises a LabelsError unless pictures of two classes are there; a head needs two."""
    counts = labels.per_class()
    if len([name for name in counts if counts[name]]) > 1:
        return
    pictures = ", ".join(f"{name} {count}" for name, count in counts.items()) or "no class folder"
    raise LabelsError(
        doing=doing,
        expected="pictures in the folders of two classes or more",
        found="; ".join([pictures, *labels.notes()]),
        todo=f"put pictures into {' and '.join(labels.classes[:2]) or 'toilet/ and other/'} of "
        f"{labels.folder}, or set labels.classes to the names of your folders",
    )


def shown_reasons(skipped: Sequence[SkippedFile]) -> list[str]:
    """A sentence for each reason: "no label, zero bytes: 2 ('other/a.jpg', 'toilet/b.jpg')"."""
    paths: dict[str, list[str]] = {}
    for file in skipped:
        paths.setdefault(file.reason, []).append(file.path)
    return [f"no label, {reason}: {len(names)} ({shown(names)})" for reason, names in paths.items()]


def is_leftover(name: str) -> bool:
    """Returns True for hidden files, and for files and folders that other programs leave."""
    return _LEFTOVER.fullmatch(name) is not None


def _splits(folder: Path, classes: Sequence[str]) -> list[str]:
    """The folders such as train and val that hold class folders, if there is nothing but them."""
    names = _folder_names([folder])
    if not all(name.casefold() in SPLITS and name not in classes for name in names):
        return []
    return [name for name in names if _folder_names([folder / name])]


def _folder_names(tops: list[Path]) -> list[str]:
    """The names of possible class folders below `tops`, sorted, each once."""
    names: set[str] = set()
    for top in tops:
        names |= {path.name for path in top.iterdir() if path.is_dir()}
    return sorted(name for name in names - {UNLABELLED} if not is_leftover(name))


def _require_known(tops: list[Path], classes: list[str], doing: str) -> None:
    unknown = [name for name in _folder_names(tops) if name not in classes]
    if unknown:
        raise LabelsError(
            doing=doing,
            expected=f"the class folders {', '.join(classes)} (labels.classes)",
            found=f"also {shown(unknown)}{nearest(unknown[0], classes)}",
            todo="set labels.classes to the names of your folders, or rename the folders; pictures "
            f"that nobody has labelled belong into {UNLABELLED}/",
        )


def _files(folder: Path, labels: FolderLabels) -> Iterator[Path]:
    """All files below the folder except leftovers; no folder is entered twice through links."""

    def unreadable(error: OSError) -> None:
        _skip(labels, Path(error.filename), f"cannot be read ({error.strerror})")

    entered: set[tuple[int, int]] = set()
    for top, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        status = Path(top).stat()
        if (status.st_dev, status.st_ino) in entered:
            _skip(labels, Path(top), "a link to a folder that is read already")
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        for name in filter(is_leftover, [*folders, *files]):
            labels.leftovers["._*" if name.startswith(_MACOS_PREFIX) else name] += 1
        folders[:] = sorted(name for name in folders if not is_leftover(name))
        yield from (Path(top, name) for name in files if not is_leftover(name))


def _label(relative: Path, labels: FolderLabels) -> str | None:
    """The class whose folder holds the file; None, and skipped, outside of all of them."""
    parts = relative.parts[1:] if labels.splits else relative.parts
    if len(parts) > 1 and parts[0] in labels.classes:
        return parts[0]
    is_waiting = len(parts) > 1 and parts[0] == UNLABELLED
    reason = f"in {UNLABELLED}/" if is_waiting else "outside of the class folders"
    _skip(labels, labels.folder / relative, reason)
    return None


def _digest(path: Path, labels: FolderLabels) -> str | None:
    """The digest of a file's content, see `hashing.content_digest`; None, and skipped, without."""
    try:
        if not path.is_file():
            path.stat()  # a broken link raises here
            _skip(labels, path, "no file")
            return None
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        _skip(labels, path, f"cannot be read ({error.strerror})")
        return None
    if not size:
        _skip(labels, path, "zero bytes")
    return digest if size else None


def _skip(labels: FolderLabels, path: Path, reason: str) -> None:
    labels.skipped.append(SkippedFile(path.relative_to(labels.folder).as_posix(), reason))

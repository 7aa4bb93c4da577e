"""Plain folders of pictures: each file is a label, or is named with the reason why it is none."""

import hashlib
from pathlib import Path

import pytest

from toiletspark.errors import LabelsError
from toiletspark.labels import image_folder
from toiletspark.labels.image_folder import LabelledFile

CLASSES = ["toilet", "other"]


def put(folder: Path, files: dict[str, str]) -> Path:
    """Writes files with these contents; they need not be pictures here."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def test_every_file_of_a_class_folder_is_a_label_of_its_content(tmp_path: Path) -> None:
    put(tmp_path, {"toilet/a.jpg": "A", "other/b.jpg": "B", "other/deep/er/c.png": "C"})
    labels = image_folder.read(tmp_path, CLASSES)
    assert labels.files == [
        LabelledFile("other/b.jpg", "other", digest("B")),
        LabelledFile("other/deep/er/c.png", "other", digest("C")),
        LabelledFile("toilet/a.jpg", "toilet", digest("A")),
    ]
    assert labels.per_class() == {"toilet": 1, "other": 2}
    assert labels.notes() == []


def test_without_classes_every_folder_is_one(tmp_path: Path) -> None:
    put(tmp_path, {"living room/a": "A", "bath/b": "B", "unlabelled/c": "C", ".git/d": "D"})
    labels = image_folder.read(tmp_path)
    assert labels.classes == ["bath", "living room"]
    assert labels.notes() == [
        "no label, in unlabelled/: 1 ('unlabelled/c')",
        "leftovers of other programs, not read: .git 1",
    ]


def test_train_and_val_are_one_set(tmp_path: Path) -> None:
    put(tmp_path, {"train/toilet/a": "A", "train/other/b": "B", "val/toilet/c": "C"})
    put(tmp_path, {"val/toilet/again": "A", "README.txt": "hello"})
    labels = image_folder.read(tmp_path)
    assert labels.classes == ["other", "toilet"]
    assert [file.path for file in labels.files] == [
        "train/other/b",
        "train/toilet/a",
        "val/toilet/c",
    ]
    assert labels.notes() == [
        "train/ and val/ are one set of labels here; training makes its own split",
        "1 files repeat another one of their class: 'val/toilet/again = train/toilet/a'",
        "no label, outside of the class folders: 1 ('README.txt')",
    ]


def test_classes_may_have_the_names_of_splits(tmp_path: Path) -> None:
    put(tmp_path, {"test/a": "A", "train/b": "B"})
    assert image_folder.read(tmp_path, ["train", "test"]).per_class() == {"train": 1, "test": 1}


def test_a_content_in_two_classes_is_left_out_and_named(tmp_path: Path) -> None:
    put(tmp_path, {"toilet/a": "A", "other/a": "A", "toilet/b": "B", "other/c": "C"})
    labels = image_folder.read(tmp_path, CLASSES)
    assert [file.path for file in labels.files] == ["other/c", "toilet/b"]
    note = "1 contents lie in two classes and are left out: 'other/a and toilet/a'"
    assert labels.notes() == [note]


def test_leftovers_are_counted_by_name_and_never_read(tmp_path: Path) -> None:
    put(tmp_path, {"toilet/a": "A", "other/b": "B", ".DS_Store": "x", "toilet/.DS_Store": "x"})
    put(tmp_path, {"toilet/@eaDir/a/thumb.jpg": "x", "other/@eaDir/b/thumb.jpg": "y"})
    put(tmp_path, {"toilet/Thumbs.db": "z", "__MACOSX/toilet/._a": "", "other/._b": "q"})
    put(tmp_path, {"other/desktop.ini": "x", "other/.hidden.jpg": "h"})
    labels = image_folder.read(tmp_path, CLASSES)
    assert [file.path for file in labels.files] == ["other/b", "toilet/a"]
    expected = {"@eaDir": 2, ".DS_Store": 2, "Thumbs.db": 1, "__MACOSX": 1, "._*": 1}
    assert labels.leftovers == {**expected, "desktop.ini": 1, ".hidden.jpg": 1}
    assert labels.skipped == []


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    put(tmp_path, {"toilet/a": "A", "other/b": "B", "toilet/empty": ""})
    (tmp_path / "other/broken").symlink_to("nowhere")
    (tmp_path / "other/loop").symlink_to(tmp_path / "other")
    (tmp_path / "other/linked").symlink_to(tmp_path / "other/b")
    labels = image_folder.read(tmp_path, CLASSES)
    assert [file.path for file in labels.files] == ["other/b", "toilet/a"]
    assert labels.notes() == [
        "1 files repeat another one of their class: 'other/linked = other/b'",
        "no label, a link to a folder that is read already: 1 ('other/loop')",
        "no label, cannot be read (No such file or directory): 1 ('other/broken')",
        "no label, zero bytes: 1 ('toilet/empty')",
    ]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"toilet/a": "A"}, "found:    toilet 1, other 0\n"),
        (
            {"toilet/a": "A", "other/b": ""},
            "toilet 1, other 0; no label, zero bytes: 1 ('other/b')",
        ),
        ({"toilet/a": "A", "other/a": "A"}, "1 contents lie in two classes and are left out"),
        ({"readme": "A"}, "found:    toilet 0, other 0; no label, outside of the class folders"),
        ({"toilets/a": "A", "other/a": "B"}, "also 'toilets' (did you mean 'toilet'?)"),
    ],
)
def test_two_classes_with_pictures_are_needed(
    tmp_path: Path, files: dict[str, str], expected: str
) -> None:
    with pytest.raises(LabelsError) as error:
        image_folder.read(put(tmp_path, files), CLASSES)
    assert expected in str(error.value)


def test_there_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="found:    no such folder"):
        image_folder.read(tmp_path / "typo", CLASSES)
    with pytest.raises(LabelsError, match="found:    a file"):
        image_folder.read(put(tmp_path, {"labels.csv": "x"}) / "labels.csv")
    with pytest.raises(LabelsError, match="found:    no class folder"):
        image_folder.read(tmp_path)

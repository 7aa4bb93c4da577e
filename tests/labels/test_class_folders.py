"""Class folders: dragged files are read, and whatever else is in a folder is told by name."""

import csv
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from toiletspark.errors import LabelsError
from toiletspark.labels import class_folders
from toiletspark.labels.class_folders import ExportedImage, any_labelled, export, exported_ids, read
from toiletspark.labels.merge import Label

CLASSES = ["toilet", "other"]
HOSTILE = [
    "../x",
    "../../etc/passwd",
    "/absolute/path",
    "a/b\\c",
    "nul\0inside",
    "x" * 300,
    "<script>alert(1)</script>",
    "Twin",
    "twin",
    "line\nbreak",
    "carriage\rreturn",
    "both\r\nof them",
    "comma, \"quotes\" and 'more'",
    "trailing dot.",
    "trailing blank ",
    " ",
    "",
    "COM1",
    ".hidden",
    "=HYPERLINK(1)",
    "größe-✓",
]


def jpeg(colour: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (colour % 256, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def import_folder(folder: Path, classes: list[str]) -> list[Label]:
    return read(folder, classes).labels


def images(*ids: str) -> list[ExportedImage]:
    return [
        ExportedImage(image_id, f"digest of {image_id!r}", jpeg(len(image_id))) for image_id in ids
    ]


def locations(folder: Path) -> dict[str, str]:
    """The file of each picture in the index, by image_id."""
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        return {row["image_id"]: row["file"] for row in csv.DictReader(file)}


def drag(folder: Path, image_id: str, to: str) -> Path:
    file = folder / locations(folder)[image_id]
    return file.rename(folder / to / file.name)


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def sorted_folder(tmp_path: Path) -> Path:
    """Five pictures, of which people have sorted three."""
    folder = tmp_path / "labelling"
    export(images("a", "b", "c", "d", "e"), folder, CLASSES)
    drag(folder, "a", "toilet")
    drag(folder, "b", "other")
    drag(folder, "c", "other")
    return folder


def refused(folder: Path, classes: list[str] | None = None) -> LabelsError:
    with pytest.raises(LabelsError) as caught:
        import_folder(folder, classes or CLASSES)
    assert caught.value.doing == f"importing labels from {folder}"
    return caught.value


# Export


def test_an_export_puts_pictures_and_class_folders(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "labelling"
    assert export(iter(images("a", "b")), folder, iter(CLASSES)) == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        ".index.csv",
        "index.csv",
        "other",
        "toilet",
        "unlabelled",
    ]
    assert (folder / locations(folder)["a"]).read_bytes() == jpeg(1)
    assert locations(folder)["a"] == "unlabelled/ca978112ca1bbdca.jpg"
    assert exported_ids(folder) == {"a", "b"}
    assert exported_ids(tmp_path / "none") == set()


def test_hostile_ids_get_safe_files_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "inner" / "labelling"
    assert export(images(*HOSTILE), folder, CLASSES) == len(HOSTILE)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == len(HOSTILE) + 2  # and the index with its copy
    for path in files:
        assert path.parent == folder / "unlabelled" or path.name.endswith("index.csv")
        is_safe = path.stem.isalnum() and len(path.name) == 20
        assert is_safe or path.name in ("index.csv", ".index.csv")
    assert len({path.name.casefold() for path in files}) == len(files)
    assert exported_ids(folder) == set(HOSTILE)
    drag(folder, HOSTILE[0], "other")
    for image_id in HOSTILE[1:]:
        drag(folder, image_id, "toilet")
    result = {
        label.image_id: (label.label, label.content_digest)
        for label in import_folder(folder, CLASSES)
    }
    assert result == {
        image_id: ("toilet" if image_id != HOSTILE[0] else "other", f"digest of {image_id!r}")
        for image_id in HOSTILE
    }


def test_a_top_up_keeps_what_people_have_moved(sorted_folder: Path) -> None:
    before = tree(sorted_folder)
    again = [ExportedImage(image.image_id, "new digest", b"new") for image in images("a", "c", "d")]
    assert export([*again, *images("f")], sorted_folder, [*CLASSES, "bathroom"]) == 1
    after = tree(sorted_folder)
    added = set(after) - set(before)
    assert added == {"bathroom", locations(sorted_folder)["f"]}
    pictures = [name for name in before if not name.endswith("index.csv")]
    assert [after[name] for name in pictures] == [before[name] for name in pictures]
    assert exported_ids(sorted_folder) == {"a", "b", "c", "d", "e", "f"}


def test_the_same_image_twice_is_exported_once(tmp_path: Path) -> None:
    assert export(images("a", "b", "a"), tmp_path / "x", CLASSES) == 2
    assert len((tmp_path / "x" / "index.csv").read_text().splitlines()) == 3


def test_a_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    for name in ("holiday.jpg", "tax.pdf", "thesis.doc", "zebra.gif"):
        (tmp_path / name).write_text(name)
    before = tree(tmp_path)
    with pytest.raises(LabelsError) as caught:
        export(images("a"), tmp_path, CLASSES)
    assert str(caught.value) == (
        f"while exporting images for labelling to {tmp_path}\n"
        "  expected: a new or empty folder, or an earlier export\n"
        "  found:    a folder without index.csv that holds 'holiday.jpg', 'tax.pdf', "
        "'thesis.doc' and 1 more\n"
        "  do:       set labels.folder to a folder of its own; nothing was touched"
    )
    assert tree(tmp_path) == before


def interrupted(folder: Path, *ids: str, suggested: str | None = None) -> None:
    """An export that is cut off after these pictures."""

    def until_cut_off() -> Iterator[ExportedImage]:
        yield from (replace(image, suggested=suggested) for image in images(*ids))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(until_cut_off(), folder, CLASSES)


@pytest.mark.parametrize("ids", ["", "abc"])
def test_an_export_that_was_cut_off_goes_on(tmp_path: Path, ids: str) -> None:
    folder = tmp_path / "labelling"
    interrupted(folder, *ids)
    export(images("a", "b", "c", "d"), folder, CLASSES)
    assert exported_ids(folder) == {"a", "b", "c", "d"}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")} == set(
        locations(folder).values()
    )


def test_what_an_export_has_put_is_in_the_index_every_so_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_folders, "_INDEX_EVERY", 2)
    interrupted(tmp_path, "a", "b", "c", "d", "e")
    assert exported_ids(tmp_path) == {"a", "b", "c", "d"}


def test_a_picture_that_the_index_has_missed_stays_where_it_lies_and_is_no_label(
    tmp_path: Path,
) -> None:
    """It was put or dragged before the export was cut off; its score has changed since."""
    interrupted(tmp_path, "a", "b", suggested="toilet")
    cut = next((tmp_path / "toilet").iterdir())
    cut.write_bytes(cut.read_bytes()[:9])  # the one that was being written
    assert (
        export(
            [replace(image, suggested="other") for image in images("a", "b", "c")],
            tmp_path,
            CLASSES,
        )
        == 3
    )
    assert {name: Path(index).parent.name for name, index in locations(tmp_path).items()} == {
        **{"a": "toilet", "b": "toilet", "c": "other"}
    }
    assert (
        (tmp_path / locations(tmp_path)["a"]).read_bytes()
        == (tmp_path / locations(tmp_path)["b"]).read_bytes()
        == jpeg(1)
    )
    imported = read(tmp_path, CLASSES)
    assert (imported.labels, len(imported.waiting)) == ([], 3)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert export(images("a"), tmp_path, CLASSES) == 1


# Import


def test_what_was_dragged_is_read(sorted_folder: Path) -> None:
    assert sorted(import_folder(sorted_folder, CLASSES), key=lambda label: label.image_id) == [
        Label("a", "toilet", "digest of 'a'", "folder"),
        Label("b", "other", "digest of 'b'", "folder"),
        Label("c", "other", "digest of 'c'", "folder"),
    ]


def test_the_order_of_the_classes_does_not_matter(sorted_folder: Path) -> None:
    result = import_folder(sorted_folder, ["other", "toilet"])
    assert {label.image_id: label.label for label in result} == {
        "a": "toilet",
        "b": "other",
        "c": "other",
    }


def test_a_changed_ending_is_another_name(sorted_folder: Path) -> None:
    assert (
        refused_renaming(sorted_folder, "ca978112ca1bbdca.JPG").found
        == "1 others: 'toilet/ca978112ca1bbdca.JPG'"
    )


def refused_renaming(folder: Path, name: str) -> LabelsError:
    (folder / "toilet" / Path(locations(folder)["a"]).name).rename(folder / "toilet" / name)
    return refused(folder)


def test_the_leftovers_of_other_programs_are_ignored(sorted_folder: Path) -> None:
    expected = import_folder(sorted_folder, CLASSES)
    # macOS writes them on network shares
    beside_a_picture = f"._{Path(locations(sorted_folder)['a']).name}"
    files = [".DS_Store", "Thumbs.db", "ehthumbs.db", "Desktop.ini", ".directory", ".picasa.ini"]
    files += ["._index.csv", beside_a_picture, ".nfs0001", ".~lock.index.csv#", ".gitkeep"]
    files += ["~$index.xlsx", "index.csv~", "ca978112ca1bbdca.jpg.crdownload"]
    folders = ["@eaDir", ".@__thumb", ".Trash-1000", "#recycle", "@Recycle", "$RECYCLE.BIN"]
    folders += [".ipynb_checkpoints", ".fseventsd", "__MACOSX", "System Volume Information"]
    for parent in (sorted_folder / name for name in ("", "toilet", "unlabelled")):
        for name in files:
            (parent / name).write_bytes(b"x")
        for name in folders:
            (parent / name).mkdir()
            (parent / name / "SYNOFILE_THUMB_M.jpg").write_bytes(b"x")
    assert import_folder(sorted_folder, CLASSES) == expected


@pytest.mark.parametrize(
    "name", ["{} (1).jpg", "{}(2).jpg", "{} - Copy.jpg", "Copy of {}.jpg", "{}_1.jpg"]
)
def test_a_copy_that_a_download_has_named_is_the_same_picture(
    sorted_folder: Path, name: str
) -> None:
    expected = import_folder(sorted_folder, CLASSES)
    picture = sorted_folder / "toilet" / Path(locations(sorted_folder)["a"]).name
    copy = name.format(picture.stem)
    shutil.copy(picture, picture.with_name(copy))
    assert import_folder(sorted_folder, CLASSES) == expected
    picture.unlink()
    assert import_folder(sorted_folder, CLASSES) == expected
    shutil.move(picture.with_name(copy), sorted_folder / "other" / copy)
    shutil.copy(sorted_folder / "other" / copy, picture)
    assert refused(sorted_folder).found == (
        f"1 in more than one, among them other/{copy} and toilet/{picture.name}"
    )


# The index, handed back


def rewrite(folder: Path, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
    """Saves the index as a spreadsheet does."""
    with (folder / "index.csv").open(newline="") as file:
        rows = change(list(csv.DictReader(file)))
    with (folder / "index.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["file", "image_id", "content_digest"])
        writer.writeheader()
        writer.writerows(rows)


IDS = ("000101", "1234567890123456", "1-2")


def swapped(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    first, second, *rest = [row["image_id"] for row in rows]
    ids = [second, first, *rest]
    return [{**row, "image_id": image_id} for row, image_id in zip(rows, ids, strict=True)]


@pytest.mark.parametrize(
    ("change", "result"),
    [
        (
            lambda rows: [{**row, "image_id": row["image_id"].lstrip("0")} for row in rows],
            "1 of 3 rows are altered, for instance 'unlabelled/{0}' is not the picture of '101'",
        ),
        (
            lambda rows: [rows[0], {**rows[1], "image_id": "1.23457E+15"}, rows[2]],
            "1 of 3 rows are altered, for instance 'unlabelled/{1}' is not the picture of "
            "'1.23457E+15'",
        ),
        (swapped, "2 of 3 rows are altered, for instance 'unlabelled/{0}' is not the picture of"),
        (lambda rows: [*rows, rows[1]], "1 pictures with two rows: '{1}'"),
        (lambda rows: [{**rows[0], "file": ""}, *rows[1:]], "'' is not the picture of '000101'"),
    ],
    ids=["leading zeros", "scientific", "sorted alone", "two rows", "no file"],
)
def test_an_index_that_a_spreadsheet_has_altered(
    tmp_path: Path, change: Any, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The hidden copy of the index counts; without it the row is named."""
    export(images(*IDS), tmp_path, CLASSES)
    names = [Path(locations(tmp_path)[image_id]).name for image_id in IDS]
    drag(tmp_path, IDS[0], "toilet")
    drag(tmp_path, IDS[1], "other")
    expected = import_folder(tmp_path, CLASSES)
    rewrite(tmp_path, change)
    assert import_folder(tmp_path, CLASSES) == expected
    assert result.format(*names) in caplog.text
    (tmp_path / ".index.csv").unlink()
    with pytest.raises(LabelsError) as raised:
        import_folder(tmp_path, CLASSES)
    assert result.format(*names) in raised.value.found
    with pytest.raises(LabelsError):
        export(images("new"), tmp_path, CLASSES)


def test_an_index_with_a_byte_order_mark_or_in_another_order_is_read(tmp_path: Path) -> None:
    export(images(*IDS), tmp_path, CLASSES)
    drag(tmp_path, IDS[0], "toilet")
    drag(tmp_path, IDS[1], "other")
    expected = import_folder(tmp_path, CLASSES)
    (tmp_path / ".index.csv").unlink()
    rewrite(tmp_path, lambda rows: rows[::-1])
    assert import_folder(tmp_path, CLASSES) == expected


def test_what_macos_writes_beside_pictures_is_no_picture(tmp_path: Path) -> None:
    export(images("a"), tmp_path, CLASSES)
    (tmp_path / "toilet" / "._ca978112ca1bbdca.jpg").write_bytes(b"x")
    assert not any_labelled(tmp_path, CLASSES)
    drag(tmp_path, "a", "other")
    assert refused(tmp_path).found == "none in toilet"


@pytest.mark.parametrize("name", ["new @ folder", "bathroom", "Toilet"])
def test_a_stray_folder_is_named(sorted_folder: Path, name: str) -> None:
    (sorted_folder / name).mkdir()
    assert str(refused(sorted_folder)) == (
        f"while importing labels from {sorted_folder}\n"
        "  expected: the folders toilet, other and unlabelled, and index.csv\n"
        f"  found:    also '{name}'\n"
        "  do:       remove what is no class, or add it to labels.classes"
    )


def test_a_stray_file_is_named(sorted_folder: Path) -> None:
    (sorted_folder / "notes.txt").write_text("x")
    assert refused(sorted_folder).found == "also 'notes.txt'"


@pytest.mark.parametrize("name", ["doubtful", "1"])
def test_a_folder_inside_a_class_is_named(sorted_folder: Path, name: str) -> None:
    """Whoever sorted into toilet/doubtful did not mean toilet."""
    (sorted_folder / "toilet" / name).mkdir()
    file = sorted_folder / locations(sorted_folder)["d"]
    file.rename(sorted_folder / "toilet" / name / file.name)
    assert refused(sorted_folder).found == f"also 'toilet/{name}'"


def test_an_empty_class_is_named(sorted_folder: Path) -> None:
    (sorted_folder / "toilet" / Path(locations(sorted_folder)["a"]).name).unlink()
    (sorted_folder / "toilet" / ".DS_Store").write_bytes(b"x")
    assert str(refused(sorted_folder)) == (
        f"while importing labels from {sorted_folder}\n"
        "  expected: at least one picture in each of toilet, other\n"
        "  found:    none in toilet\n"
        "  do:       drag pictures from unlabelled into the class folders, "
        "or shorten labels.classes"
    )


def test_a_class_without_a_folder_is_named(sorted_folder: Path) -> None:
    assert refused(sorted_folder, ["toilet", "bathroom", "other"]).found == "none in bathroom"


def test_a_class_that_holds_only_an_empty_folder_is_empty(sorted_folder: Path) -> None:
    (sorted_folder / "toilet" / Path(locations(sorted_folder)["a"]).name).unlink()
    (sorted_folder / "toilet" / "nothing").mkdir()
    assert refused(sorted_folder).found == "also 'toilet/nothing'"
    assert not any_labelled(sorted_folder, ["toilet"])


def test_a_file_that_was_never_exported_is_named(sorted_folder: Path) -> None:
    (sorted_folder / "toilet" / "mine.jpg").write_bytes(jpeg(1))
    (sorted_folder / "other" / "mine too.txt").write_bytes(b"x")
    assert str(refused(sorted_folder)) == (
        f"while importing labels from {sorted_folder}\n"
        "  expected: only exported files (those in index.csv), under their own names\n"
        "  found:    2 others: 'other/mine too.txt', 'toilet/mine.jpg'\n"
        "  do:       run `toiletspark labels export` again if it was cut off; "
        "else remove them or give them their names back; pictures from elsewhere have no image_id"
    )


def test_a_renamed_file_is_named(sorted_folder: Path) -> None:
    assert (
        refused_renaming(sorted_folder, "copy of it.jpg").found
        == "1 others: 'toilet/copy of it.jpg'"
    )


def test_a_picture_in_two_classes_is_named(sorted_folder: Path) -> None:
    name = Path(locations(sorted_folder)["a"]).name
    (sorted_folder / "other" / name).write_bytes(jpeg(1))
    assert str(refused(sorted_folder)) == (
        f"while importing labels from {sorted_folder}\n"
        "  expected: each picture in one class folder\n"
        f"  found:    1 in more than one, among them other/{name} and toilet/{name}\n"
        "  do:       keep the right one of each and remove the other"
    )


def test_a_copied_picture_counts_once(sorted_folder: Path) -> None:
    """Copied instead of moved: it also still waits in unlabelled."""
    name = Path(locations(sorted_folder)["a"]).name
    (sorted_folder / "unlabelled" / name).write_bytes(jpeg(1))
    assert len(import_folder(sorted_folder, CLASSES)) == 3


def test_an_export_without_unlabelled_is_read(sorted_folder: Path) -> None:
    for path in (sorted_folder / "unlabelled").iterdir():
        path.unlink()
    (sorted_folder / "unlabelled").rmdir()
    assert len(import_folder(sorted_folder, CLASSES)) == 3


@pytest.mark.parametrize(
    ("make", "result"),
    [(False, "no such folder"), (True, "no index.csv, and the folders 'toilet'")],
)
def test_a_folder_that_is_no_export_is_told(tmp_path: Path, make: bool, result: str) -> None:
    folder = tmp_path / "labelling"
    if make:
        (folder / "toilet").mkdir(parents=True)
    assert str(refused(folder)) == (
        f"while importing labels from {folder}\n"
        "  expected: a folder that `toiletspark labels export` made, with its index.csv; or a "
        "folder of your own, with class folders such as toilet/ and other/\n"
        f"  found:    {result}\n"
        "  do:       run `toiletspark labels export`, name your folder (--folder), or set "
        "labels.classes to the names of its class folders"
    )


def test_whether_somebody_has_begun_is_seen(tmp_path: Path) -> None:
    export(images("a", "b"), tmp_path, CLASSES)
    (tmp_path / "toilet" / "Thumbs.db").write_bytes(b"x")
    assert not any_labelled(tmp_path, CLASSES)
    drag(tmp_path, "b", "other")
    assert any_labelled(tmp_path, CLASSES)
    assert not any_labelled(tmp_path, ["toilet"])


# Presorted


@pytest.fixture
def presorted(tmp_path: Path) -> Path:
    """By the scores two in toilet, two in other; one without a score, one of a foreign class."""
    folder = tmp_path / "presorted"
    imported = {
        "a": "toilet",
        "b": "toilet",
        "c": "other",
        "d": "other",
        "e": None,
        "f": "../attic",
    }
    export(
        [
            ExportedImage(one.image_id, one.content_digest, one.jpeg, imported[one.image_id])
            for one in images(*imported)
        ],
        folder,
        CLASSES,
    )
    return folder


def words(labels: list[Label]) -> set[tuple[str, str, str]]:
    return {(label.image_id, label.label, label.how) for label in labels}


def test_presorted_pictures_lie_where_the_scores_say(presorted: Path) -> None:
    assert {
        image_id: Path(index).parent.name for image_id, index in locations(presorted).items()
    } == {
        "a": "toilet",
        "b": "toilet",
        "c": "other",
        "d": "other",
        "e": "unlabelled",
        "f": "unlabelled",
    }
    assert all((presorted / index).is_file() for index in locations(presorted).values())
    assert {path.parent.parent for path in presorted.rglob("*.jpg")} == {presorted}


def test_what_nobody_has_looked_at_is_no_label(presorted: Path) -> None:
    drag(presorted, "b", "other")
    drag(presorted, "e", "toilet")
    imported = read(presorted, CLASSES)
    assert words(imported.labels) == {("b", "other", "folder"), ("e", "toilet", "folder")}
    assert words(imported.waiting) == {
        ("a", "toilet", "folder_presorted"),
        ("c", "other", "folder_presorted"),
        ("d", "other", "folder_presorted"),
    }
    assert imported.covers == {"a", "b", "c", "d", "e", "f"}


def test_what_stays_in_a_folder_that_was_looked_through_is_a_label(presorted: Path) -> None:
    drag(presorted, "b", "other")
    imported = read(presorted, CLASSES, ["toilet"])
    assert words(imported.labels) == {("a", "toilet", "folder_presorted"), ("b", "other", "folder")}
    assert words(imported.waiting) == {
        ("c", "other", "folder_presorted"),
        ("d", "other", "folder_presorted"),
    }
    both = read(presorted, CLASSES, CLASSES)
    assert both.waiting == []
    assert len(both.labels) == 4


def test_presorting_is_not_labelling(presorted: Path) -> None:
    assert not any_labelled(presorted, CLASSES)
    drag(presorted, "a", "other")
    assert any_labelled(presorted, CLASSES)


def test_a_folder_that_no_export_made_is_plain(tmp_path: Path, presorted: Path) -> None:
    for name in ("mine/train/toilet/a.jpg", "empty/toilet/x.txt", "rooms/bath/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"a")
    (tmp_path / "empty/toilet/x.txt").unlink()
    assert class_folders.is_plain(tmp_path / "mine", CLASSES)
    assert not class_folders.is_plain(tmp_path / "empty", CLASSES)
    assert not class_folders.is_plain(tmp_path / "rooms", CLASSES)
    assert not class_folders.is_plain(tmp_path / "nowhere", CLASSES)
    assert not class_folders.is_plain(presorted, CLASSES)
    (presorted / "index.csv").unlink()  # the copies of an export are no labels without it
    assert not class_folders.is_plain(presorted, CLASSES)
    with pytest.raises(LabelsError, match=r"found:    no index.csv, and the folders 'bath'"):
        read(tmp_path / "rooms", CLASSES)

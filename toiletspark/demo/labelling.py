"""Plays the people who label: they look at each picture and drag its file into the folder of a class."""

import csv
from collections.abc import Mapping
from pathlib import Path

from toiletspark.errors import UserError


def label_like_a_person(export_folder: Path, truth_csv: Path, classes: Mapping[str, str]) -> int:
    """Moves the files of an export into class folders, as somebody who knows the truth would.

    Args:
        export_folder: holds index.csv with the columns file (a path relative to this folder, such as
            unlabelled/ab12.jpg) and image_id.
        truth_csv: columns image_id and room, as `draw_catalog` writes them. Images without a row stay where
            they are: nobody can tell what they show.
        classes: room -> class folder, such as {"toilet": "toilet", "kitchen": "other"}.

    Returns:
        How many files were moved. Files that lie elsewhere by now, because somebody has labelled them before,
        are left alone: a second call moves none.

    Raises:
        UserError: a room has no class, or a file of that name lies in the class folder already; nothing is
            moved then.
    """
    room_of = {row["image_id"]: row["room"] for row in _rows(truth_csv)}
    _check_classes(set(room_of.values()), classes)
    moves = []
    for row in _rows(export_folder / "index.csv"):
        start = export_folder / row["file"]
        if row["image_id"] in room_of and start.is_file():
            moves.append((start, export_folder / classes[room_of[row["image_id"]]] / start.name))
    _check_free([goal for start, goal in moves if start != goal])
    for start, goal in moves:
        goal.parent.mkdir(exist_ok=True)
        start.rename(goal)
    return len(moves)


def _check_classes(rooms: set[str], classes: Mapping[str, str]) -> None:
    unknown = sorted(rooms - set(classes))
    if unknown:
        raise UserError(
            doing="labelling the demo's images as a person would",
            expected="a class for every room that was drawn",
            found=f"no class for {', '.join(unknown)}",
            todo="add the rooms to `classes`, as in {'kitchen': 'other'}",
        )


def _check_free(goals: list[Path]) -> None:
    taken = [goal for goal in goals if goal.exists()]
    if taken or len(set(goals)) < len(goals):
        raise UserError(
            doing="labelling the demo's images as a person would",
            expected="files of different names, so that none replaces another in its class folder",
            found=f"{taken[0]} is there already"
            if taken
            else "two files of the same name for one class folder",
            todo="export the sample again into an empty folder",
        )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

"""Plays the people who label: they look at each picture and move its file into a class folder."""

import csv
from collections.abc import Mapping
from pathlib import Path

from toiletspark.errors import UserError


def label_like_a_person(export_folder: Path, truth_csv: Path, classes: Mapping[str, str]) -> int:
    """Moves an export's files into class folders; returns their number, 0 on a second call.

    Args:
        export_folder: holds index.csv with the columns file (relative path) and image_id.
        truth_csv: columns image_id and room. Images without a row stay: nobody can tell their room.
        classes: room -> class folder, such as {"toilet": "toilet", "kitchen": "other"}.

    Raises:
        UserError: a room has no class, or a class folder holds a file of that name already; then
            nothing is moved.
    """
    doing = "labelling the demo's images as a person would"
    room_of = {row["image_id"]: row["room"] for row in _rows(truth_csv)}
    if without_class := sorted(set(room_of.values()) - set(classes)):
        raise UserError(
            doing=doing,
            expected="a class for every room that was drawn",
            found=f"no class for {', '.join(without_class)}",
            todo="add the rooms to `classes`, as in {'kitchen': 'other'}",
        )
    goal_of: dict[Path, Path] = {}
    for row in _rows(export_folder / "index.csv"):
        file = export_folder / row["file"]
        if row["image_id"] in room_of and file.is_file():
            goal_of[file] = export_folder / classes[room_of[row["image_id"]]] / file.name
    moves = {file: goal for file, goal in goal_of.items() if file != goal}
    taken = [goal for goal in moves.values() if goal.exists()]
    if taken or len(set(moves.values())) < len(moves):
        same_name = "two files of the same name for one class folder"
        raise UserError(
            doing=doing,
            expected="files of different names, so that none replaces another in its class folder",
            found=f"{taken[0]} is there already" if taken else same_name,
            todo="export the sample again into an empty folder",
        )
    for file, goal in moves.items():
        goal.parent.mkdir(exist_ok=True)
        file.rename(goal)
    return len(moves)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

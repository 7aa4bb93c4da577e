"""Runs all cases of the field, or those that are named, on a copy; ends in one line of JSON.

python -m benchmarks.field [--case 01 --case 14] [--field FOLDER]
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.field import images, people, process, reading, tables
from benchmarks.field.cases import Case, Check, Verdict, case_folder, restore
from benchmarks.measure import SHARED

CHECKS: list[Check] = sorted(
    [*images.CHECKS, *people.CHECKS, *process.CHECKS, *reading.CHECKS, *tables.CHECKS],
    key=lambda check: check.number,
)


def run(
    case: Annotated[list[str] | None, typer.Option(help="numbers of cases; all if none")] = None,
    field: Annotated[Path, typer.Option(help="the folder of the cases")] = SHARED / "field",
) -> None:
    """Runs the cases' commands and prints a verdict on each."""
    numbers = set(case or (folder.name[:2] for folder in field.glob("[0-9][0-9]-*")))
    verdicts: dict[str, Verdict] = {}
    with tempfile.TemporaryDirectory(prefix="toiletspark-field-") as temporary:
        copy = Path(temporary) / "field"
        kept = Path(temporary) / "kept"
        shutil.copytree(field, copy)
        for check in CHECKS:
            if check.number in numbers:
                verdicts[check.number] = _verdict(check, copy, kept)
                print(f"{check.number} {verdicts[check.number].word}: {verdicts[check.number].why}")
    for number in sorted(numbers - set(verdicts)):
        verdicts[number] = Verdict("wrong", "no check is written for it")
        print(f"{number} wrong: {verdicts[number].why}")
    words = [verdict.word for verdict in verdicts.values()]
    counts = {word: words.count(word) for word in ("right", "refused", "wrong")}
    print(json.dumps({"cases": len(words), **counts}))


def _verdict(check: Check, copy: Path, kept: Path) -> Verdict:
    """Runs one check after the kit's own version, if it begins with one; `kept` holds that."""
    case = Case(case_folder(copy, check.number))
    if check.begins_with_version and not kept.exists():
        shutil.rmtree(case.root, ignore_errors=True)
        Case(copy / "kit").toiletspark("run")
        shutil.copytree(case.root, kept)
    restore(kept if check.begins_with_version else copy / "no version", case.root)
    try:
        return check.of_case(case)
    except (OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
        return Verdict("wrong", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    typer.run(run)

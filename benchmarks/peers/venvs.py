"""Each contestant's own virtual environment, made once from its requirements file."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.measure import ROOT

FOLDER = Path(os.environ.get("TOILETSPARK_BENCH_VENVS") or ROOT / ".bench" / "venvs")
REQUIREMENTS = Path(__file__).parent / "requirements"


def python(name: str) -> str:
    """The Python of an environment, which is made first if it is missing or out of date.

    Args:
        name: of the file in requirements/, without its ending.

    Cost: the first time about 5 GB (torch) and two minutes.
    """
    folder = FOLDER / name
    wanted = (REQUIREMENTS / f"{name}.txt").read_text()
    program, installed = folder / "bin" / "python", folder / "requirements.txt"
    if not installed.exists() or installed.read_text() != wanted:
        print(
            f"== installing {name} into {folder}: about 5 GB, two minutes, only this once",
            file=sys.stderr,
        )
        venv.create(folder, with_pip=True)
        pip = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        silent = {**os.environ, "PYTHONWARNINGS": "ignore"}
        subprocess.run(
            [*pip, "--requirement", str(REQUIREMENTS / f"{name}.txt")], check=True, env=silent
        )
        installed.write_text(wanted)
    return str(program)

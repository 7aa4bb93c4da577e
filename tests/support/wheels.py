"""The wheel of this checkout, and a Python that has it installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from tests.conftest import REPOSITORY

_IGNORED = shutil.ignore_patterns(
    ".*", "build", "dist", "tests", "*.egg-info", "toiletspark-*", "__pycache__"
)


def build(folder: Path) -> Path:
    """Builds the wheel into folder/dist, from a copy: setuptools leaves files beside setup.py."""
    sources = folder / "sources"
    # with links as links, as a clone has them: the build must follow them itself
    shutil.copytree(REPOSITORY, sources, ignore=_IGNORED, symlinks=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    subprocess.run([*command, folder / "dist", sources], check=True, capture_output=True)
    shutil.rmtree(sources)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


def environment(folder: Path) -> Path:
    """A virtual environment with all dependencies and without toiletspark; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    # .pth files inside that folder are not processed, so that the editable install is not found
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin" / "python"

"""Pythons of a cluster: with all packages, without one, or with an old one in front.

    torchless = thin_pythons.made(folder / "torchless", without=("torch", "torchvision"))
    mixed = thin_pythons.by_worker(folder / "python", {"1": sound, "2": torchless})

`by_worker` is another Python on each Worker of `tests.support.clusters` that was started with
WORKER in its environment.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

WORKER = "TOILETSPARK_TEST_WORKER"


def made(folder: Path, *, without: tuple[str, ...] = (), instead: Path | None = None) -> Path:
    """A virtual environment with this environment's packages, but toiletspark.

    Args:
        folder: new.
        without: names of packages and modules that it lacks, and their metadata.
        instead: a folder with packages that come first.

    Returns:
        Its interpreter.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    links = folder / "packages"
    links.mkdir()
    for path in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if _name(path) not in without and path.suffix != ".pth":
            (links / path.name).symlink_to(path)
    # .pth files inside that folder are not processed, so that an editable install is not seen
    (packages / "thin.pth").write_text("".join(f"{path}\n" for path in (instead, links) if path))
    return folder / "bin" / "python"


def everything() -> set[str]:
    """The names of all packages of this environment, for `without`."""
    return {_name(path) for path in Path(sysconfig.get_paths()["purelib"]).iterdir()}


def _name(path: Path) -> str:
    return path.name.lower().partition("-")[0].removesuffix(".py")


def by_worker(path: Path, pythons: Mapping[str, Path]) -> Path:
    """A program that is another Python on each Worker, and the first of them elsewhere."""
    cases = [
        f'  {name}) exec {shlex.quote(str(python))} "$@" ;;' for name, python in pythons.items()
    ]
    usual = f'  *) exec {shlex.quote(str(next(iter(pythons.values()))))} "$@" ;;'
    path.write_text("\n".join(["#!/bin/sh", f'case "${WORKER}" in', *cases, usual, "esac", ""]))
    path.chmod(0o755)
    return path

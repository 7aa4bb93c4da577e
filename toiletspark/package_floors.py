"""Which versions of the packages that touch strangers' files are safe enough to start with.

`pip install` obeys the ranges of setup.py, which are the same; a cluster is seldom installed by pip alone, so every
program asks again when it starts (the doctor instead reports what it finds), and every worker before its first batch.
What is asked is the packages' metadata: nothing is imported, so neither torch nor Pillow is loaded for it.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib import metadata

from packaging.specifiers import SpecifierSet

from toiletspark.errors import UserError


@dataclass(frozen=True)
class Floor:
    """The versions of one package that may be used, in pip's words, and why no others."""

    package: str
    versions: str
    why: str

    @property
    def requirement(self) -> str:
        """As pip takes it, `Pillow>=13.0.0`."""
        return f"{self.package}{self.versions}"

    def allows(self, version: str) -> bool:
        """Whether this version may be used; a local one (2.12.1+cu130) is what it was made from."""
        return SpecifierSet(self.versions).contains(version, prereleases=True)


FLOORS = (
    Floor(
        "Pillow",
        ">=13.0.0",
        "below, a picture can overwrite memory (CVE-2026-96639, CVE-2026-112403)",
    ),
    Floor(
        "torch",
        ">=2.10,!=2.13.0",
        "below, a file of weights can overwrite memory (CVE-2026-24747); with a CPU build of 2.13.0 torchvision does "
        "not load",
    ),
    Floor(
        "pyarrow",
        ">=14.0.1,!=15.*,!=16.*,!=17.*,!=18.*,!=19.*,!=20.*,!=21.*,!=22.*,!=23.0.0",
        "below 14.0.1 a Parquet file runs code (CVE-2023-47248); 15.0 to 23.0.0 read freed memory (CVE-2026-25087)",
    ),
)


@dataclass(frozen=True)
class Unsafe:
    """A package that is there in a version that must not be used."""

    floor: Floor
    version: str


def unsafe() -> list[Unsafe]:
    """The packages of this Python that are too old or known to be broken.

    A package that is missing is none of them: scoring needs no torch, and whoever needs one says so by itself.
    """
    found = [(floor, _version(floor.package)) for floor in FLOORS]
    return [
        Unsafe(floor, version) for floor, version in found if version and not floor.allows(version)
    ]


def require(*, doing: str) -> None:
    """Stops where this Python has a package that must not be used.

    Raises:
        UserError: with all of them at once.

    Cost: 2 ms the first time, for Python's own list of what is installed; then less.
    """
    found = unsafe()
    if found:
        raise UserError(
            doing=doing,
            expected="; ".join(f"{one.floor.requirement} ({one.floor.why})" for one in found),
            found=f"{', '.join(f'{one.floor.package} {one.version}' for one in found)} in {sys.executable} on "
            f"{platform.node()}",
            todo=f"pip install {' '.join(repr(one.floor.requirement) for one in found)} in that Python, or give the "
            "workers another one by PYSPARK_PYTHON or --archives",
        )


def _version(package: str) -> str:
    """The version that the package's metadata tells; "" where it is not installed, or tells none."""
    try:
        return metadata.version(package) or ""
    except metadata.PackageNotFoundError:
        return ""

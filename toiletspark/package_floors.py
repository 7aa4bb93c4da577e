"""Package versions that are safe with strangers' files.

The ranges are those of setup.py. A cluster is seldom installed by pip alone, so every program
checks them when it starts, and every worker before its first batch. Imports none of the packages.
"""

import platform
import sys
from dataclasses import dataclass
from importlib import metadata

from packaging.specifiers import SpecifierSet

from toiletspark.errors import UserError


@dataclass(frozen=True)
class Floor:
    """The versions of a package that may be used, as a specifier of pip, and the reason."""

    package: str
    versions: str
    why: str

    @property
    def requirement(self) -> str:
        """The requirement for pip, such as `Pillow>=13.0.0`."""
        return f"{self.package}{self.versions}"

    def allows(self, version: str) -> bool:
        """Returns True if this version may be used; 2.12.1+cu130 counts as 2.12.1."""
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
        "below, a file of weights can overwrite memory (CVE-2026-24747); with a CPU build of "
        "2.13.0 torchvision does not load",
    ),
    Floor(
        "pyarrow",
        ">=14.0.1,!=15.*,!=16.*,!=17.*,!=18.*,!=19.*,!=20.*,!=21.*,!=22.*,!=23.0.0",
        "below 14.0.1 a Parquet file runs code (CVE-2023-47248); 15.0 to 23.0.0 read freed memory "
        "(CVE-2026-25087)",
    ),
)


@dataclass(frozen=True)
class Unsafe:
    """An installed package in a version that must not be used."""

    floor: Floor
    version: str


def unsafe() -> list[Unsafe]:
    """The packages of this Python that are too old or known to be broken.

    A missing package is not among them: scoring needs no torch, and a step that needs it says so.
    """
    installed = [Unsafe(floor, _version(floor.package)) for floor in FLOORS]
    return [item for item in installed if item.version and not item.floor.allows(item.version)]


def require(*, doing: str) -> None:
    """Raises UserError, which names them, if this Python has packages that must not be used."""
    problems = unsafe()
    if not problems:
        return
    floors = [problem.floor for problem in problems]
    installed = ", ".join(f"{problem.floor.package} {problem.version}" for problem in problems)
    requirements = " ".join(repr(floor.requirement) for floor in floors)
    raise UserError(
        doing=doing,
        expected="; ".join(f"{floor.requirement} ({floor.why})" for floor in floors),
        found=f"{installed} in {sys.executable} on {platform.node()}",
        todo=f"pip install {requirements} in that Python, or give the workers another one by "
        "PYSPARK_PYTHON or --archives",
    )


def _version(package: str) -> str:
    """The installed version by the package's metadata; "" if there is none."""
    try:
        return metadata.version(package) or ""
    except metadata.PackageNotFoundError:
        return ""

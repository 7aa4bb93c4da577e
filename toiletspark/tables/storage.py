"""Small files on any store: list, read, replace at once, create if absent. Spark writes the tables.

A location is a local path or a URL that fsspec opens. Without a scheme it is a local path, for
Spark too (`spark_path`), whatever the cluster's default file system is.
"""

import contextlib
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import fsspec
import fsspec.core
from pydantic import BaseModel, ValidationError

from toiletspark.errors import OutputError

Model = TypeVar("Model", bound=BaseModel)
_HADOOP_SCHEMES = {"s3a": "s3", "s3n": "s3"}  # Hadoop's names for what fsspec calls s3
_IN_A_RUN = re.compile(r"(?P<run>.*/(?P<table>\w+)/\d{8}T\d{12}Z-[0-9a-f]{4})(?:/|$)")
_MADE_AGAIN = {  # the tables that a step makes from what is still there
    **dict.fromkeys(("embeddings", "image_ledger", "catalog"), "embed"),
    **dict.fromkeys(("training_set", "training_views", "training_images"), "train"),
    "scores": "score",
    **dict.fromkeys(("feed", "best_images", "alerts"), "feed"),
}
_WAITS_S = (0.05, 0.2, 1.0)  # between tries of a put-if-absent


def open_filesystem(
    location: str, options: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a location, and the path in it; listings are not cached.

    Without fsspec's storage options, which are given by scheme, it asks the environment.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:  # not by url_to_fs, for which :: would join two locations
        local = fsspec.filesystem("file", use_listings_cache=False)
        return local, cast(str, local._strip_protocol(location))
    location = f"{_HADOOP_SCHEMES.get(scheme, scheme)}://{rest}"
    schemes = {link.partition("://")[0] for link in location.split("::") if "://" in link}
    by_scheme = {
        scheme: {"use_listings_cache": False, **(options or {}).get(scheme, {})}
        for scheme in schemes
    }
    filesystem, path = fsspec.core.url_to_fs(location, **by_scheme)
    return filesystem, cast(str, path)


def spark_path(location: str) -> str:
    """The location with its scheme, as Spark needs it."""
    return location if "://" in location else f"file://{location}"


def spark_files(location: str) -> str:
    """The location as Spark's readers of files need it: they take a path for a pattern."""
    return re.sub(r"([\[\]{}*?\\])", r"\\\1", spark_path(location))


def is_local(location: str) -> bool:
    """Returns True for a location on this machine's file system."""
    return "://" not in location or location.startswith("file://")


def exists(location: str) -> bool:
    """Returns True if there is a file or a folder."""
    filesystem, path = open_filesystem(location)
    return bool(filesystem.exists(path))


def entries(location: str) -> list[str]:
    """The names in a folder, sorted; [] if there is no such folder."""
    filesystem, path = open_filesystem(location)
    try:
        names = filesystem.ls(path, detail=False, refresh=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(Path(name).name for name in names if name.rstrip("/") != path.rstrip("/"))


def read_json(location: str) -> dict[str, Any] | None:
    """The JSON object in a file, or None if there is no such file.

    Raises OutputError if the file holds something else. It is written whole or not at all, so it
    was damaged since, and must not be treated as missing.
    """
    filesystem, path = open_filesystem(location)
    try:
        content = json.loads(filesystem.cat_file(path))
        if not isinstance(content, dict):
            raise ValueError(f"{type(content).__name__} in place of an object")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise OutputError(
            doing=f"reading {location}",
            expected="a JSON object, as it was written",
            found=str(error),
            todo=remedy(location),
        ) from None
    return content


def validated(model: type[Model], content: object, location: str, name: str) -> Model:
    """The content of a JSON file of ours with its types.

    Raises:
        OutputError: a field is missing or has another type: the file was altered.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise OutputError(
            doing=f"reading {location}",
            expected=f"{name} as toiletspark writes it",
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            todo=remedy(location),
        ) from None


def remedy(location: str) -> str:
    """The way out where a file of ours is damaged or gone: the step that makes it again, if any."""
    match = _IN_A_RUN.search(location)
    if location.find("/_work/") >= 0:
        return "run the step again: the file is temporary"
    if match is None or match["table"] not in _MADE_AGAIN:
        return "take the file from a backup; it is never changed in place"
    step = _MADE_AGAIN[match["table"]]
    return f"remove the folder {match['run']} and run `toiletspark {step}`: it is made again"


def read_jsons(locations: list[str]) -> list[dict[str, Any] | None]:
    """Reads many JSON files in parallel, in order."""
    with ThreadPoolExecutor(32) as threads:
        return list(threads.map(read_json, locations))


def read_files(locations: list[str]) -> list[bytes]:
    """Reads many files in parallel, in order; raises OSError if one cannot be read."""

    def content(location: str) -> bytes:
        filesystem, path = open_filesystem(location)
        return cast(bytes, filesystem.cat_file(path))

    with ThreadPoolExecutor(32) as threads:
        return list(threads.map(content, locations))


def replace_json(location: str, content: dict[str, Any]) -> None:
    """Replaces a JSON file at once: readers see the old file or the new one, never a part.

    Local files are renamed into place; object stores replace an object as a whole.
    """
    replace_bytes(location, _json_bytes(content))


def replace_bytes(location: str, content: bytes) -> None:
    """Replaces a file at once, like `replace_json`."""
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
    """Creates a JSON file if there is none (put-if-absent); of two writers only one succeeds.

    Local files are linked into place; S3 gets `If-None-Match`. Other stores of fsspec check and
    then write: there, only one writer may work at a time. Returns False if another file is there.
    A write whose answer was lost is read back, and counts as done.
    """
    written = _json_bytes(content)
    if not is_local(location):
        return _create_object(location, written)
    _, path = open_filesystem(location)
    temporary = _temporary(Path(path), written)
    try:
        os.link(temporary, path)
    except OSError as error:
        if _is_linked(temporary, path):  # NFS may say "exists" of a call that it has repeated
            return True
        if isinstance(error, FileExistsError):
            return False
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def one_at_a_time(location: str) -> Iterator[None]:
    """Holds a lock on a local file; a killed process releases it. No lock on other stores."""
    if not is_local(location):
        yield
        return
    path = Path(location.removeprefix("file://"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _create_object(location: str, written: bytes) -> bool:
    """Tries again while S3 refuses (409): another writer's object is under way, but may fail."""
    filesystem, path = open_filesystem(location)
    for wait_s in (*_WAITS_S, None):
        try:
            filesystem.pipe_file(path, written, mode="create")
        except OSError:
            existing = read_json(location)
            if existing is not None:
                return bool(existing == json.loads(written))
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
    """The prefix of temporary files that will become `name`; a killed writer leaves one behind."""
    return f".{name}."


def _temporary(path: Path, content: bytes) -> Path:
    """Writes a file beside `path`, synced to disk and readable for other users."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix(path.name))
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(name).chmod(0o644)  # mkstemp makes it 0600
    return Path(name)


def remove_folder(location: str) -> None:
    """Removes a folder that no reader uses, if there is one."""
    filesystem, path = open_filesystem(location)
    if filesystem.exists(path):
        filesystem.rm(path, recursive=True)


def remove_file(location: str) -> None:
    """Removes a file, if there is one."""
    filesystem, path = open_filesystem(location)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        filesystem.rm_file(path)

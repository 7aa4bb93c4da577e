"""Reading a part of a file on any store, within a deadline where the store's client can be interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import cast

import fsspec
import fsspec.asyn

DEADLINE: ContextVar[float] = ContextVar(
    "deadline"
)  # of what the thread reads now; fsspec carries it into its own
OpenFilesystem = Callable[[str], tuple[fsspec.AbstractFileSystem, str]]


def read_range(
    filesystem: fsspec.AbstractFileSystem, path: str, start: int, stop: int, deadline: float
) -> bytes:
    """Bytes `start` to `stop` (exclusive) of a file, fewer where it ends before; one request.

    Args:
        filesystem: where.
        path: there.
        start: 0 or more.
        stop: more than `start`.
        deadline: on `time.monotonic`'s clock; held where the file system is an asynchronous one, as S3's is.
    """
    if not filesystem.async_impl:
        return cast(bytes, filesystem.cat_file(path, start=start, end=stop))
    left_s = max(deadline - time.monotonic(), 0.001)
    read = filesystem._cat_file
    return cast(
        bytes, fsspec.asyn.sync(filesystem.loop, read, path, start=start, end=stop, timeout=left_s)
    )

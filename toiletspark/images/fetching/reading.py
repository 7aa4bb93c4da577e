"""A few things that are dear to make and are used by many threads."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Generic, TypeVar, cast

import fsspec
import fsspec.asyn

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """The `size` things that were used last; each is made once, whoever asks for it meanwhile waits.

    What is pushed out is not closed: a thread may still read from it, and closes it by letting go.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._things: OrderedDict[K, Future[V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V], deadline: float) -> V:
        """The thing under `key`, made now if it is not there.

        Args:
            key: its name.
            make: makes it. If that fails, everybody who waits fails likewise, and the next one tries again.
            deadline: on `time.monotonic`'s clock.

        Raises:
            TimeoutError: another thread was making it until the deadline.
        """
        with self._lock:
            found = self._things.get(key)
            mine = found is None
            thing: Future[V] = Future() if found is None else found
            self._things[key] = thing
            self._things.move_to_end(key)
            while len(self._things) > self._size:
                self._things.popitem(last=False)
        if mine:
            try:
                thing.set_result(make())
            except BaseException as error:
                self.forget(key)
                thing.set_exception(error)
                raise
        return thing.result(max(0.0, deadline - time.monotonic()))

    def forget(self, key: K) -> None:
        """The next one who asks gets a new one."""
        with self._lock:
            self._things.pop(key, None)


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

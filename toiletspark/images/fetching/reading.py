"""Reading parts of files within a deadline, and a cache for what is expensive to open."""

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
OpenFilesystem = Callable[[str], tuple[fsspec.AbstractFileSystem, str]]
# of the thread's current read, on time.monotonic's clock; fsspec carries it into its own thread
DEADLINE: ContextVar[float] = ContextVar("deadline")


class Cache(Generic[K, V]):
    """A thread-safe cache of the `size` values used last. Each value is made once; others wait.

    Evicted values are not closed, because another thread may still be reading.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, Future[V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V], deadline: float) -> V:
        """Returns the value under `key`, and makes it first if there is none.

        An error of `make` is raised to all that wait, and the next call tries again. TimeoutError:
        another thread was making it until the deadline (of `time.monotonic`).
        """
        with self._lock:
            value = self._values.get(key)
            is_new = value is None
            if value is None:
                value = self._values[key] = Future()
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        if is_new:
            try:
                value.set_result(make())
            except BaseException as error:
                self.forget(key)
                value.set_exception(error)
                raise
        return value.result(max(0.0, deadline - time.monotonic()))

    def forget(self, key: K) -> None:
        """Drops a value, so that the next call makes a new one."""
        with self._lock:
            self._values.pop(key, None)


def read_range(
    filesystem: fsspec.AbstractFileSystem, path: str, start: int, stop: int, deadline: float
) -> bytes:
    """Reads bytes `start` to `stop` (exclusive) of a file, fewer at its end, with one request.

    The deadline, on `time.monotonic`'s clock, is held by asynchronous file systems, such as S3's.
    """
    if not filesystem.async_impl:
        return cast(bytes, filesystem.cat_file(path, start=start, end=stop))
    left_s = max(deadline - time.monotonic(), 0.001)
    read, loop = filesystem._cat_file, filesystem.loop
    return cast(bytes, fsspec.asyn.sync(loop, read, path, start=start, end=stop, timeout=left_s))

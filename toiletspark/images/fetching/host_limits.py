"""Per-host limits: threads are shared among hosts, so that a slow host delays only itself."""

import re
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from toiletspark.images.fetching.shards import shard_of

_AFTER_HOST = re.compile(r"[/?#\\]")
_HOST = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[\w.-]{1,253})(?P<port>:[0-9]{1,5})?")
T = TypeVar("T")


class HostLimits(Generic[T]):
    """A thread pool with at most `max_per_host` threads per host; the host "" is not limited."""

    def __init__(self, threads: int, max_per_host: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "fetch")
        self._max_per_host = max_per_host
        self._running: Counter[str] = Counter()
        self._queues: defaultdict[str, deque[tuple[Future[T], Callable[[], T]]]]
        self._queues = defaultdict(deque)
        self._lock = threading.Lock()

    def start(self, host: str, work: Callable[[], T]) -> Future[T]:
        """Runs `work` once a thread is free and the host is below its limit; returns at once."""
        if not host:
            return self._threads.submit(work)
        future: Future[T] = Future()
        with self._lock:
            if self._running[host] >= self._max_per_host:
                self._queues[host].append((future, work))
                return future
            self._running[host] += 1
        self._threads.submit(self._run, host, future, work)
        return future

    def _run(self, host: str, future: Future[T], work: Callable[[], T]) -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised to the thread that waits
            future.set_exception(error)
        with self._lock:
            following = self._queues[host].popleft() if self._queues[host] else None
            if following is None:
                del self._queues[host]
                self._running[host] -= 1
                if not self._running[host]:
                    del self._running[host]  # a catalog may have millions of hosts
        if following is not None:
            self._threads.submit(self._run, host, *following)  # behind the other hosts' work


def host_of(location: str) -> str:
    """Host and port of a URL, or an S3 bucket; "" for local files and for locations without a host.

    Reports name it, so it holds nothing of a URL that may be secret: no user, no query.

    >>> host_of("https://user@cdn.example.com:8080/a.jpg")
    'cdn.example.com:8080'
    >>> host_of("/photos/a.jpg")
    ''
    """
    scheme, separator, rest = (shard_of(location) or location).partition("://")
    if not separator or scheme in ("file", "local", "memory"):
        return ""
    authority = _AFTER_HOST.split(rest, maxsplit=1)[0]
    match = _HOST.fullmatch(authority.rpartition("@")[2].lower())
    return f"{match['host'].rstrip('.')}{match['port'] or ''}" if match else ""

"""Threads that are shared out among hosts, so that a slow host holds up nobody but itself."""

from __future__ import annotations

import re
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from toiletspark.images.fetching.shards import shard_of

_BEHIND_HOSTS = re.compile(r"[/?#\\]")
_HOST = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[\w.-]{1,253})(?P<port>:[0-9]{1,5})?")
T = TypeVar("T")


class HostLimits(Generic[T]):
    """A thread pool in which each host has at most `max_per_host` threads at once; "" is no host and has all."""

    def __init__(self, threads: int, max_per_host: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "fetch")
        self._max_per_host = max_per_host
        self._running: Counter[str] = Counter()
        self._waiting: defaultdict[str, deque[tuple[Future[T], Callable[[], T]]]] = defaultdict(
            deque
        )
        self._lock = threading.Lock()

    def start(self, host: str, work: Callable[[], T]) -> Future[T]:
        """Runs `work` as soon as a thread and, if it has a host, a place in the host's lane are free; returns at once.

        Args:
            host: whose lane it takes.
            work: is called once, in one of the threads.

        Returns:
            What `work` will return or raise.
        """
        if not host:
            return self._threads.submit(work)
        future: Future[T] = Future()
        with self._lock:
            if self._running[host] >= self._max_per_host:
                self._waiting[host].append((future, work))
                return future
            self._running[host] += 1
        self._threads.submit(self._run, host, future, work)
        return future

    def _run(self, host: str, future: Future[T], work: Callable[[], T]) -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            future.set_exception(error)
        with self._lock:
            following = self._waiting[host].popleft() if self._waiting[host] else None
            if following is None:
                del self._waiting[host]
                self._running[host] -= 1
                if not self._running[host]:
                    del self._running[host]  # a catalog may have millions of hosts
        if following is not None:
            self._threads.submit(self._run, host, *following)  # behind the other hosts' work


def host_of(location: str) -> str:
    """Whose lane a location is in: host and port of a URL, an S3 bucket; "" on this machine, and where it is no host.

    Reports name it, so nothing of a URL may be in it that may be secret: no user, no query.

    >>> host_of("https://user@cdn.example.com:8080/a.jpg")
    'cdn.example.com:8080'
    >>> host_of("/photos/a.jpg")
    ''
    """
    scheme, separator, rest = (shard_of(location) or location).partition("://")
    if not separator or scheme in ("file", "local", "memory"):
        return ""
    found = _HOST.fullmatch(_BEHIND_HOSTS.split(rest, maxsplit=1)[0].rpartition("@")[2].lower())
    return f"{found['host'].rstrip('.')}{found['port'] or ''}" if found else ""

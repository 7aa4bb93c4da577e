"""Hosts that do not answer: a worker gives up on them, so that they cost it a bounded time."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from toiletspark.images.fetching.failures import FetchError

_MIN_IMAGES = 3  # a single image may hang on a host that is well
_AGAIN_S = 60.0  # then one image finds out whether the host is back
_ANSWERS = ("http ", "certificate: ", "shard ")  # details of failures to which the host answered
_GATEWAYS = ("http 502", "http 503", "http 504")  # sent by what stands before the host


@dataclass
class _Silence:
    """The failed tries at a host since its last answer, on time.monotonic's clock."""

    since: float
    images: set[str] = field(default_factory=set)  # at most `_MIN_IMAGES`
    next_try: float | None = None  # None: the host has not been given up


class SilentHosts:
    """Gives up on hosts that have answered none of several images for `patience_s`."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._silences: dict[str, _Silence] = {}
        self._lock = threading.Lock()

    def may_ask(self, host: str) -> bool:
        """Returns False for a host that was given up; True once a minute, for one try."""
        now = time.monotonic()
        with self._lock:
            silence = self._silences.get(host)
            if silence is None or silence.next_try is None:
                return True
            if now < silence.next_try:
                return False
            silence.next_try = now + _AGAIN_S
            return True

    def note(self, host: str, image: str, failure: FetchError | None) -> None:
        """Notes how a try at an image has ended; the host "" (local files) is never given up."""
        if not host:
            return
        with self._lock:
            if failure is None or not _is_silence(failure):
                self._silences.pop(host, None)
                return
            now = time.monotonic()
            silence = self._silences.setdefault(host, _Silence(now))
            if len(silence.images) < _MIN_IMAGES:
                silence.images.add(image)
            is_long = now - silence.since >= self._patience_s
            if silence.next_try is None and is_long and len(silence.images) == _MIN_IMAGES:
                silence.next_try = now + _AGAIN_S


def _is_silence(failure: FetchError) -> bool:
    if failure.status != "timeout":
        return False
    return failure.detail in _GATEWAYS or not failure.detail.startswith(_ANSWERS)

"""The process that decodes: it can neither write files nor take more memory or time than it was given."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
from functools import lru_cache

from toiletspark.images import decoding
from toiletspark.images.decoding import Decoded
from toiletspark.images.sandbox import protocol
from toiletspark.images.sandbox.protocol import Input, Measure, Task

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_OPEN_FILES = 64
_STANDARD_ERROR = 2

_task_of = lru_cache(maxsize=8)(protocol.parse_task)


def serve(connection: socket.socket, timeout_s: float, max_memory_bytes: int, parent: int) -> None:
    """Answers requests until nobody asks any more; never returns to what was running before the fork.

    Args:
        connection: to the worker.
        timeout_s: for one request.
        max_memory_bytes: of this process's address space.
        parent: the process that forked this one; with it, this one ends.
    """
    _confine(max_memory_bytes, parent)
    while request := protocol.read_request(connection):
        signal.setitimer(signal.ITIMER_REAL, timeout_s)  # kills, also inside a C call: see _confine
        outcome, picture = _answer(_task_of(request[0]), request[1])
        signal.setitimer(signal.ITIMER_REAL, 0)
        protocol.write_response(connection, outcome, picture)


def _answer(task: Task, content: bytes) -> tuple[Decoded, bytes]:
    if isinstance(task, Input):
        (decoded,) = decoding.decode([content], task.limits, task.preprocessing)
        return decoded, b"" if decoded.pixels is None else decoded.pixels.tobytes()
    if isinstance(task, Measure):
        return decoding.measure(content, task.limits), b""
    small = decoding.thumbnail(content, task.limits, task.max_side_px, task.quality)
    return Decoded("ok" if small else "decode_failed"), small or b""


def _confine(max_memory_bytes: int, parent: int) -> None:
    """Gives up what decoding does not need. RLIMIT_CPU is none of it: it adds up over a child's whole life."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be followed
        os._exit(1)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # a handler would wait for the C call to return
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # it is the worker's to end this, not the keyboard's
    for kind, most in (
        (resource.RLIMIT_AS, max_memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        resource.setrlimit(kind, (most, most))
    os.dup2(
        os.open(os.devnull, os.O_WRONLY), _STANDARD_ERROR
    )  # what C libraries print is made of strangers' bytes

"""The decode child: drops privileges, limits its own time and memory, and decodes."""

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

_parse_task = lru_cache(maxsize=8)(protocol.parse_task)


def serve(connection: socket.socket, timeout_s: float, max_memory_bytes: int, parent: int) -> None:
    """Serves the worker's requests until it closes the connection, or the fork server ends.

    The timeout is CPU time for a request, because beside busy neighbours a sound file takes long on
    the clock. The memory is the address space; `parent` is the server's id.
    """
    _confine(max_memory_bytes, parent)
    while request := protocol.read_request(connection):
        task, content = request
        signal.setitimer(signal.ITIMER_PROF, timeout_s)  # kills, also inside a C call: see _confine
        outcome, picture = _run(_parse_task(task), content)
        signal.setitimer(signal.ITIMER_PROF, 0)
        protocol.write_response(connection, outcome, picture)


def _run(task: Task, content: bytes) -> tuple[Decoded, bytes]:
    if isinstance(task, Input):
        (decoded,) = decoding.decode([content], task.limits, task.preprocessing)
        return decoded, b"" if decoded.pixels is None else decoded.pixels.tobytes()
    if isinstance(task, Measure):
        return decoding.measure(content, task.limits), b""
    jpeg = decoding.thumbnail(content, task.limits, task.max_side_px, task.quality)
    return Decoded("ok" if jpeg else "decode_failed"), jpeg or b""


def _confine(max_memory_bytes: int, parent: int) -> None:
    """Drops what decoding does not need. No RLIMIT_CPU: it adds up over a child's whole life."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the call above
        os._exit(1)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # a handler would wait for the C call to return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker ends this process, not the keyboard
    for limit, most in (
        (resource.RLIMIT_AS, max_memory_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        resource.setrlimit(limit, (most, most))
    # C libraries print strangers' bytes
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STANDARD_ERROR)

"""The worker's side of the sandbox.

A worker has one child at a time, for all its threads. After a crash, a fresh child gets the file
once more, because an earlier file may have damaged the process. A child that takes too much CPU
time is killed by its own timer. One that gets none, or has switched that off, is killed from here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from toiletspark.config import Decode
from toiletspark.errors import UserError
from toiletspark.images import decoding
from toiletspark.images.decoding import Decoded, Preprocessing
from toiletspark.images.sandbox import fork_server, protocol
from toiletspark.images.sandbox.protocol import Input, Measure, ProtocolError, Task, Thumbnail

_START_S = 60.0  # for a fork server to load; a third of a second on a quiet machine
_WALL_FACTOR = 5.0  # times decode.timeout_s: the child's limit on the clock
_RUN = (
    "import json, sys; sys.path[:], *arguments = json.loads(sys.argv[1]); "
    "from toiletspark.images.sandbox import fork_server; fork_server.main(*arguments)"
)

# by process, because a forked process has no child of its own
_sandboxes: dict[tuple[float, ...], _Sandbox] = {}
_lock = threading.Lock()


def decode(files: Iterable[bytes], limits: Decode, preprocessing: Preprocessing) -> list[Decoded]:
    """Does the same as `decoding.decode`, in a child if `limits.isolated`, or UserError."""
    if not limits.isolated:
        return decoding.decode(files, limits, preprocessing)
    sandbox, task = _sandbox(limits), Input(limits, preprocessing)
    shape = (preprocessing.crop_px, preprocessing.crop_px, 3)
    outcomes = []
    for content in files:
        outcome, picture = sandbox.run(task, content)
        if picture:
            pixels = np.frombuffer(picture, dtype=np.uint8).reshape(shape)
            outcome = replace(outcome, pixels=pixels)
        outcomes.append(outcome)
    return outcomes


def thumbnail(content: bytes, limits: Decode, max_side_px: int, quality: int = 85) -> bytes | None:
    """Does the same as `decoding.thumbnail`, in a child process if `limits.isolated`."""
    if not limits.isolated:
        return decoding.thumbnail(content, limits, max_side_px, quality)
    _, jpeg = _sandbox(limits).run(Thumbnail(limits, max_side_px, quality), content)
    return bytes(jpeg) or None


def measure(content: bytes, limits: Decode) -> Decoded:
    """Does the same as `decoding.measure`, in a child process if `limits.isolated`."""
    if not limits.isolated:
        return decoding.measure(content, limits)
    return _sandbox(limits).run(Measure(limits), content)[0]


def start_children(limits: Decode) -> None:
    """Starts the fork server if `limits.isolated`, and does not wait until it has loaded."""
    if limits.isolated:
        _sandbox(limits)


def require_children(limits: Decode) -> None:
    """Waits until the fork server has loaded, if `limits.isolated`; UserError if it has not."""
    if limits.isolated:
        _sandbox(limits).require()


def _sandbox(limits: Decode) -> _Sandbox:
    key = (os.getpid(), limits.timeout_s, limits.max_memory_bytes, limits.images_per_child)
    with _lock:
        if key not in _sandboxes:
            _sandboxes[key] = _Sandbox(limits)
        return _sandboxes[key]


class _Sandbox:
    """A fork server and its one child, used by one thread at a time."""

    def __init__(self, limits: Decode) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._server = _ForkServer(limits)
        self._child: socket.socket | None = None
        self._requests = 0  # of this child

    def require(self) -> None:
        with self._lock:
            self._server.require()

    def run(self, task: Task, content: bytes) -> tuple[Decoded, bytearray]:
        """Returns the outcome and the picture's bytes. A bad file is never an exception."""
        with self._lock:
            outcome, picture = self._try(task, content)
            if outcome.status == "crashed":
                outcome, picture = self._try(task, content)
            return outcome, picture

    def _try(self, task: Task, content: bytes) -> tuple[Decoded, bytearray]:
        child = self._ready_child()
        wall_s = _WALL_FACTOR * self._limits.timeout_s
        deadline = time.monotonic() + wall_s

        def wait() -> None:
            child.settimeout(max(deadline - time.monotonic(), 0.001))

        try:
            wait()
            protocol.write_request(child, protocol.format_task(task), content)
            outcome, picture = protocol.read_response(child, task, wait)
        except (OSError, ProtocolError) as error:
            reason = self._end_child()
            if reason == "SIGPROF":
                detail = f"over {self._limits.timeout_s:g} s"
                return Decoded("decode_timeout", detail), bytearray()
            if isinstance(error, TimeoutError):
                return Decoded("busy", f"over {wall_s:g} s on the clock"), bytearray()
            lie = str(error) if isinstance(error, ProtocolError) else ""
            return Decoded("crashed", lie or reason), bytearray()
        if outcome.status == "out_of_memory":
            self._end_child()  # its memory is fragmented
        return outcome, picture

    def _ready_child(self) -> socket.socket:
        if self._child is not None and self._requests >= self._limits.images_per_child:
            self._end_child()
        if self._child is None:
            self._child, self._requests = self._fork(), 0
        self._requests += 1
        return self._child

    def _fork(self) -> socket.socket:
        """Returns a fresh child, of a fresh fork server if that has died itself."""
        with contextlib.suppress(OSError, ProtocolError):
            return self._server.fork()
        self._server.close()
        self._server = _ForkServer(self._limits)
        return self._server.fork()

    def _end_child(self) -> str:
        """Ends the child; returns the name of the signal that ended it, or another reason."""
        if self._child is not None:
            self._child.close()
        self._child = None
        try:
            number = self._server.kill()
        except (OSError, ProtocolError):
            return "fork server lost"
        return signal.Signals(number).name if number else "broke off"


class _ForkServer:
    """The process behind `fork_server.main`, with no more of this environment than it needs."""

    def __init__(self, limits: Decode) -> None:
        self._is_loaded = False
        self._control, servers_end = socket.socketpair()
        self._control.settimeout(_START_S)
        path = [entry for entry in sys.path if entry and not entry.endswith(".jar")]  # Spark's jar
        handle = servers_end.fileno()
        arguments = json.dumps([path, handle, limits.timeout_s, limits.max_memory_bytes])
        command, null = [sys.executable, "-I", "-c", _RUN, arguments], subprocess.DEVNULL
        with servers_end:
            self._process = subprocess.Popen(  # noqa: S603 - Python itself
                command, env=_environment(), pass_fds=[handle], stdin=null, stdout=null
            )

    def require(self) -> None:
        """Waits until it has loaded; UserError if it ended before."""
        if self._is_loaded:
            return
        try:
            self._expect(fork_server.READY)
        except (OSError, ProtocolError) as error:
            self.close()
            raise UserError(
                doing="starting the process that decodes images",
                expected=f"{sys.executable} to start here once more, and to load toiletspark",
                found=f"it ended ({type(error).__name__}); its messages are in the worker's stderr",
                todo="see there; decode.isolated=false decodes without it, and then one bad file "
                "may end the run",
            ) from None
        self._is_loaded = True

    def fork(self) -> socket.socket:
        """Returns a connection to a fresh child."""
        self.require()
        self._control.sendall(fork_server.FORK)
        response, handles, *_ = socket.recv_fds(self._control, 1, 1)
        if response != fork_server.READY or not handles:
            raise ProtocolError
        return socket.socket(fileno=handles[0])

    def kill(self) -> int:
        """Ends the child; returns the number of the signal that ended it, or 0."""
        self._control.sendall(fork_server.KILL)
        self._expect(fork_server.ENDED)
        return self._control.recv(1)[0]

    def close(self) -> None:
        """Ends the fork server, and with it its child."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def _expect(self, response: bytes) -> None:
        if self._control.recv(1) != response:
            raise ProtocolError


def _environment() -> dict[str, str]:
    """No credentials; one thread, because a process with several cannot be forked safely."""
    inherited = ("PATH", "LD_LIBRARY_PATH", fork_server.HOOK)
    environment = {name: os.environ[name] for name in inherited if name in os.environ}
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**environment, **threads, "LANG": "C.UTF-8"}

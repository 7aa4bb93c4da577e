"""The worker's side of decoding in a child process.

A worker has one child at a time, for all its threads. A child that crashes is followed by a fresh one, which gets the
file once more, alone: an earlier file may have damaged what was there before. One that takes too long is killed by its
own alarm, or from here where that is switched off.
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

_START_S = 60.0  # for a nursery to load; a third of a second on a quiet machine
_GRACE_S = 0.1  # after the child's own alarm
_RUN = "import json, sys; sys.path[:], *told = json.loads(sys.argv[1]); "
_RUN += "from toiletspark.images.sandbox import fork_server; fork_server.main(*told)"

_decoders: dict[
    tuple[float, ...], _Sandbox
] = {}  # by process, because what was forked has no child of its own
_lock = threading.Lock()


def decode(
    contents: Iterable[bytes], limits: Decode, preprocessing: Preprocessing
) -> list[Decoded]:
    """As `images.decode`, in a child process if `limits.isolated`.

    Raises:
        UserError: no child can be started here.
    """
    if not limits.isolated:
        return decoding.decode(contents, limits, preprocessing)
    isolated, task, side = (
        _of_this_process(limits),
        Input(limits, preprocessing),
        preprocessing.crop_px,
    )
    return [
        replace(outcome, pixels=np.frombuffer(picture, dtype=np.uint8).reshape(side, side, 3))
        if picture
        else outcome
        for outcome, picture in (isolated.ask(task, content) for content in contents)
    ]


def thumbnail(content: bytes, limits: Decode, max_side_px: int, quality: int = 85) -> bytes | None:
    """As `images.thumbnail`, in a child process if `limits.isolated`."""
    if not limits.isolated:
        return decoding.thumbnail(content, limits, max_side_px, quality)
    _, jpeg = _of_this_process(limits).ask(Thumbnail(limits, max_side_px, quality), content)
    return bytes(jpeg) or None


def measure(content: bytes, limits: Decode) -> Decoded:
    """As `images.measure`, in a child process if `limits.isolated`."""
    if not limits.isolated:
        return decoding.measure(content, limits)
    return _of_this_process(limits).ask(Measure(limits), content)[0]


def start_children(limits: Decode) -> None:
    """Starts what decodes here, if that is to be isolated, and does not wait until it has loaded."""
    if limits.isolated:
        _of_this_process(limits)


def require_children(limits: Decode) -> None:
    """Waits until what decodes here has loaded.

    Raises:
        UserError: it does not start.
    """
    if limits.isolated:
        _of_this_process(limits).require()


def _of_this_process(limits: Decode) -> _Sandbox:
    key = (os.getpid(), limits.timeout_s, limits.max_memory_bytes, limits.images_per_child)
    with _lock:
        if key not in _decoders:
            _decoders[key] = _Sandbox(limits)
        return _decoders[key]


class _Sandbox:
    """A nursery and its one child, asked by one thread at a time."""

    def __init__(self, limits: Decode) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._nursery = _ForkServer(limits)
        self._child: socket.socket | None = None
        self._asked = 0

    def require(self) -> None:
        """Waits for the nursery."""
        with self._lock:
            self._nursery.require()

    def ask(self, task: Task, content: bytes) -> tuple[Decoded, bytearray]:
        """What a child makes of a file: the outcome and the picture's bytes. A bad file is never an exception."""
        with self._lock:
            outcome, picture = self._ask(task, content)
            if outcome.status == "crashed":
                outcome, picture = self._ask(task, content)
            return outcome, picture

    def _ask(self, task: Task, content: bytes) -> tuple[Decoded, bytearray]:
        child = self._ready_child()
        deadline = time.monotonic() + self._limits.timeout_s + _GRACE_S

        def wait() -> None:
            child.settimeout(max(deadline - time.monotonic(), 0.001))

        try:
            wait()
            protocol.write_request(child, task.told(), content)
            outcome, picture = protocol.read_response(child, task, wait)
        except TimeoutError:
            self._bury()
            return self._timeout(), bytearray()
        except (OSError, ProtocolError) as error:
            went = self._bury()
            told = str(error) if isinstance(error, ProtocolError) else ""
            return self._timeout() if went == "SIGALRM" else Decoded(
                "crashed", told or went
            ), bytearray()
        if outcome.status == "out_of_memory":
            self._bury()  # its memory is in pieces
        return outcome, picture

    def _timeout(self) -> Decoded:
        return Decoded("decode_timeout", f"over {self._limits.timeout_s:g} s")

    def _ready_child(self) -> socket.socket:
        if self._child is not None and self._asked >= self._limits.images_per_child:
            self._bury()
        if self._child is None:
            self._child, self._asked = self._begun(), 0
        self._asked += 1
        return self._child

    def _begun(self) -> socket.socket:
        """A fresh child; where the nursery has died itself, also a fresh nursery."""
        with contextlib.suppress(OSError, ProtocolError):
            return self._nursery.begin()
        self._nursery.close()
        self._nursery = _ForkServer(self._limits)
        return self._nursery.begin()

    def _bury(self) -> str:
        """Ends the child; tells by which signal it went, or how else."""
        if self._child is not None:
            self._child.close()
        self._child = None
        try:
            number = self._nursery.end()
        except (OSError, ProtocolError):
            return "nursery lost"
        return signal.Signals(number).name if number else "broke off"


class _ForkServer:
    """The process behind `nursery.main`, started with nothing of this one's environment but what it needs."""

    def __init__(self, limits: Decode) -> None:
        self._loaded = False
        self._control, theirs = socket.socketpair()
        self._control.settimeout(_START_S)
        path = [
            place for place in sys.path if place and not place.endswith(".jar")
        ]  # Spark's own jar has no Python
        told = json.dumps([path, theirs.fileno(), limits.timeout_s, limits.max_memory_bytes])
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - Python itself
                [sys.executable, "-I", "-c", _RUN, told],
                env=_environment(),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def require(self) -> None:
        """Waits until it has loaded.

        Raises:
            UserError: it ended before.
        """
        if self._loaded:
            return
        try:
            self._hear(fork_server.READY)
        except (OSError, ProtocolError) as error:
            self.close()
            raise UserError(
                doing="starting the process that decodes images",
                expected=f"{sys.executable} to start here once more, and to load toiletspark",
                found=f"it ended ({type(error).__name__}); what it says stands in this worker's stderr",
                todo="see there. decode.isolated=false decodes without, and then one bad file may end the run",
            ) from None
        self._loaded = True

    def begin(self) -> socket.socket:
        """A connection to a fresh child."""
        self.require()
        self._control.sendall(fork_server.FORK)
        said, handles, *_ = socket.recv_fds(self._control, 1, 1)
        if said != fork_server.READY or not handles:
            raise ProtocolError
        return socket.socket(fileno=handles[0])

    def end(self) -> int:
        """Ends the child; the number of the signal by which it went, or 0."""
        self._control.sendall(fork_server.KILL)
        self._hear(fork_server.ENDED)
        return self._control.recv(1)[0]

    def close(self) -> None:
        """Ends it, and with it its child."""
        self._control.close()
        self._process.kill()
        self._process.wait()

    def _hear(self, word: bytes) -> None:
        if self._control.recv(1) != word:
            raise ProtocolError


def _environment() -> dict[str, str]:
    """No credentials; one thread, because a process with several cannot be forked safely."""
    kept = ("PATH", "LD_LIBRARY_PATH", fork_server.HOOK)
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        **{"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    }

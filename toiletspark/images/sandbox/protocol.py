"""What the worker and its decode child say to each other, as raw bytes with their lengths before them.

A request is a task and an image file; an answer is a `Decoded`, or a thumbnail. The child may have been taken over by
what it decodes, so nothing it says is believed before it was measured: see `read_answer`.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass

from toiletspark.config import Decode
from toiletspark.images.decoding import Decoded, Preprocessing
from toiletspark.statuses import STATUSES

_REQUEST = struct.Struct("!II")  # bytes of the task and of the file
_ANSWER = struct.Struct(
    "!BHIII"
)  # status, bytes of the detail, width, height, bytes of the picture
_MAX_DETAIL_BYTES = 200
_MAX_SIDE_PX = 2**31 - 1  # what the ledger holds; one more would end the task


class ProtocolError(Exception):
    """What came is no answer to the question; "" where nothing more came."""


@dataclass(frozen=True)
class Input:
    """Asks for what the backbone sees, see `images.decode`."""

    limits: Decode
    preprocessing: Preprocessing

    def takes(self, size: int) -> bool:
        """Whether a picture of so many bytes says "ok" to it: exactly the square's."""
        return size == 3 * self.preprocessing.crop_px**2

    def told(self) -> bytes:
        """As the child reads it."""
        return json.dumps(
            {"limits": self.limits.model_dump(), "input": asdict(self.preprocessing)}
        ).encode()


@dataclass(frozen=True)
class Thumbnail:
    """Asks for a small JPEG, see `images.thumbnail`."""

    limits: Decode
    max_side_px: int
    quality: int

    def takes(self, size: int) -> bool:
        """Whether a JPEG of so many bytes answers it: hardly more than its pixels take."""
        return 0 < size <= 3 * self.max_side_px**2 + 65_536

    def told(self) -> bytes:
        """As the child reads it."""
        small = {"max_side_px": self.max_side_px, "quality": self.quality}
        return json.dumps({"limits": self.limits.model_dump(), "thumbnail": small}).encode()


@dataclass(frozen=True)
class Measure:
    """Asks for width and height, see `images.measure`."""

    limits: Decode

    def takes(self, size: int) -> bool:
        """Nothing is brought but the sizes."""
        return size == 0

    def told(self) -> bytes:
        """As the child reads it."""
        return json.dumps({"limits": self.limits.model_dump()}).encode()


Task = Input | Thumbnail | Measure


def parse_task(told: bytes) -> Task:
    """What `Task.told` says."""
    said = json.loads(told)
    limits = Decode(**said["limits"])
    if "input" in said:
        return Input(limits, Preprocessing(**said["input"]))
    return Thumbnail(limits, **said["thumbnail"]) if "thumbnail" in said else Measure(limits)


def write_request(connection: socket.socket, task: bytes, content: bytes) -> None:
    """Asks. Task and file go as they are, without a copy of the file."""
    connection.sendall(_REQUEST.pack(len(task), len(content)) + task)
    connection.sendall(content)


def read_request(connection: socket.socket) -> tuple[bytes, bytes] | None:
    """The task and the whole file, or None where nobody asks any more."""
    opening = connection.recv(_REQUEST.size, socket.MSG_WAITALL)
    if len(opening) < _REQUEST.size:
        return None
    task_size, size = _REQUEST.unpack(opening)
    return bytes(_whole(connection, task_size)), bytes(_whole(connection, size))


def write_response(connection: socket.socket, outcome: Decoded, picture: bytes) -> None:
    """Answers; `picture` is b"" where there is none."""
    detail = outcome.detail.encode("utf-8", "replace")[:_MAX_DETAIL_BYTES]
    size = (max(0, min(side, _MAX_SIDE_PX)) for side in (outcome.width, outcome.height))
    opening = _ANSWER.pack(STATUSES.index(outcome.status), len(detail), *size, len(picture))
    connection.sendall(opening + detail)
    connection.sendall(picture)


def read_response(
    connection: socket.socket, task: Task, wait: Callable[[], None] = lambda: None
) -> tuple[Decoded, bytearray]:
    """An answer, and the picture's bytes: empty unless the status is ok.

    Args:
        connection: to the child.
        task: what was asked.
        wait: called before each read; raises where there has been enough of it.

    Raises:
        NoAnswerError: it breaks off, or cannot be an answer to the task.
    """
    opening = _whole(connection, _ANSWER.size, wait)
    status, detail_size, width, height, size = _ANSWER.unpack(opening)
    sound = (
        status < len(STATUSES)
        and detail_size <= _MAX_DETAIL_BYTES
        and max(width, height) <= _MAX_SIDE_PX
    )
    if not sound or not (task.takes(size) if STATUSES[status] == "ok" else size == 0):
        raise ProtocolError("no answer to what was asked")
    detail = bytes(_whole(connection, detail_size, wait)).decode("utf-8", "replace")
    printable = "".join(one if one.isprintable() else "?" for one in detail)
    return Decoded(STATUSES[status], printable, width, height), _whole(connection, size, wait)


def _whole(
    connection: socket.socket, size: int, wait: Callable[[], None] = lambda: None
) -> bytearray:
    """So many bytes, as one piece that may be written to."""
    content, done = bytearray(size), 0
    view = memoryview(content)
    while done < size:
        wait()
        if not (came := connection.recv_into(view[done:])):
            raise ProtocolError
        done += came
    return content

"""The messages between worker and decode child: raw bytes with their lengths before them.

A request is a task and an image file; a response is a `Decoded` and a picture. A file may have
taken the child over, so every length and value of a response is checked: see `read_response`.
"""

import json
import socket
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass

from toiletspark.config import Decode
from toiletspark.images.decoding import Decoded, Preprocessing
from toiletspark.images.statuses import STATUSES

_REQUEST = struct.Struct("!II")  # bytes of the task and of the file
_RESPONSE = struct.Struct("!BHIII")  # status, bytes of detail, width, height, bytes of picture
_MAX_DETAIL_BYTES = 200
_MAX_SIDE_PX = 2**31 - 1  # the ledger's limit; one more would end the task


class ProtocolError(Exception):
    """Not a response to the request; "" if the connection was closed."""


@dataclass(frozen=True)
class Input:
    """Asks for the backbone's input, see `decoding.decode`."""

    limits: Decode
    preprocessing: Preprocessing

    def accepts(self, size: int) -> bool:
        """Returns True for the square's bytes exactly."""
        return size == 3 * self.preprocessing.crop_px**2


@dataclass(frozen=True)
class Thumbnail:
    """Asks for a small JPEG, see `decoding.thumbnail`."""

    limits: Decode
    max_side_px: int
    quality: int

    def accepts(self, size: int) -> bool:
        """Returns True for a JPEG hardly larger than its pixels."""
        return 0 < size <= 3 * self.max_side_px**2 + 65_536


@dataclass(frozen=True)
class Measure:
    """Asks for width and height, see `decoding.measure`."""

    limits: Decode

    def accepts(self, size: int) -> bool:
        """Returns True for no picture at all."""
        return size == 0


Task = Input | Thumbnail | Measure


def format_task(task: Task) -> bytes:
    """Returns a task as JSON."""
    fields = {**asdict(task), "limits": task.limits.model_dump()}
    return json.dumps([type(task).__name__, fields]).encode()


def parse_task(content: bytes) -> Task:
    """Parses the JSON of `format_task`."""
    name, fields = json.loads(content)
    limits = Decode(**fields.pop("limits"))
    if name == "Input":
        return Input(limits, Preprocessing(**fields["preprocessing"]))
    return Thumbnail(limits, **fields) if name == "Thumbnail" else Measure(limits)


def write_request(connection: socket.socket, task: bytes, content: bytes) -> None:
    """Sends a task and a file, without a copy of the file."""
    connection.sendall(_REQUEST.pack(len(task), len(content)) + task)
    connection.sendall(content)


def read_request(connection: socket.socket) -> tuple[bytes, bytes] | None:
    """Reads the task and the whole file; None once the worker has closed the connection."""
    opening = connection.recv(_REQUEST.size, socket.MSG_WAITALL)
    if len(opening) < _REQUEST.size:
        return None
    task_size, size = _REQUEST.unpack(opening)
    return bytes(_read(connection, task_size)), bytes(_read(connection, size))


def write_response(connection: socket.socket, outcome: Decoded, picture: bytes) -> None:
    """Sends an outcome and a picture, which is b"" if there is none."""
    detail = outcome.detail.encode("utf-8", "replace")[:_MAX_DETAIL_BYTES]
    sides = (max(0, min(side, _MAX_SIDE_PX)) for side in (outcome.width, outcome.height))
    status = STATUSES.index(outcome.status)
    opening = _RESPONSE.pack(status, len(detail), *sides, len(picture))
    connection.sendall(opening + detail)
    connection.sendall(picture)


def read_response(
    connection: socket.socket, task: Task, wait: Callable[[], None] = lambda: None
) -> tuple[Decoded, bytearray]:
    """Reads an outcome and the picture's bytes, which are empty unless the status is ok.

    `wait` is called before each read, and raises once the time is over. Raises ProtocolError if the
    connection breaks off, or the response does not fit the task.
    """
    response = _RESPONSE.unpack(_read(connection, _RESPONSE.size, wait))
    status, detail_size, width, height, size = response
    if (
        status >= len(STATUSES)
        or detail_size > _MAX_DETAIL_BYTES
        or max(width, height) > _MAX_SIDE_PX
        or not (task.accepts(size) if STATUSES[status] == "ok" else size == 0)
    ):
        raise ProtocolError("no response to the request")
    detail = bytes(_read(connection, detail_size, wait)).decode("utf-8", "replace")
    printable = "".join(char if char.isprintable() else "?" for char in detail)
    return Decoded(STATUSES[status], printable, width, height), _read(connection, size, wait)


def _read(
    connection: socket.socket, size: int, wait: Callable[[], None] = lambda: None
) -> bytearray:
    """Reads `size` bytes, as one writable piece."""
    content, done = bytearray(size), 0
    view = memoryview(content)
    while done < size:
        wait()
        received = connection.recv_into(view[done:])
        if not received:
            raise ProtocolError
        done += received
    return content

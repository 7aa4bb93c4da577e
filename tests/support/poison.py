"""Poisonous files: the word after `MARK` happens to the process that decodes it.

The environment variable TOILETSPARK_DECODE_HOOK names this file; the fork server then runs it.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import struct
from collections.abc import Iterable
from pathlib import Path

from toiletspark.config import Decode
from toiletspark.images import decoding
from toiletspark.images.decoding import Decoded, Preprocessing
from toiletspark.images.sandbox import protocol

MARK = b"poison:"
PICTURE = b":before:"  # what follows is an image file, for poisons that let it be decoded


def segfault(_: bytes) -> None:
    ctypes.string_at(0)


def abort(_: bytes) -> None:
    os.abort()


def allocate(_: bytes) -> None:
    held = bytearray(8 << 30)
    held[::4096] = b"x" * len(held[::4096])


def loop(_: bytes) -> None:
    while True:
        pass


def sleep_in_c(_: bytes) -> None:
    """PyDLL keeps Python's lock, as many C calls do: no handler of Python would ever run."""
    while True:
        ctypes.PyDLL(None).sleep(1000)


def loop_unheard(_: bytes) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    loop(_)


def crash_once(argument: bytes) -> None:
    """The argument is a file; a child may not write, but it may remove."""
    first = Path(os.fsdecode(argument))
    if first.exists():
        first.unlink()
        segfault(argument)


def write(argument: bytes) -> None:
    Path(os.fsdecode(argument)).write_bytes(b"from a child")


def lie(_: bytes) -> None:
    """A child that was taken over sends what it likes."""
    protocol._RESPONSE = type(
        "Liar",
        (),
        {"pack": staticmethod(lambda *values: struct.pack("!BHIII", 0, 0, 9, 9, 1 << 31))},
    )


def tell(argument: bytes) -> Decoded:
    """Puts what a child can see into the detail of its response."""
    views = {
        b"environment": lambda: " ".join(sorted(os.environ)),
        b"process": lambda: str(os.getpid()),
        b"files": lambda: " ".join(path.name for path in Path("/proc/self/fd").iterdir()),
        b"strange": lambda: "a\nb\x1b[31m" + "c" * 300,
    }
    return Decoded("decode_failed", str(views[argument]()))


KINDS = {
    kind.__name__.encode(): kind
    for kind in (
        segfault,
        abort,
        allocate,
        loop,
        sleep_in_c,
        loop_unheard,
        crash_once,
        write,
        lie,
        tell,
    )
}
_decode = decoding.decode


def decode(
    contents: Iterable[bytes], limits: Decode, preprocessing: Preprocessing
) -> list[Decoded]:
    each = (_decode_one(content, limits, preprocessing) for content in contents)
    return list(itertools.chain.from_iterable(each))


def _decode_one(content: bytes, limits: Decode, preprocessing: Preprocessing) -> list[Decoded]:
    if not content.startswith(MARK):
        return _decode([content], limits, preprocessing)
    named, _, picture = content.removeprefix(MARK).partition(PICTURE)
    kind, _, argument = named.partition(b"=")
    try:
        outcome = KINDS[kind](argument)
    except MemoryError as error:
        return [decoding._failed(error, content)]
    return [outcome] if isinstance(outcome, Decoded) else _decode([picture], limits, preprocessing)


if __name__ == "<run_path>":
    decoding.decode = decode

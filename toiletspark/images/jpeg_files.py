"""Finds JPEG files that do not hold their whole picture, which libjpeg decodes all the same.

Where the data of the pixels end early, libjpeg fills the rest with grey and only warns, and Pillow
does not pass the warning on. Foreign bytes among the data are decoded as if they were pixels. A
sound picture reads the data up to the end marker, and needs no more.

Source: ITU-T T.81, annexes B (markers) and G (progressive files).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image, ImageChops

# in the data of pixels FF 00 is a byte, and FF D0 to FF D7 are restarts
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_FIRST_RESTART, _RESTART_INTERVAL = 0xD0, 0xDD
_ALONE = (0x01, 0xD8)  # markers without a segment
_FRAMES, _PROGRESSIVE = (0xC0, 0xC1, 0xC2), 0xC2
_END, _SCAN = 0xD9, 0xDA
_COEFFICIENTS = 64
_LAST_BYTES = 16
_BYTES = bytes((37 * number) % 251 for number in range(1, 129))  # no FF, no zeros
_NOISE = _BYTES + b"".join(bytes([0xFF, _FIRST_RESTART + n]) + _BYTES for n in range(8))
_FOREIGN = (bytes(64), b"<html>", b"<html ", b"<HTML>", b"<HTML ", b"<!DOCTYPE", b"<!doctype")
_FILLED = (127, 128)  # levels of libjpeg's filling, in any colour space


@dataclass
class _Structure:
    """The parts of a file that show if its picture is whole."""

    start: int = 0  # of the first scan's data
    end: int = -1  # of the last scan's data: the end marker; -1 if there is none
    is_progressive: bool = False
    has_restarts: bool = False
    components: list[int] = field(default_factory=list)
    # bits still to come, by component and coefficient
    missing_bits: dict[tuple[int, int], int] = field(default_factory=dict)

    @property
    def has_all_scans(self) -> bool:
        """Returns True unless a progressive file lacks bits of a coefficient."""
        if not self.is_progressive:
            return True
        wanted = [(each, number) for each in self.components for number in range(_COEFFICIENTS)]
        return all(self.missing_bits.get(key) == 0 for key in wanted)


def is_whole(content: bytes) -> bool:
    """Returns True unless a file has no end marker, lacks data, or has foreign bytes among them.

    The few files with zeros or a page's tag in their data are decoded some times more, at an eighth
    of their size. A progressive file that ends within its last scan counts as whole: its picture is
    hardly coarser.
    """
    structure = _structure(content)
    if structure.end < 0 or not structure.has_all_scans:
        return False
    if structure.is_progressive:
        return True
    start, end = structure.start, structure.end
    if structure.has_restarts and not _has_each_restart(content[start:end]):
        return False
    is_suspect = any(content.find(foreign, start, end) >= 0 for foreign in _FOREIGN)
    return not is_suspect or _ends_with_its_data(content, structure)


def is_filled(image: Image.Image, content: bytes) -> bool:
    """Returns True if the end of a decoded picture is not in the file.

    Its last pixel has libjpeg's grey then. The few sound files with such a pixel are decoded some
    times more, at an eighth of their size.
    """
    last = image.getpixel((image.width - 1, image.height - 1))
    levels = last if isinstance(last, tuple) else (last,)
    if any(level not in _FILLED for level in levels):
        return False
    structure = _structure(content)
    return not structure.is_progressive and not _ends_with_its_data(content, structure)


def _has_each_restart(data: bytes) -> bool:
    """Returns True if the restarts count from 0 to 7 again and again."""
    return all(
        match[1][0] - _FIRST_RESTART == number % 8
        for number, match in enumerate(_RESTART.finditer(data))
    )


def _ends_with_its_data(content: bytes, structure: _Structure) -> bool:
    """Returns True if the picture reads the data up to their end, or up to zeros before it."""
    start, end = structure.start, structure.end
    without_zeros = max(start, len(content[:end].rstrip(b"\0")))
    return any(_ends_at(content, start, stop) for stop in {end, without_zeros})


def _ends_at(content: bytes, start: int, end: int) -> bool:
    if _depends_on(content, end, end):
        return False
    # the tables of a picture of one colour may know nothing else
    last = max(start, end - _LAST_BYTES)
    return _depends_on(content, last, end) or not _depends_on(content, start, end)


def _depends_on(content: bytes, start: int, stop: int) -> bool:
    """Returns True if noise in place of some bytes changes the picture, or makes it unreadable."""
    noisy = content[:start] + _NOISE + content[stop:]
    try:
        return ImageChops.difference(_small(content), _small(noisy)).getbbox() is not None
    except OSError:
        return True


def _small(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=("JPEG",))
    image.draft(None, (1, 1))
    image.load()
    return image.convert("RGB")


def _structure(content: bytes) -> _Structure:
    structure = _Structure()
    for marker, at, payload in _segments(content):
        if marker in _FRAMES:
            structure.is_progressive = marker == _PROGRESSIVE
            structure.components = list(payload[6::3])
        elif marker == _RESTART_INTERVAL:
            structure.has_restarts = any(payload)
        elif marker == _SCAN and not structure.is_progressive:
            structure.start = at
            structure.end = content.find(bytes([0xFF, _END]), at)  # faster than every marker
            break
        elif marker == _SCAN:
            structure.start = structure.start or at
            _note_scan(structure, payload)
        elif marker == _END and structure.start:
            structure.end = at
            break
    return structure


def _segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yields marker, position and payload of each segment; the position behind it, but for EOI."""
    at = 2
    while match := _MARKER.search(content, at):
        marker = match[1][0]
        at = match.end()
        if marker == _END:
            yield marker, match.start(), b""
        elif marker not in _ALONE:
            size = max(2, int.from_bytes(content[at : at + 2], "big"))
            payload = content[at + 2 : at + size]
            at += size
            yield marker, at, payload


def _note_scan(structure: _Structure, payload: bytes) -> None:
    """Notes which bits of which coefficients a scan has; a header that is cut has none."""
    count = payload[0] if payload else 0
    if len(payload) < 2 * count + 4:
        return
    first, last, bits = payload[2 * count + 1 : 2 * count + 4]
    for component in payload[1 : 2 * count : 2]:
        for coefficient in range(first, min(last, _COEFFICIENTS - 1) + 1):
            structure.missing_bits[component, coefficient] = bits & 15

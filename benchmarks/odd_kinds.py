"""Files of twenty kinds that are no sound image, with the status that each must end in, and of five that are."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL import Image

from toiletspark.demo.odd_files import broken_bytes, odd_bytes
from toiletspark.demo.rooms import draw_room

SIDE_OF_JPEG_BOMB_PX, SIDE_OF_PNG_BOMB_PX = 20_000, 12_000
TOO_LARGE_BYTES = 25_000_001
TEXT_BYTES = 64 << 20
_ROOMS = ("kitchen", "toilet", "bedroom")


def drawn(number: int, size_px: tuple[int, int] = (320, 240)) -> Image.Image:
    """Another picture for each number."""
    return draw_room(_ROOMS[number % len(_ROOMS)], number, size_px)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """The file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _jpeg_bomb(number: int, *, progressive: bool) -> bytes:
    """Some megabytes that decode to 400 megapixels; the first is made, the others are told apart by what follows it."""
    if progressive not in _bombs:
        side = SIDE_OF_JPEG_BOMB_PX
        _bombs[progressive] = encoded(
            Image.new("L", (side, side), 99), "JPEG", progressive=progressive
        )
    return _bombs[progressive] + b"%d" % number


_bombs: dict[bool, bytes] = {}


def _png(width: int, height: int, *chunks: tuple[bytes, bytes], rows: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def _bad_crc(number: int) -> bytes:
    """A byte of the pixels is another one; Pillow asks zlib's checksum, and not the chunk's."""
    content = bytearray(encoded(drawn(number), "PNG"))
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


def _long_text(number: int) -> bytes:
    text = (b"zTXt", b"Comment\0\0" + zlib.compress(b"%d" % number + bytes(TEXT_BYTES), 1))
    return _png(32, 32, text, rows=bytes(33 * 32))


def _high(_: int) -> bytes:
    return _png(1, 60_000, rows=bytes(2 * 60_000))


def _broken(kind: str) -> Callable[[int], bytes | None]:
    return lambda number: broken_bytes(kind, drawn(number), number)


# kind -> the status it must end in, and what makes a file of it; None: there is to be no file
BAD: dict[str, tuple[str, Callable[[int], bytes | None]]] = {
    "null bytes": ("not_an_image", lambda number: bytes(5000 + number)),
    "empty": ("not_an_image", lambda _: b""),
    "web page": ("not_an_image", _broken("html_page")),
    "junk": ("not_an_image", _broken("random_bytes")),
    "truncated jpeg": ("truncated", _broken("truncated")),
    "truncated png": ("truncated", lambda number: encoded(drawn(number), "PNG")[:-9000]),
    "bad crc": ("decode_failed", _bad_crc),
    "png bomb": (
        "too_many_pixels",
        lambda _: _png(*(SIDE_OF_PNG_BOMB_PX,) * 2, rows=bytes(SIDE_OF_PNG_BOMB_PX**2)),
    ),
    "jpeg bomb": ("too_many_pixels", lambda number: _jpeg_bomb(number, progressive=False)),
    "progressive bomb": ("too_many_pixels", lambda number: _jpeg_bomb(number, progressive=True)),
    "over 25 MB": (
        "too_large",
        lambda number: encoded(drawn(number), "JPEG") + bytes(TOO_LARGE_BYTES),
    ),
    "gif": ("not_an_image", lambda number: encoded(drawn(number), "GIF")),
    "tiff": ("not_an_image", lambda number: encoded(drawn(number), "TIFF")),
    "psd": (
        "not_an_image",
        lambda number: (
            b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(number)
        ),
    ),
    "eps": ("not_an_image", lambda number: encoded(drawn(number), "EPS")),
    "svg": (
        "not_an_image",
        lambda number: b'<svg xmlns="http://www.w3.org/2000/svg" width="%d"/>' % number,
    ),
    "1 x 1": ("too_small", _broken("one_pixel")),
    "1 x 60000": ("too_small", _high),
    "64 MB of text": ("decode_failed", _long_text),
    "missing": ("missing", lambda _: None),
}


def _palette_with_alpha(number: int) -> bytes:
    image = drawn(number).quantize(64)
    return encoded(image, "PNG", transparency=bytes(range(0, 256, 4)))


def _deep(number: int) -> bytes:
    return encoded(
        drawn(number).convert("L").convert("I;16").point(lambda level: level * 257), "PNG"
    )


def _animated(number: int) -> bytes:
    return encoded(
        drawn(number), "WEBP", save_all=True, append_images=[drawn(number + 1)], duration=100
    )


def _turned(number: int) -> bytes:
    return odd_bytes("rotated", drawn(number))


ODD: dict[str, Callable[[int], bytes]] = {
    "cmyk": lambda number: odd_bytes("cmyk", drawn(number)),
    "16 bits": _deep,
    "palette with alpha": _palette_with_alpha,
    "turned by exif": _turned,
    "animated": _animated,
}

# what tests/support/poison.py does to its process -> the status, and how many of 400
POISONS = {
    "segfault": ("crashed", 20),
    "abort": ("crashed", 5),
    "allocate": ("out_of_memory", 5),
    "loop": ("decode_timeout", 2),
    "loop_in_c": ("decode_timeout", 2),
    "loop_unheard": ("decode_timeout", 1),
}


def poison(kind: str, number: int) -> bytes:
    """A file that tests/support/poison.py knows."""
    return b"poison:%s:before:%d" % (kind.encode(), number)

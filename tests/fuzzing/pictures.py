"""Small pictures of all formats, and files made of their chunks, segments, header fields."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzzing import altered
from tests.fuzzing.altered import Draw

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_PNG = b"\x89PNG\r\n\x1a\n"
_SIDE = (48, 40)
_ORIENTATION = 0x0112


@cache
def seeds() -> list[bytes]:
    """Sound files, each below 8 kB."""
    colours = np.random.default_rng(7).integers(
        0, 256, (_SIDE[1] // 8, _SIDE[0] // 8, 3), dtype=np.uint8
    )
    picture = Image.fromarray(colours).resize(_SIDE, Image.Resampling.BILINEAR)
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    wanted: list[tuple[str, str, dict[str, Any]]] = [
        *(("JPEG", mode, {}) for mode in ("RGB", "L", "CMYK")),
        ("JPEG", "RGB", {"progressive": True, "exif": exif, "comment": b"hello"}),
        (
            "JPEG",
            "RGB",
            {"restart_marker_blocks": 2, "icc_profile": b"profile" * 20, "subsampling": 0},
        ),
        *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        ("PNG", "P", {"transparency": 3, "exif": exif}),
        ("PNG", "RGB", {"save_all": True, "append_images": [picture.rotate(180)]}),
        *(("WEBP", mode, {"lossless": False}) for mode in ("RGB", "RGBA")),
        *(("WEBP", mode, {"lossless": True}) for mode in ("RGB", "RGBA")),
        ("WEBP", "RGB", {"exif": exif, "icc_profile": b"profile" * 20}),
        ("WEBP", "RGB", {"save_all": True, "append_images": [picture.rotate(180)]}),
        ("GIF", "P", {}),
        (
            "GIF",
            "P",
            {
                "save_all": True,
                "append_images": [picture.rotate(180).convert("P")],
                "transparency": 1,
            },
        ),
        *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB")),
        *(("TIFF", mode, {}) for mode in ("1", "L", "RGB", "RGBA", "CMYK", "I;16", "F")),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}),
        ("TIFF", "RGB", {"compression": "tiff_adobe_deflate", "exif": exif}),
    ]
    return [_saved(picture, kind, mode, options) for kind, mode, options in wanted]


def _saved(picture: Image.Image, kind: str, mode: str, options: dict[str, Any]) -> bytes:
    converted = picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
    file = io.BytesIO()
    converted.save(file, kind, **options)
    return file.getvalue()


@st.composite
def files(draw: Draw) -> bytes:
    """A sound picture, or one whose parts, fields or bytes are others."""
    content = draw(st.sampled_from(seeds()))
    if draw(st.integers(0, 2)):
        content = _of_parts(draw, content)
    if draw(st.booleans()):
        # without its first bytes it is soon no picture at all
        kept = 16 if draw(st.integers(0, 7)) else 0
        content = content[:kept] + draw(altered.data([content[kept:]], most=4))
    return content


def parts(content: bytes) -> list[bytes]:
    """Splits a file into chunks, segments, or blocks of 32 bytes, in order."""
    if content.startswith(_PNG):
        return [_PNG, *_chunks(content, 8, ">I", length_at=0, body_at=8, more=4)]
    if content.startswith(b"RIFF"):
        return [content[:12], *_chunks(content, 12, "<I", length_at=4, body_at=8, more=0)]
    if content.startswith(b"\xff\xd8"):
        return [content[:2], *_segments(content)]
    return [content[offset : offset + 32] for offset in range(0, len(content), 32)]


def _chunks(
    content: bytes, offset: int, form: str, length_at: int, body_at: int, more: int
) -> list[bytes]:
    result = []
    while offset + body_at <= len(content):
        (length,) = struct.unpack_from(form, content, offset + length_at)
        end = offset + body_at + length + more + (length % 2 if not more else 0)
        result.append(content[offset:end])
        offset = end
    return [*result, content[offset:]] if content[offset:] else result


def _segments(content: bytes) -> list[bytes]:
    result = []
    offset = 2
    while offset + 4 <= len(content) and content[offset] == 0xFF and content[offset + 1] != 0xDA:
        end = offset + 2 + struct.unpack_from(">H", content, offset + 2)[0]
        result.append(content[offset:end])
        offset = end
    return [*result, content[offset:]]


def _of_parts(draw: Draw, content: bytes) -> bytes:
    pieces = parts(content)
    for _ in range(draw(st.integers(1, 3))):
        first = 1 if len(pieces) > 1 and draw(st.integers(0, 7)) else 0
        at = draw(st.integers(first, len(pieces) - 1))
        kind = draw(st.sampled_from(["size", "field", "remove", "repeat", "many", "move", "other"]))
        if kind == "size":
            pieces = _resized(draw, pieces)
        elif kind == "field":
            pieces[at] = _with_field(draw, pieces[at])
        elif kind == "remove" and len(pieces) > 1:
            del pieces[at]
        elif kind in ("repeat", "many"):
            pieces[at:at] = [pieces[at]] * (
                1 if kind == "repeat" else draw(st.sampled_from([16, 256, 2048]))
            )
        elif kind == "move":
            pieces.insert(draw(st.integers(0, len(pieces) - 1)), pieces.pop(at))
        else:
            others = parts(draw(st.sampled_from(seeds())))
            pieces[at] = others[draw(st.integers(0, len(others) - 1))]
    joined = (
        [_checked(piece) for piece in pieces]
        if content.startswith(_PNG) and draw(st.booleans())
        else pieces
    )
    return b"".join(joined)


def _with_field(draw: Draw, piece: bytes) -> bytes:
    offset = draw(st.integers(0, 63)) % (len(piece) + 1)
    size = draw(st.sampled_from([1, 2, 4]))
    value = draw(st.sampled_from(altered.ODD_NUMBERS)) & (256**size - 1)
    return (
        piece[:offset]
        + value.to_bytes(size, draw(st.sampled_from(["big", "little"])))
        + piece[offset + size :]
    )


def _resized(draw: Draw, pieces: list[bytes]) -> list[bytes]:
    """Another width and height where the format keeps them, however little data follows."""
    sides = st.sampled_from(
        [0, 1, 31, 32, 4096, 7000, 16383, 65500, 65535, 2**24, 2**31 - 1, 2**32 - 1]
    )
    wide, high = draw(sides), draw(sides)
    small = struct.pack(">HH", high & 0xFFFF, wide & 0xFFFF)
    for number, piece in enumerate(pieces):
        if piece[4:8] == b"IHDR":
            pieces[number] = _checked(piece[:8] + struct.pack(">II", wide, high) + piece[16:])
        elif piece[:1] == b"\xff" and piece[1:2] in (b"\xc0", b"\xc1", b"\xc2"):
            pieces[number] = piece[:5] + small + piece[9:]
        elif piece[:4] == b"VP8X":
            pieces[number] = (
                piece[:12] + struct.pack("<I", wide)[:3] + struct.pack("<I", high)[:3] + piece[18:]
            )
        elif piece[:4] == b"VP8 ":
            pieces[number] = (
                piece[:14] + struct.pack("<HH", wide & 0x3FFF, high & 0x3FFF) + piece[18:]
            )
        elif piece[:3] == b"GIF":
            pieces[number] = (
                piece[:6] + struct.pack("<HH", wide & 0xFFFF, high & 0xFFFF) + piece[10:]
            )
        elif piece[:2] == b"BM":
            pieces[number] = piece[:18] + struct.pack("<II", wide, high) + piece[26:]
    return pieces


def _checked(piece: bytes) -> bytes:
    """A PNG chunk with its right checksum; what is no chunk stays as it is."""
    if len(piece) < 12 or piece == _PNG:
        return piece
    return piece[:-4] + struct.pack(">I", zlib.crc32(piece[4:-4]))

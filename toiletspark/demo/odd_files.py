"""The files that real catalogs are full of: those no decoder should accept, and the unusual but good ones."""

import io
import random
import struct
import zlib

from PIL import Image

# What is wrong, and the file name's ending, which need not tell the truth.
BROKEN = {
    "truncated": ".jpg",
    "zero_bytes": ".jpg",
    "html_page": ".jpg",
    "missing": ".jpg",
    "huge_png": ".png",
    "one_pixel": ".png",
    "random_bytes": ".jpg",
    "flipped_bytes": ".jpg",
}
ODD = {"png_alpha": ".png", "webp": ".webp", "cmyk": ".jpg", "grey": ".jpg", "rotated": ".jpg"}

HUGE_SIDE_PX = 30_000
_ORIENTATION_TAG, _SHOW_TURNED_RIGHT = 0x0112, 6  # EXIF 2.3, table 4

_HTML_PAGE = b"""<!DOCTYPE html>
<html><head><title>503 Service Unavailable</title></head>
<body><h1>Service Unavailable</h1><p>The image server is busy. Please try again later.</p></body></html>
"""


def jpeg_bytes(image: Image.Image, quality: int = 85) -> bytes:
    """Encodes an image as an ordinary JPEG."""
    return _encoded(image, "JPEG", quality=quality)


def odd_bytes(kind: str, image: Image.Image) -> bytes:
    """Encodes an image in an unusual way that a decoder must nevertheless master.

    Args:
        kind: one of ODD. "rotated" is stored on its side, with the EXIF tag that says how to hold it.
        image: RGB, as it should be seen.

    Returns:
        The file's bytes.
    """
    if kind == "png_alpha":
        see_through = image.convert("RGBA")
        see_through.putalpha(
            Image.linear_gradient("L").resize(image.size).point(lambda level: 255 - level // 4)
        )
        return _encoded(see_through, "PNG")
    if kind == "webp":
        return _encoded(image, "WEBP", quality=80)
    if kind == "rotated":
        exif = Image.Exif()
        exif[_ORIENTATION_TAG] = _SHOW_TURNED_RIGHT
        return _encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=85, exif=exif)
    return _encoded(image.convert({"cmyk": "CMYK", "grey": "L"}[kind]), "JPEG", quality=85)


def broken_bytes(kind: str, image: Image.Image, seed: int) -> bytes | None:
    """Makes a file that has no usable image in it.

    Args:
        kind: one of BROKEN.
        image: RGB; what the file once showed.
        seed: decides the bytes of "random_bytes".

    Returns:
        The file's bytes; None where there is to be no file ("missing").
    """
    if kind == "truncated":
        whole = jpeg_bytes(image)
        return whole[: len(whole) * 2 // 5]
    if kind == "huge_png":
        return _png_claiming(HUGE_SIDE_PX)
    if kind == "one_pixel":
        return _encoded(image.resize((1, 1)), "PNG")
    if kind == "random_bytes":
        return random.Random(seed).randbytes(6000)  # noqa: S311  (rubbish, not secrets)
    if kind == "flipped_bytes":
        return _with_flipped_bytes(_encoded(image, "JPEG", quality=85, progressive=True))
    return {"zero_bytes": b"", "html_page": _HTML_PAGE, "missing": None}[kind]


def _png_claiming(side_px: int) -> bytes:
    """Makes a PNG of some hundred bytes that asks for side_px ** 2 pixels: at 30,000, 2.7 GB decoded."""
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _with_flipped_bytes(progressive: bytes) -> bytes:
    """Inverts 16 bytes in the middle of a progressive JPEG.

    Most flipped bytes of a JPEG only smear some blocks, and decoders let that pass. These are the code
    lengths of the Huffman table nearest to the middle, which then promise more than 256 codes; no decoder can
    go on.
    """
    tables = [at for at in range(len(progressive) - 21) if progressive[at : at + 2] == b"\xff\xc4"]
    start = (
        min(tables, key=lambda at: abs(at - len(progressive) // 2)) + 5
    )  # after marker, length and table number
    flipped = bytes(byte ^ 0xFF for byte in progressive[start : start + 16])
    return progressive[:start] + flipped + progressive[start + 16 :]


def _encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()

"""Files as real catalogs hold them: some that no decoder should accept, some unusual but good."""

import io
import random
import struct
import zlib

from PIL import Image

# Kind -> the file name's ending, which need not tell the truth.
BROKEN = {
    **dict.fromkeys(("truncated", "zero_bytes", "html_page", "missing"), ".jpg"),
    **dict.fromkeys(("huge_png", "one_pixel"), ".png"),
    **dict.fromkeys(("random_bytes", "flipped_bytes"), ".jpg"),
}
ODD = {"png_alpha": ".png", "webp": ".webp", "cmyk": ".jpg", "grey": ".jpg", "rotated": ".jpg"}

HUGE_SIDE_PX = 30_000
_ORIENTATION_TAG, _SHOW_TURNED_RIGHT = 0x0112, 6  # EXIF 2.3, table 4

_HTML_PAGE = b"""<!DOCTYPE html>
<html><head><title>503 Service Unavailable</title></head>
<body><h1>Service Unavailable</h1><p>The image server is busy. Please try again later.</p></body>
</html>
"""


def jpeg_bytes(image: Image.Image, quality: int = 85) -> bytes:
    """Encodes an image as an ordinary JPEG."""
    return _encoded(image, "JPEG", quality=quality)


def odd_bytes(kind: str, image: Image.Image) -> bytes:
    """Encodes an RGB image in an unusual way (`kind`: one of ODD) that decoders must master.

    "rotated" is stored on its side, with the EXIF tag that tells how to hold it.
    """
    if kind == "png_alpha":
        opacity = Image.linear_gradient("L").resize(image.size).point(lambda x: 255 - x // 4)
        transparent = image.convert("RGBA")
        transparent.putalpha(opacity)
        return _encoded(transparent, "PNG")
    if kind == "webp":
        return _encoded(image, "WEBP", quality=80)
    if kind == "rotated":
        exif = Image.Exif()
        exif[_ORIENTATION_TAG] = _SHOW_TURNED_RIGHT
        return _encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=85, exif=exif)
    return jpeg_bytes(image.convert({"cmyk": "CMYK", "grey": "L"}[kind]))


def broken_bytes(kind: str, image: Image.Image, seed: int) -> bytes | None:
    """Returns a file without a usable image (`kind`: one of BROKEN); None for "missing".

    `image` is RGB, the picture before it broke; `seed` decides the bytes of "random_bytes".
    """
    if kind == "truncated":
        whole = jpeg_bytes(image)
        return whole[: len(whole) * 2 // 5]
    if kind == "huge_png":
        return _huge_png()
    if kind == "one_pixel":
        return _encoded(image.resize((1, 1)), "PNG")
    if kind == "random_bytes":
        return random.Random(seed).randbytes(6000)  # noqa: S311  (rubbish, not secrets)
    if kind == "flipped_bytes":
        return _with_flipped_bytes(_encoded(image, "JPEG", quality=85, progressive=True))
    return {"zero_bytes": b"", "html_page": _HTML_PAGE, "missing": None}[kind]


def _huge_png() -> bytes:
    """A PNG of some hundred bytes whose header asks for 2.7 GB of pixels."""
    header = struct.pack(">IIBBBBB", HUGE_SIDE_PX, HUGE_SIDE_PX, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(name + content))
        png += struct.pack(">I", len(content)) + name + content + checksum
    return png


def _with_flipped_bytes(progressive: bytes) -> bytes:
    """Inverts 16 bytes in the middle of a progressive JPEG.

    Most flipped bytes of a JPEG only smear some blocks, and decoders let that pass. These are the
    code lengths of the Huffman table nearest to the middle, which then promise more than 256 codes;
    no decoder can go on.
    """
    tables = [at for at in range(len(progressive) - 21) if progressive[at : at + 2] == b"\xff\xc4"]
    nearest = min(tables, key=lambda at: abs(at - len(progressive) // 2))
    start = nearest + 5  # after marker, length and table number
    flipped = bytes(byte ^ 0xFF for byte in progressive[start : start + 16])
    return progressive[:start] + flipped + progressive[start + 16 :]


def _encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()

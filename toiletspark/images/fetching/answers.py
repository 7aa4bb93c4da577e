"""An answer with an image's bytes, and the reason to doubt that they are the whole file.

A host that is out of order for a night answers 200 with an HTML page, 204, or half of a body. Bytes
of a doubtful answer that are no sound image say nothing of the image, see `pipeline`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

_OK = 200
_HTML = re.compile(rb"\s*(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|!--)", re.IGNORECASE)
_FILE_TYPES = re.compile(r"(image/.*|.*/octet-stream|)")
_NOT_SHOWN = re.compile(r"[^a-z0-9.+/-]")
_COMPRESSIONS = ("gzip", "x-gzip", "deflate")
_ANY_HEADER = 47  # zlib's window bits for zlib and gzip alike


@dataclass(frozen=True)
class Answer:
    """`doubt` is "" if the answer is that of a host in order, else a short reason."""

    content: bytes
    doubt: str = ""


def of_response(
    status: int, headers: Mapping[str, str], content: bytes, max_image_bytes: int
) -> Answer:
    """Returns the answer of an http server, at most one byte longer than the cap if it was packed.

    Undoes compression that a server used unasked. `headers` are case-insensitive.
    """
    reason = ""
    if headers.get("Content-Encoding", "").lower() in _COMPRESSIONS:
        content, reason = _decompressed(content, max_image_bytes + 1)
    type_ = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not content:
        reason = "empty"
    elif _HTML.match(content):
        reason = "html"
    elif not _FILE_TYPES.fullmatch(type_):
        reason = _NOT_SHOWN.sub("?", type_)[:60]
    elif "Content-Length" not in headers and "Transfer-Encoding" not in headers:
        reason = reason or "no length"  # it ends where the connection does
    if status != _OK or reason:
        return Answer(content, f"http {status} {reason}".rstrip())
    return Answer(content)


def _decompressed(content: bytes, most: int) -> tuple[bytes, str]:
    """The plain bytes, at most `most`, and the doubt in them."""
    decompressor = zlib.decompressobj(_ANY_HEADER)
    try:
        plain = decompressor.decompress(content, most)
    except zlib.error:
        return content, "damaged compression"
    is_whole = decompressor.eof or len(plain) == most
    return plain, "" if is_whole else "cut compression"

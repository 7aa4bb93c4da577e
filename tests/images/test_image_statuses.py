"""Decoding: a status for everything that is no sound image."""

import io
import random
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.pictures import (
    HTML,
    LIMITS,
    STANDARD,
    chunk,
    encoded,
    expected,
    one,
    picture,
    png,
)
from tests.support.shared_folder import shared
from toiletspark.images.decoding import Decoded, decode, thumbnail
from toiletspark.images.statuses import STATUSES

SECRET = b"agent-phone-0151"

# Statuses


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", HTML, random.Random(3).randbytes(5_000), b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBP"],
)
def test_what_is_no_image_is_told_so(content: bytes) -> None:
    assert one(content).status == "not_an_image"


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "ICO", "PPM", "TGA"])
def test_a_format_that_is_not_allowed_is_not_decoded(kind: str) -> None:
    content = encoded(picture(64, 64), kind)
    assert (one(content).status, one(content).detail) == (
        "not_an_image",
        "not one of decode.formats",
    )
    assert thumbnail(content, LIMITS, 64) is None


def test_a_format_that_is_allowed_is_decoded() -> None:
    assert one(encoded(picture(64, 64), "BMP"), formats=["BMP"]).status == "ok"
    assert one(encoded(picture(64, 64), "PNG"), formats=["BMP"]).status == "not_an_image"


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"quality": 20}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
    ],
    ids=str,
)
def test_a_truncated_file_is_never_ok(kind: str, options: dict[str, Any], kept: float) -> None:
    content = encoded(picture(500, 400), kind, **options)
    assert one(content).status == "ok"
    result = one(content[: int(len(content) * kept)])
    assert result == Decoded("truncated", "the file ends before the picture does")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    "rest", [b"", bytes(1), bytes(5_000), b"<html>502 Bad Gateway</html>" * 20], ids=len
)
def test_what_stands_in_place_of_the_rest_of_a_jpeg_makes_it_no_whole(
    progressive: bool, rest: bytes
) -> None:
    content = encoded(picture(500, 400), "JPEG", progressive=progressive)
    for kept in (len(content) // 2, len(content) - 2):
        assert one(content[:kept] + rest).status == "truncated"
    assert one(content + rest).status == "ok"


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    # where cameras put it
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + encoded(picture(40, 30), "JPEG")
    content = encoded(picture(500, 400), "JPEG", exif=exif)
    assert one(content).status == "ok"
    assert b"\xff\xd9" in content[: len(content) // 2]
    assert one(content[: len(content) // 2] + bytes(5_000)).status == "truncated"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_flipped_bytes_are_a_status_or_a_picture(kind: str) -> None:
    drawn = random.Random(17)
    content = encoded(picture(200, 160), kind)
    outcomes = set()
    for _ in range(150):
        broken = bytearray(content)
        for _ in range(drawn.randint(1, 5)):
            broken[drawn.randrange(len(broken))] ^= 1 << drawn.randrange(8)
        outcomes.add(one(bytes(broken)).status)
    assert outcomes & {"decode_failed", "truncated", "not_an_image"}


REFUSES_A_BOMB = """
import resource, struct, sys, zlib
from toiletspark.config.loading import load
from toiletspark.images.decoding import Preprocessing, decode, thumbnail
content = sys.stdin.buffer.read()
limits = load().decode.model_copy(update={"max_pixels": int(sys.argv[1])})
decode([content[:8]], limits, Preprocessing(256, 224))  # all is imported now
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 60_000_000,) * 2)
(outcome,) = decode([content], limits, Preprocessing(256, 224))
print(outcome.status, outcome.detail, thumbnail(content, limits, 64), sep="|")
"""


@pytest.mark.parametrize(
    ("side", "max_pixels", "detail"),
    [
        (30_000, 50_000_000, "more than Pillow opens"),
        (9_000, 50_000_000, "9000 x 9000, limit 50000000"),
        (10_000, 2_000_000_000, "more than Pillow opens"),  # where Pillow only warns
        (30_000, 2_000_000_000, "more than Pillow opens"),
    ],
)
def test_a_bomb_is_refused_by_its_header_without_memory(
    side: int, max_pixels: int, detail: str
) -> None:
    content = png(side, side, bytes(1_000_000))
    assert len(content) < 3_000
    command = [sys.executable, "-c", REFUSES_A_BOMB, str(max_pixels)]
    done = subprocess.run(command, input=content, capture_output=True, check=False)
    assert done.stdout.decode() == f"too_many_pixels|{detail}|None\n", done.stderr.decode()


def test_between_pillows_warning_and_its_error_the_warning_stays_inside() -> None:
    content = png(10_000, 10_000, b"")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert one(content, max_pixels=200_000_000).status == "too_many_pixels"
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        one(content)
    assert raised == []


def test_the_size_limits_are_inclusive() -> None:
    assert one(encoded(picture(100, 90)), max_pixels=9_000).status == "ok"
    result = one(encoded(picture(100, 90)), max_pixels=8_999)
    assert result == Decoded("too_many_pixels", "100 x 90, limit 8999", 100, 90)
    assert one(encoded(picture(16, 90))).status == "ok"
    assert one(encoded(picture(90, 15))) == Decoded("too_small", "90 x 15, least side 16", 90, 15)


def test_a_bomb_in_a_text_chunk_is_no_picture_and_no_exception() -> None:
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80_000_000), 9))
    assert one(png(32, 32, bytes(97 * 32), extra=text)).status != "crashed"


def test_a_mixed_batch_keeps_its_order() -> None:
    good = [picture(300, 260, seed) for seed in range(4)]
    contents = [
        encoded(good[0]),
        b"",
        encoded(good[1], "JPEG")[:900],
        encoded(good[2]),
        HTML,
        encoded(good[3]),
    ]
    result = decode(iter(contents), LIMITS, STANDARD)
    statuses = [outcome.status for outcome in result]
    assert statuses == ["ok", "not_an_image", "truncated", "ok", "not_an_image", "ok"]
    for index, image in ((0, good[0]), (3, good[2]), (5, good[3])):
        assert np.array_equal(result[index].pixels, expected(image))
    assert decode([], LIMITS, STANDARD) == []


@pytest.mark.parametrize(
    "content",
    [
        SECRET + b" is no image",
        png(32, 32, b"short", extra=chunk(b"tEXt", b"Comment\0" + SECRET)),
        png(15, 15, b"", extra=chunk(b"tEXt", b"Comment\0" + SECRET)),
        png(30_000, 30_000, b"", extra=chunk(b"tEXt", b"Comment\0" + SECRET)),
        png(32, 32, bytes(97 * 32), extra=chunk(SECRET[:4], SECRET)),
        encoded(picture(90, 90), "JPEG", comment=SECRET)[:700],
    ],
)
def test_details_hold_nothing_of_the_file(content: bytes) -> None:
    assert SECRET in content
    detail = one(content).detail
    assert SECRET.decode()[:4] not in detail
    assert len(detail) < 80


def test_what_a_decoder_says_of_a_file_stays_out_of_the_detail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def leaky(file: io.BytesIO, name: str) -> Image.Image:
        raise ValueError(f"cannot read {file.read()!r}")

    monkeypatch.setitem(Image.OPEN, "LEAKY", (leaky, None))
    assert one(SECRET, formats=["LEAKY"]) == Decoded("decode_failed", "ValueError")


# Files of others


def test_every_bad_file_of_the_shared_folder_has_one_outcome() -> None:
    files = sorted(path for path in shared("badimages").iterdir() if path.name != "SOURCES.tsv")
    assert len(files) > 300
    contents = [path.read_bytes() for path in files]
    result = decode(contents, LIMITS, STANDARD)
    assert len(result) == len(files)
    for path, outcome in zip(files, result, strict=True):
        check_outcome(path, outcome)
    assert {outcome.status for outcome in result} > {
        "ok",
        "not_an_image",
        "truncated",
        "too_small",
        "too_many_pixels",
    }


def check_outcome(path: Path, outcome: Decoded) -> None:
    assert outcome.status in STATUSES, path.name
    assert (outcome.pixels is not None) == (outcome.status == "ok"), path.name
    assert outcome.detail.isascii()
    assert len(outcome.detail) < 80, path.name
    content = path.read_bytes()
    assert (thumbnail(content, LIMITS, 64) is not None) == (outcome.status == "ok"), path.name

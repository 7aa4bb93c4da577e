"""JPEG files without their whole picture are truncated, though libjpeg decodes them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.support.pictures import LIMITS, SCALED, STANDARD, encoded, one, picture
from toiletspark.demo.rooms import draw_room
from toiletspark.images.decoding import decode, thumbnail

END = b"\xff\xd9"
PAGE = b"<!DOCTYPE html><html><body>" + b"<p>502 Bad Gateway</p>" * 40
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "optimised": {"optimize": True, "quality": 30},
    "no subsampling": {"subsampling": 0, "quality": 95},
    "restarts": {"restart_marker_blocks": 20},
    "progressive": {"progressive": True},
}


def data_of(content: bytes) -> tuple[int, int]:
    """Where the pixels' data begin and end."""
    scan = content.index(b"\xff\xda")
    return scan + 2 + int.from_bytes(content[scan + 2 : scan + 4], "big"), content.rindex(END)


def cut(content: bytes, kept: float, rest: Callable[[int], bytes]) -> bytes:
    start, end = data_of(content)
    stop = start + int((end - start) * kept)
    return content[:stop] + rest(end - stop) + END


RESTS: dict[str, Callable[[int], bytes]] = {
    "nothing": lambda missing: b"",
    "zeros": bytes,
    "a page": lambda missing: PAGE,
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("rest", RESTS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_cut_file_with_an_end_marker_is_truncated(options: str, rest: str, mode: str) -> None:
    content = encoded(picture(600, 450).convert(mode), "JPEG", **OPTIONS[options])
    assert one(content).status == "ok"
    # the last scan of a progressive file is most of it
    for kept in (0.1,) if options == "progressive" else (0.1, 0.3):
        damaged = cut(content, kept, RESTS[rest])
        assert one(damaged).status == "truncated"
        assert thumbnail(damaged, LIMITS, 64) is None
        (scaled,) = decode([damaged], LIMITS, SCALED)
        assert scaled.status == "truncated"


@pytest.mark.parametrize("options", ["plain", "optimised", "no subsampling", "restarts"])
@pytest.mark.parametrize("rest", RESTS)
def test_so_is_one_that_lacks_its_last_tenth(options: str, rest: str) -> None:
    content = encoded(picture(600, 450), "JPEG", **OPTIONS[options])
    assert one(cut(content, 0.9, RESTS[rest])).status == "truncated"


@pytest.mark.parametrize("options", ["plain", "no subsampling", "restarts"])
@pytest.mark.parametrize("filling", [b"", bytes(4096)], ids=["removed", "zeros"])
@pytest.mark.parametrize("seed", range(3))
def test_a_hole_in_the_middle_makes_it_truncated(options: str, filling: bytes, seed: int) -> None:
    content = encoded(picture(900, 700, seed), "JPEG", **OPTIONS[options])
    start, end = data_of(content)
    assert end - start > 12_000
    middle = (start + end) // 2
    assert one(content[:middle] + filling + content[middle + 4096 :]).status == "truncated"


def drawn(colour: tuple[int, int, int]) -> Image.Image:
    """A shape on a plain ground, which is the picture's lower right."""
    image = Image.new("RGB", (640, 480), colour)
    ImageDraw.Draw(image).ellipse((20, 20, 200, 200), fill="orange")
    return image


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize(
    "image",
    [
        *(drawn(colour) for colour in [(128, 128, 128), (127, 127, 127), (255, 255, 255)]),
        *(Image.new("RGB", (640, 480), (level,) * 3) for level in (0, 127, 128, 255)),
        Image.new("L", (3000, 3000), 128),
        Image.new("CMYK", (320, 240), (128, 128, 128, 128)),
        *(draw_room(room, 1, (320, 240)) for room in ("kitchen", "toilet", "exterior")),
    ],
    ids=lambda image: f"{image.mode} {image.getpixel((image.width - 1, image.height - 1))}",
)
def test_plain_drawn_pictures_are_whole(options: str, image: Image.Image) -> None:
    content = encoded(image, "JPEG", **OPTIONS[options])
    assert one(content).status == "ok"
    (scaled,) = decode([content], LIMITS, SCALED)
    assert scaled.status == "ok"
    assert thumbnail(content, LIMITS, 64)


@pytest.mark.parametrize("padding", [b"\xff", bytes(3), bytes(100), bytes(5000)], ids=len)
def test_padding_before_and_behind_the_end_is_no_damage(padding: bytes) -> None:
    content = encoded(picture(300, 200), "JPEG")
    assert one(content[:-2] + padding + END + padding).status == "ok"


def test_zeros_among_other_segments_are_no_hole() -> None:
    content = encoded(picture(300, 200), "JPEG", comment=bytes(3000) + b"<html>")
    assert one(content).status == "ok"


def test_noise_to_the_last_pixel_is_whole() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    (outcome,) = decode([encoded(Image.fromarray(noise), "JPEG")], LIMITS, STANDARD)
    assert outcome.status == "ok"

"""Pictures that the tests of decoding make, and what decoding makes of them."""

import dataclasses
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from toiletspark.config.loading import load
from toiletspark.images.decoding import Decoded, Preprocessing, decode, preprocess
from toiletspark.images.statuses import STATUSES

LIMITS = load().decode
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
STANDARD = Preprocessing(256, 224)
SCALED = dataclasses.replace(STANDARD, jpeg_scaling=True)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth shapes with some noise: neither flat nor random."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 3, width), np.linspace(0, 2, height))
    waves = [np.sin(rng.uniform(1, 9) * x + rng.uniform(1, 9) * y) for _ in range(3)]
    pixels = 127 + 100 * np.stack(waves, axis=-1) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def one(content: bytes, **limits: Any) -> Decoded:
    (outcome,) = decode([content], LIMITS.model_copy(update=limits), STANDARD)
    assert outcome.status in STATUSES
    assert (outcome.pixels is not None) == (outcome.status == "ok")
    if outcome.pixels is not None:
        assert (outcome.pixels.shape, outcome.pixels.dtype) == ((224, 224, 3), np.uint8)
    return outcome


def pixels(content: bytes) -> np.ndarray:
    outcome = one(content)
    assert outcome.pixels is not None, outcome
    return outcome.pixels


def expected(image: Image.Image) -> np.ndarray:
    return preprocess(image, STANDARD)


def chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def png(
    width: int,
    height: int,
    raw: bytes,
    *,
    interlaced: bool = False,
    extra: bytes = b"",
    depth: int = 8,
    colour: int = 2,
    transparent: bytes = b"",
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    extra += chunk(b"tRNS", transparent) if transparent else b""
    chunks = (
        chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks

"""Decodes an image file's bytes into upright RGB pixels, or a status."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from toiletspark.config import Decode, JpegDecoder
from toiletspark.hashing import settings_digest
from toiletspark.images import jpeg_files

Pixels = NDArray[np.uint8]
DRAFT_FACTOR = 1.0  # least side of a JPEG decoded at reduced scale, as a multiple of resize_px
_BAND_ROWS = 256
_TRANSPOSED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_TRUNCATED = ("truncated", "the file ends before the picture does")
_JPEG = ("JPEG", "MPO")


@dataclass(frozen=True)
class Preprocessing:
    """The way to the backbone's input: short side to `resize_px`, then the centre `crop_px` square.

    Bilinear with antialiasing, then torchvision's ImageNet mean and deviation, as in torchvision's
    `ImageClassification` preset for ResNet (resize_size=256, crop_size=224). Training and scoring
    share the settings, which are part of the backbone's identity.

    `jpeg_scaling` decodes JPEG files at 1/2, 1/4 or 1/8 of their size if that is still at least
    `DRAFT_FACTOR` times resize_px: faster, and nearly the same picture. The `jpeg_decoder` nvjpeg
    is for plain JPEG files on a GPU, see `runtimes.nvjpeg`.
    """

    resize_px: int
    crop_px: int
    jpeg_scaling: bool = False
    jpeg_decoder: JpegDecoder = "pillow"

    @property
    def name(self) -> str:
        """A short name that differs whenever the pixels would."""
        settings: list[object] = [self.resize_px, self.crop_px, "bilinear", 2]
        if self.jpeg_scaling:
            settings.append(f"draft {DRAFT_FACTOR}")
        if self.jpeg_decoder != "pillow":
            settings.append(self.jpeg_decoder)
        return f"r{self.resize_px}c{self.crop_px}-{settings_digest(settings)[:6]}"


@dataclass(frozen=True)
class Decoded:
    """The outcome for one image: `pixels` (crop_px, crop_px, 3) uint8 if status is ok, else None.

    width and height are those of the upright picture, in pixels; 0 if the header could not be read.
    """

    status: str
    detail: str = ""
    width: int = 0
    height: int = 0
    pixels: Pixels | None = None

    def without_pixels(self) -> Decoded:
        """Returns a copy that is 150 kB smaller."""
        return dataclasses.replace(self, pixels=None)


class _RefusedError(Exception):
    """Carries an outcome out of the checks below."""

    def __init__(self, status: str, detail: str, size: tuple[int, int] = (0, 0)) -> None:
        self.outcome = Decoded(status, detail, *size)
        super().__init__(detail)


def decode(files: Iterable[bytes], limits: Decode, preprocessing: Preprocessing) -> list[Decoded]:
    """Decodes whole image files: one outcome per file, in order. A bad file is no exception."""
    return [_decode_one(content, limits, preprocessing) for content in files]


def decoder_id(limits: Decode, max_image_bytes: int) -> str:
    """A short name that changes whenever a file that was refused may become a sound image."""
    settings = limits.model_dump(exclude={"isolated", "images_per_child"})
    return settings_digest([settings, max_image_bytes, PIL.__version__])[:12]


def measure(content: bytes, limits: Decode) -> Decoded:
    """Width and height by the header, of a file that was decoded before; reads a PNG to its end."""
    try:
        image = open_checked(content, limits)
        return Decoded("ok", "", *_upright_size(image.size, image))
    except Exception as error:  # noqa: BLE001 - see _decode_one
        return _failed(error, content)


def open_upright(content: bytes, limits: Decode) -> Image.Image:
    """Decodes for people: first frame, EXIF orientation applied, RGB, transparency on white.

    A bad file raises any error of Pillow, of which `decode` and `thumbnail` make a status.
    """
    image = _open_whole(content, limits)
    _load_whole(image, content)
    return _upright(image)


def open_checked(content: bytes, limits: Decode) -> Image.Image:
    """Opens a file and checks its size by the header; no pixels are decoded yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(content), formats=tuple(limits.formats))
    _check_size(image.size, limits)
    return image


def _open_whole(content: bytes, limits: Decode) -> Image.Image:
    """Like `open_checked`, but rejects truncated JPEG files. Other decoders detect truncation."""
    image = open_checked(content, limits)
    if image.format in _JPEG and not jpeg_files.is_whole(content):
        raise _RefusedError(*_TRUNCATED)
    return image


def _load_whole(image: Image.Image, content: bytes) -> None:
    """Decodes an opened picture; rejects a JPEG file whose data end before the picture does."""
    image.load()
    if image.format in _JPEG and jpeg_files.is_filled(image, content):
        raise _RefusedError(*_TRUNCATED)


def _upright(image: Image.Image) -> Image.Image:
    """Applies the orientation to a decoded picture."""
    with _ignoring_damaged_exif():  # Pillow turns the pixels first, and then rewrites the block
        ImageOps.exif_transpose(image, in_place=True)
    return _rgb(image)


def _upright_size(size: tuple[int, int], image: Image.Image) -> tuple[int, int]:
    """Width and height of the upright picture; the image is not turned, and may be scaled."""
    if image.format == "TIFF":
        return size  # Pillow has it upright, and forgets the orientation when it decodes
    with _ignoring_damaged_exif():
        if image.getexif().get(ExifTags.Base.Orientation) in _TRANSPOSED:
            return size[1], size[0]
    return size


@contextmanager
def _ignoring_damaged_exif() -> Iterator[None]:
    """Ignores Pillow's many errors for EXIF blocks that phones and editors damaged."""
    try:
        yield
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001, S110
        pass


def preprocess(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Resizes the short side of an RGB picture and cuts the centre square, and computes only that.

    Returns uint8, (crop_px, crop_px, 3), within 1 of torchvision's Resize and CenterCrop.
    """
    (width, height), (left, top) = crop_geometry(*image.size, preprocessing)
    crop, across, down = preprocessing.crop_px, image.width / width, image.height / height
    square = (left * across, top * down, (left + crop) * across, (top + crop) * down)
    return np.asarray(image.resize((crop, crop), Image.Resampling.BILINEAR, square), dtype=np.uint8)


def crop_geometry(
    width: int, height: int, preprocessing: Preprocessing
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height once resized, and the corner (left, top) of the centre square in them; px.

    Truncates and rounds as torchvision does: a pixel's shift moves embeddings.
    """
    short, crop = preprocessing.resize_px, preprocessing.crop_px
    if width <= height:
        resized = (short, int(short * height / width))
    else:
        resized = (int(short * width / height), short)
    return resized, (round((resized[0] - crop) / 2), round((resized[1] - crop) / 2))


def thumbnail(content: bytes, limits: Decode, max_side_px: int, quality: int = 85) -> bytes | None:
    """Makes a JPEG of at most max_side_px on either side, from the pixels and nothing else.

    Returns None if the file is no sound image.
    """
    try:
        image = open_upright(content, limits)
    except Exception:  # noqa: BLE001 - see _decode_one; the image's ledger row has the reason
        return None
    image.thumbnail((max_side_px, max_side_px))
    image.info.clear()  # Pillow would copy the file's JPEG comment
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _decode_one(content: bytes, limits: Decode, preprocessing: Preprocessing) -> Decoded:
    try:
        image = _open_whole(content, limits)
        size = image.size
        if preprocessing.jpeg_scaling:
            least_px = round(DRAFT_FACTOR * preprocessing.resize_px)
            image.draft(None, (least_px, least_px))
        _load_whole(image, content)  # before a PNG's EXIF block, which may stand behind its pixels
        width, height = _upright_size(size, image)
        return Decoded("ok", "", width, height, preprocess(_upright(image), preprocessing))
    except Exception as error:  # noqa: BLE001 - decoders raise any error on hostile bytes
        return _failed(error, content)


def _is_cut_webp(content: bytes) -> bool:
    """Returns True if a WebP file is shorter than its header says; its decoder gives no reason."""
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return is_webp and int.from_bytes(content[4:8], "little") + 8 > len(content)


def _failed(error: Exception, content: bytes) -> Decoded:
    """The outcome for an error, with a short reason that holds nothing from the file."""
    if isinstance(error, _RefusedError):
        return error.outcome
    if isinstance(error, UnidentifiedImageError):
        return Decoded("not_an_image", "not one of decode.formats")
    # neither is an OSError
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return Decoded("too_many_pixels", "more than Pillow opens")
    if isinstance(error, MemoryError):
        return Decoded("out_of_memory", "decoding takes more than decode.max_memory_bytes")
    is_truncated = isinstance(error, OSError) and "truncated" in str(error).lower()
    if is_truncated or _is_cut_webp(content):
        return Decoded(*_TRUNCATED)
    return Decoded("decode_failed", type(error).__name__)


def _check_size(size: tuple[int, int], limits: Decode) -> None:
    """Refuses by the header, before a pixel is decoded: a small file may claim gigabytes."""
    shape = f"{size[0]} x {size[1]}"
    if size[0] * size[1] > limits.max_pixels:
        raise _RefusedError("too_many_pixels", f"{shape}, limit {limits.max_pixels}", size)
    if min(size) < limits.min_side_px:
        raise _RefusedError("too_small", f"{shape}, least side {limits.min_side_px}", size)


def _rgb(image: Image.Image) -> Image.Image:
    """Converts any mode of Pillow; transparent parts become white, of 16 bits the upper 8 stay."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        is_deep = any(np.asarray(band).max(initial=0) > 255 for _, band in _bands(image))
        grey = image.info.get("transparency")  # a PNG's one transparent grey, if it has one
        image = _by_bands(image, "L", lambda band: _upper_bits(band, is_deep, grey))
    colour = image.info.get("transparency")
    if isinstance(colour, tuple) and max(colour) > 255:  # Pillow cuts 16 bits in pixels only
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    if image.has_transparency_data:
        return _by_bands(image, "RGB", _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _upper_bits(band: Image.Image, is_deep: bool, transparent: int | None) -> Image.Image:
    values = np.asarray(band)
    scaled = values.astype(np.float64) / (257.0 if is_deep else 1.0)
    levels = np.clip(scaled, 0, 255).astype(np.uint8)
    if transparent is not None:
        levels = np.where(values == transparent, np.uint8(255), levels)
    return Image.fromarray(levels)


def _on_white(band: Image.Image) -> Image.Image:
    white = Image.new("RGBA", band.size, (255, 255, 255, 255))
    white.alpha_composite(band.convert("RGBA"))
    return white.convert("RGB")


def _by_bands(
    image: Image.Image, mode: str, change: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Applies `change` to bands of a picture; as a whole it would be in memory four times."""
    changed = Image.new(mode, image.size)
    for top, band in _bands(image):
        changed.paste(change(band), (0, top))
    return changed


def _bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    for top in range(0, image.height, _BAND_ROWS):
        yield top, image.crop((0, top, image.width, min(top + _BAND_ROWS, image.height)))

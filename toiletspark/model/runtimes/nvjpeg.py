"""JPEG files decoded where the network computes: by nvJPEG on a GPU, by libjpeg-turbo on a CPU, through torchvision.

nvJPEG knows neither EXIF nor CMYK, and does not tell a file that ends early from a whole one. So only plain files come
here, as their headers and last bytes say; all others, and those that it refuses, are Pillow's.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torchvision
from PIL import ExifTags, Image
from torchvision.transforms.v2 import functional

from toiletspark.config import Decode
from toiletspark.errors import BackboneError
from toiletspark.images import decoding, sandbox
from toiletspark.images.decoding import Decoded, Pixels, Preprocessing

_END_OF_IMAGE = b"\xff\xd9"
_YCBCR = 1  # Adobe's marker: the usual colours of a JPEG


class _RefusedError(Exception):
    """The decoder has not decoded something, in its words."""


def require_working(device: torch.device) -> None:
    """Decodes a picture that is known to be sound.

    Raises:
        BackboneError: it could not be decoded; were files then Pillow's, they would be embedded under nvJPEG's name.
        torch.OutOfMemoryError: there is no room even for that.
    """
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    try:
        _pictures([file.getvalue()], device)
    except _RefusedError as error:
        raise BackboneError(
            doing="decoding a JPEG file that is known to be sound, as backbone.jpeg_decoder = nvjpeg asks for",
            expected=f"a torchvision that can, on {device}",
            found=str(error),
            todo="mend the worker, or set backbone.jpeg_decoder to pillow, whose embeddings have an identity of "
            "their own",
        ) from None


def decode(
    contents: Iterable[bytes], limits: Decode, preprocessing: Preprocessing, device: torch.device
) -> list[Decoded]:
    """As `images.decode`.

    Args:
        contents: whole files.
        limits: which formats and sizes are decoded at all.
        preprocessing: resize and crop.
        device: where; pictures of `limits.max_pixels` together are on it at a time.

    Returns:
        One outcome per file, in order. A bad file is never an exception.

    Raises:
        torch.OutOfMemoryError: there is no room for one picture alone.
        BackboneError: see `require_working`.
    """
    files = list(contents)
    sizes = {
        place: size for place, content in enumerate(files) if (size := plain_size(content, limits))
    }
    found: dict[int, Pixels] = {}
    for places in _portions(sizes, limits.max_pixels):
        found |= dict(_decoded({place: files[place] for place in places}, preprocessing, device))
    return [
        Decoded("ok", "", *sizes[place], found[place])
        if place in found
        else sandbox.decode([content], limits, preprocessing)[0]
        for place, content in enumerate(files)
    ]


def plain_size(content: bytes, limits: Decode) -> tuple[int, int] | None:
    """Width and height of a whole, upright, grey or YCbCr JPEG file; None for any other."""
    try:
        image = decoding.open_checked(content, limits)
        if image.format != "JPEG":  # to ask a PNG for its orientation is to decode it
            return None
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # noqa: BLE001 - whatever is wrong with it, `images.decode` tells
        return None
    usual = image.mode in ("L", "RGB") and image.info.get("adobe_transform", 1) == _YCBCR
    whole = content.rstrip(b"\0").endswith(_END_OF_IMAGE)
    return image.size if usual and upright and whole else None


def _portions(sizes: dict[int, tuple[int, int]], max_pixels: int) -> Iterator[list[int]]:
    portion: list[int] = []
    held = 0
    for place, (width, height) in sizes.items():
        if portion and held + width * height > max_pixels:
            yield portion
            portion, held = [], 0
        portion.append(place)
        held += width * height
    if portion:
        yield portion


def _decoded(
    files: dict[int, bytes], preprocessing: Preprocessing, device: torch.device
) -> Iterator[tuple[int, Pixels]]:
    """The files that could be decoded; what is too much or too bad for a whole call is then tried file by file."""
    try:
        found = _squares(_pictures(files.values(), device), preprocessing)
    except torch.OutOfMemoryError:
        if len(files) == 1:
            raise
    except _RefusedError:
        if len(files) == 1:
            require_working(device)  # it is then the file that is to blame
    else:
        yield from zip(files, found, strict=True)
        return
    if len(files) > 1:
        if device.type == "cuda":
            torch.cuda.empty_cache()  # here, since the error held what had been decoded
        for place, content in files.items():
            yield from _decoded({place: content}, preprocessing, device)


def _pictures(contents: Iterable[bytes], device: torch.device) -> list[torch.Tensor]:
    """uint8, (3, height, width) each."""
    given = [
        torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy()) for content in contents
    ]
    try:
        return list(torchvision.io.decode_jpeg(given, torchvision.io.ImageReadMode.RGB, device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise _RefusedError(str(error).partition("\n")[0]) from error


def _squares(pictures: list[torch.Tensor], preprocessing: Preprocessing) -> Pixels:
    """uint8, (n, crop_px, crop_px, 3)."""
    inputs = torch.stack([preprocess(picture, preprocessing) for picture in pictures])
    # back in one copy, since each waits for the GPU
    squares: Pixels = inputs.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return squares


def preprocess(picture: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """As `images.preprocess`, on uint8 tensors (3, height, width); a pixel differs from Pillow's by its rounding."""
    left, top, right, bottom = _without_far_ends(picture.shape[2], picture.shape[1])
    (width, height), (x, y) = decoding.crop_geometry(right - left, bottom - top, preprocessing)
    kept = picture[:, top:bottom, left:right]
    resized: torch.Tensor = functional.resize(
        kept, [height, width], torchvision.transforms.InterpolationMode.BILINEAR, antialias=True
    )
    return resized[:, y : y + preprocessing.crop_px, x : x + preprocessing.crop_px]


def _without_far_ends(width: int, height: int) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) without what the centre square never sees of very long pictures.

    They would be huge once resized.
    """
    longest = 4 * min(width, height)
    kept_width, kept_height = min(width, longest), min(height, longest)
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height

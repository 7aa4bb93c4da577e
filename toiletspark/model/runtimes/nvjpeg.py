"""JPEG decoding on the network's device: nvJPEG on a GPU, libjpeg-turbo on a CPU, by torchvision.

nvJPEG knows neither EXIF nor CMYK, and does not detect truncated files. So it gets only plain
files, by their headers and last bytes; Pillow decodes all others, and those that it rejects.
"""

import io
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torchvision
from PIL import ExifTags, Image
from torchvision.transforms.v2 import functional

from toiletspark.config import Decode
from toiletspark.errors import BackboneError
from toiletspark.images import decoding, jpeg_files, sandbox
from toiletspark.images.decoding import Decoded, Pixels, Preprocessing

_END_OF_IMAGE = b"\xff\xd9"
_YCBCR = 1  # Adobe's marker: the usual colours of a JPEG


class _RejectedError(Exception):
    """The decoder rejects a file; its own message."""


def require_working(device: torch.device) -> None:
    """Raises a BackboneError if a sound picture cannot be decoded.

    Pillow would then decode all files, under nvJPEG's name. Raises an OutOfMemoryError if there is
    no memory even for that.
    """
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    try:
        _decode_files([file.getvalue()], device)
    except _RejectedError as error:
        raise BackboneError(
            doing="decoding a sound JPEG file, as backbone.jpeg_decoder = nvjpeg asks for",
            expected=f"a torchvision that can, on {device}",
            found=str(error),
            todo="repair the worker, or set backbone.jpeg_decoder to pillow, whose embeddings have "
            "an identity of their own",
        ) from None


def decode(
    contents: Iterable[bytes], limits: Decode, preprocessing: Preprocessing, device: torch.device
) -> list[Decoded]:
    """Does the same as `decoding.decode`, on a device: one outcome per file, in order.

    At most `limits.max_pixels` together are on the device at a time. Raises an OutOfMemoryError
    if there is no memory for a single picture, and a BackboneError like `require_working`.
    """
    files = list(contents)
    found = {index: plain_size(content, limits) for index, content in enumerate(files)}
    sizes = {index: size for index, size in found.items() if size}
    squares: dict[int, Pixels] = {}
    for batch in _batches(sizes, limits.max_pixels):
        squares |= _decode_batch({index: files[index] for index in batch}, preprocessing, device)
    outcomes = []
    for index, content in enumerate(files):
        if index in squares:
            width, height = sizes[index]
            outcomes.append(Decoded("ok", "", width, height, squares[index]))
        else:
            outcomes += sandbox.decode([content], limits, preprocessing)
    return outcomes


def plain_size(content: bytes, limits: Decode) -> tuple[int, int] | None:
    """Width and height of a whole, upright, grey or YCbCr JPEG file; None for any other."""
    try:
        image = decoding.open_checked(content, limits)
        if image.format != "JPEG":  # reading a PNG's orientation would decode it
            return None
        is_whole = content.rstrip(b"\0").endswith(_END_OF_IMAGE) and jpeg_files.is_whole(content)
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except Exception:  # noqa: BLE001 - `decoding.decode` gives the reason
        return None
    is_usual = image.mode in ("L", "RGB") and image.info.get("adobe_transform", 1) == _YCBCR
    return image.size if is_usual and is_upright and is_whole else None


def _batches(sizes: dict[int, tuple[int, int]], max_pixels: int) -> Iterator[list[int]]:
    batch: list[int] = []
    pixels = 0
    for index, (width, height) in sizes.items():
        if batch and pixels + width * height > max_pixels:
            yield batch
            batch, pixels = [], 0
        batch.append(index)
        pixels += width * height
    if batch:
        yield batch


def _decode_batch(
    files: dict[int, bytes], preprocessing: Preprocessing, device: torch.device
) -> dict[int, Pixels]:
    """Decodes what can be decoded; after a failure, file by file."""
    try:
        pictures = _decode_files(files.values(), device)
        inputs = torch.stack([preprocess(picture, preprocessing) for picture in pictures])
        # back in one copy, since each waits for the GPU
        squares: Pixels = inputs.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        return dict(zip(files, squares, strict=True))
    except torch.OutOfMemoryError:
        if len(files) == 1:
            raise
    except _RejectedError:
        if len(files) == 1:
            require_working(device)  # else it is not the file that is to blame
            return {}
    if device.type == "cuda":
        torch.cuda.empty_cache()  # outside of `except`, whose error held the decoded pictures
    decoded: dict[int, Pixels] = {}
    for index, content in files.items():
        decoded |= _decode_batch({index: content}, preprocessing, device)
    return decoded


def _decode_files(contents: Iterable[bytes], device: torch.device) -> list[torch.Tensor]:
    """Pictures, uint8, (3, height, width)."""
    buffers = [np.frombuffer(content, dtype=np.uint8).copy() for content in contents]
    tensors = [torch.from_numpy(buffer) for buffer in buffers]
    try:
        return list(torchvision.io.decode_jpeg(tensors, torchvision.io.ImageReadMode.RGB, device))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise _RejectedError(str(error).partition("\n")[0]) from error


def preprocess(picture: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    """Does `decoding.preprocess` to a uint8 tensor (3, height, width), with other rounding."""
    left, top, right, bottom = _without_far_ends(picture.shape[2], picture.shape[1])
    size, (x, y) = decoding.crop_geometry(right - left, bottom - top, preprocessing)
    kept = picture[:, top:bottom, left:right]
    bilinear = torchvision.transforms.InterpolationMode.BILINEAR
    resized: torch.Tensor = functional.resize(kept, [size[1], size[0]], bilinear, antialias=True)
    return resized[:, y : y + preprocessing.crop_px, x : x + preprocessing.crop_px]


def _without_far_ends(width: int, height: int) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) that cuts the far ends of very long pictures.

    The centre square is not near them, and they would be huge once resized.
    """
    longest = 4 * min(width, height)
    kept_width, kept_height = min(width, longest), min(height, longest)
    left, top = (width - kept_width) // 2, (height - kept_height) // 2
    return left, top, left + kept_width, top + kept_height

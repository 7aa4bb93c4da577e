"""Decoders: JPEG bytes to uint8 (224, 224, 3), short side 256, centre crop; each at its fastest."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional as F  # noqa: N812

RESIZE_PX, CROP_PX = 256, 224

Pixels = NDArray[np.uint8]


def _cropped(image: Image.Image) -> Pixels:
    width, height = image.size
    scale = RESIZE_PX / min(width, height)
    resized = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (resized.width - CROP_PX) // 2, (resized.height - CROP_PX) // 2
    return np.asarray(resized.crop((left, top, left + CROP_PX, top + CROP_PX)))


def pillow(content: bytes) -> Pixels:
    """Whole picture, then resized."""
    return _cropped(Image.open(io.BytesIO(content)).convert("RGB"))


def pillow_draft(content: bytes) -> Pixels:
    """libjpeg decodes at the smallest eighth that still has 256 px."""
    image = Image.open(io.BytesIO(content))
    image.draft("RGB", (RESIZE_PX, RESIZE_PX))
    return _cropped(image.convert("RGB"))


def torchvision(content: bytes) -> Pixels:
    """decode_jpeg, then resize on the tensor."""
    torch.set_num_threads(1)
    image = decode_jpeg(
        torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB
    )
    resized = F.resize(image, [RESIZE_PX], antialias=True)
    return F.center_crop(resized, [CROP_PX, CROP_PX]).permute(1, 2, 0).numpy()


def simplejpeg_scaled(content: bytes) -> Pixels:
    """libjpeg-turbo at the smallest eighth that still has 256 px, with its fast transforms."""
    scaled = simplejpeg.decode_jpeg(
        content,
        "RGB",
        fastdct=True,
        fastupsample=True,
        min_height=RESIZE_PX,
        min_width=RESIZE_PX,
        min_factor=1,
    )
    return _cropped(Image.fromarray(scaled))


DECODERS: dict[str, Callable[[bytes], Pixels]] = {
    "pillow": pillow,
    "pillow_draft": pillow_draft,
    "torchvision": torchvision,
    "simplejpeg_scaled": simplejpeg_scaled,
}

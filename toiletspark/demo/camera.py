"""What a camera adds to a drawn scene: uneven light, a colour cast, a little blur, noise."""

import functools
import random

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

NOISE_SIDE_PX = 1024


def photograph(canvas: Image.Image, size_px: tuple[int, int], rng: random.Random) -> Image.Image:
    """Turns a drawn canvas into something like a photograph of it.

    Args:
        canvas: RGB, a whole multiple of `size_px`; the larger drawing is what makes the edges smooth.
        size_px: (width, height) of the result.
        rng: decides mirroring, light, blur and noise.

    Returns:
        An RGB image of `size_px`.

    Cost: about 4 ms at 400 x 300 on one core.
    """
    image = canvas.reduce(canvas.width // size_px[0])
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.9)))
    light = _light(size_px, rng) * rng.uniform(0.92, 1.18)
    noise = _noise(size_px, rng) * rng.uniform(0.5, 4.0)
    cast = (rng.gauss(1, 0.03), 1.0, rng.gauss(1, 0.035))
    # One colour at a time: on (height, width, 3) numpy's inner loop has three steps, and is far slower.
    bands = []
    for band, gain in zip(image.split(), cast, strict=True):
        levels = np.asarray(band, dtype=np.float32) * light
        levels *= gain
        levels += noise
        bands.append(Image.fromarray(np.clip(levels, 0, 255, out=levels).astype(np.uint8)))
    return Image.merge("RGB", bands)


def _light(size_px: tuple[int, int], rng: random.Random) -> npt.NDArray[np.float32]:
    """Returns each pixel's brightness, float32, (height, width), around 1: a slope and darker corners."""
    width, height = size_px
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    corners = rng.uniform(0.0, 0.13)
    across = rng.uniform(-0.14, 0.14) * x - corners * x * x
    down = rng.uniform(-0.12, 0.1) * y - corners * y * y
    light: npt.NDArray[np.float32] = 1.05 + across[None, :] + down[:, None]
    return light


def _noise(size_px: tuple[int, int], rng: random.Random) -> npt.NDArray[np.float32]:
    """Cuts noise of standard deviation 1, float32, (height, width), from one sheet, where `rng` decides."""
    width, height = size_px
    sheet = _noise_sheet()
    if width > NOISE_SIDE_PX or height > NOISE_SIDE_PX:
        sheet = np.tile(sheet, (height // NOISE_SIDE_PX + 1, width // NOISE_SIDE_PX + 1))
    top, left = rng.randint(0, sheet.shape[0] - height), rng.randint(0, sheet.shape[1] - width)
    return sheet[top : top + height, left : left + width]


@functools.lru_cache(maxsize=1)
def _noise_sheet() -> npt.NDArray[np.float32]:
    """Draws the sheet once per process: fresh normal numbers would cost as much as the whole drawing."""
    return np.random.default_rng(20240).standard_normal(
        (NOISE_SIDE_PX, NOISE_SIDE_PX), dtype=np.float32
    )

"""A small renderer: boxes and rings in metres go in, a photo-like picture in perspective comes out.

Axes: x to the right, y up, z away from the viewer. Nothing is sorted by depth: draw the farthest
things first, which in a room means wall, then furniture, then the things that stand on it.
"""

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from toiletspark.demo.palette import PALETTE, Colour, lit

Point = tuple[float, float, float]
Range = tuple[float, float]
Points = npt.NDArray[np.float64]  # (..., 3)

NEAR_M = 0.05  # polygons are cut at this distance in front of the eye
SUPERSAMPLING = 2  # drawn larger and then reduced: cheaper than an anti-aliased edge each
RING_POINTS = 20  # other polygons have 2 or 4, repeated, so that numpy handles all at once

_LIGHT = np.array((-0.42, 0.75, -0.51))  # unit vector towards the light
_ANGLES = 2 * np.pi * (np.arange(RING_POINTS) + 0.5) / RING_POINTS
_CIRCLE = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)), axis=1)
_CUBE = np.array(list(np.ndindex(2, 2, 2)))
_CUBE_SIDES = [(1, 3, 2, 0), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (5, 7, 3, 1), (0, 2, 6, 4)]


def level(x: float, y: float, z: float, wide: float, deep: float = 0, square: float = 1) -> Points:
    """Returns a level ellipse (RING_POINTS, 3) with the half axes `wide` and `deep` (0: a circle).

    With `square` from 1 towards 0 it fills its rectangle.
    """
    outline = np.copysign(np.abs(_CIRCLE) ** square, _CIRCLE)
    ring: Points = outline @ ((wide, 0, 0), (0, 0, deep or wide)) + (x, y, z)
    return ring


def disc(x: float, y: float, z: float, wide: float, high: float = 0) -> Points:
    """Returns an upright ring that looks at the viewer, with the half axes `wide` and `high`."""
    ring: Points = _CIRCLE @ ((wide, 0, 0), (0, high or wide, 0)) + (x, y, z)
    return ring


class Stage:
    """The things in front of a camera. `rng` decides everything that varies."""

    def __init__(self, rng: random.Random) -> None:
        """Starts with nothing to see and no camera; see `look`."""
        self.rng = rng
        self.uniform = rng.uniform
        self.choice = rng.choice
        self._polygons: list[Points] = []  # each (n, RING_POINTS, 3): n polygons, corners repeated
        self._fills: list[tuple[Colour, int, bool]] = []  # colour, corners, shaded; one a polygon
        self._turn = np.eye(3)
        self._offset = np.zeros(3)

    def look(self, eye: Point, target: Point, zoom: float) -> None:
        """Points the camera, slightly askew, from `eye` at `target`.

        `zoom` is the focal length over the geometric mean of width and height: 0.7 is wide.
        """
        self._eye = np.array(eye)
        self._zoom = zoom
        forward = np.array(target) - self._eye
        right = np.cross((self.rng.gauss(0, 0.015), 1, 0), forward)
        axes = np.stack((right, np.cross(right, forward), forward), axis=1)
        self._axes = axes / np.linalg.norm(axes, axis=0)

    def chance(self, probability: float) -> bool:
        """Returns True with that probability."""
        return self.rng.random() < probability

    def pick(self, names: str) -> Colour:
        """Picks a colour of the named lists of the palette, and varies it a little."""
        colour = self.choice([colour for name in names.split() for colour in PALETTE[name]])
        return tuple(min(255, max(0, channel + self.rng.randint(-9, 9))) for channel in colour)

    @contextmanager
    def at(self, x: float, z: float, turn: float = 0) -> Iterator[None]:
        """Moves the origin to (x, 0, z) for what is drawn in this context.

        `turn` is in degrees: fronts (-z) look at the viewer at 0, to the left at 90.
        """
        cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        self._turn = np.array(((cosine, 0, -sine), (0, 1, 0), (sine, 0, cosine)))
        self._offset = np.array((x, 0, z))
        yield
        self._turn = np.eye(3)
        self._offset = np.zeros(3)

    def polygon(self, points: npt.ArrayLike, colour: Colour) -> None:
        """Fills a flat polygon of 4 or RING_POINTS corners, unshaded."""
        self._add(np.array([points]), colour, is_shaded=False)

    def front(self, x: Range, y: Range, z: float, colour: Colour) -> None:
        """Fills a rectangle that looks at the viewer, unshaded."""
        self.polygon([(x[0], y[0], z), (x[1], y[0], z), (x[1], y[1], z), (x[0], y[1], z)], colour)

    def box(self, x: Range, y: Range, z: Range, colour: Colour) -> None:
        """Draws a box; where the ends of a range are equal it is flat, such as a wall."""
        low, high = np.array((x, y, z)).T
        self._add((low + _CUBE * (high - low))[_CUBE_SIDES,], colour)

    def tiles(self, x: Range, y: Range, z: Range, colour: Colour, step: Point) -> None:
        """Draws a flat box with joints that are `step` metres apart along x, y and z."""
        self.box(x, y, z, colour)
        low, high = np.array((x, y, z), dtype=float).T
        for axis in np.flatnonzero(low < high):
            positions = np.arange(low[axis] + step[axis], high[axis], step[axis])
            joints = np.tile((low, high), (len(positions), 1, 1))
            joints[:, :, axis] = positions[:, None]
            self._add(joints, lit(colour, 0.8), is_shaded=False)

    def sweep(self, rings: Sequence[npt.ArrayLike], colour: Colour, lid: Colour = ()) -> None:
        """Draws the solid between level rings, lowest first; `lid` is the colour of its top."""
        outlines = np.array(rings)
        following = np.roll(outlines, -1, axis=1)
        corners = (outlines[:-1], outlines[1:], following[1:], following[:-1])
        self._add(np.stack(corners, axis=2).reshape(-1, 4, 3), colour)
        self._add(outlines[:1], colour)
        self._add(outlines[-1:, ::-1], lid or colour)

    def shadow(self, x: Range, z: Range) -> None:
        """Darkens the floor around a piece that covers the ranges x and z."""
        (left, right), (near, far) = x, z
        wide, deep = (right - left) / 2 + 0.1, (far - near) / 2 + 0.1
        spot = level((left + right) / 2, 0.004, (near + far) / 2, wide, deep, 0.45)
        self.polygon(spot, (30, 30, 34, 70))

    def photograph(self, size_px: tuple[int, int]) -> Image.Image:
        """Returns the picture: uneven light, a colour cast, noise, at times blurred or mirrored."""
        rng = self.rng
        image = self._drawn(size_px).reduce(SUPERSAMPLING)
        if self.chance(0.5):
            image = ImageOps.mirror(image)
        if self.chance(0.5):
            image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 0.9)))
        x = np.linspace(-1, 1, image.width, dtype=np.float32)
        y = np.linspace(-1, 1, image.height, dtype=np.float32)[:, None]
        slope = rng.uniform(-0.14, 0.14) * x + rng.uniform(-0.12, 0.1) * y
        light = rng.uniform(0.92, 1.18) * (1 + slope - rng.uniform(0, 0.13) * (x * x + y * y))
        normal = np.random.default_rng(rng.getrandbits(32)).standard_normal
        noise = normal(light.shape, dtype=np.float32) * rng.uniform(0.5, 4)
        cast = np.array((rng.gauss(1, 0.03), 1, rng.gauss(1, 0.035)), dtype=np.float32)
        levels = np.asarray(image) * (light[..., None] * cast) + noise[..., None]
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8))

    def _add(self, polygons: Points, colour: Colour, is_shaded: bool = True) -> None:
        count, corners, _ = polygons.shape
        world = polygons @ self._turn + self._offset
        self._polygons.append(world.repeat(RING_POINTS // corners, axis=1))
        self._fills.extend([(colour, corners, is_shaded)] * count)

    def _drawn(self, size_px: tuple[int, int]) -> Image.Image:
        """Draws all polygons, but shaded ones only if the eye sees their front."""
        width, height = size_px[0] * SUPERSAMPLING, size_px[1] * SUPERSAMPLING
        canvas = Image.new("RGB", (width, height))
        ink = ImageDraw.Draw(canvas)
        glaze = ImageDraw.Draw(canvas, "RGBA")  # blends; ten times slower than ink
        world = np.concatenate(self._polygons) - self._eye
        corners = world[:, :: RING_POINTS // 4]
        normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
        slopes = normals @ _LIGHT / (np.linalg.norm(normals, axis=1) + 1e-12)
        is_shaded = np.array([shaded for _, _, shaded in self._fills])
        is_visible = ~is_shaded | ((world[:, 0] * normals).sum(axis=1) < 0)
        shades = np.where(is_shaded, 0.7 + 0.42 * np.maximum(0, slopes), 1).tolist()
        camera = world @ self._axes
        camera[..., :2] *= self._zoom * math.sqrt(width * height)
        middle = np.array((width / 2, height / 2))
        for k in np.flatnonzero(is_visible).tolist():
            colour, count, _ = self._fills[k]
            outline = _cut_near(camera[k, :: RING_POINTS // count])
            if len(outline) > 1:
                spots = outline[:, :2] / outline[:, 2:] + middle
                pen = glaze if len(colour) == 4 else ink
                fill = (*lit(colour[:3], shades[k]), *colour[3:])
                pen.polygon(spots.ravel().tolist(), fill=fill)
        return canvas


def _cut_near(corners: Points) -> Points:
    """Cuts a polygon in camera coordinates at the near plane (Sutherland and Hodgman, 1974)."""
    if corners[:, 2].min() >= NEAR_M:
        return corners
    kept = []
    for before, here in zip((corners[-1], *corners[:-1]), corners, strict=True):
        if (before[2] < NEAR_M) != (here[2] < NEAR_M):
            kept.append(before + (here - before) * (NEAR_M - before[2]) / (here[2] - before[2]))
        if here[2] >= NEAR_M:
            kept.append(here)
    return np.array(kept).reshape(-1, 3)

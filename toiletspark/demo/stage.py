"""A stage seen by a camera: solids in metres go in, shaded and foreshortened polygons come out.

Axes: x to the right, y up, z away from the viewer, all in metres. Nothing is sorted by depth: whoever draws
starts with what is farthest away, which for furniture along walls is simply wall, then furniture, then what
stands on it.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image, ImageDraw

from toiletspark.demo.palette import BLACK, Colour, lit

Point = tuple[float, float, float]

NEAR_M = 0.05  # polygons are cut here: what is nearer to the eye, or behind it, has no place on the canvas


class Stage:
    """A canvas and the camera in front of it.

    Attributes:
        canvas: the picture so far, RGB.
        eye: where the camera is, in metres.
    """

    def __init__(
        self, size_px: tuple[int, int], eye: Point, target: Point, zoom: float, roll: float = 0.0
    ) -> None:
        """Sets up the camera.

        Args:
            size_px: (width, height) of the canvas.
            eye: camera position.
            target: the point that lands in the middle of the canvas.
            zoom: focal length over the geometric mean of width and height; 0.7 is wide, 1.2 is narrow.
            roll: how askew the camera is held, in radians.
        """
        self.canvas = Image.new("RGB", size_px, (128, 128, 128))
        self.eye = eye
        self._ink = ImageDraw.Draw(self.canvas)
        self._glaze = ImageDraw.Draw(
            self.canvas, "RGBA"
        )  # lets through what is below; ten times slower than ink
        self._middle = (size_px[0] / 2, size_px[1] / 2)
        self._focal_px = zoom * math.sqrt(size_px[0] * size_px[1])
        forward = _unit(_minus(target, eye))
        right = _unit(_cross((math.sin(roll), math.cos(roll), 0.0), forward))
        self._axes = (right, _cross(forward, right), forward)
        self._light = _unit((-0.45, 0.8, -0.55))
        self._place = (0.0, 0.0, 0.0, 1.0, 0.0)  # x, y, z, cosine and sine of the turn

    @contextmanager
    def placed(self, x: float, z: float, turn: float = 0.0, y: float = 0.0) -> Iterator[None]:
        """Draws what follows at (x, y, z), turned about the vertical.

        Args:
            x, z, y: where the piece's own origin stands, in metres.
            turn: degrees; at 0 the piece's front (-z) looks at the viewer, at 90 to the left, at -90 to the
                right.
        """
        before = self._place
        self._place = (x, y, z, math.cos(math.radians(turn)), math.sin(math.radians(turn)))
        try:
            yield
        finally:
            self._place = before

    def polygon(self, points: Sequence[Point], colour: Colour, opacity: float = 1.0) -> None:
        """Fills a flat polygon, unshaded."""
        self._fill([self._world(point) for point in points], colour, opacity)

    def panel(self, points: Sequence[Point], colour: Colour) -> None:
        """Fills a flat polygon, shaded by the light that falls on the side that the eye sees."""
        corners = [self._world(point) for point in points]
        normal = _unit(_cross(_minus(corners[1], corners[0]), _minus(corners[2], corners[0])))
        if _dot(normal, _minus(self.eye, corners[0])) < 0:
            normal = (-normal[0], -normal[1], -normal[2])
        self._fill(corners, lit(colour, self._brightness(normal)))

    def line(self, start: Point, end: Point, colour: Colour, width_px: int = 2) -> None:
        """Draws a straight line whose width does not shrink with distance."""
        spots = self._spots([self._world(start), self._world(end)])
        if len(spots) >= 2:
            self._ink.line(spots[-2:], fill=colour, width=width_px)

    def box(self, low: Point, high: Point, colour: Colour) -> None:
        """Draws the sides of a box that the eye sees, shaded; low <= high in each axis."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        sides: tuple[tuple[Point, Point, Point, Point], ...] = (
            ((x0, y0, z1), (x0, y1, z1), (x1, y1, z1), (x1, y0, z1)),
            ((x0, y0, z0), (x0, y1, z0), (x0, y1, z1), (x0, y0, z1)),
            ((x1, y0, z0), (x1, y0, z1), (x1, y1, z1), (x1, y1, z0)),
            ((x0, y0, z0), (x0, y0, z1), (x1, y0, z1), (x1, y0, z0)),
            ((x0, y1, z0), (x1, y1, z0), (x1, y1, z1), (x0, y1, z1)),
            ((x0, y0, z0), (x1, y0, z0), (x1, y1, z0), (x0, y1, z0)),
        )
        middle = self._world(((x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2))
        for side in sides:
            self._facet([self._world(point) for point in side], middle, colour)

    def sweep(
        self, rings: Sequence[Sequence[Point]], colour: Colour, lid: Colour | None = None
    ) -> None:
        """Draws the solid between rings of equally many points, and closes it with a lid at the last one.

        Args:
            rings: two or more rings, bottom first; see `ring`.
            colour: of the sides, shaded by the way each facet looks.
            lid: colour of the last ring's face; the sides' colour when None.
        """
        placed = [[self._world(point) for point in one] for one in rings]
        for lower, upper in itertools.pairwise(placed):
            middle = _centre(lower + upper)
            for k in range(len(lower)):
                j = (k + 1) % len(lower)
                self._facet([lower[k], lower[j], upper[j], upper[k]], middle, colour)
        top, below = placed[-1], _centre(placed[-2])
        self._facet(top, below, lid or colour)

    def shadow(
        self, x: tuple[float, float], z: tuple[float, float], depth: float = 0.16, y: float = 0.004
    ) -> None:
        """Darkens the floor around a piece that covers the ranges x and z, in three steps for a soft edge."""
        middle = ((x[0] + x[1]) / 2, y, (z[0] + z[1]) / 2)
        for margin in (0.14, 0.08, 0.03):
            spot = ring(
                middle,
                ((x[1] - x[0]) / 2 + margin, 0, 0),
                (0, 0, (z[1] - z[0]) / 2 + margin),
                16,
                0.45,
            )
            self.polygon(spot, BLACK, depth)

    def _facet(self, corners: list[Point], inside: Point, colour: Colour) -> None:
        """Fills one side of a solid if it looks at the eye; `inside` is any point within the solid."""
        normal = _cross(_minus(corners[1], corners[0]), _minus(corners[2], corners[0]))
        if _dot(normal, _minus(corners[0], inside)) < 0:
            normal = (-normal[0], -normal[1], -normal[2])
        if _dot(normal, _minus(self.eye, corners[0])) > 0:
            self._fill(corners, lit(colour, self._brightness(_unit(normal))))

    def _brightness(self, normal: Point) -> float:
        return 0.66 + 0.42 * max(0.0, _dot(normal, self._light))

    def _fill(self, corners: list[Point], colour: Colour, opacity: float = 1.0) -> None:
        spots = self._spots(corners)
        if len(spots) < 3:
            return
        if opacity >= 1:
            self._ink.polygon(spots, fill=colour)
        else:
            self._glaze.polygon(spots, fill=(*colour, round(255 * opacity)))

    def _world(self, point: Point) -> Point:
        x, y, z, cosine, sine = self._place
        return (
            x + point[0] * cosine + point[2] * sine,
            y + point[1],
            z - point[0] * sine + point[2] * cosine,
        )

    def _spots(self, corners: list[Point]) -> list[tuple[float, float]]:
        """Projects world points to canvas pixels, cut at the near plane; none when wholly behind it."""
        (rx, ry, rz), (ux, uy, uz), (fx, fy, fz) = self._axes
        ex, ey, ez = self.eye
        seen: list[Point] = []
        for x, y, z in corners:  # written out: this loop is half of what a picture costs
            x, y, z = x - ex, y - ey, z - ez
            seen.append(
                (x * rx + y * ry + z * rz, x * ux + y * uy + z * uz, x * fx + y * fy + z * fz)
            )
        if min(point[2] for point in seen) < NEAR_M:
            seen = _cut_near(seen)
        (middle_x, middle_y), focal = self._middle, self._focal_px
        return [(middle_x + focal * x / z, middle_y - focal * y / z) for x, y, z in seen]


def ring(
    centre: Point, first: Point, second: Point, points: int = 20, squareness: float = 1.0
) -> list[Point]:
    """Returns the points of an ellipse, or of a rectangle with round corners, anywhere in space.

    Args:
        centre: its middle, in metres.
        first, second: its two half axes as vectors, in metres.
        points: how many.
        squareness: 1 is an ellipse, towards 0 it fills its rectangle.

    Returns:
        `points` points, in order.
    """
    (x, y, z), (ax, ay, az), (bx, by, bz) = centre, first, second
    return [
        (x + ax * a + bx * b, y + ay * a + by * b, z + az * a + bz * b)
        for a, b in _unit_ring(points, squareness)
    ]


@functools.lru_cache(maxsize=64)
def _unit_ring(points: int, squareness: float) -> list[tuple[float, float]]:
    outline = []
    for k in range(points):
        angle = 2 * math.pi * (k + 0.5) / points
        along, across = math.cos(angle), math.sin(angle)
        outline.append(
            (
                math.copysign(abs(along) ** squareness, along),
                math.copysign(abs(across) ** squareness, across),
            )
        )
    return outline


def flat_ring(
    x: float, y: float, z: float, radius: float, depth: float | None = None, square: float = 1.0
) -> list[Point]:
    """Returns a level ring of 18 points, half axes `radius` along x, `depth` (or the same) along z."""
    return ring((x, y, z), (radius, 0, 0), (0, 0, radius if depth is None else depth), 18, square)


def _cut_near(seen: list[Point]) -> list[Point]:
    """Cuts a polygon in camera coordinates at the near plane (Sutherland and Hodgman, 1974)."""
    kept: list[Point] = []
    for k, there in enumerate(seen):
        here = seen[k - 1]
        if (here[2] < NEAR_M) != (there[2] < NEAR_M):
            part = (NEAR_M - here[2]) / (there[2] - here[2])
            kept.append(
                (
                    here[0] + part * (there[0] - here[0]),
                    here[1] + part * (there[1] - here[1]),
                    NEAR_M,
                )
            )
        if there[2] >= NEAR_M:
            kept.append(there)
    return kept


def _minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Point, b: Point) -> Point:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _unit(a: Point) -> Point:
    length = math.sqrt(_dot(a, a)) or 1.0
    return a[0] / length, a[1] / length, a[2] / length


def _centre(points: Sequence[Point]) -> Point:
    x, y, z = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    return x, y, z

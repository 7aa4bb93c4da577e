"""What furniture stands in: floor, walls, windows, pictures, lamps, plants. Any room may have any of it."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from toiletspark.demo import palette
from toiletspark.demo.palette import Colour, lit, mixed, some
from toiletspark.demo.stage import Point, Stage, flat_ring, ring

FRONT_M = -3.0  # floor and side walls reach this far behind the place where most cameras stand


@dataclass(frozen=True)
class Walls:
    """A room's box: the floor is x in [left, right], z in [FRONT_M, depth]; all in metres.

    Attributes:
        left, right: x of the side walls.
        height: y of the ceiling.
        depth: z of the back wall.
        colour: of the walls, for what is painted to match.
    """

    left: float
    right: float
    height: float
    depth: float
    colour: Colour


def draw_walls(
    stage: Stage,
    rng: random.Random,
    size_m: tuple[float, float, float],
    floors: Mapping[str, float],
    finishes: Mapping[str, float],
) -> Walls:
    """Draws the empty room.

    Args:
        stage: where.
        rng: decides materials and colours.
        size_m: width, height and depth of the room.
        floors: weight of each floor: tiles, checkers, wood, carpet.
        finishes: weight of each wall finish: paint, accent, stripes, half_tiles, tiles, panels.

    Returns:
        The box, with x = 0 in the middle of its width.
    """
    width, height, depth = size_m
    walls = Walls(-width / 2, width / 2, height, depth, some(rng, palette.WALLS))
    finish = _weighted(rng, finishes)
    accent = some(rng, palette.WALLS + palette.FABRICS) if finish == "accent" else walls.colour
    left, right, back, front = walls.left, walls.right, walls.depth, FRONT_M
    ceiling = lit((246, 245, 242), rng.uniform(0.84, 0.98))
    stage.polygon(
        [
            (left, height, front),
            (right, height, front),
            (right, height, back),
            (left, height, back),
        ],
        ceiling,
    )
    for x in (left, right):
        stage.panel(
            [(x, 0, front), (x, height, front), (x, height, back), (x, 0, back)], walls.colour
        )
    stage.panel(
        [(left, 0, back), (right, 0, back), (right, height, back), (left, height, back)], accent
    )
    _draw_floor(stage, rng, walls, _weighted(rng, floors))
    _finish_walls(stage, rng, walls, finish)
    return walls


def _draw_floor(stage: Stage, rng: random.Random, walls: Walls, floor: str) -> None:
    left, right, back = walls.left, walls.right, walls.depth
    colours = {"wood": palette.WOODS, "carpet": palette.CARPETS}.get(floor, palette.TILES)
    colour = some(rng, colours)
    stage.panel(
        [(left, 0, FRONT_M), (right, 0, FRONT_M), (right, 0, back), (left, 0, back)], colour
    )
    if floor == "wood":
        _draw_planks(stage, rng, walls, colour)
    elif floor in ("tiles", "checkers"):
        step = rng.choice((0.2, 0.3, 0.3, 0.45, 0.6))
        if floor == "checkers":
            _draw_checkers(stage, walls, step, mixed(colour, some(rng, palette.TILES), 0.7))
        joint = lit(colour, rng.choice((0.8, 0.86, 1.12)))
        draw_grid(
            stage,
            (left, 0, FRONT_M),
            (right - left, 0, 0),
            (0, 0, back - FRONT_M),
            (step, step),
            joint,
        )


def _draw_planks(stage: Stage, rng: random.Random, walls: Walls, colour: Colour) -> None:
    """Lays boards of one width, each of a slightly different brightness, to the back or across."""
    width, away = rng.choice((0.1, 0.15, 0.2)), rng.random() < 0.6
    start, stop = (walls.left, walls.right) if away else (-0.6, walls.depth)
    ends = (FRONT_M, walls.depth) if away else (walls.left, walls.right)
    for k in range(int((stop - start) / width) + 1):
        a, b = start + k * width, min(start + (k + 1) * width, stop)
        cut = rng.uniform(*ends)
        for near, far in ((ends[0], cut), (cut, ends[1])):
            corners = [(a, near), (b, near), (b, far), (a, far)]
            board: list[Point] = [(s, 0.0, t) if away else (t, 0.0, s) for s, t in corners]
            stage.panel(board, lit(colour, rng.uniform(0.93, 1.05)))
        seam: list[Point] = (
            [(a, 0.0, ends[0]), (a, 0.0, ends[1])]
            if away
            else [(ends[0], 0.0, a), (ends[1], 0.0, a)]
        )
        stage.line(seam[0], seam[1], lit(colour, 0.8), 1)


def _draw_checkers(stage: Stage, walls: Walls, step: float, colour: Colour) -> None:
    columns, rows = int((walls.right - walls.left) / step) + 1, int((walls.depth + 1.2) / step) + 1
    for i in range(columns):
        for j in range(rows):
            if (i + j) % 2:
                x, z = walls.left + i * step, walls.depth - (j + 1) * step
                x1 = min(x + step, walls.right)
                stage.panel([(x, 0, z), (x1, 0, z), (x1, 0, z + step), (x, 0, z + step)], colour)


def _finish_walls(stage: Stage, rng: random.Random, walls: Walls, finish: str) -> None:
    """Draws what is on the plaster: tiles, stripes or panels, and the skirting board."""
    left, right, back, height = walls.left, walls.right, walls.depth, walls.height
    if finish in ("half_tiles", "tiles", "panels"):
        top = height if finish == "tiles" else rng.choice((1.0, 1.2, 1.4))
        colour = some(rng, palette.WALLS[:5] if finish == "panels" else palette.TILES)
        step = (
            (0.12, top)
            if finish == "panels"
            else rng.choice(((0.15, 0.15), (0.2, 0.1), (0.3, 0.6), (0.25, 0.4)))
        )
        joint = lit(colour, rng.choice((0.84, 0.9, 1.1)))
        for start, across in (
            ((left, 0.0, FRONT_M + 2), (0.0, 0.0, back - FRONT_M - 2)),
            ((right, 0.0, FRONT_M + 2), (0.0, 0.0, back - FRONT_M - 2)),
            ((left, 0.0, back), (right - left, 0.0, 0.0)),
        ):
            (x, _, z), (dx, _, dz) = start, across
            stage.panel([start, (x + dx, 0, z + dz), (x + dx, top, z + dz), (x, top, z)], colour)
            draw_grid(stage, start, across, (0, top, 0), step, joint)
    elif finish == "stripes":
        colour, width = lit(walls.colour, 0.92), rng.choice((0.1, 0.2))
        for k in range(int((right - left) / width / 2)):
            x = left + (2 * k + 1) * width
            stage.panel(
                [(x, 0, back), (x + width, 0, back), (x + width, height, back), (x, height, back)],
                colour,
            )
    if finish not in ("tiles", "half_tiles"):
        stage.box((left, 0, back - 0.015), (right, 0.08, back), palette.WHITE)


def draw_grid(
    stage: Stage,
    corner: Point,
    first: Point,
    second: Point,
    step_m: tuple[float, float],
    colour: Colour,
) -> None:
    """Draws joints on a rectangle, `step_m[0]` apart along its side `first`, `step_m[1]` along `second`."""
    for along, across, step in ((first, second, step_m[0]), (second, first, step_m[1])):
        length = sum(abs(part) for part in along)  # sides are parallel to the axes
        for k in range(1, int(length / step) + 1):
            start = _plus(corner, along, k * step / length)
            stage.line(start, _plus(start, across, 1.0), colour, 1)


def draw_window(
    stage: Stage, rng: random.Random, x: float, y: float, size_m: tuple[float, float]
) -> None:
    """Draws a window, its lower left corner at (x, y) of the plane z = 0 of the current place."""
    width, height = size_m
    frame = palette.WHITE if rng.random() < 0.7 else some(rng, palette.WOODS)
    zenith, horizon = rng.choice(palette.SKIES)
    stage.box((x - 0.05, y - 0.05, -0.02), (x + width + 0.05, y + height + 0.05, 0.0), frame)
    green = rng.uniform(0.0, 0.5) * height
    for low, high, colour in (
        (green, height, mixed(zenith, (255, 255, 255), 0.55)),
        (green, green + (height - green) * 0.5, mixed(horizon, (255, 255, 255), 0.45)),
        (0.0, green, mixed(rng.choice(palette.LEAVES), (255, 255, 255), 0.4)),
    ):
        stage.polygon(upright(x, y + low, width, high - low, -0.025), colour)
    bars = rng.choice((1, 1, 2))
    for k in range(1, bars + 1):
        middle = x + width * k / (bars + 1)
        stage.box((middle - 0.025, y, -0.05), (middle + 0.025, y + height, -0.02), frame)
    stage.box((x - 0.08, y - 0.09, -0.14), (x + width + 0.08, y - 0.05, 0.0), frame)


def draw_curtains(
    stage: Stage, rng: random.Random, x: float, y: float, size_m: tuple[float, float]
) -> None:
    """Hangs a curtain on each side of a window (arguments as in `draw_window`), down to the floor."""
    width, height = size_m
    colour = some(rng, palette.FABRICS + palette.WALLS)
    top, folds = y + height + 0.18, 5
    for start in (x - 0.42, x + width - 0.06):
        for k in range(folds):
            a = start + k * 0.48 / folds
            shade = lit(colour, 1.02 if k % 2 else 0.9)
            stage.polygon(upright(a, 0.03, 0.48 / folds, top - 0.03, -0.1), shade)
    stage.line((x - 0.5, top, -0.1), (x + width + 0.5, top, -0.1), palette.BLACK, 3)


def draw_picture(
    stage: Stage, rng: random.Random, x: float, y: float, size_m: tuple[float, float]
) -> None:
    """Hangs a framed picture, its lower left corner at (x, y) of the plane z = 0 of the current place."""
    width, height = size_m
    frame = rng.choice((palette.BLACK, palette.WHITE, some(rng, palette.WOODS)))
    stage.box((x, y, -0.03), (x + width, y + height, 0.0), frame)
    edge = 0.03
    stage.polygon(
        upright(x + edge, y + edge, width - 2 * edge, height - 2 * edge, -0.032), (240, 238, 232)
    )
    for _ in range(rng.randint(2, 4)):
        w, h = rng.uniform(0.2, 0.6) * width, rng.uniform(0.15, 0.5) * height
        a, b = x + rng.uniform(0.1, 0.9) * (width - w), y + rng.uniform(0.1, 0.9) * (height - h)
        stage.polygon(upright(a, b, w, h, -0.034), some(rng, palette.FABRICS + palette.LEAVES))


def draw_pendant(stage: Stage, rng: random.Random, place: Point, height: float) -> None:
    """Hangs a lamp from a ceiling of `height` metres, its lower rim in the middle of `place`."""
    x, y, z = place
    colour, radius = some(rng, palette.FABRICS + palette.FRONTS), rng.uniform(0.12, 0.22)
    stage.line((x, height, z), (x, y + radius, z), palette.BLACK, 2)
    glow = flat_ring(x, y, z, radius)
    stage.sweep([glow, flat_ring(x, y + radius * 1.1, z, radius * rng.uniform(0.2, 0.9))], colour)
    if stage.eye[1] < y:
        stage.polygon(glow, (255, 246, 214))


def draw_plant(
    stage: Stage, rng: random.Random, x: float, z: float, height: float, y: float = 0.0
) -> None:
    """Puts a potted plant, `height` metres tall, at (x, y, z)."""
    pot, leaf, size = (
        some(rng, palette.FRONTS + palette.FABRICS),
        rng.choice(palette.LEAVES),
        height * 0.16,
    )
    stage.sweep(
        [flat_ring(x, y, z, size * 0.75), flat_ring(x, y + height * 0.3, z, size)],
        pot,
        (70, 54, 44),
    )
    for _ in range(rng.randint(14, 20)):
        lean, side = rng.uniform(-0.32, 0.32) * height, rng.uniform(-0.15, 0.15) * height
        tip = (x + lean, y + height * rng.uniform(0.6, 1.0), z + side)
        bend = (x + lean * 0.5, y + height * rng.uniform(0.5, 0.7), z + side * 0.5)
        wide = height * rng.uniform(0.03, 0.07)
        blade: list[Point] = [
            (x, y + height * 0.28, z),
            (bend[0] - wide, bend[1], bend[2]),
            tip,
            (bend[0] + wide, *bend[1:]),
        ]
        stage.polygon(blade, lit(leaf, rng.uniform(0.7, 1.2)))


def disc(x: float, y: float, z: float, radius: float) -> list[Point]:
    """Returns an upright ring of 18 points that looks along z, such as a clock's or a wheel's; metres."""
    return ring((x, y, z), (radius, 0, 0), (0, radius, 0), 18)


def upright(x: float, y: float, width: float, height: float, z: float) -> list[Point]:
    """Returns the corners of a rectangle that looks along z, from its lower left one, (x, y); metres."""
    return [(x, y, z), (x + width, y, z), (x + width, y + height, z), (x, y + height, z)]


def _plus(point: Point, step: Point, times: float) -> Point:
    return point[0] + step[0] * times, point[1] + step[1] * times, point[2] + step[2] * times


def _weighted(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]

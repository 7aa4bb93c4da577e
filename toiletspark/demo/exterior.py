"""A building from the street: a house with a gable, or a block of flats, with sky, garden and trees."""

import random

from toiletspark.demo import palette
from toiletspark.demo.palette import Colour, lit, mixed, some
from toiletspark.demo.stage import Point, Stage, flat_ring, ring
from toiletspark.demo.surroundings import disc, upright

GROUND_M = 60.0  # the ground reaches this far; the sky begins behind it


def draw_exterior(size_px: tuple[int, int], rng: random.Random) -> Stage:
    """Draws the outside of a building.

    Args:
        size_px: (width, height) of the canvas.
        rng: decides everything else.

    Returns:
        The stage, fully drawn.
    """
    block = rng.random() < 0.4
    away = rng.uniform(17, 24) if block else rng.uniform(10, 14)
    eye = (rng.uniform(-6, 6), rng.uniform(1.6, 3.5), 0.0)
    target = (rng.uniform(-1, 1), rng.uniform(4, 6) if block else rng.uniform(2.0, 3.2), away)
    stage = Stage(size_px, eye, target, rng.uniform(0.75, 1.0), rng.gauss(0, 0.012))
    _draw_sky(stage, rng)
    _draw_ground(stage, rng, away)
    for _ in range(rng.randint(2, 5)):
        _draw_tree(stage, rng, rng.choice((-1, 1)) * rng.uniform(7, 16), away + rng.uniform(8, 16))
    with stage.placed(0.0, away, rng.uniform(-22, 22)):
        if block:
            _draw_block(stage, rng)
        else:
            _draw_house(stage, rng)
    for side in (-1, 1):
        if rng.random() < 0.6:
            _draw_tree(stage, rng, side * rng.uniform(5.5, 8.5), away - rng.uniform(0, 3))
    _draw_front_garden(stage, rng, away)
    return stage


def _draw_sky(stage: Stage, rng: random.Random) -> None:
    """Paints the sky in bands from horizon to zenith, and a few clouds."""
    zenith, horizon = rng.choice(palette.SKIES)
    for k in range(60):
        stage.polygon(
            upright(-150, k - 6.0, 300, 1.1 if k < 59 else 60, 80.0),
            mixed(horizon, zenith, min(1.0, k / 48)),
        )
    for _ in range(rng.randint(0, 4)):
        x, y = rng.uniform(-45, 45), rng.uniform(16, 42)
        for _ in range(6):
            middle: Point = (x + rng.uniform(-7, 7), y + rng.uniform(-1, 1), 79.0)
            puff = ring(middle, (rng.uniform(3, 7), 0, 0), (0, rng.uniform(1, 2.4), 0), 18)
            stage.polygon(puff, (250, 250, 250), 0.4)


def _draw_ground(stage: Stage, rng: random.Random, away: float) -> None:
    """Lays a lawn, and a pavement or a path to the door."""
    grass = some(rng, ((116, 146, 84), (132, 156, 92), (104, 132, 80), (150, 156, 110)))
    stage.polygon(
        [(-150, 0, -5), (150, 0, -5), (150, 0, GROUND_M + 20), (-150, 0, GROUND_M + 20)], grass
    )
    for _ in range(30):
        x, z = rng.uniform(-15, 15), rng.uniform(2, away)
        stage.polygon(
            flat_ring(x, 0.01, z, rng.uniform(0.4, 1.6), rng.uniform(0.2, 0.7)),
            lit(grass, rng.uniform(0.9, 1.1)),
            0.6,
        )
    stone = some(rng, ((186, 184, 178), (160, 156, 150), (196, 180, 160)))
    x = rng.uniform(-1.5, 1.5)
    stage.polygon(
        [(x - 1.2, 0.02, 0.2), (x + 1.2, 0.02, 0.2), (0.6, 0.02, away), (-0.6, 0.02, away)], stone
    )
    if rng.random() < 0.6:
        stage.polygon(
            [(-60, 0.03, 0.2), (60, 0.03, 0.2), (60, 0.03, 4.2), (-60, 0.03, 4.2)], (112, 112, 116)
        )
        stage.polygon([(-60, 0.03, 4.2), (60, 0.03, 4.2), (60, 0.03, 5.6), (-60, 0.03, 5.6)], stone)


def _draw_house(stage: Stage, rng: random.Random) -> None:
    """Draws a house of one or two floors, its front in the plane z = 0 of the current place."""
    plaster, roof = some(rng, palette.PLASTERS), some(rng, palette.ROOFS)
    half, deep, floors = rng.uniform(3.2, 4.5), 7.0, rng.choice((1, 2, 2))
    eaves = 2.9 * floors
    stage.box((-half, 0, 0), (half, eaves, deep), plaster)
    stage.box((-half - 0.02, 0, -0.02), (half + 0.02, 0.4, deep), lit(plaster, 0.7))
    draw_roof = rng.choice((_draw_gable_roof, _draw_long_roof))
    draw_roof(stage, rng, (half, eaves, deep), plaster, roof)
    shutters = some(rng, palette.FABRICS) if rng.random() < 0.4 else None
    door = rng.choice((-0.5, 0.0, 0.5)) * half
    for floor in range(floors):
        for x in (-0.55 * half, 0.0, 0.55 * half):
            if floor or abs(x - door) > 1.2:
                _draw_facade_window(stage, rng, x, 1.0 + 2.9 * floor, (1.1, 1.3), shutters)
    colour = some(rng, palette.FABRICS + palette.WOODS)
    stage.polygon(upright(door - 0.62, 0, 1.24, 2.3, -0.02), palette.WHITE)
    stage.polygon(upright(door - 0.5, 0, 1.0, 2.15, -0.03), colour)
    stage.polygon(upright(door - 0.3, 1.2, 0.6, 0.7, -0.04), (150, 176, 190))
    stage.polygon(disc(door + 0.38, 1.05, -0.05, 0.06), palette.CHROME)
    stage.box((door - 0.9, 2.4, -0.9), (door + 0.9, 2.5, 0), lit(roof, 0.95))
    stage.box((door - 0.9, 0, -0.9), (door + 0.9, 0.12, 0), (176, 172, 166))


def _draw_gable_roof(
    stage: Stage,
    rng: random.Random,
    size_m: tuple[float, float, float],
    plaster: Colour,
    roof: Colour,
) -> None:
    """Draws a roof whose gable looks to the street; size: the house's half width, eaves' height, depth."""
    half, eaves, deep = size_m
    ridge, over = eaves + rng.uniform(2.0, 3.2), 0.4
    low = eaves - over * (ridge - eaves) / half
    for side in (-1, 1) if stage.eye[0] > 0 else (1, -1):
        edge = side * (half + over)
        stage.panel(
            [(edge, low, -over), (0, ridge, -over), (0, ridge, deep), (edge, low, deep)], roof
        )
        verge: list[Point] = [
            (edge, low, -over),
            (edge, low + 0.22, -over),
            (0, ridge + 0.22, -over),
        ]
        stage.panel([*verge, (0, ridge, -over)], lit(roof, 0.8))
    stage.panel([(-half, eaves, -0.01), (half, eaves, -0.01), (0, ridge, -0.01)], plaster)
    _draw_facade_window(stage, rng, 0.0, eaves + 0.3, (0.9, 0.9), None)


def _draw_long_roof(
    stage: Stage,
    rng: random.Random,
    size_m: tuple[float, float, float],
    plaster: Colour,
    roof: Colour,
) -> None:
    """Draws a roof that slopes to the street, with gables or hips at its ends; size as above."""
    half, eaves, deep = size_m
    ridge, over, inset = eaves + rng.uniform(2.0, 3.2), 0.4, rng.choice((0.0, 1.6))
    left, right, middle = -half - over, half + over, deep / 2
    for x, top in ((left, -half + inset), (right, half - inset)):
        end: list[Point] = [(x, eaves, -over), (x, eaves, deep + over), (top, ridge, middle)]
        stage.panel(end, roof if inset else plaster)
    top_edge: list[Point] = [(half - inset, ridge, middle), (-half + inset, ridge, middle)]
    stage.panel([(left, eaves, -over), (right, eaves, -over), *top_edge], roof)
    for k in range(1, 9):
        part = k / 9
        a, b = left + (inset - half - left) * part, right + (half - inset - right) * part
        y, z = eaves + (ridge - eaves) * part, -over + (middle + over) * part
        stage.line((a, y, z), (b, y, z), lit(roof, 0.85), 1)
    low, high = (
        (half * 0.4, eaves + 1.0, middle - 1.2),
        (half * 0.4 + 0.6, ridge + 0.6, middle - 0.6),
    )
    stage.box(low, high, lit(roof, 0.9))  # the chimney


def _draw_block(stage: Stage, rng: random.Random) -> None:
    """Draws a block of flats, its front in the plane z = 0 of the current place."""
    plaster, accent = (
        some(rng, palette.PLASTERS + palette.WALLS[:4]),
        some(rng, palette.PLASTERS + palette.FABRICS),
    )
    columns, floors = rng.randint(4, 6), rng.randint(3, 5)
    half, top = columns * 1.4, floors * 2.9 + 0.5
    stage.box((-half, 0, 0), (half, top, 10.0), plaster)
    stage.box((-half - 0.2, top, -0.2), (half + 0.2, top + 0.3, 10.2), lit(plaster, 0.75))
    stage.polygon(upright(-half, 0, 2 * half, 2.7, -0.01), lit(accent, 0.85), 0.8)
    balconies = {column for column in range(columns) if rng.random() < 0.4}
    entrance = columns // 2
    for floor in range(floors):
        for column in range(columns):
            x = -half + 1.4 + 2.8 * column
            if floor == 0 and column == entrance:
                stage.polygon(upright(x - 0.9, 0, 1.8, 2.4, -0.03), (90, 110, 122))
                stage.polygon(upright(x - 0.03, 0, 0.06, 2.4, -0.04), palette.STEEL)
                stage.box((x - 1.2, 2.5, -1.2), (x + 1.2, 2.62, 0), palette.STEEL)
            else:
                _draw_facade_window(stage, rng, x, 0.9 + 2.9 * floor, (1.5, 1.4), None)
            if floor and column in balconies:
                stage.box(
                    (x - 1.2, 2.9 * floor, -1.1),
                    (x + 1.2, 2.9 * floor + 0.18, 0),
                    lit(plaster, 0.85),
                )
                stage.box(
                    (x - 1.2, 2.9 * floor + 0.18, -1.1),
                    (x + 1.2, 2.9 * floor + 1.05, -1.05),
                    accent,
                )


def _draw_facade_window(
    stage: Stage,
    rng: random.Random,
    x: float,
    y: float,
    size_m: tuple[float, float],
    shutters: Colour | None,
) -> None:
    """Draws a window from outside, around `x`, its sill at `y`, on the plane z = 0 of the current place."""
    wide, high = size_m
    glass = rng.choice(((120, 146, 164), (96, 116, 132), (146, 166, 178), (84, 96, 108)))
    stage.polygon(
        upright(x - wide / 2 - 0.08, y - 0.08, wide + 0.16, high + 0.16, -0.02), palette.WHITE
    )
    stage.polygon(upright(x - wide / 2, y, wide, high, -0.03), glass)
    if rng.random() < 0.5:
        stage.polygon(
            upright(x - wide / 2, y + high * 0.3, wide * 0.24, high * 0.7, -0.035), (232, 228, 220)
        )
    stage.polygon(upright(x - 0.03, y, 0.06, high, -0.04), palette.WHITE)
    if shutters:
        for start in (x - wide / 2 - 0.55, x + wide / 2 + 0.1):
            stage.polygon(upright(start, y - 0.05, 0.45, high + 0.1, -0.04), shutters)


def _draw_tree(stage: Stage, rng: random.Random, x: float, z: float) -> None:
    """Draws a tree: a trunk under a crown of leaf clouds, or a fir."""
    leaf, size = some(rng, palette.LEAVES), rng.uniform(0.8, 1.3)
    stage.polygon(flat_ring(x, 0.02, z, 1.4 * size), palette.BLACK, 0.2)
    stage.box((x - 0.14, 0, z - 0.14), (x + 0.14, 2.2 * size, z + 0.14), (104, 82, 64))
    if rng.random() < 0.3:
        for k in range(4):
            y, radius = (0.8 + 1.1 * k) * size, (1.5 - 0.3 * k) * size
            stage.sweep(
                [flat_ring(x, y, z, radius), flat_ring(x, y + 1.6 * size, z, 0.08)], lit(leaf, 0.75)
            )
        return
    for k in range(16):
        dx, y = rng.uniform(-1.3, 1.3) * size, rng.uniform(2.2, 4.6) * size
        radius = rng.uniform(0.6, 1.0) * size
        shade = lit(leaf, 0.66 + 0.03 * k + 0.06 * (y / size - 3.4))
        stage.polygon(
            ring((x + dx, y, z - 0.02 * k), (radius, 0, 0), (0, radius * 0.85, 0), 14), shade
        )


def _draw_front_garden(stage: Stage, rng: random.Random, away: float) -> None:
    """Plants bushes before the building, or puts up a fence."""
    choice = rng.random()
    if choice < 0.5:
        for _ in range(rng.randint(3, 7)):
            x, size = rng.choice((-1, 1)) * rng.uniform(1.6, 7), rng.uniform(0.35, 0.7)
            leaf = some(rng, palette.LEAVES)
            for k in range(4):
                middle: Point = (x + rng.uniform(-0.5, 0.5) * size, size * 0.7, away - 2.4)
                stage.polygon(
                    ring(middle, (size, 0, 0), (0, size * 0.8, 0), 14), lit(leaf, 0.8 + 0.1 * k)
                )
    elif choice < 0.75:
        colour, z = rng.choice((palette.WHITE, some(rng, palette.WOODS))), away - 4.0
        for k in range(-36, 37):
            x = k * 0.28
            if abs(x) > 0.9:
                stage.polygon(upright(x, 0.05, 0.13, 0.85, z), lit(colour, 0.9))
        for y in (0.25, 0.65):
            for start in (-10.0, 1.0):
                stage.polygon(upright(start, y, 9.0, 0.09, z - 0.01), colour)

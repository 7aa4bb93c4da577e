"""A bedroom: a bed with its head to the back wall or to a side wall, night stands, a wardrobe."""

import random

from toiletspark.demo import palette
from toiletspark.demo.palette import Colour, lit, some
from toiletspark.demo.stage import Stage, flat_ring, ring
from toiletspark.demo.surroundings import (
    Walls,
    draw_curtains,
    draw_pendant,
    draw_picture,
    draw_plant,
    draw_walls,
    draw_window,
    upright,
)

FLOORS = {"wood": 0.5, "carpet": 0.4, "tiles": 0.1}
FINISHES = {"paint": 0.5, "accent": 0.3, "stripes": 0.1, "panels": 0.1}


def draw_bedroom(size_px: tuple[int, int], rng: random.Random) -> Stage:
    """Draws a bedroom.

    Args:
        size_px: (width, height) of the canvas.
        rng: decides everything else.

    Returns:
        The stage, fully drawn.
    """
    width, depth = rng.uniform(3.0, 4.2), rng.uniform(3.0, 3.8)
    sideways = rng.random() < 0.3
    aside = rng.uniform(0.5, 0.9) if sideways else 0.0
    eye = (
        rng.uniform(-1.2, 1.2) * (1 - aside) + aside,
        rng.uniform(1.35, 1.75),
        depth - rng.uniform(3.2, 3.9),
    )
    target = (rng.uniform(-0.3, 0.5) - aside, rng.uniform(0.7, 1.0), depth - 0.8)
    stage = Stage(size_px, eye, target, rng.uniform(0.65, 0.95), rng.gauss(0, 0.015))
    walls = draw_walls(stage, rng, (width, 2.5, depth), FLOORS, FINISHES)
    if sideways:
        _draw_window_wall(stage, rng, 0.2, walls)
        with stage.placed(walls.left, depth - 1.4, -90.0):
            draw_bed(stage, rng)
    else:
        _draw_side_wall(stage, rng, walls)
        place = rng.uniform(-0.2, 0.3)
        with stage.placed(place, depth):
            _draw_over_bed(stage, rng)
            draw_bed(stage, rng)
    if rng.random() < 0.6:
        draw_pendant(stage, rng, (rng.uniform(-0.3, 0.5), 2.0, depth - 1.6), walls.height)
    return stage


def draw_bed(stage: Stage, rng: random.Random) -> None:
    """Draws a bed with its head at the plane z = 0 of the current place, and night stands on both sides."""
    half, long, high = rng.choice((0.55, 0.75, 0.85)), 2.0, rng.uniform(0.42, 0.55)
    frame = some(rng, palette.WOODS + palette.FABRICS)
    stage.shadow((-half, half), (-long, 0.0))
    for side in (-1, 1):
        _draw_night_stand(stage, rng, side * (half + 0.32), frame)
    head = rng.uniform(0.9, 1.25)
    stage.box((-half - 0.05, 0.1, -0.09), (half + 0.05, head, 0.0), frame)
    for k in range(rng.choice((0, 3, 5))):
        x = -half + (k + 1) * half / 3
        stage.line((x, high, -0.092), (x, head, -0.092), lit(frame, 0.75), 2)
    stage.box((-half, 0.08, -long), (half, 0.26, -0.09), lit(frame, 0.92))
    sheet = some(rng, (palette.WHITE, palette.WHITE, (226, 230, 236), (236, 226, 212)), 4)
    stage.box((-half + 0.02, 0.26, -long + 0.02), (half - 0.02, high, -0.09), sheet)
    _draw_bedding(stage, rng, (half, long, high), sheet)


def _draw_bedding(
    stage: Stage, rng: random.Random, size_m: tuple[float, float, float], sheet: Colour
) -> None:
    """Draws pillows, a blanket over the sides, sometimes a throw; size: half width, length, height."""
    half, long, high = size_m
    cover = some(rng, (*palette.FABRICS, palette.WHITE, palette.WHITE))
    pillows = 2 if half > 0.6 else 1
    for row, colour in ((0, sheet), (1, some(rng, palette.FABRICS)))[: rng.choice((1, 2, 2))]:
        for k in range(pillows):
            x = (k - (pillows - 1) / 2) * half * 0.95
            wide, tall, z = (0.34, 0.17, -0.24) if row == 0 else (0.22, 0.14, -0.42)
            soft = [(0.0, 0.8, 0.06), (0.35, 1.0, 0.13), (0.7, 0.95, 0.12), (1.0, 0.7, 0.04)]
            rings = [
                flat_ring(x, high + 2 * tall * y, z + 0.1 * y, w * wide, d, 0.45)
                for y, w, d in soft
            ]
            stage.sweep(rings, lit(colour, 1.04))
    start = -rng.uniform(0.6, 0.8)
    stage.box((-half - 0.03, 0.2, -long - 0.03), (half + 0.03, high + 0.06, start), cover)
    for _ in range(5):
        a, b = rng.uniform(-half, half), rng.uniform(-half, half)
        stage.line(
            (a, high + 0.062, start - 0.05),
            (b * 0.3 + a * 0.7, high + 0.062, -long),
            lit(cover, 0.93),
            3,
        )
    stage.box(
        (-half - 0.035, 0.3, start - 0.02),
        (half + 0.035, high + 0.08, start + 0.2),
        lit(sheet, 1.02),
    )
    if rng.random() < 0.5:
        throw = some(rng, palette.FABRICS)
        stage.box(
            (-half - 0.045, 0.28, -long + 0.1), (half + 0.045, high + 0.075, -long + 0.6), throw
        )


def _draw_night_stand(stage: Stage, rng: random.Random, x: float, wood: Colour) -> None:
    """Draws a night stand around `x`, mostly with a lamp."""
    stage.shadow((x - 0.2, x + 0.2), (-0.4, 0.0), 0.1)
    stage.box((x - 0.2, 0.12, -0.38), (x + 0.2, 0.5, -0.02), wood)
    stage.line((x - 0.2, 0.31, -0.381), (x + 0.2, 0.31, -0.381), lit(wood, 0.65), 2)
    for y in (0.22, 0.41):
        stage.line((x - 0.04, y, -0.39), (x + 0.04, y, -0.39), palette.STEEL, 4)
    if rng.random() < 0.8:
        foot = some(rng, palette.FABRICS)
        stage.sweep(
            [flat_ring(x, y, -0.2, r) for y, r in ((0.5, 0.06), (0.6, 0.05), (0.68, 0.02))], foot
        )
        stage.sweep(
            [flat_ring(x, y, -0.2, r) for y, r in ((0.66, 0.14), (0.88, 0.09))],
            (252, 240, 206),
            (255, 250, 230),
        )


def _draw_over_bed(stage: Stage, rng: random.Random) -> None:
    """Hangs a picture or two over the headboard, or puts windows on its two sides."""
    choice = rng.random()
    if choice < 0.35:
        draw_picture(stage, rng, -0.5, 1.45, (1.0, rng.uniform(0.5, 0.7)))
    elif choice < 0.65:
        for x in (-0.55, 0.1):
            draw_picture(stage, rng, x, 1.45, (0.45, 0.55))
    elif choice < 0.85:
        draw_window(stage, rng, -0.6, 1.35, (1.2, 0.8))
        draw_curtains(stage, rng, -0.6, 1.35, (1.2, 0.8))


def _draw_side_wall(stage: Stage, rng: random.Random, walls: Walls) -> None:
    """Puts a window with curtains on one side wall and a wardrobe or a plant at the other."""
    with stage.placed(walls.left, walls.depth - 2.2, -90.0):
        high = rng.uniform(1.0, 1.4)
        draw_window(stage, rng, 0.0, 0.85, (1.3, high))
        draw_curtains(stage, rng, 0.0, 0.85, (1.3, high))
    if rng.random() < 0.65:
        with stage.placed(walls.right, walls.depth - 0.5, 90.0):
            draw_wardrobe(stage, rng, rng.choice((2, 3)))
    else:
        draw_plant(stage, rng, walls.right - 0.35, walls.depth - 0.4, rng.uniform(0.8, 1.3))


def _draw_window_wall(stage: Stage, rng: random.Random, x: float, walls: Walls) -> None:
    """Puts a large window into the back wall and a wardrobe beside it."""
    with stage.placed(x, walls.depth):
        draw_window(stage, rng, -0.9, 0.7, (1.4, 1.4))
        draw_curtains(stage, rng, -0.9, 0.7, (1.4, 1.4))
    with stage.placed(walls.right, walls.depth - 0.1, 90.0):
        draw_wardrobe(stage, rng, 2)


def draw_wardrobe(stage: Stage, rng: random.Random, doors: int) -> None:
    """Draws a wardrobe of `doors` doors to the right of the current place; one door may be a mirror."""
    colour, wide, top, face = some(rng, palette.FRONTS), 0.55, rng.uniform(1.95, 2.2), -0.58
    stage.shadow((0.0, wide * doors), (face, 0.0))
    stage.box((0.0, 0.0, face), (wide * doors, top, 0.0), colour)
    mirror = rng.choice((None, None, 0, 1))
    for k in range(doors):
        if k == mirror:
            stage.polygon(
                upright(k * wide + 0.04, 0.08, wide - 0.08, top - 0.14, face - 0.002),
                (206, 216, 220),
            )
        stage.line(
            (k * wide, 0.05, face - 0.003), (k * wide, top, face - 0.003), lit(colour, 0.65), 3
        )
        knob = (k + (0.88 if k % 2 == 0 else 0.12)) * wide
        stage.line((knob, 0.95, face - 0.02), (knob, 1.2, face - 0.02), lit(palette.STEEL, 0.8), 4)


def draw_rug(
    stage: Stage, rng: random.Random, x: float, z: float, size_m: tuple[float, float]
) -> None:
    """Lays a rug with a border, round or rectangular; size is its half width and half depth in metres."""
    colour, (wide, deep) = some(rng, palette.FABRICS + palette.CARPETS), size_m
    square = rng.choice((0.05, 0.05, 1.0))
    for part, shade in ((1.0, 0.85), (0.93, 1.0), (0.8, 0.92), (0.74, 1.04)):
        outline = ring((x, 0.006, z), (wide * part, 0, 0), (0, 0, deep * part), 28, square)
        stage.polygon(outline, lit(colour, shade))

"""A living room: a sofa and a coffee table on a rug, a television, a lamp, shelves, plants."""

import random

from toiletspark.demo import palette
from toiletspark.demo.bedroom import draw_rug
from toiletspark.demo.palette import Colour, lit, mixed, some
from toiletspark.demo.stage import Stage, flat_ring
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

FLOORS = {"wood": 0.6, "carpet": 0.2, "tiles": 0.2}
FINISHES = {"paint": 0.5, "accent": 0.35, "stripes": 0.08, "panels": 0.07}


def draw_living_room(size_px: tuple[int, int], rng: random.Random) -> Stage:
    """Draws a living room: the sofa at the back wall and the television at the side, or the other way round.

    Args:
        size_px: (width, height) of the canvas.
        rng: decides everything else.

    Returns:
        The stage, fully drawn.
    """
    width, depth = rng.uniform(3.8, 5.2), rng.uniform(3.4, 4.4)
    eye = (rng.uniform(-0.6, 1.2), rng.uniform(1.3, 1.7), depth - rng.uniform(3.4, 4.2))
    target = (rng.uniform(-0.5, 0.3), rng.uniform(0.75, 1.0), depth - 0.6)
    stage = Stage(size_px, eye, target, rng.uniform(0.65, 0.95), rng.gauss(0, 0.015))
    walls = draw_walls(stage, rng, (width, 2.6, depth), FLOORS, FINISHES)
    if rng.random() < 0.6:
        _draw_sofa_wall(stage, rng, walls)
    else:
        _draw_television_wall(stage, rng, walls)
    if rng.random() < 0.45:
        draw_pendant(stage, rng, (-0.2, 2.05, depth - 1.6), walls.height)
    return stage


def _draw_sofa_wall(stage: Stage, rng: random.Random, walls: Walls) -> None:
    """Furnishes the room with the sofa at the back wall, under pictures or a window."""
    draw_rug(stage, rng, -0.2, walls.depth - 1.5, (rng.uniform(1.0, 1.4), rng.uniform(0.7, 0.9)))
    with stage.placed(-0.2, walls.depth):
        _draw_behind_sofa(stage, rng)
    corner = walls.right - 0.4
    if rng.random() < 0.5:
        with stage.placed(walls.right, walls.depth - 0.9, 90.0):
            draw_television(stage, rng)
    elif rng.random() < 0.5:
        with stage.placed(walls.right - 1.0, walls.depth):
            draw_shelves(stage, rng)
    else:
        draw_plant(stage, rng, corner, walls.depth - 0.45, rng.uniform(1.0, 1.6))
    with stage.placed(-0.3, walls.depth - 0.05):
        draw_floor_lamp(stage, rng, -rng.uniform(1.35, 1.5), -0.3)
        draw_sofa(stage, rng, rng.choice((0.85, 1.0, 1.1)))
    _draw_coffee_table(stage, rng, -0.2, walls.depth - 1.6)


def _draw_television_wall(stage: Stage, rng: random.Random, walls: Walls) -> None:
    """Furnishes the room with the television at the back wall and the sofa at the left one."""
    draw_rug(stage, rng, -0.3, walls.depth - 1.7, (1.1, 0.9))
    with stage.placed(0.5, walls.depth):
        draw_television(stage, rng)
    if rng.random() < 0.6:
        with stage.placed(walls.right, walls.depth - 0.8, 90.0):
            draw_window(stage, rng, 0.0, 0.8, (1.5, 1.3))
            draw_curtains(stage, rng, 0.0, 0.8, (1.5, 1.3))
    else:
        with stage.placed(walls.right, walls.depth - 0.4, 90.0):
            draw_shelves(stage, rng)
    draw_plant(stage, rng, walls.left + 0.4, walls.depth - 0.4, rng.uniform(0.9, 1.5))
    with stage.placed(walls.left + 0.05, walls.depth - 1.9, -90.0):
        draw_sofa(stage, rng, 0.95)
    _draw_coffee_table(stage, rng, -0.2, walls.depth - 1.7)


def _draw_behind_sofa(stage: Stage, rng: random.Random) -> None:
    choice = rng.random()
    if choice < 0.4:
        for k in range(rng.choice((2, 3))):
            draw_picture(
                stage,
                rng,
                -0.95 + 0.65 * k,
                1.3 + rng.uniform(-0.05, 0.05),
                (0.5, rng.uniform(0.45, 0.7)),
            )
    elif choice < 0.6:
        draw_picture(stage, rng, -0.7, 1.25, (1.4, 0.8))
    else:
        draw_window(stage, rng, -0.8, 1.05, (1.6, 1.15))
        draw_curtains(stage, rng, -0.8, 1.05, (1.6, 1.15))


def draw_sofa(stage: Stage, rng: random.Random, half: float) -> None:
    """Draws a sofa, its back at the plane z = 0 of the current place; `half`: half its width in metres."""
    colour, deep, seat = some(rng, palette.FABRICS), 0.9, 0.42
    stage.shadow((-half, half), (-deep, 0.0))
    stage.box((-half, 0.1, -0.25), (half, rng.uniform(0.78, 0.9), 0.0), lit(colour, 0.95))
    stage.box((-half, 0.08, -deep), (half, 0.28, -0.2), lit(colour, 0.9))
    cushions = 2 if half < 0.9 else 3
    wide = 2 * (half - 0.18) / cushions
    for k in range(cushions):
        x = -half + 0.18 + k * wide
        stage.box((x + 0.01, 0.45, -0.42), (x + wide - 0.01, 0.83, -0.22), lit(colour, 1.0))
    for k in range(cushions):
        x = -half + 0.18 + k * wide
        stage.box(
            (x + 0.008, 0.28, -deep - 0.02),
            (x + wide - 0.008, seat + 0.04, -0.35),
            lit(colour, 1.05),
        )
    for k in range(rng.choice((1, 2, 3))):
        _draw_cushion(stage, rng, (-0.65 + 0.6 * k) * half, seat)
    for x in sorted((-half, half - 0.18), key=lambda side: -abs(stage.eye[0] - side)):
        stage.box((x, 0.08, -deep), (x + 0.18, 0.62, 0.0), colour)


def _draw_cushion(stage: Stage, rng: random.Random, x: float, seat: float) -> None:
    colour = some(rng, palette.FABRICS)
    soft = [(0.04, 0.8, 0.05), (0.15, 1.0, 0.09), (0.28, 1.0, 0.08), (0.4, 0.85, 0.03)]
    stage.sweep(
        [flat_ring(x, seat + y, -0.5 + y * 0.3, w * 0.2, d, 0.4) for y, w, d in soft], colour
    )


def _draw_coffee_table(stage: Stage, rng: random.Random, x: float, z: float) -> None:
    """Draws a low table, round or rectangular, with a vase or books on it."""
    top = some(rng, (*palette.WOODS, (230, 230, 226), (60, 60, 64)))
    wide, deep = rng.uniform(0.4, 0.6), rng.uniform(0.28, 0.36)
    stage.shadow((x - wide, x + wide), (z - deep, z + deep), 0.1)
    for dx, dz in ((-0.75, 0.7), (0.75, 0.7), (-0.75, -0.7), (0.75, -0.7)):
        a, b = x + dx * wide, z + dz * deep
        stage.box((a - 0.02, 0.0, b - 0.02), (a + 0.02, 0.36, b + 0.02), lit(top, 0.75))
    square = rng.choice((0.1, 0.1, 1.0))
    stage.sweep([flat_ring(x, y, z, wide, deep, square) for y in (0.36, 0.4)], lit(top, 0.9), top)
    for k in range(2):
        stage.box(
            (x - 0.25, 0.4 + 0.03 * k, z - 0.1),
            (x, 0.43 + 0.03 * k, z + 0.1),
            some(rng, palette.FABRICS),
        )
    if rng.random() < 0.6:
        draw_plant(stage, rng, x + 0.18, z, 0.32, 0.4)


def draw_television(stage: Stage, rng: random.Random) -> None:
    """Draws a low board at the plane z = 0 of the current place, and a television on it, on or off."""
    board, half = some(rng, palette.FRONTS + palette.WOODS), rng.uniform(0.8, 1.0)
    stage.shadow((-half, half), (-0.4, 0.0))
    stage.box((-half, 0.1, -0.4), (half, 0.5, 0.0), board)
    for x in (-half / 3, half / 3):
        stage.line((x, 0.1, -0.401), (x, 0.5, -0.401), lit(board, 0.65), 2)
    wide, high, y = half * 0.75, half * 0.85, 0.62
    stage.box((-0.2, 0.5, -0.3), (0.2, 0.52, -0.1), palette.BLACK)
    stage.box((-0.04, 0.52, -0.22), (0.04, y, -0.18), palette.BLACK)
    stage.box((-wide, y, -0.22), (wide, y + high, -0.17), palette.BLACK)
    lit_up = rng.random() < 0.3
    screen: Colour = some(rng, palette.FABRICS) if lit_up else (44, 48, 56)
    stage.polygon(upright(-wide + 0.03, y + 0.03, 2 * wide - 0.06, high - 0.06, -0.222), screen)
    gleam = [
        (-wide + 0.03, y + high - 0.03, -0.223),
        (-wide * 0.2, y + high - 0.03, -0.223),
        (-wide * 0.7, y + 0.03, -0.223),
    ]
    stage.polygon([*gleam, (-wide + 0.03, y + 0.03, -0.223)], mixed(screen, (255, 255, 255), 0.12))


def draw_floor_lamp(stage: Stage, rng: random.Random, x: float, z: float) -> None:
    """Draws a standing lamp about as tall as a person."""
    metal = rng.choice((palette.BLACK, palette.STEEL, (176, 146, 90)))
    stage.sweep([flat_ring(x, y, z, 0.15) for y in (0.0, 0.03)], metal)
    stage.line((x, 0.03, z), (x, 1.45, z), metal, 4)
    shade = some(rng, ((250, 240, 212), (236, 226, 200), (210, 190, 160)))
    stage.sweep(
        [flat_ring(x, y, z, r) for y, r in ((1.4, 0.22), (1.72, 0.15))], shade, (255, 250, 230)
    )


def draw_shelves(stage: Stage, rng: random.Random) -> None:
    """Draws open shelves with books, 1 m wide, to the right of the current place."""
    wood = some(rng, palette.WOODS + palette.FRONTS[:2])
    stage.shadow((0.0, 1.0), (-0.32, 0.0))
    stage.box((0.0, 0.0, -0.3), (1.0, 1.9, 0.0), wood)
    for k in range(5):
        y = 0.08 + 0.36 * k
        stage.polygon(upright(0.04, y, 0.92, 0.32, -0.301), lit(wood, 0.5))
        x = 0.05
        while x < rng.uniform(0.5, 0.88):
            wide = rng.uniform(0.03, 0.06)
            stage.polygon(
                upright(x, y, wide, rng.uniform(0.2, 0.3), -0.302), some(rng, palette.FABRICS)
            )
            x += wide + 0.004

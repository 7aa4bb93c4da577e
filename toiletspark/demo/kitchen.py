"""A kitchen: cabinets along the back wall with hob, oven, sink and fridge, sometimes with a table."""

import random

from toiletspark.demo import palette
from toiletspark.demo.palette import Colour, lit, some
from toiletspark.demo.stage import Stage, flat_ring
from toiletspark.demo.surroundings import (
    Walls,
    disc,
    draw_grid,
    draw_pendant,
    draw_plant,
    draw_walls,
    draw_window,
    upright,
)

FLOORS = {"tiles": 0.35, "checkers": 0.15, "wood": 0.5}
FINISHES = {"paint": 0.6, "accent": 0.2, "tiles": 0.1, "half_tiles": 0.1}
UNIT_M, TOP_M, DEEP_M = 0.6, 0.9, 0.62  # width of a cabinet; height and depth of the worktop


def draw_kitchen(size_px: tuple[int, int], rng: random.Random) -> Stage:
    """Draws a kitchen.

    Args:
        size_px: (width, height) of the canvas.
        rng: decides everything else.

    Returns:
        The stage, fully drawn.
    """
    units = rng.randint(4, 6)
    width, depth = units * UNIT_M + rng.uniform(0.1, 1.2), rng.uniform(2.6, 3.6)
    eye = (rng.uniform(-0.9, 0.7), rng.uniform(1.35, 1.7), depth - rng.uniform(2.5, 3.4))
    target = (rng.uniform(-0.4, 0.3), rng.uniform(0.95, 1.2), depth)
    stage = Stage(size_px, eye, target, rng.uniform(0.65, 0.95), rng.gauss(0, 0.015))
    walls = draw_walls(stage, rng, (width, 2.5, depth), FLOORS, FINISHES)
    front, top = (
        some(rng, palette.FRONTS),
        some(rng, (*palette.WOODS, (70, 70, 74), (222, 220, 214), (150, 146, 140))),
    )
    with stage.placed(walls.left, depth):
        _draw_run(stage, rng, units, front, top)
    if width - units * UNIT_M < 0.6 or rng.random() < 0.3:
        with stage.placed(walls.right, depth - DEEP_M, 90.0):
            _draw_base(stage, 0.0, 1.4, front, top)
    extra = rng.random()
    if extra < 0.3:
        _draw_table(stage, rng, walls)
    elif extra < 0.55:
        draw_pendant(stage, rng, (0.0, 1.75, depth - 1.6), walls.height)
    return stage


def _draw_run(stage: Stage, rng: random.Random, units: int, front: Colour, top: Colour) -> None:
    """Draws `units` cabinets to the right of the current place: fridge at one end, hob and sink apart."""
    fridge = rng.choice((0, units - 1))
    others = [unit for unit in range(units) if unit != fridge]
    hob = rng.choice(others)
    sink = rng.choice(
        [unit for unit in others if abs(unit - hob) > 1] or [unit for unit in others if unit != hob]
    )
    start, stop = others[0] * UNIT_M, (others[-1] + 1) * UNIT_M
    stage.shadow((0.0, units * UNIT_M), (-DEEP_M, 0.0), 0.12)
    _draw_splashback(stage, rng, start, stop)
    has_window = rng.random() < 0.45
    if has_window:
        draw_window(stage, rng, sink * UNIT_M - 0.1, 1.15, (0.8, 0.8))
    hung = [unit for unit in others if unit != hob and not (has_window and abs(unit - sink) <= 1)]
    _draw_hung(
        stage,
        hung if rng.random() < 0.85 else [],
        front if rng.random() < 0.7 else some(rng, palette.FRONTS),
    )
    _draw_hood(stage, rng, hob * UNIT_M)
    _draw_base(stage, start, stop, front, top)
    _draw_oven_and_hob(stage, rng, hob * UNIT_M)
    _draw_sink(stage, sink * UNIT_M)
    for unit in others:
        if unit not in (hob, sink) and rng.random() < 0.8:
            _draw_on_worktop(stage, rng, (unit + rng.uniform(0.3, 0.7)) * UNIT_M)
    _draw_fridge(stage, rng, fridge * UNIT_M, front)


def _draw_splashback(stage: Stage, rng: random.Random, start: float, stop: float) -> None:
    """Draws the wall's protection between worktop and hung cabinets: tiles, or one plate."""
    colour = some(rng, palette.TILES + palette.WALLS)
    stage.panel(upright(start, TOP_M, stop - start, 0.55, -0.004), colour)
    if rng.random() < 0.75:
        step = rng.choice(((0.1, 0.1), (0.15, 0.15), (0.2, 0.075)))
        draw_grid(
            stage,
            (start, TOP_M, -0.005),
            (stop - start, 0, 0),
            (0, 0.55, 0),
            step,
            lit(colour, 0.85),
        )


def _draw_hung(stage: Stage, units: list[int], front: Colour) -> None:
    """Draws hung cabinets, the farthest from the eye first so that none hides its neighbour's side."""
    for unit in units:
        x = unit * UNIT_M
        stage.box((x, 1.45, -0.35), (x + UNIT_M, 2.15, 0), front)
        stage.line((x, 1.45, -0.351), (x, 2.15, -0.351), lit(front, 0.75), 2)
        stage.line((x + 0.06, 1.48, -0.36), (x + 0.2, 1.48, -0.36), palette.STEEL, 3)
    for unit in units:
        x = (unit + 1) * UNIT_M
        stage.line((x, 1.45, -0.351), (x, 2.15, -0.351), lit(front, 0.75), 2)


def _draw_hood(stage: Stage, rng: random.Random, x: float) -> None:
    colour = rng.choice((palette.STEEL, palette.BLACK, palette.WHITE))
    middle = x + UNIT_M / 2
    stage.box((middle - 0.13, 1.7, -0.26), (middle + 0.13, 2.5, 0), lit(colour, 0.95))
    low, high = (
        flat_ring(middle, 1.55, -0.25, 0.31, 0.24, 0.1),
        flat_ring(middle, 1.72, -0.16, 0.14, 0.13, 0.1),
    )
    stage.sweep([low, high], colour)
    stage.box((middle - 0.31, 1.5, -0.49), (middle + 0.31, 1.55, 0), colour)


def _draw_base(stage: Stage, start: float, stop: float, front: Colour, top: Colour) -> None:
    """Draws base cabinets from x = start to x = stop under one worktop, with handles and a dark plinth."""
    stage.box((start, 0, -DEEP_M + 0.07), (stop, 0.1, 0), lit(front, 0.45))
    stage.box((start, 0.1, -DEEP_M + 0.03), (stop, TOP_M - 0.04, 0), front)
    face = -DEEP_M + 0.028
    for k in range(round((stop - start) / UNIT_M)):
        x, drawers = start + k * UNIT_M, k % 3 == 1
        stage.line((x, 0.1, face), (x, TOP_M - 0.04, face), lit(front, 0.65), 2)
        for y in (0.38, 0.62) if drawers else (0.7,):
            stage.line((x, y, face), (x + UNIT_M, y, face), lit(front, 0.7), 2)
        for y in (0.3, 0.54, 0.78) if drawers else (0.63, 0.78):
            stage.line((x + 0.18, y, face - 0.02), (x + 0.42, y, face - 0.02), palette.STEEL, 4)
    stage.box((start, TOP_M - 0.04, -DEEP_M), (stop, TOP_M, 0), top)


def _draw_oven_and_hob(stage: Stage, rng: random.Random, x: float) -> None:
    face, body = -DEEP_M + 0.02, rng.choice((palette.STEEL, palette.BLACK, palette.WHITE))
    stage.box((x + 0.01, 0.14, face), (x + 0.59, 0.84, face + 0.05), body)
    stage.polygon(upright(x + 0.06, 0.2, 0.48, 0.4, face - 0.002), palette.GLASS_BLACK)
    stage.polygon(upright(x + 0.1, 0.26, 0.4, 0.26, face - 0.003), (62, 60, 58))
    stage.line((x + 0.07, 0.66, face - 0.04), (x + 0.53, 0.66, face - 0.04), palette.CHROME, 5)
    for k in range(5):
        stage.polygon(disc(x + 0.1 + 0.1 * k, 0.77, face - 0.01, 0.025), lit(palette.STEEL, 0.7))
    stage.box((x + 0.02, TOP_M, -0.55), (x + 0.58, TOP_M + 0.008, -0.06), palette.GLASS_BLACK)
    for dx, z, radius in (
        (0.17, -0.42, 0.09),
        (0.43, -0.42, 0.07),
        (0.17, -0.18, 0.07),
        (0.43, -0.18, 0.09),
    ):
        stage.polygon(flat_ring(x + dx, TOP_M + 0.01, z, radius), (120, 116, 114))
        stage.polygon(flat_ring(x + dx, TOP_M + 0.011, z, radius * 0.8), (58, 56, 58))
    if rng.random() < 0.5:
        pot = some(rng, (*palette.FABRICS, palette.STEEL, palette.STEEL))
        stage.sweep(
            [flat_ring(x + 0.17, TOP_M + y, -0.3, 0.11) for y in (0.01, 0.15)], pot, lit(pot, 0.8)
        )
        stage.sweep(
            [flat_ring(x + 0.17, TOP_M + y, -0.3, 0.02) for y in (0.15, 0.18)], palette.BLACK
        )


def _draw_sink(stage: Stage, x: float) -> None:
    stage.polygon(flat_ring(x + 0.3, TOP_M + 0.002, -0.3, 0.26, 0.2, 0.2), palette.CHROME)
    stage.polygon(
        flat_ring(x + 0.3, TOP_M + 0.003, -0.31, 0.22, 0.16, 0.25), lit(palette.STEEL, 0.75)
    )
    stage.polygon(
        flat_ring(x + 0.3, TOP_M + 0.003, -0.34, 0.2, 0.12, 0.25), lit(palette.STEEL, 0.9)
    )
    stage.box((x + 0.28, TOP_M, -0.11), (x + 0.32, TOP_M + 0.3, -0.08), palette.CHROME)
    stage.box((x + 0.285, TOP_M + 0.27, -0.3), (x + 0.315, TOP_M + 0.3, -0.08), palette.CHROME)
    stage.box((x + 0.285, TOP_M + 0.22, -0.3), (x + 0.315, TOP_M + 0.28, -0.275), palette.CHROME)


def _draw_fridge(stage: Stage, rng: random.Random, x: float, front: Colour) -> None:
    colour = rng.choice((palette.WHITE, palette.STEEL, front, some(rng, palette.FABRICS)))
    top, face, split = rng.uniform(1.75, 2.1), -0.66, rng.choice((0.65, 1.25))
    stage.box((x + 0.01, 0.04, face), (x + 0.59, top, 0), colour)
    stage.line(
        (x + 0.01, split, face - 0.002), (x + 0.59, split, face - 0.002), lit(colour, 0.6), 3
    )
    for low, high in ((split - 0.3, split - 0.08), (split + 0.08, split + 0.4)):
        stage.box((x + 0.06, low, face - 0.03), (x + 0.085, high, face), lit(palette.STEEL, 0.8))


def _draw_on_worktop(stage: Stage, rng: random.Random, x: float) -> None:
    """Puts a kettle, a toaster, jars, a plant or a bowl of fruit on the worktop."""
    thing, colour = (
        rng.choice(("kettle", "toaster", "jars", "plant", "fruit")),
        some(rng, palette.FABRICS + palette.FRONTS),
    )
    if thing == "kettle":
        stage.sweep(
            [flat_ring(x, TOP_M + y, -0.3, r) for y, r in ((0, 0.085), (0.18, 0.06), (0.22, 0.03))],
            colour,
        )
    elif thing == "toaster":
        stage.box((x - 0.14, TOP_M, -0.38), (x + 0.14, TOP_M + 0.18, -0.22), colour)
        stage.polygon(flat_ring(x, TOP_M + 0.181, -0.3, 0.11, 0.03, 0.2), palette.BLACK)
    elif thing == "jars":
        for k, height in enumerate((0.22, 0.18, 0.14)):
            stage.sweep(
                [flat_ring(x - 0.12 + 0.12 * k, TOP_M + y, -0.18, 0.05) for y in (0, height)],
                colour,
                palette.BLACK,
            )
    elif thing == "plant":
        draw_plant(stage, rng, x, -0.25, 0.35, TOP_M)
    else:
        stage.sweep(
            [flat_ring(x, TOP_M + y, -0.3, r) for y, r in ((0, 0.06), (0.08, 0.15))],
            colour,
            lit(colour, 0.7),
        )
        for dx, fruit in ((-0.06, (206, 70, 50)), (0.05, (228, 160, 50)), (0.0, (140, 176, 70))):
            stage.polygon(disc(x + dx, TOP_M + 0.1, -0.33, 0.055), fruit)


def _draw_table(stage: Stage, rng: random.Random, walls: Walls) -> None:
    """Stands a table in the foreground, cut by the picture's edge as photographers do."""
    wood, x, z = some(rng, palette.WOODS), rng.choice((-0.9, 0.9)), walls.depth - 1.9
    stage.shadow((x - 0.55, x + 0.55), (z - 0.35, z + 0.35), 0.1)
    for dx, dz in ((-0.5, 0.3), (0.5, 0.3), (-0.5, -0.3), (0.5, -0.3)):
        stage.box((x + dx - 0.03, 0, z + dz - 0.03), (x + dx + 0.03, 0.72, z + dz + 0.03), wood)
    stage.box((x - 0.58, 0.72, z - 0.38), (x + 0.58, 0.76, z + 0.38), wood)
    draw_plant(stage, rng, x, z, 0.35, 0.76)

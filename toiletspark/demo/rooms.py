"""Drawn pictures of rooms and houses: the demo catalog's photographs, for trying out and for tests.

A head that is fitted on them tells drawings apart, and knows nothing about photographs.
"""

import random

import numpy as np
from PIL import Image

from toiletspark.demo.exterior import draw_exterior
from toiletspark.demo.palette import (
    BLACK,
    CHROME,
    FABRICS,
    FRONTS,
    GLASS,
    LEAVES,
    SKIES,
    STEEL,
    TILES,
    WALLS,
    WHITE,
    WOODS,
)
from toiletspark.demo.stage import Colour, Range, Stage, disc, level, lit, mixed, ring

HEIGHT_M = 2.5  # of every ceiling
UNIT_M, WORKTOP_M = 0.6, 0.9  # width of a kitchen's cabinets, height of its worktop


def draw_room(room: str, seed: int, size_px: tuple[int, int] = (400, 300)) -> Image.Image:
    """Draws an RGB picture of a room, the same for the same room, seed and size (width, height).

    Raises:
        KeyError: `room` is none of ROOMS.

    Cost: 10 to 15 ms at the default size on one core.
    """
    # Python seeds a stream from a text by its SHA-512, so the picture is the same in every process.
    stage = Stage(random.Random(f"{room}:{seed}"))  # noqa: S311  (pictures, not secrets)
    _DRAWERS[room](stage)
    return stage.photograph(size_px)


def _draw_shell(stage: Stage, width: float, depth: float, floors: str, finishes: str) -> None:
    """Draws the empty room, x = 0 in its middle and the back wall at z = `depth`."""
    uniform = stage.uniform
    colour = stage.pick(WALLS)
    x, up, z = (-width / 2, width / 2), (0, HEIGHT_M), (-1.2, depth)  # from behind every camera
    walls: list[tuple[Range, Range]] = [((x[0], x[0]), z), ((x[1], x[1]), z), (x, (depth, depth))]
    stage.box(x, (HEIGHT_M, HEIGHT_M), z, lit(WHITE, uniform(1.28, 1.48)))
    for wall_x, wall_z in walls:
        stage.box(wall_x, up, wall_z, colour)
    if stage.choice(floors.split()) == "wood":
        board = stage.pick(WOODS)
        for left in np.arange(*x, stage.choice((0.15, 0.2, 0.25))):
            corners = [(left, 0, z[0]), (x[1], 0, z[0]), (x[1], 0, z[1]), (left, 0, z[1])]
            stage.polygon(corners, lit(board, uniform(0.93, 1.07)))
    else:
        step = stage.choice((0.2, 0.3, 0.45, 0.6))
        stage.tiles(x, (0, 0), z, stage.pick(TILES), (step, 1, step))
    finish = stage.choice(finishes.split())
    if finish == "accent":
        stage.box(x, up, (depth, depth), stage.pick(WALLS + FABRICS))
    elif finish != "paint":
        top = HEIGHT_M if finish == "tiles" else stage.choice((1, 1.2, 1.4))
        tile = stage.pick(TILES)
        step, rise = stage.choice(((0.12, 9), (0.15, 0.15), (0.2, 0.1), (0.3, 0.6)))
        for wall_x, wall_z in walls:
            stage.tiles(wall_x, (0, top), wall_z, tile, (step, rise, step))
    stage.box(x, (0, 0.08), (depth - 0.02, depth), WHITE)


def _draw_window(stage: Stage, x: Range, y: Range, curtains: bool = True) -> None:
    """Draws a window on the plane z = 0, with or without curtains."""
    frame = stage.pick((WHITE, WHITE, *WOODS))
    middle = (x[0] + x[1]) / 2
    meadow = y[0] + stage.uniform(0, 0.5) * (y[1] - y[0])
    stage.box((x[0] - 0.05, x[1] + 0.05), (y[0] - 0.05, y[1] + 0.05), (-0.02, 0), frame)
    stage.front(x, y, -0.025, mixed(stage.pick(SKIES), (255, 255, 255), 0.55))
    stage.front(x, (y[0], meadow), -0.03, mixed(stage.pick(LEAVES), (255, 255, 255), 0.4))
    stage.box((middle - 0.025, middle + 0.025), y, (-0.05, -0.02), frame)
    stage.box((x[0] - 0.08, x[1] + 0.08), (y[0] - 0.09, y[0] - 0.05), (-0.14, 0), frame)
    cloth = stage.pick(FABRICS + WALLS)
    for fold in range(10 if curtains else 0):
        left = (x[0] - 0.42 if fold < 5 else x[1] - 0.56) + 0.1 * fold
        stage.front((left, left + 0.1), (0.03, y[1] + 0.15), -0.1, lit(cloth, 0.9 + fold % 2 / 8))


def _draw_pictures(stage: Stage, count: int, x: float, y: float, width: float) -> None:
    """Hangs framed pictures side by side around `x`, their lower edges at `y`."""
    uniform = stage.uniform
    high = uniform(0.3, 0.6)
    frame = stage.pick((BLACK, WHITE, *WOODS))
    for k in range(count):
        left = x + (k - count / 2) * (width + 0.12)
        stage.box((left, left + width), (y, y + high), (-0.03, 0), frame)
        stage.front((left + 0.03, left + width - 0.03), (y + 0.03, y + high - 0.03), -0.032, WHITE)
        for colour in (stage.pick(FABRICS), stage.pick(LEAVES), stage.pick(FABRICS)):
            spot_x, spot_y = left + uniform(0.3, 0.7) * width, y + uniform(0.3, 0.7) * high
            spot = disc(spot_x, spot_y, -0.034, 0.2 * width, uniform(0.1, 0.2) * high)
            stage.polygon(spot, colour)


def _draw_lamp(stage: Stage, x: float, y: float, z: float, size: float, end: float) -> None:
    """Draws a lampshade at the height `y` whose stem goes to `end`: a floor, a top or a ceiling."""
    stage.box((x - 0.012, x + 0.012), (min(end, y), max(end, y)), (z - 0.01, z + 0.01), BLACK)
    if end < y:
        stage.sweep([level(x, end + up, z, size * 0.6) for up in (0, 0.03)], stage.pick(FABRICS))
    colour = stage.pick((WHITE, (250, 236, 200)) if end < y else FABRICS + FRONTS)
    top = level(x, y + size * 1.2, z, size * stage.uniform(0.4, 0.9))
    stage.sweep([level(x, y, z, size), top], colour, (255, 250, 228))


def _draw_plant(stage: Stage, x: float, y: float, z: float, height: float) -> None:
    """Puts a potted plant at (x, y, z)."""
    uniform = stage.uniform
    leaf = stage.pick(LEAVES)
    bottom = y + height * 0.3
    pot = [level(x, y, z, height * 0.12), level(x, bottom, z, height * 0.16)]
    stage.sweep(pot, stage.pick(FRONTS + FABRICS), (70, 54, 44))
    for _ in range(15):
        lean, wide = uniform(-0.32, 0.32) * height, uniform(0.03, 0.07) * height
        bend, tip = y + height * uniform(0.5, 0.7), y + height * uniform(0.6, 1)
        left, right = x + lean / 2 - wide, x + lean / 2 + wide
        blade = [(x, bottom, z), (left, bend, z), (x + lean, tip, z), (right, bend, z)]
        stage.polygon(blade, lit(leaf, uniform(0.7, 1.2)))


def _draw_toilet_room(stage: Stage) -> None:
    """Draws a toilet room, from its door or from one step inside."""
    uniform = stage.uniform
    width, depth = uniform(1, 2.4), uniform(1.6, 2.3)
    x = uniform(-0.15, 0.15) * width
    eye_x = min(width / 2 - 0.2, max(0.2 - width / 2, x + uniform(-0.7, 0.7)))
    target = (x + uniform(-0.25, 0.25), uniform(0.45, 0.85), depth - 0.2)
    stage.look((eye_x, uniform(1.15, 1.75), depth - uniform(1.4, 2.4)), target, uniform(0.7, 1.15))
    _draw_shell(stage, width, depth, "tiles tiles wood", "paint accent half_tiles half_tiles tiles")
    side = 1 if eye_x < 0 else -1  # on the camera's own side, a basin could hide the toilet
    with stage.at(x, depth):
        if stage.chance(0.5):
            _draw_window(stage, (-0.3, uniform(0, 0.3)), (1.5, uniform(1.9, 2.2)), curtains=False)
        else:
            _draw_pictures(stage, stage.choice((0, 1, 2)), uniform(-0.2, 0.2), 1.4, 0.4)
        paper, brush = side * 0.36, -side * 0.36
        stage.front((paper - 0.06, paper + 0.06), (0.52, 0.75), -0.13, (238, 236, 230))
        stage.box((paper - 0.07, paper + 0.07), (0.72, 0.78), (-0.14, 0), CHROME)
        stage.box((brush - 0.008, brush + 0.008), (0.2, 0.45), (-0.23, -0.21), STEEL)
        stage.sweep([level(brush, y, -0.22, 0.05) for y in (0, 0.24)], stage.pick((WHITE, BLACK)))
        _draw_toilet(stage)
    if width > 1.5:
        with stage.at(side * width / 2, depth - uniform(0.75, 1), 90 * side):
            wide = uniform(0.2, 0.32)
            bowl = ((0.72, 0.75), (0.86, 1))
            stage.front((-wide, wide), (1.15, 1.85), -0.01, stage.pick(SKIES + WALLS[:4]))
            bottom = stage.choice((0.3, 0.7))
            stage.box((-wide, wide), (bottom, 0.74), (-0.3, 0), stage.pick(FRONTS))
            stage.sweep([level(0, y, -0.17, wide * w, 0.16 * w, 0.6) for y, w in bowl], WHITE)
            stage.polygon(level(0, 0.861, -0.17, wide * 0.8, 0.12, 0.6), (206, 208, 208))
            _draw_tap(stage, 0, 0.86)
    elif stage.chance(0.4):
        _draw_plant(stage, x + side * 0.4, 0, depth - 0.2, 0.5)


def _draw_toilet(stage: Stage) -> None:
    """Draws a toilet against the plane z = 0, standing or hung, its lid up or down."""
    uniform = stage.uniform
    china = stage.pick((WHITE, WHITE, WHITE, (226, 222, 208)), 4)
    seat = stage.pick(WOODS) if stage.chance(0.12) else china
    stage.shadow((-0.17, 0.17), (-0.66, -0.05))
    is_hung = stage.chance(0.4)
    wide, top = uniform(0.17, 0.21), uniform(0.74, 0.84)
    foot = (0.1, 0.1, 0.18) if is_hung else (0, 0.115, 0.21)
    if is_hung:
        plate = stage.choice((WHITE, CHROME, BLACK))
        high = stage.choice((1.1, 1.2, HEIGHT_M))
        stage.box((-0.5, 0.5), (0, high), (-0.16, 0), stage.pick(TILES + WALLS))
        stage.box((-0.13, 0.13), (0.88, 1.04), (-0.175, -0.16), plate)
        stage.front((-0.11, 0.02), (0.91, 1.01), -0.176, mixed(plate, STEEL, 0.4))
    outline = (foot, (0.16, 0.12, 0.21), (0.3, 0.165, 0.235), (0.37, 0.185, 0.25))
    stage.sweep([level(0, y, -0.21 - d, w, d, 0.8) for y, w, d in outline], china)
    if not is_hung:
        stage.sweep([level(0, y, -0.1, wide, 0.09, 0.3) for y in (0.36, top)], china)
        cover = [level(0, y, -0.1, wide + 0.012, 0.1, 0.3) for y in (top, top + 0.03)]
        stage.sweep(cover, china, lit(china, 1.04))
        stage.polygon(level(0, top + 0.032, -0.1, 0.035), STEEL)
    rim = [level(0, y, -0.44, 0.19, 0.24, 0.85) for y in (0.37, 0.4)]
    if stage.chance(0.5):
        stage.sweep([*rim, level(0, 0.425, -0.44, 0.18, 0.23, 0.85)], lit(seat, 0.95), seat)
        return
    for z, shade in ((-0.2, 0.8), (-0.218, 0.93)):  # the lid leans back, the bowl is open
        stage.polygon(ring((0, 0.61, z), (0.19, 0, 0), (0, 0.21, 0.035), 0.8), lit(seat, shade))
    stage.sweep(rim, seat)
    stage.polygon(level(0, 0.401, -0.45, 0.125, 0.165, 0.9), lit(seat, 0.62))
    stage.polygon(level(0, 0.38, -0.44, 0.112, 0.145, 0.9), lit(china, 0.83))
    stage.polygon(level(0, 0.31, -0.43, 0.06, 0.075), mixed(china, (120, 160, 180), 0.45))


def _draw_tap(stage: Stage, x: float, y: float) -> None:
    stage.box((x - 0.015, x + 0.015), (y, y + 0.17), (-0.08, -0.05), CHROME)
    stage.box((x - 0.012, x + 0.012), (y + 0.15, y + 0.17), (-0.2, -0.05), CHROME)


def _draw_kitchen(stage: Stage) -> None:
    """Draws a kitchen: cabinets along the back wall with fridge, hob, oven and sink."""
    uniform = stage.uniform
    units = stage.randint(4, 6)
    width, depth = units * UNIT_M + uniform(0.1, 1.2), uniform(2.6, 3.6)
    eye = (uniform(-0.9, 0.7), uniform(1.35, 1.7), depth - uniform(2.5, 3.4))
    stage.look(eye, (uniform(-0.4, 0.3), uniform(0.95, 1.2), depth), uniform(0.65, 0.95))
    _draw_shell(stage, width, depth, "tiles wood", "paint paint accent accent tiles half_tiles")
    front, hung = stage.pick(FRONTS), stage.pick(FRONTS)
    hob, sink, *others = stage.rng.sample(range(1, units), units - 1)
    has_window = abs(hob - sink) > 1 and stage.chance(0.7)
    run = (0, units * UNIT_M)
    with stage.at(-width / 2, depth):
        tile = stage.choice((0.1, 0.15, 9))
        stage.tiles(run, (WORKTOP_M, 1.45), (0, 0), stage.pick(TILES + WALLS), (tile, tile, 1))
        if has_window:
            window_x = (sink * UNIT_M - 0.05, sink * UNIT_M + 0.65)
            _draw_window(stage, window_x, (1.15, uniform(1.8, 2.1)), curtains=False)
        stage.shadow(run, (-UNIT_M, 0))
        for unit in range(1, units):
            for y in ((0.1, 0.86),) if unit % 3 else ((0.1, 0.35), (0.35, 0.6), (0.6, 0.86)):
                _draw_door(stage, unit * UNIT_M, y, -0.59, front)
            if unit != hob and not (has_window and abs(unit - sink) < 2):
                _draw_door(stage, unit * UNIT_M, (1.45, 2.15), -0.35, hung)
        stage.box(run, (0.86, WORKTOP_M), (-0.62, 0), stage.pick(WOODS + TILES))
        _draw_hob(stage, hob * UNIT_M)
        for size, colour in ((0.24, CHROME), (0.2, STEEL)):
            basin = level(sink * UNIT_M + 0.3, 0.902, -0.33, size, size * 0.7, 0.25)
            stage.polygon(basin, colour)
        _draw_tap(stage, sink * UNIT_M + 0.3, WORKTOP_M)
        for unit in others:
            x = unit * UNIT_M + 0.3
            if stage.chance(0.5):
                _draw_plant(stage, x, WORKTOP_M, -0.25, 0.35)
            else:
                foot = level(x, WORKTOP_M, -0.3, uniform(0.07, 0.12))
                top = level(x, uniform(0.98, 1.12), -0.3, uniform(0.05, 0.13))
                stage.sweep([foot, top], stage.pick(FABRICS), BLACK)
        fridge = stage.pick((WHITE, STEEL, front, *FABRICS))
        for y in ((0.04, 0.75), (0.76, uniform(1.5, 2.1))):
            _draw_door(stage, 0, y, -0.66, fridge)
    if stage.chance(0.3):
        _draw_lamp(stage, 0, 1.85, depth - 1.4, uniform(0.12, 0.2), HEIGHT_M)


def _draw_door(stage: Stage, x: float, y: Range, z: float, colour: Colour) -> None:
    """Draws a cabinet of one door or drawer, UNIT_M wide, with a gap and a handle."""
    stage.box((x, x + UNIT_M), y, (z, 0), colour)
    stage.box((x, x + 0.008), y, (z - 0.001, z), lit(colour, 0.7))
    stage.box((x, x + UNIT_M), (y[1] - 0.008, y[1]), (z - 0.001, z), lit(colour, 0.7))
    stage.box((x + 0.18, x + 0.42), (y[1] - 0.09, y[1] - 0.08), (z - 0.02, z), STEEL)


def _draw_hob(stage: Stage, x: float) -> None:
    """Draws a hob above an oven and below a hood, in the cabinet whose left side is at `x`."""
    middle = x + UNIT_M / 2
    body = stage.choice((STEEL, BLACK, WHITE))
    stage.box((middle - 0.13, middle + 0.13), (1.7, HEIGHT_M), (-0.26, 0), lit(body, 0.95))
    hood = ((1.5, -0.25, 0.31), (1.72, -0.16, 0.14))
    stage.sweep([level(middle, y, z, size, size * 0.8, 0.1) for y, z, size in hood], body)
    stage.box((x + 0.01, x + 0.59), (0.14, 0.84), (-0.61, -0.55), body)
    stage.front((x + 0.06, x + 0.54), (0.2, 0.6), -0.612, GLASS)
    stage.box((x + 0.07, x + 0.53), (0.65, 0.67), (-0.65, -0.63), CHROME)
    stage.box((x + 0.02, x + 0.58), (WORKTOP_M, 0.908), (-0.55, -0.06), GLASS)
    for k in range(4):
        plate = level(x + 0.17 + k % 2 * 0.26, 0.91, -0.42 + k // 2 * 0.24, 0.08)
        stage.polygon(plate, (90, 88, 88))
        stage.polygon(disc(x + 0.15 + 0.1 * k, 0.77, -0.62, 0.025), lit(STEEL, 0.7))


def _draw_bedroom(stage: Stage) -> None:
    """Draws a bedroom: the bed at the back or left wall, a window, a wardrobe or a plant."""
    uniform = stage.uniform
    is_sideways = stage.chance(0.3)
    aside = 0.7 if is_sideways else 0
    width, depth = uniform(3, 4.2), uniform(3, 3.8)
    eye = (uniform(-1.2, 1.2) * (1 - aside) + aside, uniform(1.35, 1.75), depth - uniform(3.2, 3.9))
    stage.look(eye, (uniform(-0.3, 0.5) - aside, uniform(0.7, 1), depth - 0.8), uniform(0.65, 0.95))
    _draw_shell(stage, width, depth, "wood wood tiles", "paint paint accent accent half_tiles")
    back, left = (uniform(-0.2, 0.3), depth, 0), (-width / 2, depth - 1.4, -90)
    with stage.at(*(back if is_sideways else left)):
        _draw_window(stage, (-0.7, 0.7), (0.8, uniform(1.9, 2.2)))
    if stage.chance(0.65):
        wardrobe = stage.pick(FRONTS)
        with stage.at(width / 2, depth - uniform(0.1, 0.5), 90):
            for door in range(stage.choice((2, 3))):
                _draw_door(stage, door * UNIT_M, (0, 2.1), -0.58, wardrobe)
    else:
        _draw_plant(stage, width / 2 - 0.35, 0, depth - 0.4, uniform(0.8, 1.3))
    with stage.at(*(left if is_sideways else back)):
        _draw_pictures(stage, stage.randint(0, 2), 0, 1.4, uniform(0.4, 0.6))
        _draw_bed(stage)
    if stage.chance(0.6):
        _draw_lamp(stage, uniform(-0.3, 0.5), 2, depth - 1.6, uniform(0.12, 0.22), HEIGHT_M)


def _draw_bed(stage: Stage) -> None:
    """Draws a bed with its head at the plane z = 0, between night stands with lamps."""
    uniform = stage.uniform
    frame = stage.pick(WOODS + FABRICS)
    half = stage.choice((0.55, 0.75, 0.85))
    high, fold = uniform(0.42, 0.55), uniform(-0.8, -0.6)
    sheet, small, cover = stage.pick((WHITE, SKIES[2])), stage.pick(FABRICS), stage.pick(FABRICS)
    wide = (-half - 0.03, half + 0.03)
    stage.shadow(wide, (-2, 0))
    for x in (-half - 0.32, half + 0.32):
        for y in ((0.05, 0.31), (0.32, 0.5)):
            stage.box((x - 0.2, x + 0.2), y, (-0.38, 0), frame)
        _draw_lamp(stage, x, 0.66, -0.2, 0.13, 0.5)
    stage.box(wide, (0.1, uniform(0.9, 1.25)), (-0.09, 0), frame)
    stage.box((-half, half), (0.08, 0.26), (-2, -0.09), lit(frame, 0.92))
    stage.box((-half, half), (0.26, high), (-1.98, -0.09), sheet)
    for x in (-half / 2, half / 2):
        _draw_cushion(stage, x, high, -0.24, half * 0.42, sheet)
        _draw_cushion(stage, x, high, -0.42, half * 0.28, small)
    stage.box(wide, (0.2, high + 0.06), (-2.03, fold), stage.choice((cover, sheet)))
    stage.box(wide, (0.3, high + 0.08), (fold - 0.02, fold + 0.2), sheet)
    if stage.chance(0.5):
        stage.box(wide, (0.28, high + 0.075), (-1.9, -1.4), small)


def _draw_cushion(stage: Stage, x: float, y: float, z: float, wide: float, colour: Colour) -> None:
    rings = ((0, 0.8, 0.06), (0.12, 1, 0.12), (0.24, 0.95, 0.11), (0.34, 0.7, 0.04))
    outlines = [level(x, y + up, z + up / 3, wide * part, deep, 0.45) for up, part, deep in rings]
    stage.sweep(outlines, lit(colour, 1.04))


def _draw_living_room(stage: Stage) -> None:
    """Draws a living room: a sofa at the back or left wall, a low table on a rug, a television."""
    uniform = stage.uniform
    width, depth = uniform(3.8, 5.2), uniform(3.4, 4.4)
    eye = (uniform(-0.6, 1.2), uniform(1.3, 1.7), depth - uniform(3.4, 4.2))
    stage.look(eye, (uniform(-0.5, 0.3), uniform(0.75, 1), depth - 0.6), uniform(0.65, 0.95))
    _draw_shell(stage, width, depth, "wood wood tiles", "paint paint accent accent half_tiles")
    rug = stage.pick(FABRICS)
    square = stage.choice((0.05, 0.05, 1))
    for part, shade in ((1.3, 0.85), (1.2, 1), (1.05, 0.92), (0.97, 1.04)):
        stage.polygon(level(-0.2, 0.006, depth - 1.5, part, part * 0.65, square), lit(rug, shade))
    back = (-0.2, depth, 0)
    left, right = (-width / 2, depth - 1.9, -90), (width / 2, depth - 1.2, 90)
    layouts = ((back, right, left), (left, back, right), (back, left, back))
    sofa, television, window = stage.choice(layouts)
    with stage.at(*window):
        _draw_window(stage, (-0.7, 0.7), (1.0, uniform(1.9, 2.2)))
    with stage.at(*television):
        _draw_television(stage)
    with stage.at(*sofa):
        _draw_pictures(stage, stage.choice((1, 2, 3)) if window != sofa else 0, 0, 1.3, 0.5)
        _draw_lamp(stage, -1.5, 1.4, -0.3, 0.2, 0)
        _draw_sofa(stage)
    if stage.chance(0.6):
        side = stage.choice((-1, 1))
        _draw_plant(stage, side * (width / 2 - 0.4), 0, depth - 0.4, uniform(0.9, 1.5))
    _draw_table(stage, -0.2, depth - 1.65)
    if stage.chance(0.4):
        _draw_lamp(stage, -0.2, 2.05, depth - 1.6, uniform(0.12, 0.22), HEIGHT_M)


def _draw_sofa(stage: Stage) -> None:
    """Draws a sofa with its back at the plane z = 0."""
    colour = stage.pick(FABRICS)
    seats = stage.choice((2, 3, 3))
    inner, half = 0.32 * seats, 0.32 * seats + 0.18
    stage.shadow((-half, half), (-0.9, 0))
    stage.box((-half, half), (0.1, stage.uniform(0.78, 0.9)), (-0.25, 0), lit(colour, 0.95))
    stage.box((-half, half), (0.08, 0.28), (-0.9, -0.2), lit(colour, 0.9))
    for seat in range(seats):
        x = (0.64 * seat - inner + 0.01, 0.64 * seat - inner + 0.63)
        stage.box(x, (0.45, 0.83), (-0.42, -0.22), colour)
        stage.box(x, (0.28, 0.46), (-0.92, -0.35), lit(colour, 1.05))
    for middle in stage.rng.sample((-0.6, 0, 0.6), stage.randint(1, 3)):
        _draw_cushion(stage, middle, 0.44, -0.52, 0.2, stage.pick(FABRICS))
    for x in ((-half, -inner), (inner, half)):
        stage.box(x, (0.08, 0.62), (-0.9, 0), colour)


def _draw_table(stage: Stage, x: float, z: float) -> None:
    """Draws a low table, round or rectangular, with a book and perhaps a plant on it."""
    uniform = stage.uniform
    top = stage.pick((*WOODS, WHITE, BLACK))
    square = stage.choice((0.1, 1))
    wide, deep = uniform(0.4, 0.6), uniform(0.28, 0.36)
    stage.shadow((x - wide, x + wide), (z - deep, z + deep))
    for dx, dz in ((-0.65, 0.65), (0.65, 0.65), (-0.65, -0.65), (0.65, -0.65)):
        leg = [level(x + dx * wide, y, z + dz * deep, 0.02) for y in (0, 0.36)]
        stage.sweep(leg, lit(top, 0.75))
    stage.sweep([level(x, y, z, wide, deep, square) for y in (0.36, 0.4)], lit(top, 0.9), top)
    stage.box((x - 0.25, x), (0.4, 0.45), (z - 0.1, z + 0.1), stage.pick(FABRICS))
    if stage.chance(0.6):
        _draw_plant(stage, x + 0.18, 0.4, z, 0.32)


def _draw_television(stage: Stage) -> None:
    """Draws a low board and a television on it, around the origin."""
    board = stage.pick(FRONTS + WOODS)
    half = stage.uniform(0.8, 1)
    wide, top = half * 0.75, 0.62 + half * 0.85
    stage.shadow((-half, half), (-0.4, 0))
    stage.box((-half, half), (0.1, 0.5), (-0.4, 0), board)
    stage.box((-0.01, 0.01), (0.1, 0.5), (-0.401, -0.4), lit(board, 0.65))
    stage.box((-0.2, 0.2), (0.5, 0.62), (-0.25, -0.18), BLACK)
    stage.box((-wide, wide), (0.62, top), (-0.22, -0.17), BLACK)
    screen = stage.pick((GLASS, SKIES[3]))
    stage.front((0.03 - wide, wide - 0.03), (0.65, top - 0.03), -0.222, screen)


_DRAWERS = {
    "toilet": _draw_toilet_room,
    "kitchen": _draw_kitchen,
    "bedroom": _draw_bedroom,
    "living_room": _draw_living_room,
    "exterior": draw_exterior,
}
ROOMS = tuple(_DRAWERS)

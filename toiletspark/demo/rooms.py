"""Drawn pictures of rooms and houses: the demo catalog's photographs, for trying out and for tests.

A head that is fitted on them tells drawings apart, and knows nothing about photographs.
"""

import random

from PIL import Image

from toiletspark.demo.exterior import draw_exterior
from toiletspark.demo.palette import BLACK, CHROME, GLASS, STEEL, WHITE, Colour, lit, mixed
from toiletspark.demo.stage import Range, Stage, disc, level

HEIGHT_M = 2.5  # of every ceiling
UNIT_M, WORKTOP_M = 0.6, 0.9  # width of a kitchen's cabinets, height of its worktop


def draw_room(room: str, seed: int, size_px: tuple[int, int] = (400, 300)) -> Image.Image:
    """Draws an RGB picture of a room, the same for the same room, seed and size (width, height).

    Raises KeyError if `room` is none of ROOMS. Cost: 15 to 20 ms at the default size on one core.
    """
    # Python seeds a stream from a text by its SHA-512, so the picture is the same in every process.
    stage = Stage(random.Random(f"{room}:{seed}"))  # noqa: S311  (pictures, not secrets)
    _DRAWERS[room](stage)
    return stage.photograph(size_px)


def _enter(stage: Stage, size: Range, low: float, wood: float, tiled: list[float]) -> float:
    """Draws an empty room as its visitor sees it; returns the x of the visitor's eye.

    `size` is width and depth: x = 0 is in the room's middle, the back wall at z = depth. `low` is
    the least height at which the visitor looks, `wood` the probability of a wooden floor. `tiled`
    has the heights up to which walls may be tiled.
    """
    uniform = stage.uniform
    width, depth = size
    eye = (uniform(-0.25, 0.25) * width, uniform(1.3, 1.7), uniform(-0.2, 0.4))
    stage.look(eye, (uniform(-0.3, 0.3), uniform(low, low + 0.3), depth - 0.2), uniform(0.65, 1))
    x, up, z = (-width / 2, width / 2), (0, HEIGHT_M), (-1.2, depth)  # from behind every camera
    stage.box(x, (HEIGHT_M, HEIGHT_M), z, lit(WHITE, stage.uniform(1.28, 1.48)))
    paint, tile = stage.pick("walls"), stage.pick("tiles")
    step, top = stage.choice((0.12, 0.2, 0.3)), stage.choice(tiled)
    for wall_x, wall_z in (((x[0], x[0]), z), ((x[1], x[1]), z), (x, (depth, depth))):
        stage.box(wall_x, up, wall_z, paint)
        if top:
            stage.tiles(wall_x, (0, top), wall_z, tile, (step, step, step))
    if stage.chance(0.3) and not top:
        stage.box(x, up, (depth, depth), stage.pick("walls fabrics"))
    is_wood = stage.chance(wood)
    wide = stage.choice((0.2, 0.3, 0.45))
    floor = stage.pick("woods" if is_wood else "tiles")
    stage.tiles(x, (0, 0), z, floor, (wide, 1, 9 if is_wood else wide))
    stage.box(x, (0, 0.08), (depth - 0.02, depth), WHITE)
    return eye[0]


def _draw_window(stage: Stage, x: Range, y: Range, curtains: bool = True) -> None:
    """Draws a window on the plane z = 0, with or without curtains."""
    frame, cloth = stage.pick("whites woods"), stage.pick("fabrics walls")
    middle = (x[0] + x[1]) / 2
    meadow = y[0] + stage.uniform(0, 0.5) * (y[1] - y[0])
    stage.box((x[0] - 0.08, x[1] + 0.08), (y[0] - 0.08, y[1] + 0.05), (-0.02, 0), frame)
    stage.front(x, y, -0.025, mixed(stage.pick("skies"), WHITE, 0.55))
    stage.front(x, (y[0], meadow), -0.03, mixed(stage.pick("leaves"), WHITE, 0.4))
    stage.box((middle - 0.025, middle + 0.025), y, (-0.05, -0.02), frame)
    for fold in range(10 if curtains else 0):
        left = (x[0] - 0.42 if fold < 5 else x[1] - 0.56) + 0.1 * fold
        stage.front((left, left + 0.1), (0.03, y[1] + 0.15), -0.1, lit(cloth, 0.9 + fold % 2 / 8))


def _draw_pictures(stage: Stage, count: int, y: float) -> None:
    """Hangs framed pictures side by side around x = 0, their lower edges at `y`."""
    frame = stage.pick("whites woods")
    for k in range(count):
        x = 0.6 * (k + 0.5 - count / 2)
        stage.box((x - 0.25, x + 0.25), (y, y + 0.42), (-0.03, 0), frame)
        stage.front((x - 0.22, x + 0.22), (y + 0.03, y + 0.39), -0.032, WHITE)
        for dx, names in ((-0.07, "fabrics"), (0, "leaves"), (0.07, "fabrics")):
            spot = disc(x + dx, y + stage.uniform(0.13, 0.3), -0.034, 0.1, 0.07)
            stage.polygon(spot, stage.pick(names))


def _draw_lamp(stage: Stage, x: float, bottom: float, top: float, z: float, size: float) -> None:
    """Draws a lamp whose foot stands at the height `bottom`, and whose shade begins at `top`."""
    stage.sweep([level(x, bottom + up, z, size * 0.6) for up in (0, 0.03)], BLACK)
    stage.box((x - 0.012, x + 0.012), (bottom, top), (z - 0.01, z + 0.01), BLACK)
    shade = [level(x, top, z, size), level(x, top + size * 1.2, z, size * 0.7)]
    stage.sweep(shade, stage.pick("whites"), (255, 250, 228))


def _draw_plant(stage: Stage, x: float, y: float, z: float, height: float) -> None:
    """Puts a potted plant at (x, y, z)."""
    uniform = stage.uniform
    leaf = stage.pick("leaves")
    bottom = y + height * 0.3
    pot = [level(x, y, z, height * 0.12), level(x, bottom, z, height * 0.16)]
    stage.sweep(pot, stage.pick("fronts fabrics"), (70, 54, 44))
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
    eye_x = _enter(stage, (width, depth), 0.5, 0.33, [0, 0, 1.2, 1.4, HEIGHT_M])
    side = 1 if eye_x < 0 else -1  # on the camera's own side, a basin could hide the toilet
    with stage.at(uniform(-0.15, 0.15) * width, depth):
        if stage.chance(0.5):
            _draw_window(stage, (-0.3, uniform(0, 0.3)), (1.5, uniform(1.9, 2.2)), curtains=False)
        else:
            _draw_pictures(stage, stage.choice((0, 1, 2)), 1.4)
        stage.box((side * 0.36 - 0.06, side * 0.36 + 0.06), (0.52, 0.75), (-0.13, 0), WHITE)
        stage.box((side * 0.36 - 0.07, side * 0.36 + 0.07), (0.72, 0.78), (-0.14, 0), CHROME)
        _draw_toilet(stage)
    if width > 1.5:
        with stage.at(side * width / 2, depth - uniform(0.75, 1), 90 * side):
            wide = uniform(0.2, 0.32)
            stage.front((-wide, wide), (1.15, 1.85), -0.01, stage.pick("skies"))
            stage.box((-wide, wide), (stage.choice((0.3, 0.7)), 0.74), (-0.3, 0), STEEL)
            stage.sweep([level(0, y, -0.17, wide, 0.16, 0.6) for y in (0.72, 0.86)], WHITE)
            stage.polygon(level(0, 0.861, -0.17, wide * 0.8, 0.12, 0.6), (206, 208, 208))
            stage.box((-0.015, 0.015), (0.86, 1.03), (-0.08, -0.05), CHROME)


def _draw_toilet(stage: Stage) -> None:
    """Draws a toilet against the plane z = 0, standing or hung, its lid up or down."""
    china = stage.pick("whites")
    seat = stage.pick("woods") if stage.chance(0.12) else china
    is_hung = stage.chance(0.4)
    stage.shadow((-0.17, 0.17), (-0.66, -0.05))
    if is_hung:
        high = stage.choice((1.1, 1.2, HEIGHT_M))
        stage.box((-0.5, 0.5), (0, high), (-0.16, 0), stage.pick("tiles walls"))
        stage.box((-0.13, 0.13), (0.88, 1.04), (-0.175, -0.16), stage.choice((CHROME, BLACK)))
    foot = (0.1, 0.1, 0.18) if is_hung else (0, 0.115, 0.21)
    outline = (foot, (0.16, 0.12, 0.21), (0.3, 0.165, 0.235), (0.37, 0.185, 0.25))
    stage.sweep([level(0, y, -0.21 - d, w, d, 0.8) for y, w, d in outline], china)
    if not is_hung:
        wide, top = stage.uniform(0.17, 0.21), stage.uniform(0.74, 0.84)
        stage.sweep([level(0, y, -0.1, wide, 0.09, 0.3) for y in (0.36, top)], china)
        cover = [level(0, y, -0.1, wide + 0.012, 0.1, 0.3) for y in (top, top + 0.03)]
        stage.sweep(cover, china, lit(china, 1.04))
        stage.polygon(level(0, top + 0.032, -0.1, 0.035), STEEL)
    rim = [level(0, y, -0.44, 0.19, 0.24, 0.85) for y in (0.37, 0.4)]
    if stage.chance(0.5):
        stage.sweep([*rim, level(0, 0.425, -0.44, 0.18, 0.23, 0.85)], lit(seat, 0.95), seat)
        return
    stage.polygon(disc(0, 0.61, -0.21, 0.19, 0.21), lit(seat, 0.93))
    stage.sweep(rim, seat)
    stage.polygon(level(0, 0.401, -0.45, 0.125, 0.165, 0.9), lit(china, 0.8))
    stage.polygon(level(0, 0.31, -0.43, 0.06, 0.075), mixed(china, (120, 160, 180), 0.45))


def _draw_kitchen(stage: Stage) -> None:
    """Draws a kitchen: cabinets along the back wall with fridge, hob, oven and sink."""
    uniform = stage.uniform
    units = stage.choice((4, 5, 6))
    width, depth = units * UNIT_M + uniform(0.1, 1.2), uniform(2.6, 3.6)
    _enter(stage, (width, depth), 0.9, 0.5, [0, 0, 0, 1.2, HEIGHT_M])
    front, hung, fridge = stage.pick("fronts"), stage.pick("fronts"), stage.pick("fronts fabrics")
    hob, sink, *others = stage.rng.sample(range(1, units), units - 1)
    run = (0, units * UNIT_M)
    sink_x = sink * UNIT_M + 0.3
    with stage.at(-width / 2, depth):
        stage.tiles(run, (WORKTOP_M, 1.45), (0, 0), stage.pick("tiles walls"), (0.15, 0.15, 1))
        has_window = abs(hob - sink) > 1 and stage.chance(0.7)
        if has_window:
            _draw_window(stage, (sink_x - 0.35, sink_x + 0.35), (1.15, 2), curtains=False)
        stage.shadow(run, (-UNIT_M, 0))
        for unit in range(1, units):
            _draw_door(stage, unit * UNIT_M, (0.1, 0.65), -0.59, front)
            _draw_door(stage, unit * UNIT_M, (0.65, 0.86), -0.59, front)
            if unit != hob and not (has_window and abs(unit - sink) < 2):
                _draw_door(stage, unit * UNIT_M, (1.45, 2.15), -0.35, hung)
        stage.box(run, (0.86, WORKTOP_M), (-0.62, 0), stage.pick("woods tiles"))
        _draw_hob(stage, hob * UNIT_M + 0.3)
        stage.polygon(level(sink_x, 0.902, -0.33, 0.22, 0.16, 0.25), STEEL)
        stage.box((sink_x - 0.02, sink_x + 0.02), (WORKTOP_M, 1.1), (-0.12, -0.08), CHROME)
        for unit in others:
            _draw_plant(stage, unit * UNIT_M + 0.3, WORKTOP_M, -0.25, uniform(0.2, 0.4))
        for y in ((0.04, 0.75), (0.76, uniform(1.5, 2.1))):
            _draw_door(stage, 0, y, -0.66, fridge)


def _draw_door(stage: Stage, x: float, y: Range, z: float, colour: Colour) -> None:
    """Draws a cabinet of one door or drawer, UNIT_M wide, with a gap and a handle."""
    stage.box((x, x + UNIT_M), y, (z, 0), colour)
    stage.box((x, x + 0.008), y, (z - 0.001, z), lit(colour, 0.7))
    stage.box((x, x + UNIT_M), (y[1] - 0.008, y[1]), (z - 0.001, z), lit(colour, 0.7))
    stage.box((x + 0.18, x + 0.42), (y[1] - 0.09, y[1] - 0.08), (z - 0.02, z), STEEL)


def _draw_hob(stage: Stage, x: float) -> None:
    """Draws a hob above an oven and below a hood, around `x`."""
    body = stage.choice((STEEL, BLACK, WHITE))
    stage.box((x - 0.13, x + 0.13), (1.7, HEIGHT_M), (-0.26, 0), lit(body, 0.95))
    stage.sweep(
        [level(x, 1.5, -0.25, 0.31, 0.25, 0.1), level(x, 1.72, -0.16, 0.14, 0.1, 0.1)], body
    )
    stage.box((x - 0.29, x + 0.29), (0.14, 0.84), (-0.61, -0.55), body)
    stage.front((x - 0.24, x + 0.24), (0.2, 0.6), -0.612, GLASS)
    stage.box((x - 0.23, x + 0.23), (0.65, 0.67), (-0.65, -0.63), CHROME)
    stage.box((x - 0.28, x + 0.28), (WORKTOP_M, 0.908), (-0.55, -0.06), GLASS)
    for k in range(4):
        plate = level(x - 0.13 + k % 2 * 0.26, 0.91, -0.42 + k // 2 * 0.24, 0.08)
        stage.polygon(plate, (90, 88, 88))


def _draw_bedroom(stage: Stage) -> None:
    """Draws a bedroom: the bed at the back wall, a window, and a wardrobe or a plant."""
    uniform = stage.uniform
    width, depth = uniform(3, 4.2), uniform(3, 3.8)
    _enter(stage, (width, depth), 0.7, 0.67, [0, 0, 0, 0, 1.2])
    with stage.at(-width / 2, depth - 1.4, -90):
        _draw_window(stage, (-0.7, 0.7), (0.8, uniform(1.9, 2.2)))
    if stage.chance(0.65):
        wardrobe = stage.pick("fronts")
        with stage.at(width / 2, depth - uniform(0.1, 0.5), 90):
            for door in range(stage.choice((2, 3))):
                _draw_door(stage, door * UNIT_M, (0, 2.1), -0.58, wardrobe)
    else:
        _draw_plant(stage, width / 2 - 0.35, 0, depth - 0.4, uniform(0.8, 1.3))
    with stage.at(uniform(-0.2, 0.3), depth):
        _draw_pictures(stage, stage.choice((0, 1, 2)), 1.4)
        _draw_bed(stage)


def _draw_bed(stage: Stage) -> None:
    """Draws a bed with its head at the plane z = 0, between night stands with lamps."""
    frame, sheet = stage.pick("woods fabrics"), stage.pick("whites")
    small, cover = stage.pick("fabrics"), stage.pick("fabrics")
    half, high = stage.choice((0.55, 0.75, 0.85)), stage.uniform(0.42, 0.55)
    wide = (-half - 0.03, half + 0.03)
    stage.shadow(wide, (-2, 0))
    for x in (-half - 0.32, half + 0.32):
        stage.box((x - 0.2, x + 0.2), (0.05, 0.5), (-0.38, 0), frame)
        _draw_lamp(stage, x, 0.5, 0.66, -0.2, 0.13)
    stage.box(wide, (0.1, stage.uniform(0.9, 1.25)), (-0.09, 0), frame)
    stage.box((-half, half), (0.08, 0.26), (-2, -0.09), lit(frame, 0.92))
    stage.box((-half, half), (0.26, high), (-1.98, -0.09), sheet)
    for x in (-half / 2, half / 2):
        _draw_cushion(stage, x, high, -0.24, half * 0.42, sheet)
        _draw_cushion(stage, x, high, -0.42, half * 0.28, small)
    stage.box(wide, (0.2, high + 0.06), (-2.03, -0.7), stage.choice((cover, sheet)))


def _draw_cushion(stage: Stage, x: float, y: float, z: float, wide: float, colour: Colour) -> None:
    rings = ((0, 0.8, 0.06), (0.12, 1, 0.12), (0.24, 0.95, 0.11), (0.34, 0.7, 0.04))
    outlines = [level(x, y + up, z + up / 3, wide * part, deep, 0.45) for up, part, deep in rings]
    stage.sweep(outlines, lit(colour, 1.04))


def _draw_living_room(stage: Stage) -> None:
    """Draws a living room: a sofa at the back wall and a low table on a rug."""
    uniform = stage.uniform
    width, depth = uniform(3.8, 4.8), uniform(3.2, 4)
    _enter(stage, (width, depth), 0.7, 0.67, [0, 0, 0, 0, 1.2])
    rug = stage.pick("fabrics")
    square = stage.choice((0.05, 1))
    for part, shade in ((1.3, 0.85), (1.2, 1), (1.05, 0.92)):
        stage.polygon(level(-0.2, 0.006, depth - 1.5, part, part * 0.65, square), lit(rug, shade))
    with stage.at(-0.2, depth):
        if stage.chance(0.5):
            _draw_window(stage, (-0.7, 0.7), (1.0, uniform(1.9, 2.2)))
        else:
            _draw_pictures(stage, stage.choice((1, 2, 3)), 1.3)
        _draw_lamp(stage, 1.4, 0, 1.4, -0.3, 0.2)
        _draw_sofa(stage)
    _draw_plant(stage, 0.4 - width / 2, 0, depth - 0.4, uniform(0.9, 1.5))
    _draw_table(stage, -0.2, depth - 1.65)


def _draw_sofa(stage: Stage) -> None:
    """Draws a sofa with its back at the plane z = 0."""
    colour = stage.pick("fabrics")
    seats = stage.choice((2, 3, 3))
    inner, half = 0.32 * seats, 0.32 * seats + 0.18
    stage.shadow((-half, half), (-0.9, 0))
    stage.box((-half, half), (0.1, stage.uniform(0.78, 0.9)), (-0.25, 0), lit(colour, 0.95))
    stage.box((-half, half), (0.08, 0.28), (-0.9, -0.2), lit(colour, 0.9))
    for seat in range(seats):
        x = (0.64 * seat - inner + 0.01, 0.64 * seat - inner + 0.63)
        stage.box(x, (0.45, 0.83), (-0.42, -0.22), colour)
        stage.box(x, (0.28, 0.46), (-0.92, -0.35), lit(colour, 1.05))
    for middle in stage.rng.sample((-0.6, 0, 0.6), stage.choice((1, 2, 3))):
        _draw_cushion(stage, middle, 0.44, -0.52, 0.2, stage.pick("fabrics"))
    for x in ((-half, -inner), (inner, half)):
        stage.box(x, (0.08, 0.62), (-0.9, 0), colour)


def _draw_table(stage: Stage, x: float, z: float) -> None:
    """Draws a low table, round or rectangular, with a book and perhaps a plant on it."""
    top = stage.pick("woods whites")
    square = stage.choice((0.1, 1))
    wide, deep = stage.uniform(0.4, 0.6), stage.uniform(0.28, 0.36)
    stage.shadow((x - wide, x + wide), (z - deep, z + deep))
    for dx, dz in ((-0.65, 0.65), (0.65, 0.65), (-0.65, -0.65), (0.65, -0.65)):
        leg = [level(x + dx * wide, y, z + dz * deep, 0.02) for y in (0, 0.36)]
        stage.sweep(leg, lit(top, 0.75))
    stage.sweep([level(x, y, z, wide, deep, square) for y in (0.36, 0.4)], lit(top, 0.9), top)
    stage.box((x - 0.25, x), (0.4, 0.45), (z - 0.1, z + 0.1), stage.pick("fabrics"))
    if stage.chance(0.6):
        _draw_plant(stage, x + 0.18, 0.4, z, 0.32)


_DRAWERS = {
    "toilet": _draw_toilet_room,
    "kitchen": _draw_kitchen,
    "bedroom": _draw_bedroom,
    "living_room": _draw_living_room,
    "exterior": draw_exterior,
}
ROOMS = tuple(_DRAWERS)

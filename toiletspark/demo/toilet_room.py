"""The room that the whole project is about: a toilet on the back wall, and the small things around it."""

import random

from toiletspark.demo import palette
from toiletspark.demo.palette import Colour, lit, mixed, some
from toiletspark.demo.stage import Point, Stage, flat_ring, ring
from toiletspark.demo.surroundings import (
    Walls,
    disc,
    draw_pendant,
    draw_picture,
    draw_plant,
    draw_walls,
    draw_window,
    upright,
)

FLOORS = {"tiles": 0.5, "checkers": 0.15, "wood": 0.25, "carpet": 0.1}
FINISHES = {"paint": 0.3, "accent": 0.1, "half_tiles": 0.3, "tiles": 0.2, "panels": 0.1}
RIM_M = 0.4  # a seat is this high


def draw_toilet_room(size_px: tuple[int, int], rng: random.Random) -> Stage:
    """Draws a toilet room, from its door or from one step inside.

    Args:
        size_px: (width, height) of the canvas.
        rng: decides everything else.

    Returns:
        The stage, fully drawn.
    """
    width, depth = rng.uniform(1.0, 2.4), rng.uniform(1.6, 2.3)
    place = rng.uniform(-0.15, 0.15) * width
    eye_x = max(-width / 2 + 0.2, min(width / 2 - 0.2, place + rng.uniform(-0.7, 0.7)))
    eye = (eye_x, rng.uniform(1.15, 1.75), depth - rng.uniform(1.4, 2.4))
    target = (place + rng.uniform(-0.25, 0.25), rng.uniform(0.45, 0.85), depth - 0.2)
    stage = Stage(size_px, eye, target, rng.uniform(0.7, 1.15), rng.gauss(0, 0.02))
    walls = draw_walls(stage, rng, (width, 2.5, depth), FLOORS, FINISHES)
    _draw_wall_things(stage, rng, walls, place)
    side = 1 if eye_x < 0 else -1  # on the camera's own side, a basin could hide the toilet
    _draw_paper_and_brush(stage, rng, walls, place, side)
    turn = rng.choice((0.0, 0.0, 0.0, rng.uniform(-8, 8)))
    with stage.placed(place, depth, turn):
        draw_toilet(stage, rng)
    if width > 1.5 or rng.random() < 0.35:
        with stage.placed(side * walls.right, depth - rng.uniform(0.75, 1.0), 90.0 * side):
            _draw_basin(stage, rng)
    elif rng.random() < 0.4:
        draw_plant(stage, rng, place + side * 0.45, depth - 0.15, 0.5)
    return stage


def draw_toilet(stage: Stage, rng: random.Random) -> None:
    """Draws a toilet, its back at the plane z = 0 of the current place: close-coupled or wall-hung."""
    china = some(rng, (palette.WHITE, palette.WHITE, palette.WHITE, (226, 222, 208)), 4)
    hung = rng.random() < 0.4
    back = 0.17 if hung else 0.2
    stage.shadow((-0.17, 0.17), (-0.66, -0.05), 0.08 if hung else 0.14)
    if hung:
        _draw_flush_wall(stage, rng)
    bowl = (
        [(0.1, 0.1, 0.18), (0.16, 0.14, 0.22)] if hung else [(0.0, 0.115, 0.21), (0.16, 0.11, 0.2)]
    )
    outline = [*bowl, (0.3, 0.165, 0.235), (RIM_M - 0.03, 0.185, 0.25)]
    stage.sweep(
        [flat_ring(0, y, -back - depth - 0.01, w, depth, 0.8) for y, w, depth in outline],
        lit(china, 0.97),
    )
    if not hung:
        _draw_cistern(stage, rng, china)
    wood = rng.random() < 0.12
    seat = some(rng, palette.WOODS) if wood else lit(china, 1.02)
    _draw_seat(stage, seat, china, back, lid_up=rng.random() < 0.5)


def _draw_flush_wall(stage: Stage, rng: random.Random) -> None:
    """Draws a hung toilet's boxed-in cistern, as high as the hips or as the room, and the flush plate."""
    top = rng.choice((1.1, 1.2, 2.5))
    colour = some(rng, palette.TILES + palette.WALLS)
    stage.box((-0.5, 0, -0.16), (0.5, top, 0.0), colour)
    if top < 2:
        stage.box((-0.52, top, -0.18), (0.52, top + 0.03, 0.0), some(rng, palette.FRONTS))
    plate = rng.choice((palette.WHITE, palette.CHROME, palette.BLACK))
    stage.box((-0.13, 0.88, -0.175), (0.13, 1.04, -0.16), plate)
    for x, wide in ((-0.11, 0.12), (0.03, 0.08)):
        stage.polygon(
            upright(x, 0.91, wide, 0.1, -0.176),
            lit(plate, 0.85) if plate != palette.BLACK else (80, 82, 86),
        )


def _draw_cistern(stage: Stage, rng: random.Random, china: Colour) -> None:
    wide, top = rng.uniform(0.17, 0.21), rng.uniform(0.74, 0.84)
    body = [
        flat_ring(0, y, -0.1, w, 0.09, 0.3) for y, w in ((RIM_M - 0.04, wide - 0.02), (top, wide))
    ]
    stage.sweep(body, lit(china, 0.96))
    cover = [flat_ring(0, y, -0.1, wide + 0.012, 0.1, 0.3) for y in (top, top + 0.03)]
    stage.sweep(cover, china, lit(china, 1.04))
    if rng.random() < 0.75:
        button = [flat_ring(0, y, -0.1, 0.035) for y in (top + 0.03, top + 0.04)]
        stage.sweep(button, palette.STEEL, palette.CHROME)
    else:
        stage.box(
            (-wide + 0.03, top - 0.09, -0.215), (-wide + 0.12, top - 0.065, -0.19), palette.STEEL
        )


def _draw_seat(stage: Stage, seat: Colour, china: Colour, back: float, lid_up: bool) -> None:
    """Draws the seat and its lid; `back` is where the hinge is, in metres from the wall."""
    middle, wide, long = -back - 0.25, 0.19, 0.24
    if lid_up:
        _draw_raised_lid(stage, seat, back, wide)
    rim = [flat_ring(0, y, middle, wide, long, 0.85) for y in (RIM_M - 0.03, RIM_M)]
    stage.sweep(rim, lit(seat, 0.94), lit(seat, 1.0))
    if lid_up:
        stage.polygon(
            flat_ring(0, RIM_M + 0.001, middle - 0.015, 0.125, 0.165, 0.9), lit(seat, 0.62)
        )
        stage.polygon(flat_ring(0, RIM_M - 0.02, middle - 0.0, 0.112, 0.145, 0.9), lit(china, 0.83))
        stage.polygon(
            flat_ring(0, RIM_M - 0.09, middle + 0.01, 0.06, 0.075),
            mixed(china, (120, 160, 180), 0.45),
        )
    else:
        lid = [
            flat_ring(0, y, middle, w, d, 0.85)
            for y, w, d in ((RIM_M, wide, long), (RIM_M + 0.025, wide - 0.01, long - 0.01))
        ]
        stage.polygon(
            flat_ring(0, RIM_M + 0.002, middle, wide + 0.004, long + 0.004, 0.85), lit(seat, 0.7)
        )
        stage.sweep(lid, lit(seat, 0.96), lit(seat, 1.02))


def _draw_raised_lid(stage: Stage, seat: Colour, back: float, wide: float) -> None:
    """Draws the lid leaning back against the cistern."""
    base, lean, height = -back - 0.03, 0.07, 0.21
    for near, shade in ((0.0, 0.8), (-0.018, 0.93)):
        middle: Point = (0, RIM_M + height, base + lean / 2 + near)
        stage.polygon(ring(middle, (wide, 0, 0), (0, height, lean / 2), 18, 0.8), lit(seat, shade))


def _draw_wall_things(stage: Stage, rng: random.Random, walls: Walls, place: float) -> None:
    """Draws what hangs on the back wall: window, picture, mirror or shelf."""
    with stage.placed(place, walls.depth):
        thing = rng.choice(("window", "picture", "shelf", "nothing", "window"))
        if thing == "window":
            wide = rng.uniform(0.35, 0.6)
            draw_window(
                stage, rng, -wide / 2 + rng.uniform(-0.2, 0.2), 1.5, (wide, rng.uniform(0.4, 0.7))
            )
        elif thing == "picture":
            draw_picture(
                stage,
                rng,
                rng.uniform(-0.3, -0.1),
                1.4,
                (rng.uniform(0.3, 0.5), rng.uniform(0.3, 0.5)),
            )
        elif thing == "shelf":
            stage.box((-0.35, 1.4, -0.18), (0.35, 1.43, 0), some(rng, palette.WOODS))
            for x in (-0.22, -0.1, 0.14):
                _draw_roll(stage, x, 1.43, -0.09)
    if rng.random() < 0.4:
        draw_pendant(stage, rng, (0, 2.1, walls.depth - 0.7), walls.height)


def _draw_roll(stage: Stage, x: float, y: float, z: float) -> None:
    stage.sweep([flat_ring(x, y + height, z, 0.055) for height in (0.0, 0.1)], (240, 239, 235))
    stage.polygon(flat_ring(x, y + 0.101, z, 0.02), (150, 130, 110))


def _draw_paper_and_brush(
    stage: Stage, rng: random.Random, walls: Walls, place: float, side: int
) -> None:
    """Draws the paper on one side (-1 left, 1 right) and the brush on the other, where there is room."""
    paper_x = place + side * 0.36
    if abs(paper_x) < walls.right - 0.05:
        with stage.placed(paper_x, walls.depth - rng.choice((0.0, 0.16)), 0, 0.7):
            stage.polygon(disc(0, 0, -0.13, 0.06), (246, 245, 240))
            stage.polygon(upright(-0.06, -0.18, 0.12, 0.18, -0.131), (238, 236, 230))
            stage.box((-0.07, 0.02, -0.14), (0.07, 0.075, -0.02), palette.CHROME)
    brush_x = place - side * rng.uniform(0.32, 0.4)
    if abs(brush_x) < walls.right - 0.06 and rng.random() < 0.8:
        z, colour = walls.depth - 0.22, rng.choice((palette.WHITE, palette.STEEL, palette.BLACK))
        stage.shadow((brush_x - 0.05, brush_x + 0.05), (z - 0.05, z + 0.05), 0.1)
        stage.line((brush_x, 0.2, z), (brush_x, 0.45, z), palette.STEEL, 4)
        stage.sweep([flat_ring(brush_x, y, z, 0.05) for y in (0.0, 0.24)], colour)


def _draw_basin(stage: Stage, rng: random.Random) -> None:
    """Draws a hand basin on the wall of the current place, with tap and mirror, and sometimes a cabinet."""
    wide, deep = rng.uniform(0.2, 0.32), rng.uniform(0.13, 0.2)
    stage.polygon(
        upright(-wide, 1.15, 2 * wide, 0.7, -0.01), some(rng, (*palette.WALLS[:4], (190, 206, 212)))
    )
    if rng.random() < 0.5:
        stage.box((-wide, 0.3, -2 * deep), (wide, 0.74, 0), some(rng, palette.FRONTS))
    bowl = [flat_ring(0, y, -deep, w * wide, w * deep, 0.6) for y, w in ((0.72, 0.75), (0.86, 1.0))]
    stage.sweep(bowl, palette.WHITE)
    stage.polygon(flat_ring(0, 0.861, -deep, wide * 0.78, deep * 0.7, 0.6), (206, 208, 208))
    stage.box((-0.015, 0.86, -0.06), (0.015, 1.0, -0.03), palette.CHROME)
    stage.box((-0.012, 0.98, -0.16), (0.012, 1.0, -0.03), palette.CHROME)

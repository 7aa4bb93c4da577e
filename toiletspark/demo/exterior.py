"""A street with a house or a block: the drawn exteriors."""

from toiletspark.demo.palette import BLACK, GLASS, STEEL, WHITE, lit, mixed
from toiletspark.demo.stage import Stage, disc, level


def draw_exterior(stage: Stage) -> None:
    """Draws a house or a block of flats from the street, with sky, lawn, path, trees and bushes."""
    uniform = stage.uniform
    is_block = stage.chance(0.4)
    away = uniform(17, 24) if is_block else uniform(10, 14)
    target = (uniform(-1, 1), uniform(4, 6) if is_block else uniform(2, 3.2), away)
    stage.look((uniform(-6, 6), uniform(1.6, 2.8), 0), target, uniform(0.75, 1))
    zenith, horizon = stage.pick("skies"), stage.pick("walls")
    for row in range(24):
        top = 2 * row if row < 23 else 300
        stage.front((-300, 300), (2 * row - 4, top), 80, mixed(horizon, zenith, row / 23))
    for _ in range(stage.choice(range(5))):
        x, y = uniform(-45, 45), uniform(16, 42)
        for _ in range(6):
            puff = disc(x + uniform(-7, 7), y + uniform(-1, 1), 79, uniform(3, 7), uniform(1, 2.4))
            stage.polygon(puff, (250, 250, 250, 100))
    lawn = mixed(stage.pick("leaves"), (230, 210, 150), uniform(0.2, 0.45))
    stage.box((-300, 300), (0, 0), (-5, 79), lawn)
    path = [(-1.2, 0, 0.2), (1.2, 0, 0.2), (0.6, 0, away), (-0.6, 0, away)]
    stage.polygon(path, stage.pick("tiles"))
    for _ in range(stage.choice((2, 3, 4, 5))):
        _draw_tree(stage, stage.choice((-1, 1)) * uniform(7, 16), away + uniform(8, 16))
    with stage.at(0, away, uniform(-22, 22)):
        _draw_building(stage, is_block)
    for _ in range(stage.choice((0, 1, 2))):
        _draw_tree(stage, stage.choice((-1, 1)) * uniform(5.5, 8.5), away - uniform(0, 3))


def _draw_building(stage: Stage, is_block: bool) -> None:
    """Draws a building with its front in the plane z = 0; a block has a flat roof and balconies."""
    plaster, accent = stage.pick("plasters"), stage.pick("plasters fabrics")
    columns = stage.choice((4, 5, 6)) if is_block else 3
    floors = stage.choice((3, 4, 5)) if is_block else stage.choice((1, 2))
    entrance = stage.choice(range(columns))
    step, eaves = stage.uniform(2.4, 2.9), 2.9 * floors
    half = columns * step / 2
    if is_block:
        stage.box((-half - 0.4, half + 0.4), (eaves, eaves + 0.4), (-0.4, 8), lit(plaster, 0.75))
    else:
        ridge, end = eaves + stage.uniform(2, 3.2), half - stage.choice((-0.4, 1.6))
        roof = stage.pick("roofs")
        wide = half + 0.4
        low = [(-wide, eaves, -0.4), (wide, eaves, -0.4), (wide, eaves, 8), (-wide, eaves, 8)]
        stage.sweep([low, [(x, ridge, 4) for x in (-end, end, end, -end)]], roof)
        stage.box((half * 0.4, half * 0.4 + 0.6), (eaves + 1, ridge + 0.6), (3, 3.6), roof)
    stage.box((-half, half), (0, eaves), (0, 8), plaster)
    stage.front((-half, half), (0, 2.7 if is_block else 0.4), -0.02, accent)
    for floor in range(floors):
        for column in range(columns):
            x, y = (column + 0.5) * step - half, 2.9 * floor
            if floor or column != entrance:
                stage.front((x - 0.63, x + 0.63), (y + 0.87, y + 2.33), -0.04, WHITE)
                glass = mixed(stage.pick("skies"), GLASS, 0.5)
                for left in (x - 0.55, x + 0.03):
                    stage.front((left, left + 0.52), (y + 0.95, y + 2.25), -0.05, glass)
            else:
                stage.front((x - 0.62, x + 0.62), (0, 2.3), -0.04, WHITE)
                stage.front((x - 0.5, x + 0.5), (0, 2.15), -0.05, stage.pick("fabrics woods"))
                stage.box((x - 0.9, x + 0.9), (2.4, 2.5), (-0.9, 0), STEEL)
            if is_block and floor and (column + entrance) % 3 == 0:
                stage.box((x - 1.2, x + 1.2), (y, y + 0.18), (-1.1, 0), lit(plaster, 0.85))
                stage.box((x - 1.2, x + 1.2), (y + 0.18, y + 1), (-1.1, -1.05), accent)


def _draw_tree(stage: Stage, x: float, z: float) -> None:
    """Draws a tree with a crown of leaves."""
    uniform = stage.uniform
    leaf = stage.pick("leaves")
    size = uniform(0.8, 1.3)
    stage.polygon(level(x, 0.02, z, 1.4 * size), (*BLACK, 50))
    stage.box((x - 0.14, x + 0.14), (0, 2.2 * size), (z - 0.14, z + 0.14), (104, 82, 64))
    for k in range(14):
        dx, y, radius = uniform(-1.3, 1.3), uniform(2.2, 4.6), uniform(0.6, 1)
        crown = disc(x + dx * size, y * size, z, radius * size, radius * size * 0.85)
        stage.polygon(crown, lit(leaf, 0.46 + 0.03 * k + 0.06 * y))

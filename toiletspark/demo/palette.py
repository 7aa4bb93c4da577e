"""The colours of the demo pictures, and how light changes them.

The rooms draw from overlapping lists on purpose: were kitchens yellow and toilets blue, a head would learn
the paint.
"""

import random

Colour = tuple[int, int, int]

WHITE: Colour = (244, 244, 241)
BLACK: Colour = (34, 35, 38)
STEEL: Colour = (176, 180, 184)
CHROME: Colour = (205, 210, 214)
GLASS_BLACK: Colour = (40, 43, 48)

# Every room: mostly light walls, as in most flats, and some with a will.
WALLS: tuple[Colour, ...] = (
    (240, 238, 232), (236, 228, 212), (226, 226, 226), (205, 214, 220), (206, 216, 200), (233, 212, 202),
    (232, 214, 170), (180, 198, 205), (168, 184, 160), (214, 178, 156), (122, 140, 152), (226, 220, 236),
)  # fmt: skip
WOODS: tuple[Colour, ...] = (
    (196, 158, 112), (170, 128, 84), (138, 98, 64), (210, 182, 142), (112, 80, 56), (178, 160, 138),
)  # fmt: skip
TILES: tuple[Colour, ...] = (
    (238, 238, 234), (214, 212, 206), (184, 186, 186), (150, 152, 152), (200, 214, 218), (222, 206, 184),
    (160, 186, 190), (190, 204, 180), (92, 98, 104),
)  # fmt: skip
CARPETS: tuple[Colour, ...] = (
    (188, 178, 164), (150, 148, 146), (128, 138, 150), (164, 140, 120), (120, 130, 112), (170, 150, 158),
)  # fmt: skip
FABRICS: tuple[Colour, ...] = (
    (120, 128, 138), (84, 106, 134), (160, 92, 78), (196, 160, 92), (104, 128, 108), (206, 198, 184),
    (148, 118, 138), (70, 76, 86), (224, 220, 212), (178, 134, 110),
)  # fmt: skip
FRONTS: tuple[Colour, ...] = (
    (242, 241, 237), (228, 224, 212), (176, 180, 180), (196, 158, 112), (150, 110, 74), (154, 172, 156),
    (78, 96, 116), (70, 74, 78), (206, 190, 166),
)  # fmt: skip
LEAVES: tuple[Colour, ...] = (
    (70, 120, 62),
    (92, 138, 72),
    (58, 104, 70),
    (116, 146, 72),
    (84, 126, 92),
)
PLASTERS: tuple[Colour, ...] = (
    (240, 236, 226), (232, 216, 180), (222, 190, 160), (206, 214, 218), (186, 110, 86), (214, 206, 190),
    (168, 96, 74),
)  # fmt: skip
ROOFS: tuple[Colour, ...] = (
    (150, 76, 58),
    (120, 66, 54),
    (84, 84, 90),
    (104, 92, 84),
    (70, 74, 84),
    (172, 96, 66),
)
SKIES: tuple[tuple[Colour, Colour], ...] = (  # zenith, horizon
    ((104, 158, 214), (206, 226, 240)), ((134, 176, 216), (226, 234, 238)),
    ((168, 180, 192), (222, 224, 226)), ((92, 140, 196), (240, 216, 190)), ((150, 160, 172), (202, 206, 210)),
)  # fmt: skip


def lit(colour: Colour, factor: float) -> Colour:
    """Multiplies a colour by a brightness, 1 = unchanged, and keeps it in [0, 255].

    >>> lit((100, 200, 250), 1.1)
    (110, 220, 255)
    """
    red, green, blue = colour
    return (
        min(255, round(red * factor)),
        min(255, round(green * factor)),
        min(255, round(blue * factor)),
    )


def mixed(first: Colour, second: Colour, weight: float) -> Colour:
    """Mixes two colours; weight in [0, 1] is the part of the second."""
    red, green, blue = (round(a + (b - a) * weight) for a, b in zip(first, second, strict=True))
    return red, green, blue


def some(rng: random.Random, colours: tuple[Colour, ...], spread: int = 9) -> Colour:
    """Picks a colour and moves each channel by up to `spread` levels, lest a shade be a room's signature."""
    red, green, blue = (
        max(0, min(255, level + rng.randint(-spread, spread))) for level in rng.choice(colours)
    )
    return red, green, blue

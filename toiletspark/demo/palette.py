"""The colours of the drawn pictures.

All rooms use the same lists: if only toilets were blue, a head would learn that.
"""

from PIL import ImageColor

Colour = tuple[int, ...]  # red, green, blue and, if see-through, opacity; each 0 to 255


def _colours(codes: str) -> tuple[Colour, ...]:
    return tuple(ImageColor.getrgb(f"#{code}") for code in codes.split())


WHITE, BLACK, STEEL, CHROME, GLASS = _colours("f4f4f1 222326 b0b4b8 cdd2d6 282b30")
PALETTE = {
    "whites": _colours("f4f4f1 f4f4f1 f4f4f1 e8e6dc"),
    "walls": _colours(
        "f0eee8 ece4d4 e2e2e2 cdd6dc ced8c8 e9d4ca e8d6aa b4c6cd a8b8a0 d6b29c 7a8c98 e2dcec"
    ),
    "woods": _colours("c49e70 aa8054 8a6240 d2b68e 705038 b2a08a"),
    "tiles": _colours("eeeeea d6d4ce b8baba 969898 c8d6da deceb8 a0babe beccb4 5c6268"),
    "fabrics": _colours("78808a 546a86 a05c4e c4a05c 68806c cec6b8 94768a 464c56 e0dcd4 b2866e"),
    "fronts": _colours("f2f1ed e4e0d4 b0b4b4 c49e70 966e4a 9aac9c 4e6074 464a4e cebea6"),
    "leaves": _colours("46783e 5c8a48 3a6846 749248 547e5c"),
    "plasters": _colours("f0ece2 e8d8b4 debea0 ced6da ba6e56 d6cebe a8604a"),
    "roofs": _colours("964c3a 784236 54545a 685c54 464a54 ac6042"),
    "skies": _colours("689ed6 86b0d8 a8b4c0 5c8cc4 96a0ac"),
}


def lit(colour: Colour, brightness: float) -> Colour:
    """Multiplies a colour by a brightness, 1 = unchanged, and keeps it in [0, 255].

    >>> lit((100, 200, 250), 1.1)
    (110, 220, 255)
    """
    return tuple(min(255, round(channel * brightness)) for channel in colour)


def mixed(first: Colour, second: Colour, weight: float) -> Colour:
    """Mixes two colours; weight in [0, 1] is the part of the second."""
    return tuple(round(a + (b - a) * weight) for a, b in zip(first, second, strict=True))

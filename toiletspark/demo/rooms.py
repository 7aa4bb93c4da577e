"""Pictures of rooms, drawn: what the demo catalog shows instead of photographs.

They are for trying the steps out and for tests. A head fitted on them has learnt to tell drawings apart, and
nothing about photographs.
"""

import random

from PIL import Image

from toiletspark.demo.bedroom import draw_bedroom
from toiletspark.demo.camera import photograph
from toiletspark.demo.exterior import draw_exterior
from toiletspark.demo.kitchen import draw_kitchen
from toiletspark.demo.living_room import draw_living_room
from toiletspark.demo.toilet_room import draw_toilet_room

ROOMS = ("toilet", "kitchen", "bedroom", "living_room", "exterior")

SUPERSAMPLING = 2  # drawn this many times larger and then reduced, which is cheaper than smooth edges one by one

_DRAWERS = {
    "toilet": draw_toilet_room,
    "kitchen": draw_kitchen,
    "bedroom": draw_bedroom,
    "living_room": draw_living_room,
    "exterior": draw_exterior,
}


def draw_room(room: str, seed: int, size_px: tuple[int, int] = (400, 300)) -> Image.Image:
    """Draws one picture of a room.

    Args:
        room: one of ROOMS.
        seed: which of the endlessly many pictures of such a room.
        size_px: (width, height) of the picture.

    Returns:
        An RGB image of `size_px`, the same for the same room, seed and size.

    Raises:
        KeyError: `room` is none of ROOMS.

    Cost: 8 to 15 ms at the default size on one core.
    """
    # Python seeds a stream from a text by its SHA-512, so the picture is the same in every process.
    rng = random.Random(f"{room}:{seed}")  # noqa: S311  (pictures, not secrets)
    stage = _DRAWERS[room]((size_px[0] * SUPERSAMPLING, size_px[1] * SUPERSAMPLING), rng)
    return photograph(stage.canvas, size_px, rng)

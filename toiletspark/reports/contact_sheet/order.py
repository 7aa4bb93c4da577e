"""The order of a contact sheet: what can be labelled in one stroke stands together. Without Spark."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from toiletspark.reports.contact_sheet.page import Tile
from toiletspark.sampling import near_duplicates

# Bands of scores, surest first. Only where a head is nearly sure can people accept a whole band at a glance.
_BANDS = (0.95, 0.8, 0.5, 0.0)
_CHAINED = 2000  # images that are brought into one chain: 0.3 s; ten times as many would take half a minute


def arranged(
    tiles: list[Tile], embeddings: NDArray[np.float32], classes: Iterable[str], min_cosine: float
) -> list[Tile]:
    """Sorts by suggested class, then by score band, and within it by likeness.

    Args:
        tiles: by listing and position.
        embeddings: float32, (n, d), in the order of the tiles; zeros where there is none.
        classes: the order of the classes; what has no suggestion comes last.
        min_cosine: from which cosine on two are near-duplicates.

    Returns:
        The tiles with group and section, in their new order. Without suggestions there is one section, without
        embeddings the order within a section is by score.
    """
    grouped, places = (
        _grouped(tiles, embeddings, min_cosine),
        {name: place for place, name in enumerate(classes)},
    )

    def section(place: int) -> tuple[int, int]:
        tile = tiles[place]
        return places.get(tile.suggested or "", len(places)), _band(tile)

    order = sorted(
        range(len(tiles)), key=lambda place: (section(place), -(tiles[place].score or 0.0))
    )
    alone = all(tile.suggested is None for tile in tiles)
    found = []
    for _, members in itertools.groupby(order, section):
        for piece in _pieces(list(members)):
            chained = piece[
                near_duplicates.similarity_order(
                    embeddings[piece], np.array([grouped[place].group for place in piece])
                )
            ]
            found += [
                replace(grouped[place], section="" if alone else _title(tiles[place]))
                for place in chained
            ]
    return found


def ranked(tiles: list[Tile], embeddings: NDArray[np.float32], min_cosine: float) -> list[Tile]:
    """Keeps the order of a queue, whose ranks say what matters most; near-duplicates share a group all the same."""
    return _grouped(tiles, embeddings, min_cosine)


def _grouped(tiles: list[Tile], embeddings: NDArray[np.float32], min_cosine: float) -> list[Tile]:
    groups = near_duplicates.groups(embeddings, min_cosine).tolist()
    return [replace(tile, group=group) for tile, group in zip(tiles, groups, strict=True)]


def _pieces(places: list[int]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(places), _CHAINED):
        yield np.array(places[start : start + _CHAINED])


def _band(tile: Tile) -> int:
    """Which band a suggestion falls into; without one there is none to tell apart."""
    if tile.suggested is None or tile.score is None:
        return len(_BANDS)
    score = tile.score
    return next(band for band, low in enumerate(_BANDS) if score >= low)


def _title(tile: Tile) -> str:
    """How a section is headed.

    >>> _title(Tile("a", "L", None, b"", score=0.97, suggested="toilet"))
    'toilet? 0.95 to 1'
    """
    if tile.suggested is None:
        return "no suggestion"
    band = _band(tile)
    if band == len(_BANDS):
        return f"{tile.suggested}?"
    return f"{tile.suggested}? {_BANDS[band]:g} to {(1.0, *_BANDS)[band]:g}"

"""The order of a contact sheet: images that get the same label stand together. Without Spark."""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from toiletspark.reports.contact_sheet.page import Tile
from toiletspark.sampling import near_duplicates

# Bands of scores, surest first. Only a nearly sure band can be accepted at a glance as a whole.
_BANDS = (0.95, 0.8, 0.5, 0.0)
_MAX_CHAIN = 2000  # images in one chain: 0.3 s; ten times as many would take half a minute


def arranged(
    tiles: list[Tile], embeddings: NDArray[np.float32], classes: Iterable[str], min_cosine: float
) -> list[Tile]:
    """Sorts tiles by suggested class, then by score band, and within it by likeness.

    Without suggestions there is one section; without embeddings the order within a section is by
    score.

    Args:
        tiles: by listing and position.
        embeddings: float32, (n, d), in the order of the tiles; zeros where there is none.
        classes: their order; tiles without a suggestion come last.
        min_cosine: from which on two images are near-duplicates.
    """
    tiles = grouped(tiles, embeddings, min_cosine)
    ranks = {name: rank for rank, name in enumerate(classes)}

    def section(index: int) -> tuple[int, int]:
        tile = tiles[index]
        return ranks.get(tile.suggested or "", len(ranks)), _band(tile)

    def surest_first(index: int) -> tuple[tuple[int, int], float]:
        return section(index), -(tiles[index].score or 0.0)

    order = sorted(range(len(tiles)), key=surest_first)
    has_sections = any(tile.suggested is not None for tile in tiles)
    arranged = []
    for _, members in itertools.groupby(order, section):
        indices = np.array(list(members))
        for start in range(0, len(indices), _MAX_CHAIN):
            part = indices[start : start + _MAX_CHAIN]
            groups = np.array([tiles[index].group for index in part])
            for index in part[near_duplicates.similarity_order(embeddings[part], groups)]:
                title = _title(tiles[index]) if has_sections else ""
                arranged.append(replace(tiles[index], section=title))
    return arranged


def grouped(tiles: list[Tile], embeddings: NDArray[np.float32], min_cosine: float) -> list[Tile]:
    """The tiles in their order, near-duplicates with the same group.

    A queue keeps its order, whose ranks say what matters most.
    """
    groups = near_duplicates.groups(embeddings, min_cosine).tolist()
    return [replace(tile, group=group) for tile, group in zip(tiles, groups, strict=True)]


def _band(tile: Tile) -> int:
    """The index of the band of a suggestion's score; the last one without a suggestion."""
    score = tile.score
    if tile.suggested is None or score is None:
        return len(_BANDS)
    return next(band for band, low in enumerate(_BANDS) if score >= low)


def _title(tile: Tile) -> str:
    """The heading of a tile's section.

    >>> _title(Tile("a", "L", None, b"", score=0.97, suggested="toilet"))
    'toilet? 0.95 to 1'
    """
    if tile.suggested is None:
        return "no suggestion"
    band = _band(tile)
    if band == len(_BANDS):
        return f"{tile.suggested}?"
    return f"{tile.suggested}? {_BANDS[band]:g} to {(1.0, *_BANDS)[band]:g}"

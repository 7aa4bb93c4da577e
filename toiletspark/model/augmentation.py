"""Views: what else one labelled image could have looked like, for the fit alone. Pixels in, pixels out.

The catalog is never scored by views, and no figure is taken from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Decode, View
from toiletspark.images.decoding import Pixels, Preprocessing
from toiletspark.model.backbone import Backbone

ENLARGED = 1.25  # of pictures that crops are cut from; the five then overlap by a half, and none sees what the whole does not
CROPS = ("crop_top_left", "crop_top_right", "crop_bottom_left", "crop_bottom_right", "crop_centre")


def view_names(asked: Sequence[View]) -> list[str]:
    """The views behind the words of `train.views`.

    >>> names(["flip"])
    ['flip']
    >>> len(names(["flip", "crops"]))
    6
    """
    return [*(["flip"] if "flip" in asked else []), *(CROPS if "crops" in asked else [])]


def embed_views(
    contents: Iterable[bytes], wanted: Sequence[str], backbone: Backbone, limits: Decode
) -> list[dict[str, NDArray[np.float32]]]:
    """Embeds views of image files.

    Args:
        contents: whole files.
        wanted: which views, see `names`.
        backbone: decodes and embeds as it does the catalog.
        limits: which formats and sizes are decoded at all.

    Returns:
        Per file its embeddings by view, float32, (width,); {} where it is no sound image.

    Cost: a forward pass a view, and a second decoding where crops are wanted.
    """
    files = list(contents)
    found: list[dict[str, Pixels]] = [{} for _ in files]
    if "flip" in wanted:
        for place, plain in enumerate(backbone.decode(files, limits)):
            found[place] |= {} if plain.pixels is None else {"flip": plain.pixels[:, ::-1]}
    if set(wanted) & set(CROPS):
        for place, large in enumerate(
            backbone.decode(files, limits, enlarged(backbone.spec.preprocessing))
        ):
            crops = (
                {}
                if large.pixels is None
                else cut(large.pixels, backbone.spec.preprocessing.crop_px)
            )
            found[place] |= {name: crop for name, crop in crops.items() if name in wanted}
    pictures = [pixels for of_file in found for pixels in of_file.values()]
    vectors = iter(backbone.embed(np.stack(pictures)) if pictures else ())
    return [{name: next(vectors) for name in of_file} for of_file in found]


def enlarged(preprocessing: Preprocessing) -> Preprocessing:
    """How the larger picture is made: it shows what the backbone sees of an image, with more pixels."""
    sizes = [round(ENLARGED * size) for size in (preprocessing.resize_px, preprocessing.crop_px)]
    return replace(preprocessing, resize_px=sizes[0], crop_px=sizes[1])


def cut(large: Pixels, crop_px: int) -> dict[str, Pixels]:
    """The corners and the centre of a larger square: uint8, (crop_px, crop_px, 3) each."""
    far = len(large) - crop_px
    corners = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
    return {
        name: large[top : top + crop_px, left : left + crop_px]
        for name, (top, left) in zip(CROPS, corners, strict=True)
    }

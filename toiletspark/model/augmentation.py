"""Augmentation: flips and crops of labelled images, called views, for the fit alone.

The catalog is never scored by views, and no figure is taken from them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Decode, View
from toiletspark.images.decoding import Pixels, Preprocessing
from toiletspark.model.backbone import Backbone

ENLARGEMENT = 1.25  # of pictures that crops are cut from: neighbours overlap by half or more
CROPS = ("crop_top_left", "crop_top_right", "crop_bottom_left", "crop_bottom_right", "crop_centre")


def view_names(settings: Sequence[View]) -> list[str]:
    """The views behind the words of `train.views`.

    >>> view_names(["flip"])
    ['flip']
    >>> len(view_names(["flip", "crops"]))
    6
    """
    flips = ["flip"] if "flip" in settings else []
    return [*flips, *CROPS] if "crops" in settings else flips


def embed_views(
    contents: Iterable[bytes], names: Sequence[str], backbone: Backbone, limits: Decode
) -> list[dict[str, NDArray[np.float32]]]:
    """Embeds views of image files, by their names, see `view_names`.

    Returns per file its embeddings by view, float32, (width,); {} if it is no sound image.

    Cost: a forward pass per view, and a second decoding for crops.
    """
    files = list(contents)
    views: list[dict[str, Pixels]] = [{} for _ in files]
    if "flip" in names:
        for of_file, image in zip(views, backbone.decode(files, limits), strict=True):
            if image.pixels is not None:
                of_file["flip"] = image.pixels[:, ::-1]
    if set(names) & set(CROPS):
        sizes = backbone.spec.preprocessing
        large = backbone.decode(files, limits, enlarged(sizes))
        for of_file, image in zip(views, large, strict=True):
            if image.pixels is not None:
                crops = cut(image.pixels, sizes.crop_px)
                of_file |= {name: crops[name] for name in CROPS if name in names}
    pictures = [pixels for of_file in views for pixels in of_file.values()]
    embeddings = iter(backbone.embed(np.stack(pictures)) if pictures else ())
    return [{name: next(embeddings) for name in of_file} for of_file in views]


def enlarged(preprocessing: Preprocessing) -> Preprocessing:
    """The sizes of a larger picture of the same part of the image."""
    resize_px = round(ENLARGEMENT * preprocessing.resize_px)
    crop_px = round(ENLARGEMENT * preprocessing.crop_px)
    return replace(preprocessing, resize_px=resize_px, crop_px=crop_px)


def cut(large: Pixels, crop_px: int) -> dict[str, Pixels]:
    """The corners and the centre of a larger square: uint8, (crop_px, crop_px, 3) each."""
    far = len(large) - crop_px
    corners = [(0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2)]
    cuts = [large[top : top + crop_px, left : left + crop_px] for top, left in corners]
    return dict(zip(CROPS, cuts, strict=True))

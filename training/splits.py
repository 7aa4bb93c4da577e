"""Who is held out, and who judges whom: by hash of the listing, since photos of one home look alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toiletspark.digests import hash_fraction


def held_out(listing_ids: list[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are held out: bool, (n,). All images of a listing fall on the same side, chosen by hash."""
    return np.array([hash_fraction(seed, f"split:{listing}") < share for listing in listing_ids], dtype=bool)


def folds_of(listing_ids: list[str], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row, int64, (n,), [0, folds): chosen by hash of the listing."""
    return np.array([int(hash_fraction(seed, f"fold:{listing}") * folds) for listing in listing_ids], dtype=np.int64)

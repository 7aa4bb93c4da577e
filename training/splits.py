"""Who is held out, and who judges whom: by hash of the group, since photos of one home look alike.

A group is a listing, with the listings that show one of its photos again (a home that is offered twice, an agent's
stock photo): on two sides of a split, they would let a head be judged on what it has learnt by heart.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from toiletspark.hashing import hash_fraction
from toiletspark.sampling import near_duplicates
from toiletspark.training.dataset import TrainingSet

_SWALLOWED = 0.5  # of all images in one group
_MOST_LISTINGS = 20  # that offer one home again; where links join too much, what more of them show is a placeholder


def groups(examples: TrainingSet, min_cosine: float) -> list[str]:
    """The group of each row: n names.

    Listings that share a near-duplicate are one group, named by its first listing in the order of names. Ids mostly
    count upwards, so the name, and with it the side of the split, stays when labels of newer listings come in.

    Where one group would swallow more than half of all images, look-alikes that more than 20 listings show join none of
    them: a placeholder, or a portal's logo, says nothing of a home, though it may then lie on both sides. Where one
    still would, or no link is left, these are no near-duplicates: a backbone without ImageNet's weights takes all
    photos for one, and listings alone are kept together. Either is told on stderr.

    Args:
        examples: the labelled images.
        min_cosine: (0, 1]; two embeddings from here on are one photo. See [lookalikes] in conf/base.toml.

    Cost: see `near_duplicates.groups`; 40,000 rows take about 2 s on two cores.
    """
    names, listing = np.unique(np.array(examples.listing_id, dtype=np.str_), return_inverse=True)
    alike = near_duplicates.groups(examples.embeddings, min_cosine)
    found = _joined(names, listing, alike, np.ones(len(listing), dtype=bool))
    size = _swallowed(examples.listing_id, found)
    if not size:
        return found
    narrower = _joined(names, listing, alike, ~_wide(listing, alike))
    if narrower == examples.listing_id or _swallowed(examples.listing_id, narrower):
        told = f"takes {size} of {len(found)} labelled images for one photo: only listings are kept together"
        found, more = list(examples.listing_id), ""
    else:
        told = f"joins {size} of {len(found)} labelled images: what more than {_MOST_LISTINGS} listings show joins none"
        found, more = narrower, " if that is no placeholder"
    told = f"toiletspark: lookalikes.min_cosine {min_cosine:g} {told}; raise it for this backbone{more}"
    print(told, file=sys.stderr)
    return found


def _joined(
    names: NDArray[np.str_],
    listing: NDArray[np.intp],
    alike: NDArray[np.int64],
    linked: NDArray[np.bool_],
) -> list[str]:
    """The group of each row where these rows, bool, (n,), join their listing with those of their look-alikes."""
    nodes = len(names) + int(alike.max(initial=-1)) + 1
    ends = listing[linked], len(names) + alike[linked]
    _, member_of = connected_components(
        coo_matrix((np.ones(len(ends[0])), ends), (nodes, nodes)), directed=False
    )
    _, first = np.unique(
        member_of[: len(names)], return_index=True
    )  # names are in order: the first is the least
    of_component = dict(zip(member_of[first].tolist(), names[first].tolist(), strict=True))
    return [of_component[component] for component in member_of[listing].tolist()]


def _swallowed(listing_ids: Sequence[str], found: list[str]) -> int:
    """How many images lie in a group of several listings that holds too many of all; 0 where there is none."""
    name, size = Counter(found).most_common(1)[0] if found else ("", 0)
    listings = {one for one, group in zip(listing_ids, found, strict=True) if group == name}
    return size if len(listings) > 1 and size > len(found) * _SWALLOWED else 0


def _wide(listing: NDArray[np.intp], alike: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The rows whose look-alikes lie in too many listings for photos of one home: bool, (n,)."""
    shown_by = np.unique(np.stack([alike, listing], axis=1), axis=0)[:, 0]  # once for each listing
    wide: NDArray[np.bool_] = np.bincount(shown_by)[alike] > _MOST_LISTINGS
    return wide


def held_out(group_names: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Which rows are held out: bool, (n,). All images of a group fall on the same side, chosen by hash."""
    return _fractions("split", group_names, seed) < share


def folds_of(group_names: Sequence[str], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row, int64, (n,), [0, folds): chosen by hash of the group."""
    return (_fractions("fold", group_names, seed) * folds).astype(np.int64)


def whole_groups(rows: NDArray[np.bool_], group_names: Sequence[str]) -> NDArray[np.bool_]:
    """All rows of the groups that have one of these rows: bool, (n,)."""
    touched = {name for name, there in zip(group_names, rows.tolist(), strict=True) if there}
    return np.array([name in touched for name in group_names], dtype=bool)


def _fractions(purpose: str, names: Sequence[str], seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each row that follows from its name: float64, (n,)."""
    of_name = {name: hash_fraction(seed, f"{purpose}:{name}") for name in set(names)}
    return np.array([of_name[name] for name in names], dtype=np.float64)

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

from toiletspark import lookalikes
from toiletspark.digests import hash_fraction
from training.dataset import TrainingSet

_SWALLOWED = 0.5  # of all images in one group


def groups(examples: TrainingSet, min_cosine: float) -> list[str]:
    """The group of each row: n names.

    Listings that share a near-duplicate are one group, named by its first listing in the order of names. Ids mostly
    count upwards, so the name, and with it the side of the split, stays when labels of newer listings come in.

    Where one group would swallow more than half of all images, these are no near-duplicates: a backbone without
    ImageNet's weights takes all photos for one. That is told on stderr, and listings alone are kept together.

    Args:
        examples: the labelled images.
        min_cosine: (0, 1]; two embeddings from here on are one photo. See [lookalikes] in conf/base.toml.

    Cost: see `lookalikes.groups`; 40,000 rows take about 2 s on two cores.
    """
    names, listing = np.unique(np.array(examples.listing_id, dtype=np.str_), return_inverse=True)
    alike = lookalikes.groups(examples.embeddings, min_cosine)
    nodes = len(names) + int(alike.max(initial=-1)) + 1
    links = coo_matrix((np.ones(len(listing)), (listing, len(names) + alike)), (nodes, nodes))
    _, member_of = connected_components(links, directed=False)
    _, first = np.unique(member_of[: len(names)], return_index=True)  # names are in order: the first is the least
    of_component = dict(zip(member_of[first].tolist(), names[first].tolist(), strict=True))
    found = [of_component[component] for component in member_of[listing].tolist()]
    name, size = Counter(found).most_common(1)[0] if found else ("", 0)
    listings = len({one for one, group in zip(examples.listing_id, found, strict=True) if group == name})
    if listings > 1 and size > len(found) * _SWALLOWED:
        told = f"lookalikes.min_cosine {min_cosine:g} takes {size} of {len(found)} labelled images for one photo"
        print(f"toiletspark: {told}: only listings are kept together; raise it for this backbone", file=sys.stderr)
        return list(examples.listing_id)
    return found


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

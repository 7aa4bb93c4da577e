"""Held-out images and folds, chosen by hash of the group, since photos of one home look alike.

A group is a listing, with the listings that show one of its photos again (a home that is offered
twice, an agent's stock photo): on two sides of a split, they would let a head be judged on images
that it was trained on.
"""

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from toiletspark.config import Train
from toiletspark.hashing import hash_fraction
from toiletspark.sampling import near_duplicates
from toiletspark.tables import storage
from toiletspark.tables.runs import Store
from toiletspark.training.arrays import Bools, Doubles, Ints
from toiletspark.training.dataset import TrainingSet

WEIGHTS, DESCRIPTION = "weights.safetensors", "finetuned.json"  # of a fine-tuned backbone
_DIGITS = 12  # of the weights' digest, as in a backbone_id
_ENOUGH_JUDGED = 10_000  # rows out of fold that settle L2 and temperature
_MOST_IN_ONE_GROUP = 0.5  # of all images
_MOST_LISTINGS = 20  # that offer one home; see `groups`
_log = logging.getLogger("toiletspark")


def groups(examples: TrainingSet, min_cosine: float) -> list[str]:
    """The group of each row: n names.

    Listings that share a near-duplicate, with a cosine of at least `min_cosine`, are one group,
    named by its first listing in the order of names. Ids mostly count upwards, so the name, and
    with it the side of the split, stays when newer listings are labelled.

    If one group would hold more than half of all images, near-duplicates that more than 20 listings
    show join none of them: a placeholder, or a portal's logo, is no sign of one home. If one group
    still would, or no link is left, only listings are kept together: to a backbone without
    ImageNet's weights all photos are alike. A warning names the threshold in both cases.

    Cost: see `near_duplicates.groups`; 40,000 rows take about 2 s on two cores.
    """
    names, listing = np.unique(np.array(examples.listing_id, dtype=np.str_), return_inverse=True)
    alike = near_duplicates.groups(examples.embeddings, min_cosine)
    joined = _joined(names, listing, alike, np.ones(len(listing), dtype=bool))
    size = _too_large(examples.listing_id, joined)
    if not size:
        return joined
    narrower = _joined(names, listing, alike, ~_wide(listing, alike))
    images = f"{size} of {len(joined)} labelled images"
    if narrower == examples.listing_id or _too_large(examples.listing_id, narrower):
        narrower = list(examples.listing_id)
        effect = f"takes {images} for one photo: only listings are kept together"
        todo = "raise it for this backbone"
    else:
        effect = f"joins {images}: what more than {_MOST_LISTINGS} listings show joins none"
        todo = "raise it for this backbone if that is no placeholder"
    _log.warning(f"lookalikes.min_cosine {min_cosine:g} {effect}; {todo}")
    return narrower


def _joined(
    names: NDArray[np.str_], listing: NDArray[np.intp], alike: Ints, linked: Bools
) -> list[str]:
    """The group of each row; rows in `linked` join the listings of their near-duplicates."""
    nodes = len(names) + int(alike.max(initial=-1)) + 1
    ends = listing[linked], len(names) + alike[linked]
    graph = coo_matrix((np.ones(len(ends[0])), ends), (nodes, nodes))
    _, component = connected_components(graph, directed=False)
    # names are sorted: the first of a component is the least
    _, first, member_of = np.unique(component[: len(names)], return_index=True, return_inverse=True)
    group: list[str] = names[first][member_of][listing].tolist()
    return group


def _too_large(listing_ids: Sequence[str], group_names: list[str]) -> int:
    """The size of a group of several listings with too many of all images; 0 if none is."""
    name, size = Counter(group_names).most_common(1)[0] if group_names else ("", 0)
    pairs = zip(listing_ids, group_names, strict=True)
    listings = {listing for listing, group in pairs if group == name}
    return size if len(listings) > 1 and size > len(group_names) * _MOST_IN_ONE_GROUP else 0


def _wide(listing: NDArray[np.intp], alike: Ints) -> Bools:
    """True for rows with near-duplicates in too many listings for one home: bool, (n,)."""
    shown_by = np.unique(np.stack([alike, listing], axis=1), axis=0)[:, 0]  # once for each listing
    wide: Bools = np.bincount(shown_by)[alike] > _MOST_LISTINGS
    return wide


def held_out(group_names: Sequence[str], share: float, seed: int) -> Bools:
    """True for held-out rows: bool, (n,), chosen by hash of the group."""
    return _fractions("split", group_names, seed) < share


def folds_of(group_names: Sequence[str], folds: int, seed: int) -> Ints:
    """The fold of each row, int64, (n,), [0, folds): chosen by hash of the group."""
    return (_fractions("fold", group_names, seed) * folds).astype(np.int64)


def inner_folds(
    group_names: Sequence[str] | None, labels: Ints, weight: Doubles, settings: Train
) -> list[Bools]:
    """The held-out rows, bool, (n,), of two inner folds, or more until enough rows are judged.

    None if nothing is to be chosen. Rows without weight are in no fold, nor are rows whose class
    has none outside. Without `group_names` each row is a group.
    """
    names = group_names or [str(row) for row in range(len(labels))]
    numbers = folds_of(names, settings.inner_folds, settings.seed)
    chosen: list[Bools] = []
    for fold in range(settings.inner_folds if settings.looks_inside else 0):
        counted = weight > 0
        elsewhere = np.isin(labels, labels[counted & (numbers != fold)])
        held = counted & (numbers == fold) & elsewhere
        judged = sum(int(rows.sum()) for rows in chosen)
        if held.any() and (len(chosen) < 2 or judged < _ENOUGH_JUDGED):
            chosen.append(held)
    return chosen


def whole_groups(rows: Bools, group_names: Sequence[str]) -> Bools:
    """All rows of the groups that have one of these rows: bool, (n,)."""
    touched = {name for name, there in zip(group_names, rows.tolist(), strict=True) if there}
    return np.array([name in touched for name in group_names], dtype=bool)


def _fractions(purpose: str, names: Sequence[str], seed: int) -> Doubles:
    """A number in [0, 1) for each row that follows from its name: float64, (n,)."""
    of_name = {name: hash_fraction(seed, f"{purpose}:{name}") for name in set(names)}
    return np.array([of_name[name] for name in names], dtype=np.float64)


def finetuned_folder(store: Store, weights_digest: str) -> str:
    """The folder of a fine-tuned backbone, whether it exists or not."""
    return f"{store.root}/backbones/finetuned-{weights_digest[:_DIGITS]}"


def seen_by_backbone(store: Store, backbone_id: str, listing_ids: Sequence[str]) -> Bools:
    """True for images of listings that the backbone was fine-tuned on: bool, (n,)."""
    digest = backbone_id.partition("-")[2].partition("-")[0]
    description = storage.read_json(f"{finetuned_folder(store, digest)}/{DESCRIPTION}") or {}
    seen = description.get("seen_listings", [])
    return np.isin(np.array(listing_ids, dtype=np.str_), np.array(seen, dtype=np.str_))

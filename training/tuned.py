"""What is known of fine-tuned backbones without loading any: where they lie, and which listings they have seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toiletspark.tables import storage
from toiletspark.tables.runs import Store
from toiletspark.tables.schemas import ALONE

WEIGHTS, DESCRIPTION = "weights.safetensors", "finetuned.json"
_DIGITS = 12  # of the weights' digest, as in a backbone_id


def folder(store: Store, weights_digest: str) -> str:
    """Where a fine-tuned backbone lies, or would lie."""
    return f"{store.root}/backbones/finetuned-{weights_digest[:_DIGITS]}"


def seen(store: Store, backbone_id: str, listing_ids: list[str]) -> NDArray[np.bool_]:
    """Whether a backbone was fine-tuned on images of a listing: bool, (n,); no figure may come from such a one."""
    digest = backbone_id.partition("-")[2].partition("-")[0]
    made = storage.read_json(f"{folder(store, digest)}/{DESCRIPTION}") or {"seen_listings": []}
    known = set(made["seen_listings"])
    # images without a listing were once called by their bare ids
    return np.array(
        [bool({one, one.removeprefix(ALONE)} & known) for one in listing_ids], dtype=bool
    )

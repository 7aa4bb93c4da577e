"""Held-out images, and the operating threshold that they settle.

Numpy and small files only, so that training and publishing, which must come to the same threshold, ask the same code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from toiletspark.config import Publish
from toiletspark.errors import ConfigError, HeadError
from toiletspark.model import head as heads
from toiletspark.publishing import thresholds as policies
from toiletspark.publishing.thresholds import Judged, Settled
from toiletspark.sampling import evaluation_sample as draws
from toiletspark.sampling.estimates import Bootstrap
from toiletspark.sampling.evaluation_sample import Draw, Standing, standing
from toiletspark.tables import arrow_io as rows
from toiletspark.tables.runs import Store

DOING = "settling the operating threshold"


def judged(
    made_with: Sequence[Mapping[str, Any]],
    exclude_classes: Collection[str],
    kinds: Mapping[str, Draw],
) -> tuple[Judged, Standing]:
    """The images on which a head can be judged for the catalog.

    Args:
        made_with: rows of `tables.HEADS`, with which one head was made.
        exclude_classes: the head's.
        kinds: what the draws were, see `draws.kinds`.
    """
    held = [row for row in made_with if row["held_out"]]
    stand = standing([row["draw"] for row in held], kinds)
    kept = [row for row, stands in zip(held, stand.rows.tolist(), strict=True) if stands]
    weight = stand.weights(np.array([row["weight"] for row in held], dtype=np.float64))
    bootstrap = Bootstrap(
        [row["stratum"] for row in kept], [row["listing_id"] for row in kept], weight
    )
    scores = np.array([row["exclusion_score"] for row in kept], dtype=np.float32)
    return Judged(
        scores, np.array([row["label"] in exclude_classes for row in kept], dtype=bool), bootstrap
    ), stand


def settle(
    publish: Publish,
    made_with: Sequence[Mapping[str, Any]],
    exclude_classes: Collection[str],
    kinds: Mapping[str, Draw],
) -> Settled:
    """The operating threshold that [publish] asks for; the same at training and at publishing.

    Args:
        publish: its policy, and the threshold that is fixed.
        made_with: see `judged`; not looked at where the threshold is fixed.
        exclude_classes: see `judged`.
        kinds: what the draws were, see `draws.kinds`.

    Raises:
        ConfigError: no threshold keeps the policy's promise, or the images cannot tell.

    Cost: see `policies.settle`.
    """
    policy = publish.policy
    if policy.name == "fixed":
        return Settled(publish.operating_threshold, "fixed by publish.operating_threshold")
    images, stand = judged(made_with, exclude_classes, kinds)
    try:
        settled = policies.settle(policy.name, policy.value, images, safe=policy.safe)
    except ValueError as error:
        raise ConfigError(
            doing=f"{DOING} by {policy.name} {policy.value:g} on {stand.told}",
            expected="a promise that some threshold keeps, and images of both kinds to tell",
            found=str(error),
            todo="promise less, set publish.policy.safe=false, or label more images",
        ) from None
    return Settled(settled.operating_threshold, f"{settled.reason}; by {stand.told}")


def settle_for(store: Store, publish: Publish, head_id: str, folder: str) -> Settled:
    """`settle` for a head that lies in the store, or in a folder of its own.

    Raises:
        ConfigError: see `settle`.
        HeadError: the head is not to be found, or does not tell with which images it was made.
    """
    if publish.policy.name == "fixed":
        return settle(publish, [], (), {})
    run = heads.run_of(store, head_id, folder)
    if run is None or not run.rows:
        raise HeadError(
            doing=f"{DOING} by {publish.policy.name}",
            expected=f"the run folder of the head {head_id}, with the images that were held out when it was trained",
            found="one without them, made by an earlier toiletspark"
            if run
            else "no such head in the store",
            todo="set score.head to its folder, train again, or set publish.policy.name=fixed",
        )
    made_with, head = rows.read(run), heads.load(run.folder)
    known = draws.kinds(store, (row["draw"] for row in made_with), run)
    return settle(publish, made_with, head.exclude_classes, known)

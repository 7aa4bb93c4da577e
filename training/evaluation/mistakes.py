"""The worst mistakes of a head: those of which it was surest. People look at them; some are wrong labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.training.evaluation.predictions import Answers


def mistakes(answers: Answers, most: int) -> list[dict[str, Any]]:
    """The surest mistakes of each kind.

    Args:
        answers: of all held-out images; whether chance has drawn them does not matter here.
        most: of each kind.

    Returns:
        kind (missed: to be excluded, and kept; lost: a good image, excluded; confused: on the right side, but another
        class is more probable than its label), image_id, listing_id, stratum, content_digest, label, said (the most
        probable class), exclusion_score, probabilities by class. Kinds in this order, the surest first in each.
    """
    out, wanted = answers.excluded, answers.to_exclude
    by_class = answers.probabilities.max(axis=1)
    kinds: dict[str, tuple[NDArray[np.bool_], NDArray[np.float32]]] = {
        "missed": (wanted & ~out, -answers.scores),
        "lost": (~wanted & out, answers.scores),
        "confused": ((wanted == out) & (answers.said != answers.labels), by_class),
    }
    found = []
    for kind, (rows, sureness) in kinds.items():
        places = np.flatnonzero(rows)
        surest = places[np.argsort(-sureness[places], kind="stable")][:most]
        found += [_told(answers, kind, place) for place in surest.tolist()]
    return found


def _told(answers: Answers, kind: str, place: int) -> dict[str, Any]:
    classes, examples = answers.head.classes, answers.examples
    names = ("image_id", "listing_id", "stratum", "content_digest", "label")
    return {
        "kind": kind,
        **{name: getattr(examples, name)[place] for name in names},
        "said": classes[int(answers.said[place])],
        "exclusion_score": float(answers.scores[place]),
        "probabilities": dict(
            zip(classes, answers.probabilities[place].astype(float).tolist(), strict=True)
        ),
    }

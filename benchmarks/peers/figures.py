"""The race's arithmetic: limits, medians, ratios, and the comparison of scores."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

TORCH_PEERS = tuple(f"{name}{form}" for name in "abcde" for form in ("", "_best"))
PLAIN = "f"  # the plain UDF with OpenVINO
# Decoders and runtimes differ in the last digits, and a draft-decoded JPEG in the second; another
# network or another preprocessing differs in the first
MAX_MEAN_DIFFERENCE = 0.02
MAX_DECISIONS_CHANGED = 0.02
THRESHOLD = 0.5

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Agreement:
    """The distance of a contestant's scores from the reference's.

    Attributes:
        valid: whether there is one score for every image and the two limits above are kept.
        images: scores that it wrote.
        mean_difference: of the absolute differences, over the images of both; None where there are
            none.
        max_difference: likewise.
        decisions_changed: share of the images on the other side of the threshold.
    """

    valid: bool
    images: int
    mean_difference: float | None = None
    max_difference: float | None = None
    decisions_changed: float | None = None


def agreement(scores: Scores, reference: Scores, *, decisions_kept: bool = True) -> Agreement:
    """Compares scores by image_id; images that only one of the two has make it invalid.

    Args:
        scores: the contestant's.
        reference: what they should be; without any, whoever ran alone, nothing speaks against the
            contestant.
        decisions_kept: whether what it published follows from its own scores.
    """
    both = sorted(scores.keys() & reference.keys())
    if not both:
        return Agreement(valid=decisions_kept and not reference, images=len(scores))
    mine, theirs = _values(scores, both), _values(reference, both)
    differences = np.abs(mine - theirs)
    changed = float(np.mean((mine >= THRESHOLD) != (theirs >= THRESHOLD)))
    same = scores.keys() == reference.keys() and bool(np.isfinite(differences).all())
    mean = float(differences.mean())
    return Agreement(
        valid=decisions_kept
        and same
        and mean <= MAX_MEAN_DIFFERENCE
        and changed <= MAX_DECISIONS_CHANGED,
        images=len(scores),
        mean_difference=round(mean, 6),
        max_difference=round(float(differences.max()), 6),
        decisions_changed=round(changed, 5),
    )


def worst(rounds: Sequence[Agreement]) -> Agreement:
    """The round that speaks most against a contestant: an invalid one if there is any."""
    return min(rounds, key=lambda one: (one.valid, -(one.mean_difference or 0.0)))


def limit(forward: float, decoding: float) -> float:
    """Images/s of a machine that decodes and then embeds every image, by the two rates alone."""
    return 1 / (1 / forward + 1 / decoding)


def limits(alone: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The limit of every runtime with the fastest decoder; `alone` has "decoding" and "forward"."""
    decoding = max(alone["decoding"].values())
    return {runtime: limit(forward, decoding) for runtime, forward in alone["forward"].items()}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each contestant over the rounds that it ran in."""
    names = dict.fromkeys(itertools.chain.from_iterable(rounds))
    return {name: round(median(one[name] for one in rounds if name in one), 2) for name in names}


def ratios(
    images_per_s: Mapping[str, float],
    limits_of: Mapping[str, float],
    runtime: str,
    valid: Mapping[str, bool],
) -> dict[str, Any]:
    """The ratios that the race is about; None where a side did not run or is invalid.

    The best torch peer is the fastest of both forms of all five, so all of them must have run.

    Args:
        images_per_s: medians, by contestant.
        limits_of: medians, by runtime.
        runtime: the one that our fp32 run used.
        valid: by contestant; an invalid peer cannot be the best, and our own invalid figure has no
            ratio.
    """
    counted = {name: rate for name, rate in images_per_s.items() if valid.get(name, False)}
    peers = {name: counted[name] for name in TORCH_PEERS if name in counted}
    all_ran = images_per_s.keys() >= set(TORCH_PEERS)
    best = max(peers, key=peers.__getitem__, default=None) if all_ran else None
    copies = [_ratio(counted.get(name), counted.get("fp32")) for name in ("copies", "repeats")]
    known = [ratio for ratio in copies if ratio is not None]
    return {
        "best_peer": best,
        "ratio_to_best_peer": _ratio(counted.get("fp32"), peers.get(best or "")),
        "ratio_torch_to_best_peer": _ratio(counted.get("torch"), peers.get(best or "")),
        "ratio_to_plain_openvino": _ratio(counted.get("fp32"), counted.get(PLAIN)),
        "ratio_to_limit": _ratio(counted.get("fp32"), limits_of.get(runtime)),
        "ratio_int8": _ratio(counted.get("int8"), peers.get(best or "")),
        "ratio_int8_to_limit": _ratio(counted.get("int8"), limits_of.get("openvino_int8")),
        "ratio_duplicates": min(known, default=None),
        "ratio_copies": copies[0],
        "ratio_repeats": copies[1],
    }


def consensus(scores: Sequence[Scores]) -> dict[str, float]:
    """The median score of every image that all have; what our own scores are judged by."""
    shared = set.intersection(*(set(one) for one in scores)) if scores else set()
    return {image_id: float(median(one[image_id] for one in scores)) for image_id in sorted(shared)}


def plain(found: Mapping[str, Agreement]) -> dict[str, dict[str, Any]]:
    """Agreements as JSON takes them."""
    return {name: asdict(one) for name, one in found.items()}


def _values(scores: Scores, keys: Sequence[str]) -> NDArray[np.float64]:
    return np.array([scores[key] for key in keys], dtype=np.float64)


def _ratio(rate: float | None, other: float | None) -> float | None:
    return round(rate / other, 3) if rate and other else None

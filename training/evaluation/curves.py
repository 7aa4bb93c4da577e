"""Precision, recall and good images lost at every threshold, weighted; and what one number says of all thresholds."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.model.head import excluded
from toiletspark.sampling.estimates import Bootstrap, Share

_POINTS = 200  # of a curve: half of them evenly by rank among what is to be excluded, half among what is not
_BANDS = 40  # of them with an interval


def curves(
    scores: NDArray[np.float32], to_exclude: NDArray[np.bool_], bootstrap: Bootstrap
) -> dict[str, Any]:
    """The PR and the ROC curve in one, and the areas under them.

    Args:
        scores: float32, (n,), exclusion scores.
        to_exclude: bool, (n,), by label.
        bootstrap: their weights, and what the sample might have been.

    Returns:
        roc_auc, average_precision: an `estimates.Share` as JSON, unknown where one kind of image is missing.
        points: at most 200, by falling threshold, none where one kind is missing: threshold, recall, precision,
        good_images_lost (the false positive rate), and at every fifth of them `intervals` of the three.
    """
    none: dict[str, Any] = asdict(Share(None, 0.0, 1.0, int(to_exclude.sum())))
    if not to_exclude.any() or to_exclude.all():
        return {"roc_auc": none, "average_precision": none, "points": []}
    ranked = _Ranked(scores, to_exclude)
    rarer = to_exclude if 2 * to_exclude.sum() <= len(to_exclude) else ~to_exclude
    return {
        "roc_auc": asdict(bootstrap.figure(ranked.roc_auc, rarer)),
        "average_precision": asdict(bootstrap.figure(ranked.average_precision, to_exclude)),
        "points": _points(scores, to_exclude, bootstrap),
    }


class _Ranked:
    """Images by falling score, those of one score together."""

    def __init__(self, scores: NDArray[np.float32], to_exclude: NDArray[np.bool_]) -> None:
        self._order = np.argsort(-scores, kind="stable")
        falling = scores[self._order]
        self._starts = np.flatnonzero(np.r_[True, falling[1:] != falling[:-1]])
        self._hit = to_exclude[self._order]

    def roc_auc(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of pairs, one to be excluded and one to be kept, that the scores put in order; ties are half.

        Args:
            weight: float64, (replicates, n).

        Returns:
            float64, (replicates,); NaN where there is no pair.

        Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143 (1982).
        """
        hits, lost = self._by_score(weight)
        above = np.cumsum(hits, axis=1) - hits / 2
        return _ratio((lost * above).sum(axis=1), hits.sum(axis=1) * lost.sum(axis=1))

    def average_precision(self, weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Precision at each score, averaged over what is to be excluded; as `roc_auc`."""
        hits, lost = self._by_score(weight)
        found = np.cumsum(hits, axis=1)
        precision = _ratio(found, found + np.cumsum(lost, axis=1))
        return _ratio(np.where(hits > 0, hits * precision, 0.0).sum(axis=1), hits.sum(axis=1))

    def _by_score(
        self, weight: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights of what is to be excluded and of what is not, summed up by score: (replicates, scores) each."""
        ordered = weight[:, self._order]
        sums = np.add.reduceat(ordered, self._starts, axis=1)
        hits = np.add.reduceat(ordered * self._hit, self._starts, axis=1)
        return hits, np.maximum(sums - hits, 0.0)


def _points(
    scores: NDArray[np.float32], to_exclude: NDArray[np.bool_], bootstrap: Bootstrap
) -> list[dict[str, Any]]:
    """See `curves`; precision is null where nothing is excluded, which at a score that occurs cannot be."""
    thresholds = _thresholds(scores, to_exclude)
    total, good = bootstrap.total(to_exclude), bootstrap.total(~to_exclude)
    points = []
    for threshold in thresholds:
        out = excluded(scores, threshold)
        hits, lost = bootstrap.total(out & to_exclude), bootstrap.total(out & ~to_exclude)
        figures = {
            "recall": hits / total,
            "precision": hits / (hits + lost),
            "good_images_lost": lost / good,
        }
        points.append({"threshold": threshold, **figures})
    marked = np.unique(
        np.linspace(0, len(points) - 1, min(_BANDS, len(points))).round().astype(int)
    ).tolist()
    out = np.stack([excluded(scores, thresholds[at]) for at in marked])
    every = [np.broadcast_to(one, out.shape) for one in (to_exclude, ~to_exclude)]
    found = bootstrap.shares(
        np.concatenate([out, every[0], out]), np.concatenate([every[0], out, every[1]])
    )
    for place, at in enumerate(marked):
        recall, precision, lost_share = (found[kind * len(marked) + place] for kind in range(3))
        named = {"recall": recall, "precision": precision, "good_images_lost": lost_share}
        points[at]["intervals"] = {name: [share.low, share.high] for name, share in named.items()}
    return points


def _thresholds(scores: NDArray[np.float32], to_exclude: NDArray[np.bool_]) -> list[float]:
    """Scores that occur, falling, the highest and the lowest among them.

    Evenly by rank within either kind: over all images nearly every point would lie where nothing is to be excluded.
    """
    distinct = np.unique(scores)
    if len(distinct) <= _POINTS:
        return [float(score) for score in distinct[::-1]]
    chosen: list[NDArray[np.float32]] = [distinct[:1], distinct[-1:]]
    for kind in (scores[to_exclude], scores[~to_exclude]):
        falling = np.sort(kind)[::-1]
        places = (
            np.linspace(0, len(falling) - 1, min(len(falling), _POINTS // 2 - 1))
            .round()
            .astype(int)
        )
        chosen.append(falling[places])
    return [float(score) for score in np.unique(np.concatenate(chosen))[::-1]]


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where nothing is to divide by."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)

"""Weighted PR and ROC curves with intervals, and the areas under them."""

import numpy as np

from toiletspark.model.head import excluded
from toiletspark.sampling.estimates import Bootstrap, Share
from toiletspark.sampling.evaluation import CurvePoint, Curves
from toiletspark.training.arrays import Bools, Doubles, Floats

_POINTS = 200  # of a curve: half by rank among images to exclude, half among the others
_BANDS = 40  # of them with an interval


def curves(scores: Floats, to_exclude: Bools, bootstrap: Bootstrap) -> Curves:
    """The PR and the ROC curve of exclusion scores, (n,), and the areas under them.

    At most 200 points, with intervals at every fifth. If all images are to exclude, or none, there
    are no points and the areas are unknown.
    """
    if not to_exclude.any() or to_exclude.all():
        none = Share(None, 0.0, 1.0, int(to_exclude.sum()))
        return Curves(none, none, [])
    ranked = _Ranked(scores, to_exclude)
    rarer = to_exclude if 2 * to_exclude.sum() <= len(to_exclude) else ~to_exclude
    return Curves(
        bootstrap.figure(ranked.roc_auc, rarer),
        bootstrap.figure(ranked.average_precision, to_exclude),
        _points(scores, to_exclude, bootstrap),
    )


class _Ranked:
    """Images by falling score, those of one score together."""

    def __init__(self, scores: Floats, to_exclude: Bools) -> None:
        self._order = np.argsort(-scores, kind="stable")
        falling = scores[self._order]
        self._starts = np.flatnonzero(np.r_[True, falling[1:] != falling[:-1]])
        self._hit = to_exclude[self._order]

    def roc_auc(self, weight: Doubles) -> Doubles:
        """The share of pairs, one to exclude and one to keep, that the scores put in order.

        Ties are half. `weight` is (replicates, n), the result (replicates,), NaN without a pair.

        Source: Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143
        (1982).
        """
        hits, lost = self._by_score(weight)
        above = np.cumsum(hits, axis=1) - hits / 2
        return _ratio((lost * above).sum(axis=1), hits.sum(axis=1) * lost.sum(axis=1))

    def average_precision(self, weight: Doubles) -> Doubles:
        """Precision at each score, averaged over what is to be excluded; as `roc_auc`."""
        hits, lost = self._by_score(weight)
        above = np.cumsum(hits, axis=1)
        precision = _ratio(above, above + np.cumsum(lost, axis=1))
        return _ratio(np.where(hits > 0, hits * precision, 0.0).sum(axis=1), hits.sum(axis=1))

    def _by_score(self, weight: Doubles) -> tuple[Doubles, Doubles]:
        """Sums of the weights to exclude, and of the others, by score: (replicates, scores)."""
        ordered = weight[:, self._order]
        sums = np.add.reduceat(ordered, self._starts, axis=1)
        hits = np.add.reduceat(ordered * self._hit, self._starts, axis=1)
        return hits, np.maximum(sums - hits, 0.0)


def _points(scores: Floats, to_exclude: Bools, bootstrap: Bootstrap) -> list[CurvePoint]:
    """See `curves`; precision is defined, since each threshold is a score."""
    thresholds = _thresholds(scores, to_exclude)
    places = np.linspace(0, len(thresholds) - 1, min(_BANDS, len(thresholds)))
    marked = np.unique(places.round().astype(int)).tolist()
    out = np.stack([excluded(scores, thresholds[index]) for index in marked])
    wanted = np.broadcast_to(to_exclude, out.shape)
    figures = {
        "recall": bootstrap.shares(out, wanted),
        "precision": bootstrap.shares(wanted, out),
        "good_images_lost": bootstrap.shares(out, ~wanted),
    }
    intervals = {}
    for row, index in enumerate(marked):
        at_row = {name: shares[row] for name, shares in figures.items()}
        intervals[index] = {name: [share.low, share.high] for name, share in at_row.items()}
    total, good = bootstrap.total(to_exclude), bootstrap.total(~to_exclude)
    points = []
    for index, threshold in enumerate(thresholds):
        out = excluded(scores, threshold)
        hits, lost = bootstrap.total(out & to_exclude), bootstrap.total(out & ~to_exclude)
        values = hits / total, hits / (hits + lost), lost / good
        points.append(CurvePoint(threshold, *values, intervals.get(index, {})))
    return points


def _thresholds(scores: Floats, to_exclude: Bools) -> list[float]:
    """Scores that occur, falling, with the highest and the lowest.

    Evenly by rank among images to exclude, and among the others: over all images nearly every point
    would lie where nothing is to exclude.
    """
    distinct = np.unique(scores)
    if len(distinct) > _POINTS:
        chosen: list[Floats] = [distinct[:1], distinct[-1:]]
        for part in (scores[to_exclude], scores[~to_exclude]):
            number = min(len(part), _POINTS // 2 - 1)
            chosen.append(np.sort(part)[np.linspace(0, len(part) - 1, number).round().astype(int)])
        distinct = np.unique(np.concatenate(chosen))
    return [float(score) for score in distinct[::-1]]


def _ratio(part: Doubles, whole: Doubles) -> Doubles:
    """NaN for division by zero."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)

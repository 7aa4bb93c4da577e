"""The operating threshold by policy; the same at training and at publishing.

Numpy and small files only, no Spark. A promise is judged on labelled images that the head has not
seen. The reason has intervals, because a few dozen toilets determine a threshold only so far. The
cost policy needs no such image: scores are probabilities, so the costs alone give the threshold.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import PolicyName, Publish
from toiletspark.errors import ConfigError, HeadError
from toiletspark.model import registry
from toiletspark.model.head import excluded
from toiletspark.sampling import evaluation_sample
from toiletspark.sampling.estimates import Bootstrap, Share
from toiletspark.sampling.evaluation_sample import Draw, EvaluationSample, choose_evaluation_sample
from toiletspark.tables import arrow_io
from toiletspark.tables.runs import Store

NOTHING_EXCLUDED = float(np.nextafter(np.float32(1), np.float32(2)))  # no score reaches it
_MAX_CANDIDATES = 400  # their intervals take about a second, and are wider than their distance
_DOING = "settling the operating threshold"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class HeldOut:
    """Labelled images that the head has not seen, with its scores; all (n,)."""

    scores: NDArray[np.float32]  # [0, 1], exclusion scores
    to_exclude: NDArray[np.bool_]  # by label
    bootstrap: Bootstrap  # their weights and resamples

    def recall(self, threshold: float) -> Share:
        """The excluded share of the images to exclude."""
        return self.bootstrap.share(excluded(self.scores, threshold), self.to_exclude)

    def precision(self, threshold: float) -> Share:
        """The share of the excluded images that are to exclude."""
        return self.bootstrap.share(self.to_exclude, excluded(self.scores, threshold))

    def good_images_lost(self, threshold: float) -> Share:
        """The excluded share of the images to keep."""
        return self.bootstrap.share(excluded(self.scores, threshold), ~self.to_exclude)


@dataclass(frozen=True)
class Settled:
    """An operating threshold, and the reason for it in one sentence."""

    operating_threshold: float
    reason: str


@dataclass(frozen=True)
class Labelled:
    """The labelled images with which a head was made."""

    rows: Rows  # of `schemas.HEADS`
    exclude_classes: Collection[str]
    kinds: Mapping[str, Draw]  # the draws, see `evaluation_sample.describe_draws`
    balanced: bool = False  # True if each class weighed the same in the fit (train.class_weight)

    @property
    def held_out(self) -> tuple[HeldOut, EvaluationSample]:
        """See `held_out_images`."""
        return held_out_images(self.rows, self.exclude_classes, self.kinds)

    @property
    def to_exclude(self) -> int:
        """The images with a label to exclude, held out or not."""
        return sum(row["label"] in self.exclude_classes for row in self.rows)


def labelled_images(store: Store, head_id: str, folder: str) -> Labelled | None:
    """The images of a head of the store, or of a folder of its own; None if it lacks them."""
    run = registry.run_of(store, head_id, folder)
    if run is None or not run.rows:
        return None
    made_with, head = arrow_io.read(run), registry.load(run.folder)
    kinds = evaluation_sample.describe_draws(store, (row["draw"] for row in made_with), run)
    is_balanced = head.facts.get("settings", {}).get("class_weight") == "balanced"
    return Labelled(made_with, head.exclude_classes, kinds, is_balanced)


def held_out_images(
    made_with: Rows, exclude_classes: Collection[str], kinds: Mapping[str, Draw]
) -> tuple[HeldOut, EvaluationSample]:
    """The held-out images that stand for the catalog, of rows of `schemas.HEADS` of one head.

    `kinds` are the draws, see `evaluation_sample.describe_draws`.
    """
    held_out = [row for row in made_with if row["held_out"]]
    stand = choose_evaluation_sample([row["draw"] for row in held_out], kinds)
    rows = [row for row, stands in zip(held_out, stand.rows.tolist(), strict=True) if stands]
    weights = stand.weights(np.array([row["weight"] for row in held_out], dtype=np.float64))
    strata, listings = [row["stratum"] for row in rows], [row["listing_id"] for row in rows]
    images = HeldOut(
        np.array([row["exclusion_score"] for row in rows], dtype=np.float32),
        np.array([row["label"] in exclude_classes for row in rows], dtype=bool),
        Bootstrap(strata, listings, weights),
    )
    return images, stand


def settle(publish: Publish, labelled: Labelled) -> Settled:
    """The operating threshold by the policy of [publish]; the same at training and at publishing.

    "fixed" uses no image, "cost_ratio" their labels (`by_cost`), the others held-out scores
    (`by_policy`). Raises ConfigError if no threshold reaches the policy's value, or the images
    cannot show it.
    """
    policy = publish.policy
    if policy.name == "fixed":
        return Settled(publish.operating_threshold, "fixed by publish.operating_threshold")
    if policy.name == "cost_ratio":
        return by_cost(policy.value, labelled)
    images, stand = labelled.held_out
    try:
        settled = by_policy(policy.name, policy.value, images, safe=policy.safe)
    except ValueError as error:
        raise ConfigError(
            doing=f"{_DOING} by {policy.name} {policy.value:g} on {stand.description}",
            expected="a policy value that some threshold can reach, and held-out images with and "
            "without the excluded classes",
            found=str(error),
            todo="lower the value, set publish.policy.safe=false, or label more images",
        ) from None
    return Settled(settled.operating_threshold, f"{settled.reason}; by {stand.description}")


def settle_for(publish: Publish, head_id: str, labelled: Labelled | None) -> Settled:
    """`settle` for a head of the store, or of a folder of its own; see `labelled_images`.

    Raises HeadError if the policy needs held-out images and there are none.
    """
    if labelled is None and publish.policy.name not in ("fixed", "cost_ratio"):
        raise HeadError(
            doing=f"{_DOING} by {publish.policy.name}",
            expected=f"the run folder of the head {head_id}, with its held-out images",
            found="no such run, or one without them",
            todo="set score.head to its folder, train again, or set publish.policy.name=fixed",
        )
    return settle(publish, labelled or Labelled((), (), {}))


def by_cost(ratio: float, labelled: Labelled) -> Settled:
    """The threshold from which on excluding an image costs less than keeping it.

    A missed toilet costs `ratio` good photos, so an image is excluded if its chance of being one is
    at least 1 / (1 + ratio). The head's scores are chances among the images that it was trained on;
    where toilets are rarer or more frequent in the catalog, the odds differ by a constant factor,
    and the threshold moves instead of the scores. The catalog's share is that of a weighted random
    sample; without one, that of the training. Shares have half an image added on both sides.

    In 12 draws of 1,500 labels with 3 % toilets this cost 0.126 an image and found 89 % (85 % at
    worst); the cheapest threshold of the 9 held-out toilets 0.148 and 84 % (54 % at worst).

    Source: Saerens, Latinne, Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities, Neural Computation 14 (2002).
    """
    trained, catalog, source = _odds(labelled)
    threshold = 1 / (1 + ratio * catalog / trained)
    reason = f"a missed one costs {ratio:g} lost good images; {source}"
    images, stand = labelled.held_out
    if images.to_exclude.any() and not images.to_exclude.all():
        reason = f"{reason}; {_shares(threshold, images)}; by {stand.description}"
    return Settled(round(threshold, 6), reason)


def _odds(labelled: Labelled) -> tuple[float, float, str]:
    """The odds of images to exclude in training and in the catalog, and the source in words."""
    trained = [row for row in labelled.rows if not row["held_out"]]
    labels = [row["label"] for row in trained]
    if labelled.balanced:
        labels = sorted(set(labels))  # each class has weighed the same
    odds = _smoothed_odds([(label in labelled.exclude_classes, 1.0) for label in labels])
    if not labels:
        return odds, odds, "its scores are taken as they are, because the head lacks its labels"
    sample = choose_evaluation_sample([row["draw"] for row in labelled.rows], labelled.kinds)
    if sample.draw is None:
        return odds, odds, "its labels were not drawn at random and may not be the catalog's shares"
    drawn = [row for row, stands in zip(labelled.rows, sample.rows.tolist(), strict=True) if stands]
    weighted = [(row["label"] in labelled.exclude_classes, row["weight"]) for row in drawn]
    catalog = _smoothed_odds(weighted)
    share, share_trained = (100 * each / (1 + each) for each in (catalog, odds))
    words = f"{share:.3g} % of the {sample.population} and {share_trained:.3g} % of the training"
    return odds, catalog, f"{words} are to be excluded, by the {sample.kind} {sample.run_id}"


def _smoothed_odds(images: Sequence[tuple[bool, float]]) -> float:
    """The odds of True among weighted images, with half an image of mean weight on both sides."""
    total = math.fsum(weight for _, weight in images)
    half = 0.5 * total / len(images) if images else 0.5
    yes = math.fsum(weight for is_true, weight in images if is_true)
    return (yes + half) / (total - yes + half)


def by_policy(name: PolicyName, value: float, images: HeldOut, *, safe: bool) -> Settled:
    """The threshold that keeps a promise. Cost: a bootstrap at each of at most 400 thresholds.

    Precision does not rise steadily with the threshold: a few wrong labels among the highest scores
    weigh more there. By the estimate alone, luck picks the threshold too, and the catalog misses
    the value about every second time; `safe` prevents that. In 150 draws of 300 images and 150 of
    1,000, with min_precision 0.9, it missed it in 47 %; with `safe`, in 3 % of the 155 that
    settled.

    Args:
        name: max_share_of_good_images_lost and min_precision take the lowest threshold that reaches
            the value, so that as few toilets as possible remain; min_recall takes the highest, so
            that as few good images as possible are lost.
        value: the share of all images together, [0, 1].
        safe: True if the far end of the 95 % interval must reach the value, not only the estimate.

    Raises:
        ValueError: no threshold reaches the value, or one of both sorts of image is missing.
    """
    if not images.to_exclude.any() or images.to_exclude.all():
        raise ValueError("a policy needs labelled images to exclude, and others to keep")
    candidates = _candidates(images.scores)
    reaching = [at for at in candidates if _reaches(name, value, images, at, safe)]
    if not reaching:
        side = " at the safe end" if safe else ""
        raise ValueError(f"no operating threshold has {name} {value:g}{side}")
    threshold = max(reaching) if name == "min_recall" else min(reaching)
    side = "at the far end of the interval" if safe else "by the estimate"
    return Settled(threshold, f"{name} {value:g} {side}; {_shares(threshold, images)}")


def _candidates(scores: NDArray[np.float32]) -> list[float]:
    """Scores, evenly by rank if there are many, and one threshold above them all; ascending."""
    distinct = np.unique(scores)
    ranks = np.linspace(0, len(distinct) - 1, min(len(distinct), _MAX_CANDIDATES))
    chosen = distinct[np.unique(ranks.round().astype(int))]
    return [*chosen.astype(float).tolist(), NOTHING_EXCLUDED]


def _reaches(name: PolicyName, value: float, images: HeldOut, threshold: float, safe: bool) -> bool:
    if name == "max_share_of_good_images_lost":
        lost = images.good_images_lost(threshold)
        return (lost.high if safe else lost.value or 0.0) <= value
    share = images.recall(threshold) if name == "min_recall" else images.precision(threshold)
    if share.value is None:
        return False  # without excluded images there is no precision
    return (share.low if safe else share.value) >= value


def _shares(threshold: float, images: HeldOut) -> str:
    return (
        f"recall {images.recall(threshold)}, precision {images.precision(threshold)}, "
        f"good images lost {images.good_images_lost(threshold)}"
    )

"""The operating threshold by policy, on held-out images; the same at training and at publishing.

Numpy and small files only, no Spark. A policy is judged on labelled images that the head has not
seen. The reason has intervals, because a few dozen toilets determine a threshold only so far.
"""

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


def settle(
    publish: Publish, made_with: Rows, exclude_classes: Collection[str], kinds: Mapping[str, Draw]
) -> Settled:
    """The operating threshold by the policy of [publish]; the same at training and at publishing.

    Only a policy other than "fixed" uses the images, see `held_out_images` and `by_policy`. Raises
    ConfigError if no threshold reaches the policy's value, or the images cannot show it.
    """
    policy = publish.policy
    if policy.name == "fixed":
        return Settled(publish.operating_threshold, "fixed by publish.operating_threshold")
    images, stand = held_out_images(made_with, exclude_classes, kinds)
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


def settle_for(store: Store, publish: Publish, head_id: str, folder: str) -> Settled:
    """`settle` for a head of the store, or of a folder of its own.

    Raises HeadError if there is no such head, or it lacks its held-out images.
    """
    if publish.policy.name == "fixed":
        return settle(publish, [], (), {})
    run = registry.run_of(store, head_id, folder)
    if run is None or not run.rows:
        raise HeadError(
            doing=f"{_DOING} by {publish.policy.name}",
            expected=f"the run folder of the head {head_id}, with its held-out images",
            found="one without them" if run else "no such head in the store",
            todo="set score.head to its folder, train again, or set publish.policy.name=fixed",
        )
    made_with, head = arrow_io.read(run), registry.load(run.folder)
    kinds = evaluation_sample.describe_draws(store, (row["draw"] for row in made_with), run)
    return settle(publish, made_with, head.exclude_classes, kinds)


def by_policy(name: PolicyName, value: float, images: HeldOut, *, safe: bool) -> Settled:
    """The operating threshold by a policy. Cost: a bootstrap at each of at most 400 thresholds.

    Precision does not rise steadily with the threshold: a few wrong labels among the highest scores
    weigh more there. By the estimate alone, luck picks the threshold too, and the catalog misses
    the value about every second time; `safe` prevents that. In 150 draws of 300 images and 150 of
    1,000, with min_precision 0.9, it missed it in 47 %; with `safe`, in 3 % of the 155 that
    settled.

    Args:
        name: max_share_of_good_images_lost and min_precision take the lowest threshold that reaches
            the value, so that as few toilets as possible remain; min_recall takes the highest, so
            that as few good images as possible are lost; cost_ratio takes the one with the least
            `value` x missed + lost ("a toilet in an ad costs 20 good photos").
        value: of all images together: the share, [0, 1], or the ratio, > 0.
        safe: True if the far end of the 95 % interval must reach the value, not only the estimate.
            cost_ratio has no safe end.

    Raises:
        ValueError: no threshold reaches the value, or one of both sorts of image is missing.
    """
    if not images.to_exclude.any() or images.to_exclude.all():
        raise ValueError("a policy needs labelled images to exclude, and others to keep")
    candidates = _candidates(images.scores)
    if name == "cost_ratio":
        threshold = _cheapest(candidates, value, images)
        reason = f"a missed one costs {value:g} lost good images"
        return Settled(threshold, f"{reason}; {_shares(threshold, images)}")
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


def _cheapest(candidates: list[float], ratio: float, images: HeldOut) -> float:
    """The threshold of least weighted cost; of equal ones the highest, which excludes least."""
    total, to_exclude = images.bootstrap.total, images.to_exclude

    def cost(threshold: float) -> float:
        out = excluded(images.scores, threshold)
        return ratio * total(to_exclude & ~out) + total(~to_exclude & out)

    return min(reversed(candidates), key=cost)


def _shares(threshold: float, images: HeldOut) -> str:
    return (
        f"recall {images.recall(threshold)}, precision {images.precision(threshold)}, "
        f"good images lost {images.good_images_lost(threshold)}"
    )

"""The operating threshold by policy: what the feed may lose or let through decides, not a number of taste.

Numpy only. The labelled images that a policy is settled on must be unseen by the head. What a policy promises is told
with its interval, since a few dozen toilets settle a threshold only so far.
"""

from __future__ import annotations

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
from toiletspark.tables import arrow_io as rows
from toiletspark.tables.runs import Store

_MOST_CANDIDATES = (
    400  # bounds of 400 thresholds cost about a second; more are nearer together than their bounds
)
NOTHING_EXCLUDED = float(
    np.nextafter(np.float32(1), np.float32(2))
)  # the threshold that no score reaches


@dataclass(frozen=True)
class Judged:
    """Labelled images that the head has not seen, with its scores; all (n,).

    Attributes:
        scores: float32, [0, 1], exclusion scores.
        to_exclude: bool, by label.
        bootstrap: their weights, and what the sample might have been.
    """

    scores: NDArray[np.float32]
    to_exclude: NDArray[np.bool_]
    bootstrap: Bootstrap

    def recall(self, threshold: float) -> Share:
        """The share of what is to be excluded that is."""
        return self.bootstrap.share(excluded(self.scores, threshold), self.to_exclude)

    def precision(self, threshold: float) -> Share:
        """The share of what is excluded that is to be."""
        return self.bootstrap.share(self.to_exclude, excluded(self.scores, threshold))

    def good_images_lost(self, threshold: float) -> Share:
        """The share of the images to be kept that are excluded."""
        return self.bootstrap.share(excluded(self.scores, threshold), ~self.to_exclude)


@dataclass(frozen=True)
class Settled:
    """An operating threshold, and the reason for it in one sentence."""

    operating_threshold: float
    reason: str


def judged(
    made_with: Sequence[Mapping[str, Any]],
    exclude_classes: Collection[str],
    kinds: Mapping[str, Draw],
) -> tuple[Judged, EvaluationSample]:
    """The images on which a head can be judged for the catalog.

    Args:
        made_with: rows of `tables.HEADS`, with which one head was made.
        exclude_classes: the head's.
        kinds: what the draws were, see `evaluation_sample.describe_draws`.
    """
    held = [row for row in made_with if row["held_out"]]
    stand = choose_evaluation_sample([row["draw"] for row in held], kinds)
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
        kinds: what the draws were, see `evaluation_sample.describe_draws`.

    Raises:
        ConfigError: no threshold keeps the policy's promise, or the images cannot tell.

    Cost: see `by_policy`.
    """
    policy = publish.policy
    if policy.name == "fixed":
        return Settled(publish.operating_threshold, "fixed by publish.operating_threshold")
    images, stand = judged(made_with, exclude_classes, kinds)
    try:
        settled = by_policy(policy.name, policy.value, images, safe=policy.safe)
    except ValueError as error:
        raise ConfigError(
            doing=f"settling the operating threshold by {policy.name} {policy.value:g} on {stand.description}",
            expected="a promise that some threshold keeps, and images of both kinds to tell",
            found=str(error),
            todo="promise less, set publish.policy.safe=false, or label more images",
        ) from None
    return Settled(settled.operating_threshold, f"{settled.reason}; by {stand.description}")


def settle_for(store: Store, publish: Publish, head_id: str, folder: str) -> Settled:
    """`settle` for a head that lies in the store, or in a folder of its own.

    Raises:
        ConfigError: see `settle`.
        HeadError: the head is not to be found, or does not tell with which images it was made.
    """
    if publish.policy.name == "fixed":
        return settle(publish, [], (), {})
    run = registry.run_of(store, head_id, folder)
    if run is None or not run.rows:
        raise HeadError(
            doing=f"settling the operating threshold by {publish.policy.name}",
            expected=f"the run folder of the head {head_id}, with the images that were held out when it was trained",
            found="one without them, made by an earlier toiletspark"
            if run
            else "no such head in the store",
            todo="set score.head to its folder, train again, or set publish.policy.name=fixed",
        )
    made_with, head = rows.read(run), registry.load(run.folder)
    known = evaluation_sample.describe_draws(store, (row["draw"] for row in made_with), run)
    return settle(publish, made_with, head.exclude_classes, known)


def by_policy(name: PolicyName, value: float, judged: Judged, *, safe: bool) -> Settled:
    """The operating threshold that a policy asks for.

    A promise is about all images that the threshold excludes, or keeps, together. Precision does not rise steadily with
    the threshold: a higher one may break the promise, where a few wrong labels among the highest scores weigh more, and
    of the images just above the lowest one fewer may be right. By the estimate, luck picks the threshold too, and the
    catalog keeps the promise about as often as not; `safe` is there for that. Over 150 draws of 300 images and 150 of
    1,000, with min_precision 0.9, the catalog broke the promise in 47 %; with `safe`, in 3 % of the 155 that settled.

    Args:
        name: max_share_of_good_images_lost and min_precision: the lowest threshold that keeps the promise, so that no
            more toilets come through than must; min_recall: the highest, so that no more good images are lost;
            cost_ratio: the one where `value` x missed + lost is least ("a toilet in an ad costs 20 good photos").
        value: the share, [0, 1], or the ratio, > 0.
        judged: what it is settled on.
        safe: whether the promise must hold at the far end of its 95 % interval, not only by the estimate. The cost
            ratio promises nothing and has no safe end.

    Raises:
        ValueError: no threshold keeps the promise, or nothing of either kind is among the images.

    Cost: a bootstrap at each of at most 400 thresholds.
    """
    if not judged.to_exclude.any() or judged.to_exclude.all():
        raise ValueError(
            "a policy needs labelled images of both kinds: to be excluded, and to be kept"
        )
    candidates = _candidates(judged.scores)
    if name == "cost_ratio":
        threshold = _cheapest(candidates, value, judged)
        return Settled(
            threshold, f"a missed one costs {value:g} lost good images; {_told(threshold, judged)}"
        )
    kept = [one for one in candidates if _keeps(name, value, judged, one, safe)]
    if not kept:
        raise ValueError(
            f"no operating threshold has {name} {value:g}{' at the safe end' if safe else ''}"
        )
    threshold = max(kept) if name == "min_recall" else min(kept)
    side = "at the far end of the interval" if safe else "by the estimate"
    return Settled(threshold, f"{name} {value:g} {side}; {_told(threshold, judged)}")


def _candidates(scores: NDArray[np.float32]) -> list[float]:
    """Thresholds worth a look, ascending: at scores, evenly by rank if there are many, and one above them all."""
    distinct = np.unique(scores)
    places = np.unique(
        np.linspace(0, len(distinct) - 1, min(len(distinct), _MOST_CANDIDATES)).round().astype(int)
    )
    return [*distinct[places].astype(float).tolist(), NOTHING_EXCLUDED]


def _keeps(name: PolicyName, value: float, judged: Judged, threshold: float, safe: bool) -> bool:
    """Whether a threshold keeps what the policy promises."""
    if name == "max_share_of_good_images_lost":
        lost = judged.good_images_lost(threshold)
        return (lost.high if safe else lost.value or 0.0) <= value
    share = judged.recall(threshold) if name == "min_recall" else judged.precision(threshold)
    if share.value is None:
        return False  # who excludes nothing has no precision to show
    return (share.low if safe else share.value) >= value


def _cheapest(candidates: list[float], ratio: float, judged: Judged) -> float:
    """The threshold of least weighted cost; of equal ones the highest, which excludes least."""

    def cost(threshold: float) -> float:
        out = excluded(judged.scores, threshold)
        return ratio * judged.bootstrap.total(judged.to_exclude & ~out) + judged.bootstrap.total(
            ~judged.to_exclude & out
        )

    return min(reversed(candidates), key=cost)


def _told(threshold: float, judged: Judged) -> str:
    shares = {
        "recall": judged.recall,
        "precision": judged.precision,
        "good images lost": judged.good_images_lost,
    }
    return ", ".join(f"{name} {share(threshold)}" for name, share in shares.items())

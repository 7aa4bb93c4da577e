"""Champion and challenger: is the new head better than the live one, on images that neither has seen?"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Policy, Publish
from toiletspark.errors import ConfigError, HeadError
from toiletspark.model import registry
from toiletspark.model.head import Head, excluded
from toiletspark.publishing import thresholds
from toiletspark.publishing.versions import log as versions
from toiletspark.sampling.estimates import Bootstrap, Difference
from toiletspark.sampling.evaluation_sample import Draw, choose_evaluation_sample
from toiletspark.tables import arrow_io as rows
from toiletspark.tables.runs import Run, Store
from toiletspark.training import splits
from toiletspark.training.dataset import TrainingSet

NOTHING, BETTER, WORSE, ALIKE = "nothing to compare", "better", "worse", "not distinguishable"
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Live:
    """The head that the feed's list was made with, or, before there is a list, the newest one that was promoted.

    Attributes:
        run: its run folder, with the images that it was made with.
        operating_threshold: at which it decides.
    """

    run: Run
    operating_threshold: float

    @property
    def head_id(self) -> str:
        """Its id."""
        return str(self.run.inputs.head_id)


def compare(
    head: Head,
    operating_threshold: float,
    unseen: TrainingSet,
    groups: Sequence[str],
    kinds: Mapping[str, Draw],
    store: Store,
    publish: Publish,
) -> dict[str, Any]:
    """Compares a new head with the live one, each at its own operating threshold.

    Args:
        head: the new one, the challenger.
        operating_threshold: at which it decides.
        unseen: what was held out when it was trained, in whole groups.
        groups: of each of these images, see `splits.groups`.
        kinds: what their draws were, see `evaluation_sample.describe_draws`.
        store: knows what is published, and with which images its head was made.
        publish: its policy says what a mistake costs.

    Returns:
        head_id (of the live head, or None), verdict, n (images that neither has seen), differences (of cost, recall,
        precision and good_images_lost, new less live, each with value, low and high), sentence.
    """
    live = live_head(store, publish)
    if live is None:
        return _nothing(None, "no head of this store is live")
    known, scores = live_scores(live, unseen, groups, head.backbone_id)
    unseen = unseen.where(known)
    if not len(unseen.label):
        return _nothing(
            live.head_id,
            "the live head has seen all that was held out, or does not tell what it has seen",
        )
    stand = choose_evaluation_sample(unseen.draw, kinds)
    weight = stand.weights(unseen.weight)
    seen_by_neither = unseen.where(stand.rows)
    new = excluded(
        head.exclusion_scores(head.probabilities(seen_by_neither.embeddings)), operating_threshold
    )
    old = excluded(scores[known][stand.rows], live.operating_threshold)
    bootstrap = Bootstrap(seen_by_neither.stratum, seen_by_neither.listing_id, weight)
    to_exclude = np.isin(np.array(seen_by_neither.label), head.exclude_classes)
    found = differences(bootstrap, to_exclude, new, old, cost_of_a_miss(publish.policy))
    return {
        "head_id": live.head_id,
        "verdict": verdict(found["cost"]),
        "n": len(new),
        "differences": {name: dataclasses.asdict(one) for name, one in found.items()},
        "sentence": _sentence(live.head_id, found["cost"], stand.description),
    }


def live_head(store: Store, publish: Publish) -> Live | None:
    """The live head; None where no head is live, or the one that is does not lie in the store."""
    published = versions.published(store.root)
    if published is not None:
        inputs = published.inputs
        run = registry.run_of(store, inputs.head_id)
        return Live(run, inputs.operating_threshold) if run else None
    run = registry.newest_promoted(store)
    if run is None:
        return None
    try:
        settled = thresholds.settle_for(store, publish, run.inputs.head_id, "")
    except (
        ConfigError,
        HeadError,
    ):  # it cannot keep the policy, or does not tell what it has not seen
        return Live(run, publish.operating_threshold)
    return Live(run, settled.operating_threshold)


def live_scores(
    live: Live, unseen: TrainingSet, groups: Sequence[str], backbone_id: str
) -> tuple[Bools, NDArray[np.float32]]:
    """What the live head says of images that it has not seen.

    It has seen an image if it was trained on this content, on another image of this listing, or on one of a listing in
    its group: photos of one home look alike, and a home may be offered twice. Of what was held out when it was trained
    it has kept scores; what is new to it, it scores, where it is for the same backbone.

    Args:
        live: the live head.
        unseen: images that another head has not seen, in whole groups: what the live head was trained on and has no
            label any more tells nothing of its group.
        groups: the group of each image, n names.
        backbone_id: of their embeddings.

    Returns:
        Which images have a score, bool, (n,), and the scores, float32, (n,), 0 for the others.
    """
    made_with = rows.read(live.run)
    kept = {row["content_digest"]: row["exclusion_score"] for row in made_with if row["held_out"]}
    digests = {row["content_digest"] for row in made_with if not row["held_out"]}
    listings = {row["listing_id"] for row in made_with if not row["held_out"]}
    new_to_it = ~_seen(digests, listings, unseen, groups)
    scores = np.array(
        [kept.get(digest, np.nan) for digest in unseen.content_digest], dtype=np.float32
    )
    missing = new_to_it & np.isnan(scores)
    if made_with and missing.any():
        head = registry.load(live.run.folder)
        if head.backbone_id == backbone_id:
            scores[missing] = head.exclusion_scores(head.probabilities(unseen.embeddings[missing]))
    return new_to_it & ~np.isnan(scores), np.nan_to_num(scores)


def _seen(
    digests: set[str], listings: set[str], unseen: TrainingSet, groups: Sequence[str]
) -> Bools:
    """Which images are of these contents, or of a group with one of them or of these listings: bool, (n,).

    A content that lies in several groups says nothing of a home: `splits.groups` lets placeholders join none.
    """
    shown_by = Counter(digest for digest, _ in set(zip(unseen.content_digest, groups, strict=True)))
    content = np.array([digest in digests for digest in unseen.content_digest], dtype=bool)
    of_home = np.array([shown_by[digest] == 1 for digest in unseen.content_digest], dtype=bool)
    listing = np.array([one in listings for one in unseen.listing_id], dtype=bool)
    return content | splits.whole_groups(listing | (content & of_home), groups)


def differences(
    bootstrap: Bootstrap, to_exclude: Bools, new: Bools, old: Bools, miss: float
) -> dict[str, Difference]:
    """What the new decisions are worth, less what the old ones are; paired, so what is hard for both cancels out.

    Args:
        bootstrap: of the images, (n,).
        to_exclude: bool, (n,), by label.
        new: bool, (n,), whether the new head excludes.
        old: bool, (n,), whether the live head excludes.
        miss: what a missed image costs; a good one that is lost costs 1.

    Returns:
        cost (mean of an image), recall, precision, good_images_lost.
    """
    everything = np.ones_like(to_exclude)

    def paired(ratio: Any) -> Difference:
        return bootstrap.difference(ratio(new), ratio(old))

    return {
        "cost": paired(lambda out: (miss * (to_exclude & ~out) + (~to_exclude & out), everything)),
        "recall": paired(lambda out: (out & to_exclude, to_exclude)),
        "precision": paired(lambda out: (out & to_exclude, out)),
        "good_images_lost": paired(lambda out: (out & ~to_exclude, ~to_exclude)),
    }


def cost_of_a_miss(policy: Policy) -> float:
    """How many lost good images a missed one costs: what the policy says, else one."""
    return policy.value if policy.name == "cost_ratio" else 1.0


def verdict(cost: Difference) -> str:
    """Better or worse where the interval of the difference in cost excludes 0."""
    if cost.high < 0:
        return BETTER
    return WORSE if cost.low > 0 else ALIKE


def promotion(
    comparison: dict[str, Any], accept_worse: str, *, of_catalog: bool = True
) -> dict[str, Any]:
    """Whether a new head is used from now on: unless it is worse, or although it is, for a reason.

    Never one whose backbone the catalog is not embedded with (`of_catalog`): scoring would stop at it.

    Returns:
        What the head's manifest says: promoted (bool), champion, and accepted_worse (the reason), where that decided.
    """
    if comparison["verdict"] != WORSE:
        return {"promoted": of_catalog, "champion": comparison}
    if not accept_worse:
        return {"promoted": False, "champion": comparison}
    return {"promoted": of_catalog, "champion": comparison, "accepted_worse": accept_worse.strip()}


def told(promotion: dict[str, Any]) -> str:
    """What a promotion means for the steps that follow, in a sentence or two."""
    found = str(promotion["champion"]["sentence"])
    if promotion["promoted"] and "accepted_worse" in promotion:
        return f"{found} Promoted all the same: {promotion['accepted_worse']}"
    if promotion["promoted"]:
        return found
    if promotion["champion"]["verdict"] != WORSE:
        return f"{found} Kept, not promoted: the catalog is not embedded with its backbone yet."
    return f'{found} Kept, not promoted: scoring goes on with the head before; --accept-worse "reason" promotes it.'


def _nothing(head_id: str | None, why: str) -> dict[str, Any]:
    return {
        "head_id": head_id,
        "verdict": NOTHING,
        "n": 0,
        "differences": {},
        "sentence": f"Nothing to compare: {why}.",
    }


def _sentence(head_id: str, cost: Difference, by: str) -> str:
    word = {BETTER: "Better than", WORSE: "Worse than", ALIKE: "Not distinguishable from"}[
        verdict(cost)
    ]
    per_1000 = [1000 * number for number in (cost.value or 0.0, cost.low, cost.high)]
    figures = "{:+.1f} ({:+.1f} to {:+.1f})".format(*per_1000)
    return f"{word} the live head {head_id}: cost of 1,000 images {figures}, by {by} that neither has seen."

"""Compares a new head with the live one, on images that neither has seen."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from toiletspark.config import Policy, Publish
from toiletspark.errors import ConfigError, HeadError
from toiletspark.model import registry
from toiletspark.model.head import Head, excluded
from toiletspark.publishing import thresholds
from toiletspark.publishing.versions import log
from toiletspark.sampling.estimates import Bootstrap, Difference, Ratio
from toiletspark.sampling.evaluation_sample import Draw
from toiletspark.tables import arrow_io
from toiletspark.tables.runs import Run, Store
from toiletspark.training import splits
from toiletspark.training.arrays import Bools, Floats
from toiletspark.training.dataset import TrainingSet
from toiletspark.training.evaluation.predictions import drawn_rows, ratios_of

NOTHING, BETTER, WORSE, ALIKE = "nothing to compare", "better", "worse", "not distinguishable"


@dataclass(frozen=True)
class Live:
    """The head of the live version or, before the first version, the newest promoted head."""

    run: Run
    operating_threshold: float


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
        head: the new one; `unseen` are its held-out images, in whole groups.
        groups: of each of these images, see `splits.groups`.
        kinds: see `evaluation_sample.describe_draws`.
        publish: its policy says what a mistake costs.

    Returns:
        head_id (of the live head, or None), verdict, n (images that neither has seen), differences
        (by figure, new less live, as JSON of a `Difference`), sentence.
    """
    live = live_head(store, publish)
    if live is None:
        return _nothing(None, "no head of this store is live")
    known, scores = live_scores(live, unseen, groups, head.backbone_id)
    head_id = live.run.inputs.head_id
    if not known.any():
        why = "the live head has seen all that was held out, or does not tell what it has seen"
        return _nothing(head_id, why)
    stand, images, bootstrap = drawn_rows(unseen.where(known), kinds)
    new_scores = head.exclusion_scores(head.probabilities(images.embeddings))
    new = excluded(new_scores, operating_threshold)
    old = excluded(scores[known][stand.rows], live.operating_threshold)
    to_exclude = np.isin(np.array(images.label), head.exclude_classes)
    by_figure = differences(bootstrap, to_exclude, new, old, cost_of_a_miss(publish.policy))
    return {
        "head_id": head_id,
        "verdict": verdict(by_figure["cost"]),
        "n": len(new),
        "differences": {name: dataclasses.asdict(each) for name, each in by_figure.items()},
        "sentence": _sentence(head_id, by_figure["cost"], stand.description),
    }


def live_head(store: Store, publish: Publish) -> Live | None:
    """The live head; None if there is none, or if it does not lie in the store."""
    if published := log.published(store.root):
        run = registry.run_of(store, published.inputs.head_id)
        return Live(run, published.inputs.operating_threshold) if run else None
    run = registry.newest_promoted(store)
    if run is None:
        return None
    try:
        labelled = thresholds.labelled_images(store, run.inputs.head_id, "")
        settled = thresholds.settle_for(publish, run.inputs.head_id, labelled)
    except (ConfigError, HeadError):  # it cannot keep the policy, or has no held-out images
        return Live(run, publish.operating_threshold)
    return Live(run, settled.operating_threshold)


def live_scores(
    live: Live, unseen: TrainingSet, groups: Sequence[str], backbone_id: str
) -> tuple[Bools, Floats]:
    """The live head's scores of images that it has not seen.

    It has seen an image if it was trained on this content, on another image of this listing, or on
    one of a listing in its group. Scores of its own held-out images were stored; it scores other
    images if it has the same backbone (`backbone_id` is that of the embeddings).

    Returns:
        The images with a score, bool, (n,), and the scores, float32, (n,), 0 for the others.
    """
    made_with = arrow_io.read(live.run)
    stored = {row["content_digest"]: row["exclusion_score"] for row in made_with if row["held_out"]}
    trained_on = [row for row in made_with if not row["held_out"]]
    unknown = ~_seen(trained_on, unseen, groups)
    scores = np.array([stored.get(digest, np.nan) for digest in unseen.content_digest], np.float32)
    missing = unknown & np.isnan(scores)
    if made_with and missing.any():
        head = registry.load(live.run.folder)
        if head.backbone_id == backbone_id:
            scores[missing] = head.exclusion_scores(head.probabilities(unseen.embeddings[missing]))
    return unknown & ~np.isnan(scores), np.nan_to_num(scores)


def _seen(trained_on: list[dict[str, Any]], unseen: TrainingSet, groups: Sequence[str]) -> Bools:
    """True for images of these contents, or of a group with one or with their listings: (n,).

    A content in several groups is no sign of one home: `splits.groups` lets placeholders join none.
    """
    digests = np.array(unseen.content_digest)
    content = np.isin(digests, [row["content_digest"] for row in trained_on])
    listing = np.isin(np.array(unseen.listing_id), [row["listing_id"] for row in trained_on])
    pairs = set(zip(unseen.content_digest, groups, strict=True))
    groups_of = Counter(digest for digest, _ in pairs)
    of_home = np.array([groups_of[digest] == 1 for digest in unseen.content_digest], dtype=bool)
    return content | splits.whole_groups(listing | (content & of_home), groups)


def differences(
    bootstrap: Bootstrap, to_exclude: Bools, new: Bools, old: Bools, miss: float
) -> dict[str, Difference]:
    """Figures of the new decisions less those of the old, image by image.

    All are bool, (n,): to exclude by label, and excluded by the new and by the live head. A good
    image that is lost costs 1, a missed one `miss`; the cost is the mean of an image.
    """

    def ratios(out: Bools) -> dict[str, Ratio]:
        cost = miss * (to_exclude & ~out) + (~to_exclude & out)
        return {"cost": (cost, np.ones_like(out)), **ratios_of(out, to_exclude)}

    ours, theirs = ratios(new), ratios(old)
    names = ("cost", "recall", "precision", "good_images_lost")
    return {name: bootstrap.difference(ours[name], theirs[name]) for name in names}


def cost_of_a_miss(policy: Policy) -> float:
    """The number of lost good images that a missed image is worth: by the policy, else one."""
    return policy.value if policy.name == "cost_ratio" else 1.0


def verdict(cost: Difference) -> str:
    """Better or worse if the interval of the difference in cost excludes 0."""
    if cost.high < 0:
        return BETTER
    return WORSE if cost.low > 0 else ALIKE


def promotion(
    comparison: dict[str, Any], accept_worse: str, *, of_catalog: bool = True
) -> dict[str, Any]:
    """Decides if a new head is used from now on: unless it is worse, and nobody has accepted that.

    Never a head whose backbone is not the catalog's (`of_catalog`): scoring would stop at it.
    Returns parts of the head's manifest: promoted, champion, and accepted_worse, if that decided.
    """
    if comparison["verdict"] != WORSE:
        return {"promoted": of_catalog, "champion": comparison}
    if not accept_worse:
        return {"promoted": False, "champion": comparison}
    return {"promoted": of_catalog, "champion": comparison, "accepted_worse": accept_worse.strip()}


def describe(promotion: dict[str, Any]) -> str:
    """The effect of a promotion on the steps that follow, in a sentence or two."""
    comparison = promotion["champion"]
    if promotion["promoted"]:
        reason = promotion.get("accepted_worse")
        effect = f" Promoted all the same: {reason}" if reason else ""
    elif comparison["verdict"] != WORSE:
        effect = " Kept, not promoted: the catalog is not embedded with its backbone yet."
    else:
        effect = " Kept, not promoted: scoring goes on with the head before; "
        effect += '--accept-worse "reason" promotes it.'
    return f"{comparison['sentence']}{effect}"


def _nothing(head_id: str | None, why: str) -> dict[str, Any]:
    none: dict[str, Any] = {"head_id": head_id, "verdict": NOTHING, "n": 0, "differences": {}}
    return {**none, "sentence": f"Nothing to compare: {why}."}


def _sentence(head_id: str, cost: Difference, by: str) -> str:
    words = {BETTER: "Better than", WORSE: "Worse than", ALIKE: "Not distinguishable from"}
    per_1000 = [1000 * number for number in (cost.value or 0.0, cost.low, cost.high)]
    figures = "{:+.1f} ({:+.1f} to {:+.1f})".format(*per_1000)
    subject = f"{words[verdict(cost)]} the live head {head_id}"
    return f"{subject}: cost of 1,000 images {figures}, by {by} that neither has seen."

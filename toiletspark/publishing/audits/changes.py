"""Rules about shares of images, and their change since the last versions. No Spark.

Each is judged over all images, and in each stratum of at least publish.audits.min_images: those of
a small one come from few listings, and are less independent than `significance` assumes. A rule is
broken only by more than chance explains.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from toiletspark.config import Audits
from toiletspark.errors import shown
from toiletspark.publishing.audits import drift, significance
from toiletspark.publishing.audits.checks import Check, Rule
from toiletspark.publishing.audits.significance import Share

if TYPE_CHECKING:
    from toiletspark.publishing.figures import Figures, Stratum

NO_LAST = "there is no last version"
_EXAMPLES = 3  # strata that a message names
_HEAD = "look at the excluded images, the head and publish.policy"
_STORE = (
    "see why images cannot be read (the statuses in the unscored table), then `toiletspark rescore`"
)
_NOTHING = Share(0, 0)  # the share then, for a rule that does not compare


@dataclass(frozen=True)
class Last:
    """The last versions (publish.audits.history)."""

    counts: list[dict[str, int]]  # of each, the newest at the end
    strata: Mapping[str, Stratum]  # of the newest
    same_head: bool  # True if the head of now decided the newest

    @property
    def images(self) -> int:
        """The images of the last version."""
        return self.counts[-1]["images"]

    def share(self, name: str) -> Share:
        """The median share of a count over the last versions, of the last version's images."""
        shares = [counts[name] / counts["images"] for counts in self.counts]
        return Share(round(statistics.median(shares) * self.images), self.images)


@dataclass(frozen=True)
class _ShareRule:
    """A rule about one share. `breaks` judges the share now and then, among so many strata."""

    rule: Rule
    count: str  # see `Stratum`
    breaks: Callable[[Share, Share, int], bool]
    compares: bool = False  # True if the rule needs the share of the last versions


def judge(figures: Figures, last: Last | None, bounds: Audits) -> list[Check]:
    """Judges all rules that can be accepted, except freshness; `bounds` is publish.audits."""
    return [
        _size(figures, last, bounds),
        _strata(figures, last, bounds),
        *(_share(rule, figures, last, bounds) for rule in _share_rules(bounds)),
        _emptied(figures, bounds),
        _drift(figures, last, bounds),
    ]


def _share_rules(bounds: Audits) -> list[_ShareRule]:
    factor, rise = bounds.max_change_excluded, bounds.max_rise_unscored

    def at_most(name: str, count: str, words: str, most: float, todo: str) -> _ShareRule:
        expected = f"at most {_percent(most)} of images {words} (publish.audits.max_share_{name})"

        def breaks(now: Share, _: Share, looks: int) -> bool:
            return significance.above(now, most, looks)

        return _ShareRule(Rule(f"share.{name}", expected, todo), count, breaks)

    def by_factor(now: Share, then: Share, looks: int) -> bool:
        return any(
            significance.moved_above(more, less, lambda share: share * factor, 2 * looks)
            for more, less in ((now, then), (then, now))
        )

    def rises(now: Share, then: Share, looks: int) -> bool:
        return significance.moved_above(now, then, lambda share: share + rise, looks)

    change = Rule(
        "rate_of_change.excluded",
        f"a share of excluded images within a factor of {factor:g} of the last versions' "
        "(publish.audits.max_change_excluded)",
        _HEAD,
    )
    unscored = Rule(
        "rate_of_change.unscored",
        f"a share of images without a score at most {rise:.4g} above the last versions' "
        "(publish.audits.max_rise_unscored)",
        _STORE,
    )
    denied = "correct the access that was denied"
    return [
        at_most("excluded", "excluded", "excluded", bounds.max_share_excluded, _HEAD),
        at_most("unscored", "no_score", "without a score", bounds.max_share_unscored, _STORE),
        at_most("policy", "policy", "denied", bounds.max_share_policy, denied),
        _ShareRule(change, "excluded", by_factor, compares=True),
        _ShareRule(unscored, "no_score", rises, compares=True),
    ]


def _share(rule: _ShareRule, figures: Figures, last: Last | None, bounds: Audits) -> Check:
    """Judges a share over all images, and in each large stratum."""
    if rule.compares and last is None:
        return rule.rule.unknown(NO_LAST)
    if not figures.images:
        return rule.rule.unknown("no images")
    now = Share(figures.total(rule.count), figures.images)
    then = last.share(rule.count) if last and rule.compares else _NOTHING
    strata = _large_strata(rule, figures, last, bounds)
    broken = {name: pair for name, pair in strata.items() if rule.breaks(*pair, len(strata))}
    found = f"{_text(now, then)} in all"
    if broken:
        pairs = sorted(broken.items(), key=lambda item: -abs(item[1][0].value - item[1][1].value))
        examples = shown([f"{name}: {_text(*pair)}" for name, pair in pairs], _EXAMPLES)
        found += f"; {len(broken)} of {len(strata)} strata break it, as in {examples}"
    return rule.rule.judged(found, passed=not (broken or rule.breaks(now, then, 1)))


def _large_strata(
    rule: _ShareRule, figures: Figures, last: Last | None, bounds: Audits
) -> dict[str, tuple[Share, Share]]:
    """The shares now and then of the strata that have enough images."""

    def share(stratum: Stratum | None) -> Share:
        return Share(getattr(stratum, rule.count), stratum.images) if stratum else _NOTHING

    shares = {}
    for name, stratum in figures.strata.items():
        before = last.strata.get(name) if last and rule.compares else None
        if rule.compares and (before is None or before.images < bounds.min_images):
            continue
        if stratum.images >= bounds.min_images:
            shares[name] = share(stratum), share(before)
    return shares


def _size(figures: Figures, last: Last | None, bounds: Audits) -> Check:
    least = bounds.min_share_of_last
    rule = Rule(
        "rate_of_change.size",
        f"at least {_percent(least)} of the last version's images "
        "(publish.audits.min_share_of_last)",
        "see what is missing in your images table, then `toiletspark rescore`",
    )
    if last is None:
        return rule.unknown(NO_LAST)
    is_shrunk = figures.images < least * last.images
    if is_shrunk and last.images < bounds.min_images:  # of a small catalog one listing is much
        missing = Share(last.images - figures.images, last.images)
        is_shrunk = significance.above(missing, 1 - least)
    return rule.judged(f"{figures.images} of {last.images}", passed=not is_shrunk)


def _strata(figures: Figures, last: Last | None, bounds: Audits) -> Check:
    if last is None:
        return Rule("containment.strata", "the last version's strata").unknown(NO_LAST)
    many, before = _few(bounds), last.strata
    large = {name for name, stratum in before.items() if stratum.images >= many}
    rule = Rule(
        "containment.strata",
        f"images in each of the {len(large)} strata that had {many} and more in the last version",
        "see whether a part of your listings or images is missing",
    )
    gone = sorted(large - set(figures.strata), key=lambda name: -before[name].images)
    if not gone:
        return rule.passed("all are there")
    examples = shown([f"{name}: {before[name].images} images then" for name in gone], _EXAMPLES)
    return rule.failed(f"none in {len(gone)} of them, as in {examples}")


def _few(bounds: Audits) -> int:
    """Fewer images or listings may go at once without a fault, as when two listings end."""
    return max(1, bounds.min_images // 4)


def _emptied(figures: Figures, bounds: Audits) -> Check:
    """Listings without an image now that had one in the last version, or were not in it."""
    most, share = bounds.max_share_listings_emptied, Share(figures.newly_emptied, figures.listings)
    rule = Rule(
        "share.listings_emptied",
        f"at most {_percent(most)} of listings newly without an image to show "
        "(publish.audits.max_share_listings_emptied)",
        "look at the listings that were emptied: perhaps their images are excluded wrongly",
    )
    if share.whole < _few(bounds):
        return rule.unknown(f"{share.whole} listings with images, too few to judge")
    return rule.judged(_text(share), passed=not significance.above(share, most))


def _drift(figures: Figures, last: Last | None, bounds: Audits) -> Check:
    """Compares the distributions of scores that the same head gave."""
    most = bounds.max_psi
    rule = Rule(
        "drift",
        f"a population stability index of exclusion scores of at most {most:g} "
        "(publish.audits.max_psi)",
        "see whether the images themselves have changed, or how they are fetched and decoded",
    )
    if not most:
        return rule.unknown("publish.audits.max_psi is 0: it is only shown")
    if last is None:
        return rule.unknown(NO_LAST)
    if not last.same_head:
        return rule.unknown("the last version was decided by another head")
    now, then = _histograms(figures.strata), _histograms(last.strata)
    total = drift.overall(now, then)
    images = total.fewest_images if total else 0
    if total is None or images < bounds.min_images:
        least = f"publish.audits.min_images is {bounds.min_images}"
        return rule.unknown(f"{images} images, too few to judge ({least})")
    strata = {
        name: stratum
        for name, stratum in drift.by_stratum(now, then).items()
        if stratum.fewest_images >= bounds.min_images
    }
    shifted = [
        f"{name}: {stratum.psi:.3f}"
        for name, stratum in strata.items()
        if drift.is_shift(stratum, most, len(strata))
    ]
    found = f"{total.psi:.3f} over all (Kolmogorov-Smirnov {total.ks:.3f})"
    if shifted:
        examples = shown(shifted, _EXAMPLES)
        found += f"; above it in {len(shifted)} of {len(strata)} strata, as in {examples}"
    return rule.judged(found, passed=not (shifted or drift.is_shift(total, most)))


def drift_summary(figures: Figures, last: Last | None) -> dict[str, object] | None:
    """See `drift.summary`; None without a last version or without scores."""
    if last is None:
        return None
    summary = drift.summary(_histograms(figures.strata), _histograms(last.strata))
    return {"same_head": last.same_head, **summary} if summary else None


def _histograms(strata: Mapping[str, Stratum]) -> dict[str, NDArray[np.int64]]:
    return {name: stratum.histogram for name, stratum in strata.items()}


def _text(now: Share, then: Share = _NOTHING) -> str:
    text = f"{_percent(now.value)} ({now.part} of {now.whole})"
    return f"{text} after {_percent(then.value)}" if then.whole else text


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"

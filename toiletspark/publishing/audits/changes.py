"""Rules about shares and change: how much a version excludes, cannot score, and how it differs from the last ones.

Each is judged over all images, from the first one on, and in each stratum of publish.audits.min_images and more: the
images of a small stratum are of few listings, and not as independent as `chance` takes them to be. A rule is broken
only by more than chance explains (`chance`). Without Spark.
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
from toiletspark.publishing.audits import drift
from toiletspark.publishing.audits import significance as chance
from toiletspark.publishing.audits.checks import Check
from toiletspark.publishing.audits.significance import Share

if TYPE_CHECKING:
    from toiletspark.publishing.figures import Figures, Stratum

Histograms = dict[str, NDArray[np.int64]]
NO_LAST = "there is no last version that tells its counts"
_WORST = 3  # strata that a message names


@dataclass(frozen=True)
class Last:
    """What the versions before were like.

    Attributes:
        counts: of the last ones (publish.audits.history), the newest at the end; may be empty.
        strata: of the last one; {} where it has none.
        same_head: whether the last one was decided by the head of now.
    """

    counts: list[dict[str, int]]
    strata: Mapping[str, Stratum]
    same_head: bool

    def share(self, name: str) -> Share | None:
        """The median share of a count over the last versions, of as many images as the last one had; or None."""
        values = [
            Share(counts[name], counts["images"]).value
            for counts in self.counts
            if counts.get("images")
        ]
        if not values:
            return None
        images = next(counts["images"] for counts in reversed(self.counts) if counts.get("images"))
        return Share(round(statistics.median(values) * images), images)


@dataclass(frozen=True)
class _Rule:
    """A rule over one share: `breaks` tells of a share now, and then, whether it is broken; looks as in `chance`."""

    name: str
    count: str
    expected: str
    todo: str
    breaks: Callable[[Share, Share, int], bool]
    compares: bool = False  # with the share before


def judge(found: Figures, last: Last | None, bounds: Audits) -> list[Check]:
    """All rules that can be accepted, but for freshness.

    Args:
        found: of the version.
        last: what was before, or None.
        bounds: publish.audits.
    """
    checks = [_share_check(rule, found, last, bounds) for rule in _rules(bounds)]
    return [
        *_size(found, last, bounds),
        *checks,
        _emptied(found, bounds),
        _drift(found, last, bounds),
    ]


def _rules(bounds: Audits) -> list[_Rule]:
    factor, rise = bounds.max_change_excluded, bounds.max_rise_unscored

    def at_most(most: float) -> Callable[[Share, Share, int], bool]:
        return lambda now, _, looks: chance.above(now, most, looks)

    def by_factor(now: Share, then: Share, looks: int) -> bool:
        pairs = ((now, then), (then, now))
        return any(
            chance.moved_above(more, less, lambda share: share * factor, 2 * looks)
            for more, less in pairs
        )

    def rises(now: Share, then: Share, looks: int) -> bool:
        return chance.moved_above(now, then, lambda share: share + rise, looks)

    head = "look at the excluded images (`toiletspark report`), the head and publish.operating_threshold"
    store = "see why images cannot be read (the statuses in the unscored table), then `toiletspark rescore`"
    return [
        _share_rule("excluded", "excluded", bounds.max_share_excluded, head, at_most),
        _share_rule("unscored", "no_score", bounds.max_share_unscored, store, at_most),
        _share_rule(
            "policy", "policy", bounds.max_share_policy, "mend the access that was denied", at_most
        ),
        _Rule(
            "rate_of_change.excluded",
            "excluded",
            f"a share of excluded images within a factor of {factor:g} of the last versions' "
            "(publish.audits.max_change_excluded)",
            head,
            by_factor,
            compares=True,
        ),
        _Rule(
            "rate_of_change.unscored",
            "no_score",
            f"a share of images without a score at most {rise:.4g} above the last versions' "
            "(publish.audits.max_rise_unscored)",
            store,
            rises,
            compares=True,
        ),
    ]


def _share_rule(
    name: str,
    count: str,
    most: float,
    todo: str,
    at_most: Callable[[float], Callable[[Share, Share, int], bool]],
) -> _Rule:
    words = {"excluded": "excluded", "unscored": "without a score", "policy": "denied"}
    key = f"publish.audits.max_share_{name}"
    return _Rule(
        f"share.{name}",
        count,
        f"at most {_percent(most)} of images {words[name]} ({key})",
        todo,
        at_most(most),
    )


def _share_check(rule: _Rule, found: Figures, last: Last | None, bounds: Audits) -> Check:
    """Over all images, and in each stratum that is large enough, now and (where it compares) then."""
    now, then = (
        Share(found.total(rule.count), found.images),
        last.share(rule.count) if last else None,
    )
    if rule.compares and then is None:
        return Check(rule.name, rule.expected, NO_LAST, None)
    if not now.whole:
        return Check(rule.name, rule.expected, "no images", None)
    before = then or Share(0, 0)
    strata = _judged(found, rule, last, bounds)
    worst = {
        name: pair for name, pair in strata.items() if rule.breaks(*pair, len(strata))
    }  # what chance does to one of many strata is not what it does to one
    passed = not (rule.breaks(now, before, 1) or worst)
    told = f"{_told(now, before if rule.compares else None)} in all"
    if worst:
        by_share = sorted(worst.items(), key=lambda pair: -abs(pair[1][0].value - pair[1][1].value))
        named = [
            f"{name}: {_told(one, other if rule.compares else None)}"
            for name, (one, other) in by_share
        ]
        told += f"; {len(worst)} of {len(strata)} strata break it, as in {shown(named, _WORST)}"
    return Check(rule.name, rule.expected, told, passed, rule.todo)


def _judged(
    found: Figures, rule: _Rule, last: Last | None, bounds: Audits
) -> dict[str, tuple[Share, Share]]:
    """The shares of the strata that have images enough: now, and then."""
    judged = {}
    for name, stratum in found.strata.items():
        before = last.strata.get(name) if last and rule.compares else None
        compared = [stratum] if before is None else [stratum, before]
        if (
            min(one.images for one in compared) < bounds.min_images
            or len(compared) < 1 + rule.compares
        ):
            continue
        then = Share(getattr(before, rule.count), before.images) if before else Share(0, 0)
        judged[name] = (Share(getattr(stratum, rule.count), stratum.images), then)
    return judged


def _size(found: Figures, last: Last | None, bounds: Audits) -> list[Check]:
    """The catalog has not shrunk, and no stratum is gone."""
    least, images = (
        bounds.min_share_of_last,
        last.counts[-1].get("images", 0) if last and last.counts else 0,
    )
    rule, expected = (
        "rate_of_change.size",
        f"at least {_percent(least)} of the last version's images",
    )
    expected += " (publish.audits.min_share_of_last)"
    todo = "see what is missing in your images table, then `toiletspark rescore`"
    if images:
        size = Check(
            rule,
            expected,
            f"{found.images} of {images}",
            not _shrunk(found.images, images, bounds),
            todo,
        )
    else:
        size = Check(rule, expected, NO_LAST, None)
    if not last or not last.strata:
        return [size, Check("containment.strata", "the last version's strata", NO_LAST, None)]
    many = _few(bounds)
    large = {name for name, stratum in last.strata.items() if stratum.images >= many}
    gone = sorted(large - set(found.strata), key=lambda name: -last.strata[name].images)
    told = [f"{name}: {last.strata[name].images} images then" for name in gone]
    return [
        size,
        Check(
            "containment.strata",
            f"images in each of the {len(large)} strata that had {many} and more in the last version",
            f"none in {len(gone)} of them, as in {shown(told, _WORST)}"
            if gone
            else "all are there",
            not gone,
            "see whether a part of your listings or images is missing",
        ),
    ]


def _shrunk(now: int, then: int, bounds: Audits) -> bool:
    """Whether more is missing than may be; of a small catalog one listing is much, and chance has its say."""
    least = bounds.min_share_of_last
    if now >= least * then:
        return False
    return then >= bounds.min_images or chance.above(Share(then - now, then), 1 - least)


def _few(bounds: Audits) -> int:
    """Fewer images or listings may go at once without anything being wrong: two listings end, a catalog is a trial."""
    return max(1, bounds.min_images // 4)


def _emptied(found: Figures, bounds: Audits) -> Check:
    """Listings that newly have nothing to show: they had something in the last version, or were not in it."""
    most, share = bounds.max_share_listings_emptied, Share(found.newly_emptied, found.listings)
    rule, key = "share.listings_emptied", "publish.audits.max_share_listings_emptied"
    expected = f"at most {_percent(most)} of listings newly without an image to show ({key})"
    if share.whole < _few(bounds):
        return Check(rule, expected, f"{share.whole} listings with images, too few to judge", None)
    todo = "look at the listings that were emptied: images that are excluded there may be none that must be"
    return Check(rule, expected, _told(share), not chance.above(share, most), todo)


def _drift(found: Figures, last: Last | None, bounds: Audits) -> Check:
    """The scores that one head gives are distributed as they were; another head's need not be."""
    rule, most = "drift", bounds.max_psi
    expected = f"a population stability index of exclusion scores of at most {most:g} (publish.audits.max_psi)"
    if not most or not last or not last.same_head or not last.strata:
        why = "the last version was decided by another head" if last and last.strata else NO_LAST
        return Check(
            rule, expected, why if most else "publish.audits.max_psi is 0: it is only shown", None
        )
    total = drift.overall(*_histograms(found, last))
    if total is None or min(total.images, total.images_before) < bounds.min_images:
        return Check(
            rule,
            expected,
            _too_few(min(total.images, total.images_before) if total else 0, bounds),
            None,
        )
    strata = {
        name: one
        for name, one in drift.by_stratum(*_histograms(found, last)).items()
        if min(one.images, one.images_before) >= bounds.min_images
    }
    shifted = {name: one for name, one in strata.items() if drift.is_shift(one, most, len(strata))}
    told = f"{total.psi:.3f} over all (Kolmogorov-Smirnov {total.ks:.3f})"
    if shifted:
        named = [f"{name}: {one.psi:.3f}" for name, one in shifted.items()]
        told += (
            f"; above it in {len(shifted)} of {len(strata)} strata, as in {shown(named, _WORST)}"
        )
    todo = "see whether the images themselves have changed, or how they are fetched and decoded"
    return Check(rule, expected, told, not (shifted or drift.is_shift(total, most)), todo)


def drift_told(found: Figures, last: Last | None) -> dict[str, object] | None:
    """See `drift.told`; None where there is nothing to compare with."""
    if not last or not last.strata:
        return None
    told = drift.told(*_histograms(found, last))
    return {"same_head": last.same_head, **told} if told else None


def _histograms(found: Figures, last: Last) -> tuple[Histograms, Histograms]:
    now, then = (
        {name: stratum.histogram for name, stratum in strata.items()}
        for strata in (found.strata, last.strata)
    )
    return now, then


def _told(now: Share, then: Share | None = None) -> str:
    told = f"{_percent(now.value)} ({now.part} of {now.whole})"
    return f"{told} after {_percent(then.value)}" if then is not None else told


def _too_few(images: int, bounds: Audits) -> str:
    return f"{images} images, too few to judge (publish.audits.min_images is {bounds.min_images})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"

"""The recall of the head that decides: the part of the toilets that it finds. No Spark.

A head that finds half of the toilets passes every other rule: its scores are sound, and its list
changes little from night to night.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from toiletspark.publishing.audits.checks import Check, Rule
from toiletspark.publishing.thresholds import Labelled
from toiletspark.sampling.estimates import Share

RECALL = "recall"
HALF = 0.5  # below it people are warned, whatever publish.min_recall is
# Simulated, 3 % toilets, 1,500 labels (45 toilets), cost policy: 105 more brought the good photos
# that are lost from 6.8 to 2.9 % at the same recall, 255 more no further.
_ENOUGH_TO_EXCLUDE = 150
_UNKNOWN = Share(None, 0.0, 1.0, 0)


def judge(labelled: Labelled | None, threshold: float, min_recall: float) -> Check:
    """The rule about the lower end of the recall's interval; never broken if min_recall is 0."""
    rule = Rule(
        RECALL,
        f"at least {_percent(min_recall or HALF)} of the images to exclude found, at the lower end "
        "of the 95 % interval (publish.min_recall)",
    )
    share = _recall(labelled, threshold)
    found = f"{share}, of {share.n} held out"
    if share.low >= (min_recall or HALF):
        return rule.passed(found)
    if not min_recall:
        return rule.unknown(f"{found}; only reported, because publish.min_recall is 0")
    return rule.failed(found, _advice(labelled))


def accepted_before(check: Check, before: Iterable[Check]) -> Check:
    """The check with the reason for which the live version's was accepted, if it was.

    Nothing has changed if head and threshold are those of the live version, and people who
    accepted a head's recall would otherwise be asked again every night.
    """
    reasons = [each.accepted for each in before if each.rule == RECALL and each.accepted]
    if not reasons or check.passed is not False:
        return check
    return replace(check, accepted=reasons[0])


def alarm(labelled: Labelled | None, threshold: float, min_recall: float) -> str:
    """The sentence for people if the interval reaches below a half or min_recall; "" if not.

    A head without its labels has no interval; the audit says so.
    """
    share, least = _recall(labelled, threshold), max(HALF, min_recall)
    if labelled is None or share.low >= least:
        return ""
    classes = "/".join(sorted(labelled.exclude_classes))
    return (
        f"the head may find less than {_percent(least)} of the {classes} photos: recall {share}, "
        f"of {share.n} held out; {_advice(labelled)}"
    )


def _recall(labelled: Labelled | None, threshold: float) -> Share:
    """The recall over the held-out images; unknown, 0 to 1, without them."""
    return labelled.held_out[0].recall(threshold) if labelled else _UNKNOWN


def _advice(labelled: Labelled | None) -> str:
    """Advice on how many images to label, and which queue finds them."""
    if labelled is None:
        return "its labels are not in this store: train a head here, or look at the excluded images"
    known = labelled.to_exclude
    more = _ENOUGH_TO_EXCLUDE - known if known < _ENOUGH_TO_EXCLUDE else known
    return (
        f"{known} are labelled: label about {more} more, which the queue of `toiletspark labels "
        "suggest` finds, then `toiletspark train`"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"

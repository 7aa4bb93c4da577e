"""The rules over a version's figures: breaches, chance, and what can be accepted."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from toiletspark.config import loading
from toiletspark.errors import AuditError, UserError
from toiletspark.publishing.audits import changes
from toiletspark.publishing.audits import checks as audits
from toiletspark.publishing.audits.changes import Last
from toiletspark.publishing.audits.checks import Check
from toiletspark.publishing.figures import BINS, Figures, Stratum

BOUNDS = loading.load([], []).publish.audits


def stratum(
    name: str, images: int, excluded: int, no_score: int = 0, policy: int = 0, histogram: Any = None
) -> Stratum:
    if histogram is None:
        histogram = np.zeros(BINS, np.int64)
        histogram[[2, 97]] = images - excluded - no_score, excluded
    return Stratum(
        name, images, images - excluded - no_score, excluded, no_score, no_score, policy, histogram
    )


def figures(*strata: Stratum, **more: Any) -> Figures:
    sound: dict[str, Any] = {
        "null_ids": 0,
        "repeated_ids": 0,
        "unknown_words": 0,
        "scores_amiss": 0,
        "statuses": {},
    }
    listings = {"listings": 1000, "emptied": 5, "newly_emptied": 5}
    images = sum(one.images for one in strata)
    return Figures(
        **{
            "images": images,
            **sound,
            **listings,
            "strata": {one.stratum: one for one in strata},
            **more,
        }
    )


def alike(*counts: int) -> Figures:
    """Two strata with the same images, excluded, without a score, and by policy."""
    return figures(stratum("A", *counts), stratum("B", *counts))


def last_of(found: Figures, *shares: float, same_head: bool = True) -> Last:
    """Versions whose excluded shares were these, the last with the strata of `found`."""
    counts = [{**found.counts, "excluded": round(share * found.images)} for share in shares] or [
        found.counts
    ]
    return Last(counts, found.strata, same_head)


USUAL = figures(stratum("A", 4000, 200, 40), stratum("B", 4000, 200, 40), stratum("tiny", 20, 1))


def broken(found: Figures, last: Last | None = None, **bounds: Any) -> dict[str, str]:
    checks = changes.judge(found, last, BOUNDS.model_copy(update=bounds))
    return {check.rule: check.found for check in audits.failed(checks)}


# Shares and change


def test_an_ordinary_version_breaks_nothing_and_every_rule_is_judged() -> None:
    checks = changes.judge(USUAL, last_of(USUAL), BOUNDS)
    assert [(check.rule, check.passed) for check in checks] == [
        (rule, True)
        for rule in (
            "rate_of_change.size",
            "containment.strata",
            "share.excluded",
            "share.unscored",
            "share.policy",
            "rate_of_change.excluded",
            "rate_of_change.unscored",
            "share.listings_emptied",
            "drift",
        )
    ]
    others = {"freshness", "recall"}
    assert {check.rule for check in checks} | others == set(audits.ACCEPTABLE)


def test_a_first_version_is_judged_by_its_shares_alone() -> None:
    checks = {check.rule: check for check in changes.judge(USUAL, None, BOUNDS)}
    assert {rule for rule, check in checks.items() if check.passed is None} == {
        *(
            "rate_of_change.size",
            "containment.strata",
            "rate_of_change.excluded",
            "rate_of_change.unscored",
            "drift",
        )
    }
    assert checks["rate_of_change.excluded"].found == changes.NO_LAST
    assert set(broken(figures(stratum("A", 4000, 3000)))) == {"share.excluded"}


@pytest.mark.parametrize(
    ("found", "rules"),
    [
        (alike(4000, 4000), {"share.excluded", "rate_of_change.excluded", "drift"}),
        (alike(4000, 0, 40), {"rate_of_change.excluded", "drift"}),
        (alike(4000, 600, 40), {"rate_of_change.excluded"}),
        (alike(4000, 100, 2000), {"share.unscored", "rate_of_change.unscored"}),
        (alike(4000, 200, 200), {"rate_of_change.unscored"}),
        (alike(4000, 200, 90, 90), {"share.policy"}),
        (figures(stratum("A", 8000, 400, 80)), {"containment.strata"}),
        (alike(3000, 150, 30), {"rate_of_change.size"}),
        (replace(USUAL, newly_emptied=60), {"share.listings_emptied"}),
    ],
    ids=[
        *("all", "none", "thrice", "unscored", "2 points"),
        *("denied", "gone", "shrunk", "emptied"),
    ],
)
def test_what_breaks_a_rule(found: Figures, rules: set[str]) -> None:
    assert set(broken(found, last_of(USUAL))) == rules


def test_one_stratum_alone_breaks_a_rule_and_is_named() -> None:
    many = [stratum(f"S{number}", 4000, 200) for number in range(10)]
    now = figures(*many[:-1], stratum("S9", 4000, 900))
    told = broken(now, last_of(figures(*many), same_head=False))
    assert set(told) == {"rate_of_change.excluded"}
    assert told["rate_of_change.excluded"] == (
        "6.75 % (2700 of 40000) after 5 % in all; 1 of 10 strata break it, as in "
        "'S9: 22.5 % (900 of 4000) after 5 %'"
    )


def test_what_is_rare_in_one_stratum_is_not_in_the_rarest_of_hundreds() -> None:
    def policy_of(strata: int) -> Figures:
        return figures(
            stratum("S0", 1000, 50, 27, 27), *[stratum(f"S{n}", 1000, 50) for n in range(1, strata)]
        )

    assert "1 of 3 strata break it" in broken(policy_of(3))["share.policy"]
    assert broken(policy_of(600)) == {}


def test_the_shares_of_small_strata_are_not_judged() -> None:
    now = figures(stratum("A", 4000, 200, 40), stratum("B", 4000, 200, 40), stratum("tiny", 20, 20))
    assert broken(now, last_of(USUAL)) == {}


def few(*counts: int) -> Figures:
    """One stratum in a catalog of ten listings."""
    return figures(stratum("A", *counts), listings=10, emptied=0, newly_emptied=0)


@pytest.mark.parametrize(
    ("found", "last", "rules"),
    [
        (few(199, 199), None, {"share.excluded"}),
        (few(10, 10), None, {"share.excluded"}),
        (few(9, 9), None, set()),
        (few(10, 7), None, set()),
        (few(30, 1, 29), None, {"share.unscored"}),
        (few(30, 1, 1, 1), None, set()),
        (few(150, 0), figures(stratum("A", 150, 45)), {"rate_of_change.excluded"}),
        (few(150, 1), figures(stratum("A", 150, 4)), set()),
        (few(100, 5), figures(stratum("A", 199, 10)), {"rate_of_change.size"}),
        (few(4, 1), figures(stratum("A", 10, 1)), {"rate_of_change.size"}),
        (few(8, 1), figures(stratum("A", 10, 1)), set()),
        (few(179, 9), figures(stratum("A", 199, 10)), set()),
        (few(179, 9), figures(stratum("A", 200, 10)), {"rate_of_change.size"}),
    ],
)
def test_a_small_catalog_is_judged_as_far_as_chance_lets_it(
    found: Figures, last: Figures | None, rules: set[str]
) -> None:
    assert set(broken(found, last_of(last, same_head=False) if last else None)) == rules


def test_a_stratum_of_a_quarter_of_min_images_does_not_vanish() -> None:
    ten = [stratum(f"S{number}", 100, 5) for number in range(10)]
    told = broken(figures(*ten[:-1]), last_of(figures(*ten)))
    assert told == {"containment.strata": "none in 1 of them, as in 'S9: 100 images then'"}
    for images, gone in ((49, set()), (50, {"containment.strata"})):
        then = last_of(figures(*ten, stratum("village", images, 2)))
        assert set(broken(figures(*ten), then)) == gone
    assert broken(figures(*ten[:-1]), last_of(figures(*ten)), min_images=404) == {}


def test_emptied_listings_are_judged_from_a_quarter_of_min_images_on() -> None:
    def emptied(of: int) -> set[str]:
        return set(broken(figures(stratum("A", 600, 30), listings=of, newly_emptied=of)))

    assert (emptied(49), emptied(50)) == (set(), {"share.listings_emptied"})


def test_a_catalog_without_images_is_not_judged_by_shares() -> None:
    none = figures(listings=0, emptied=0, newly_emptied=0)
    assert {check.passed for check in changes.judge(none, None, BOUNDS)} == {None}


def test_the_median_of_the_last_versions_counts() -> None:
    now = alike(4000, 400)
    then = alike(4000, 300)
    assert broken(now, last_of(then, 0.01, 0.09, 0.09)) == {}
    assert set(broken(now, last_of(then, 0.01, 0.02, 0.09))) == {"rate_of_change.excluded"}


@pytest.mark.parametrize("seed", range(20))
def test_chance_breaks_nothing(seed: int) -> None:
    """60 strata of 200 to 2,000 images, drawn anew, some with shares near the bounds."""
    rng = np.random.default_rng(seed)
    share = np.random.default_rng(99).uniform(0.01, 0.2, 60)

    def drawn() -> Figures:
        sizes = rng.integers(200, 2000, 60)
        strata = [
            stratum(
                f"S{number}",
                int(n),
                int(rng.binomial(n, share[number])),
                int(rng.binomial(n, 0.15)),
                int(rng.binomial(n, 0.009)),
            )
            for number, n in enumerate(sizes)
        ]
        return figures(*strata, newly_emptied=int(rng.binomial(1000, 0.019)))

    assert broken(drawn(), last_of(drawn()), min_share_of_last=0.8) == {}


def test_drift_is_judged_where_the_head_is_the_same_and_always_shown() -> None:
    histogram = np.zeros(BINS, np.int64)
    histogram[[30, 97]] = 3760, 200
    now = figures(
        stratum("A", 4000, 200, 40, histogram=histogram), *list(USUAL.strata.values())[1:]
    )
    assert set(broken(now, last_of(USUAL))) == {"drift"}
    assert "above it in 1 of 2 strata, as in 'A: " in broken(now, last_of(USUAL))["drift"]
    assert broken(now, last_of(USUAL, same_head=False)) == {}
    assert broken(now, last_of(USUAL), max_psi=0) == {}
    told: Any = changes.drift_summary(now, last_of(USUAL, same_head=False))
    assert told["same_head"] is False
    assert list(told["strata"]) == ["A", "B", "tiny"]
    assert told["strata"]["A"]["images"] == 3960
    assert told["overall"]["ks"] == pytest.approx(3760 / 7940, abs=1e-4)


def test_of_many_strata_the_worst_are_told() -> None:
    then = figures(*[stratum(f"S{n}", 1000, 50) for n in range(30)])
    now = figures(*[stratum(f"S{n}", 1000, 50 + 10 * n) for n in range(30)])
    told: Any = changes.drift_summary(now, last_of(then))
    assert list(told["strata"]) == [f"S{n}" for n in range(29, 9, -1)]


# Integrity


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"images": 8021}, "size"),
        ({"null_ids": 1}, "completeness.image_id"),
        ({"repeated_ids": 1}, "uniqueness.image_id"),
        ({"unknown_words": 1}, "containment.decision"),
        ({"scores_amiss": 1}, "containment.exclusion_score"),
        ({"changed": 1}, "consistency.decision"),
    ],
)
def test_a_row_amiss_breaks_a_rule_of_integrity(changed: dict[str, int], rule: str) -> None:
    sound = replace(USUAL, changed=0)
    assert audits.failed(audits.of_version(sound, 8020)) == []
    assert [
        check.rule for check in audits.failed(audits.of_version(replace(sound, **changed), 8020))
    ] == [rule]
    assert rule in audits.INTEGRITY


def test_an_image_on_no_side_or_on_two_is_not_contained() -> None:
    one_less = stratum("A", 4000, 200)
    lost = figures(replace(one_less, kept=one_less.kept - 1))
    twice = figures(replace(one_less, kept=one_less.kept + 1))
    for found in (lost, twice):
        assert [check.rule for check in audits.failed(audits.of_version(found, 4000))] == [
            "containment.decision"
        ]


@pytest.mark.parametrize(
    ("listed", "unscored", "rules"),
    [
        (401, 80, []),
        (400, 80, ["size.exclusion_list"]),
        (402, 81, ["size.exclusion_list", "size.unscored"]),
        (401, 0, ["size.unscored"]),
    ],
)
def test_what_readers_get_has_as_many_rows_as_was_decided(
    listed: int, unscored: int, rules: list[str]
) -> None:
    checks = audits.of_files(USUAL, listed, unscored)
    assert [check.rule for check in audits.failed(checks)] == rules
    assert {check.rule for check in checks} <= set(audits.INTEGRITY)
    assert checks[0].expected == "a row for each of 401 excluded images"


def test_the_documentation_tells_every_rule() -> None:
    told = (REPOSITORY / "docs" / "publishing.md").read_text(encoding="utf-8")
    # told as "schema.*"
    schemas = {rule for rule in audits.INTEGRITY if rule.startswith("schema.")}
    assert [
        rule for rule in (*audits.INTEGRITY, *audits.ACCEPTABLE) if f"`{rule}`" not in told
    ] == sorted(schemas, key=audits.INTEGRITY.index)


def test_what_cannot_be_compared_says_why() -> None:
    check = next(
        one for one in audits.of_version(USUAL, 8020) if one.rule == "consistency.decision"
    )
    assert (check.passed, check.found) == (
        None,
        "the last version is of another head or threshold, or there is none",
    )


# Accepting and stopping

FAILED = [
    Check("share.excluded", "at most 50 %", "60 %", False, "look"),
    Check("drift", "at most 0.25", "0.3", True),
    Check("freshness", "new", "old", False, "rescore"),
]


def test_what_failed_can_be_accepted_for_a_reason() -> None:
    checks = audits.accepted(
        FAILED, ["share.excluded", "drift", "share.policy"], "a spring sale of toilets"
    )
    assert [check.accepted for check in checks] == ["a spring sale of toilets", "", ""]
    assert [check.rule for check in audits.failed(checks)] == ["freshness"]
    assert asdict(checks[0]) == {
        "rule": "share.excluded",
        "expected": "at most 50 %",
        "found": "60 %",
        "passed": False,
        "todo": "look",
        "accepted": "a spring sale of toilets",
    }


@pytest.mark.parametrize(
    ("rule", "found", "todo"),
    [
        ("share.exluded", "'share.exluded' (did you mean 'share.excluded'?)", "correct the name"),
        ("size", "'size', of integrity", "a list that breaks a rule of integrity is wrong"),
    ],
)
def test_what_cannot_be_accepted(rule: str, found: str, todo: str) -> None:
    with pytest.raises(UserError) as stopped:
        audits.accepted([], [rule], "because")
    assert (stopped.value.found, stopped.value.todo, stopped.value.exit_code) == (found, todo, 2)
    assert "'share.listings_emptied'" in stopped.value.expected


def test_the_message_names_rules_and_the_way_out() -> None:
    with pytest.raises(AuditError) as stopped:
        audits.require(FAILED, doing="auditing")
    assert str(stopped.value) == (
        "while auditing\n"
        "  expected: share.excluded: at most 50 %; freshness: new\n"
        "  found:    share.excluded: 60 %; freshness: old\n"
        "  do:       the last version stays in force; look; rescore; or, if it is right as it is, "
        '`toiletspark publish --accept share.excluded --accept freshness --because "..."`'
    )
    with pytest.raises(AuditError) as stopped:
        audits.require([*FAILED, Check("size", "7", "8", False)], doing="auditing")
    assert "--accept" not in stopped.value.todo

"""What the run page tells of a version: alarms, decisions, audits, drift and the leak meter."""

import dataclasses
from typing import Any

import pytest

from tests.feed.test_leak_meter import meter_of
from tests.reports.test_run_page import HOSTILE, Parsed, page
from toiletspark.reports.run_page import version as version_parts
from toiletspark.reports.run_page.page import render
from toiletspark.reports.run_page.version import (
    CheckLine,
    Drift,
    Moved,
    VersionParts,
    checks_of,
    drift_of,
)
from toiletspark.sampling.estimates import Share
from toiletspark.tables.schemas import REASONS

PLAIN = "plain, and not a date"
AUDITS: list[dict[str, Any]] = [
    {
        "rule": "size",
        "expected": "one decision for each of 3 images",
        "found": "3",
        "passed": True,
        "accepted": "",
    },
    {
        "rule": "share.excluded",
        "expected": "at most 50 %",
        "found": "60 %",
        "passed": False,
        "accepted": "a new city",
    },
    {
        "rule": "change.excluded",
        "expected": "within 2",
        "found": "no run before",
        "passed": None,
        "accepted": "",
    },
    {
        "rule": "share.unscored",
        "expected": "at most 20 %",
        "found": "30 %",
        "passed": False,
        "accepted": "",
    },
]
DRIFT: dict[str, Any] = {
    "same_head": True,
    "overall": {"psi": 0.02, "ks": 0.05},
    "strata": {
        "a": {"psi": 0.1, "ks": 0.1, "images": 500},
        "b": {"psi": 0.26, "ks": 0.3, "images": 1_000},
    },
}


def parts(**changes: Any) -> VersionParts:
    plain = VersionParts(
        number=3, valid_until="2026-12-02T10:00:00+00:00", alarms=["Access was denied to 3 images."],
        decided={
            ("model", "keep"): 1_200, ("model", "exclude"): 80, ("override", "keep"): 2, ("unscored", "unscored"): 9,
        },
        checks=checks_of(AUDITS), drift=drift_of(DRIFT), meters=[meter_of(version=1, run_id="before"), meter_of()],
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def parsed(**changes: Any) -> Parsed:
    return Parsed(render(page(version=parts(**changes))))


def hostile(text: str) -> VersionParts:
    """A version that holds the text wherever a string can stand."""
    meters = [
        meter_of(version=at, drawn_at=f"T{text}", head_id=text, classes=(text,)) for at in (1, 3)
    ]
    moved = Moved(text, 0.2, 0.1, 3)
    return parts(
        valid_until=text, alarms=[text], decided={(text, "keep"): 1}, drift=Drift(False, moved, [moved]), meters=meters,
        checks=[CheckLine(text, text, text, "accepted", text)],
    )  # fmt: skip


# Strangers


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_stays_text(text: str) -> None:
    found, plain = (Parsed(render(page(version=hostile(one)))) for one in (text, PLAIN))
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(names) for _, names in found.elements] == [
        sorted(names) for _, names in plain.elements
    ]
    assert "script" not in {tag for tag, _ in found.elements}
    assert found.verbatim("bdi").count(text) == plain.verbatim("bdi").count(PLAIN) == 9


# What stands on the page


def test_alarms_stand_above_all_else() -> None:
    html = render(page(version=parts()))
    assert html.index('id="alarms"') < html.index('id="warnings"') < html.index('id="facts"')
    assert parsed().of("h2", id="alarms") == ["Alarm"]
    assert parsed(alarms=["a", "b"]).of("h2", id="alarms") == ["Alarms"]
    assert parsed(alarms=[]).of("h2", id="alarms") == []


def test_the_version_and_how_long_it_is_valid() -> None:
    (told,) = parsed().of("p", **{"class": "when"})
    assert told.startswith("Version 3 · valid until 2026-12-02T10:00:00+00:00 · Run run-1 · ")
    (told,) = parsed(valid_until="").of("p", **{"class": "when"})
    assert told.startswith("Version 3 · valid for ever · Run run-1 · ")
    for old in (None, parts(number=0)):
        (told,) = Parsed(render(page(version=old))).of("p", **{"class": "when"})
        assert told.startswith("Run run-1 · ")


def test_decisions_by_reason_add_up() -> None:
    rows = [
        row
        for row in parsed().of("tr")
        if row.startswith(("model", "override", "unscored", "in all"))
    ]
    assert rows == [
        "modelThe exclusion score, against the operating threshold.1,200800",
        "overrideSomebody has said so.200",
        "unscoredThere is no score; the kind of failure decides.009",
        "in all1,202809",
    ]
    assert set(version_parts.REASON_MEANINGS) == set(REASONS)
    strange = parts(decided={("a new reason", "keep"): 1, ("model", "exclude"): 2})
    assert strange.by_reason == [("model", [0, 2, 0]), ("a new reason", [1, 0, 0])]


def test_excluded_images_without_a_card_are_counted() -> None:
    told = [
        Parsed(render(page(excluded_unscored=n))).of("p", **{"class": "lead"}) for n in (0, 1, 27)
    ]
    found = [next(text for text in of if text.startswith("These images stay out")) for of in told]
    assert found[0].endswith("a label teaches the next head.")
    assert found[1].endswith("head. 1 of the excluded images has no score now, and no card here.")
    assert found[2].endswith("head. 27 of the excluded images have no score now, and no card here.")


# Audits


def test_audits_that_did_not_pass_come_first() -> None:
    assert [(line.rule, line.outcome, line.because) for line in checks_of(AUDITS)] == [
        ("share.unscored", "failed", ""),
        ("share.excluded", "accepted", "a new city"),
        ("change.excluded", "not judged", ""),
        ("size", "passed", ""),
    ]
    assert parsed().of("h2", id="audits") == [
        "Audits: 1 passed, 1 not judged, 1 accepted, 1 failed"
    ]
    assert "share.excludedat most 50 %60 % accepted because a new city" in parsed().of("tr")
    assert "change.excludedwithin 2no run before not judged" in parsed().of("tr")


def test_audits_of_another_version_of_toiletspark_do_not_cost_the_page() -> None:
    (line,) = checks_of([{"rule": "size", "passed": "?"}])
    assert (line.rule, line.expected, line.outcome) == ("size", "", "not judged")


# Drift


@pytest.mark.parametrize(
    ("psi", "word"),
    [
        (0.0, "stable"),
        (0.0999, "stable"),
        (0.1, "moderate"),
        (0.25, "moderate"),
        (0.2501, "major"),
        (None, "unknown"),
    ],
)
def test_drift_in_words(psi: float | None, word: str) -> None:
    assert Moved("a", psi, 0.1, 5).word == word


def test_drift_is_shown_with_the_worst_stratum_first() -> None:
    rows = [row for row in parsed().of("tr") if row.startswith(("all images", "a5", "b1"))]
    assert rows == [
        "all images 0.0200.050stable",
        "b1,000 0.2600.300major",
        "a500 0.1000.100moderate",
    ]
    lead = "The two versions have different heads"
    assert not any(lead in text for text in parsed().of("p"))
    assert any(
        lead in text for text in parsed(drift=drift_of({**DRIFT, "same_head": False})).of("p")
    )
    widths = [
        found["width"] for tag, found in parsed().elements if tag == "rect" and found.get("rx")
    ][:3]
    assert widths == ["7.7%", "100.0%", "38.5%"]


@pytest.mark.parametrize(
    "told", [{"same_head": True}, {"overall": {"psi": None, "ks": float("nan")}, "strata": {}}]
)
def test_drift_that_was_not_measured_is_unknown(told: dict[str, Any]) -> None:
    drift = drift_of(told)
    assert drift is not None and (drift.overall.psi, drift.overall.ks, drift.strata) == (
        None,
        None,
        [],
    )
    assert "all images unknownunknownunknown" in parsed(drift=drift).of("tr")
    assert drift_of(None) is None


# The leak meter


def test_the_figures_of_this_version_and_the_trend() -> None:
    found = parsed()
    said = found.of("dd")
    assert {"0.4 %0.2 to 0.8", "0.6 %0.3 to 1.1"} <= set(said)
    assert "toilets still in the feed" in found.of("dt")
    trend = [row for row in found.of("tr") if " of 300" in row]
    assert [row.split(" ")[0] for row in trend] == ["12026-11-25", "32026-11-25"]
    assert trend[1].endswith("290 of 300 0.4 % (0.2 to 0.8) 0.6 % (0.3 to 1.1)")


def test_the_trend_has_one_scale_and_its_lines_stay_in_it() -> None:
    wide = meter_of(version=2, leaking=Share(0.02, 0.01, 0.05, 250), lost=Share(None, 0.0, 1.0, 0))
    thin = meter_of(
        version=4, labelled=3, asked=300, asked_labelled=3, leaking=Share(0.5, 0.1, 0.9, 3)
    )
    meters = [meter_of(version=1), wide, thin]
    assert version_parts.axis(meters) == 0.05
    assert version_parts.axis([thin]) == version_parts.axis([]) == 0.001
    assert version_parts.span(wide.leaking, meters) == (
        pytest.approx(20),
        pytest.approx(40),
        pytest.approx(100),
    )
    assert version_parts.span(wide.lost, meters) is None
    rows = [row for row in parsed(number=9, meters=meters).of("tr") if " of 300" in row]
    assert [row.endswith("too few labels to say") for row in rows] == [False, False, True]
    assert rows[1].endswith("2.0 % (1.0 to 5.0) unknown")


def test_only_the_last_versions_are_shown() -> None:
    assert [one and one.run_id for one in (parts(number=at).meter for at in (1, 3, 9))] == [
        "before",
        "run",
        None,
    ]
    meters = [meter_of(version=number) for number in range(1, 31)]
    assert [meter.version for meter in parts(meters=meters).trend] == list(range(19, 31))


def test_what_is_not_known_is_said() -> None:
    nothing = Parsed(render(page(version=VersionParts())))
    assert nothing.of("p", **{"class": "empty"}) == [
        "Nobody has measured it for this version. toiletspark leaks draw draws a small sample to label.",
        "This version does not tell for which reasons it has decided.",
        "There is no earlier version whose scores could be compared with these.",
        "This version does not tell which audits it has passed.",
    ]
    few = parsed(meters=[meter_of(labelled=234, asked=76, asked_labelled=10)])
    (told,) = few.of("p", **{"class": "empty"})
    assert told.startswith(
        "A leak sample was drawn, and too few of it are labelled to say anything: 10 of 76, and 224"
    )
    assert "caption" not in {tag for tag, _ in few.elements}  # a single version is no trend

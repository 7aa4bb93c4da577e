"""The version on the run page: alarms, decisions, audits, drift and the leak meter."""

import dataclasses
from typing import Any

import pytest

from tests.feed.test_leak_meter import meter_of
from tests.reports.test_run_page import HOSTILE, Parsed, page
from toiletspark.publishing.audits.checks import Check
from toiletspark.reports.run_page import version as version_parts
from toiletspark.reports.run_page.page import render
from toiletspark.reports.run_page.version import (
    DriftTable,
    StratumDrift,
    VersionFacts,
    drift_table,
    outcome,
)
from toiletspark.sampling.estimates import Share
from toiletspark.tables.schemas import REASONS

PLAIN = "plain, and not a date"
AUDITS = [
    Check("size", "one decision for each of 3 images", "3", True),
    Check("share.excluded", "at most 50 %", "60 %", False, accepted="a new city"),
    Check("change.excluded", "within 2", "no run before", None),
    Check("share.unscored", "at most 20 %", "30 %", False),
]
DRIFT: dict[str, Any] = {
    "same_head": True,
    "overall": {"psi": 0.02, "ks": 0.05},
    "strata": {
        "a": {"psi": 0.1, "ks": 0.1, "images": 500},
        "b": {"psi": 0.26, "ks": 0.3, "images": 1_000},
    },
}


def parts(**changes: Any) -> VersionFacts:
    plain = VersionFacts(
        number=3,
        valid_until="2026-12-02T10:00:00+00:00",
        alarms=["Access was denied to 3 images."],
        decided={
            ("model", "keep"): 1_200,
            ("model", "exclude"): 80,
            ("override", "keep"): 2,
            ("unscored", "unscored"): 9,
        },
        checks=AUDITS,
        drift=drift_table(DRIFT),
        meters=[meter_of(version=1, run_id="before"), meter_of()],
    )
    return dataclasses.replace(plain, **changes)


def parsed(**changes: Any) -> Parsed:
    return Parsed(render(page(version=parts(**changes))))


def hostile(text: str) -> VersionFacts:
    """A version that holds the text wherever a string can stand."""
    meters = [
        meter_of(version=at, drawn_at=f"T{text}", head_id=text, classes=(text,)) for at in (1, 3)
    ]
    stratum = StratumDrift(text, 0.2, 0.1, 3)
    return parts(
        valid_until=text,
        alarms=[text],
        decided={(text, "keep"): 1},
        drift=DriftTable(False, stratum, [stratum]),
        meters=meters,
        checks=[Check(text, text, text, False, accepted=text)],
    )


# Strangers


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_stays_text(text: str) -> None:
    result, plain = (Parsed(render(page(version=hostile(one)))) for one in (text, PLAIN))
    assert [tag for tag, _ in result.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(names) for _, names in result.elements] == [
        sorted(names) for _, names in plain.elements
    ]
    assert "script" not in {tag for tag, _ in result.elements}
    assert result.verbatim("bdi").count(text) == plain.verbatim("bdi").count(PLAIN) == 9


# What stands on the page


def test_alarms_stand_above_all_else() -> None:
    html = render(page(version=parts()))
    assert html.index('id="alarms"') < html.index('id="warnings"') < html.index('id="facts"')
    assert parsed().of("h2", id="alarms") == ["Alarm"]
    assert parsed(alarms=["a", "b"]).of("h2", id="alarms") == ["Alarms"]
    assert parsed(alarms=[]).of("h2", id="alarms") == []


def test_the_version_and_how_long_it_is_valid() -> None:
    (summary,) = parsed().of("p", **{"class": "when"})
    assert summary.startswith("Version 3 · valid until 2026-12-02T10:00:00+00:00 · Run run-1 · ")
    (summary,) = parsed(valid_until="").of("p", **{"class": "when"})
    assert summary.startswith("Version 3 · valid for ever · Run run-1 · ")


def test_decisions_by_reason_add_up() -> None:
    rows = [
        row
        for row in parsed().of("tr")
        if row.startswith(("model", "override", "unscored", "in all"))
    ]
    assert rows == [
        "modelThe exclusion score, compared with the operating threshold.1,200800",
        "overrideA person has decided.200",
        "unscoredThere is no score; the kind of failure decides.009",
        "in all1,202809",
    ]
    assert set(version_parts.REASON_MEANINGS) == set(REASONS)
    strange = parts(decided={("a new reason", "keep"): 1, ("model", "exclude"): 2})
    assert strange.by_reason == [("model", [0, 2, 0]), ("a new reason", [1, 0, 0])]


def test_excluded_images_without_a_card_are_counted() -> None:
    summary = [
        Parsed(render(page(excluded_unscored=n))).of("p", **{"class": "lead"}) for n in (0, 1, 27)
    ]
    result = [
        next(text for text in of if text.startswith("These images stay out")) for of in summary
    ]
    assert result[0].endswith("the next head learns from their labels.")
    assert result[1].endswith(
        "labels. 1 of the excluded images has no score now, and no card on this page."
    )
    assert result[2].endswith(
        "labels. 27 of the excluded images have no score now, and no card on this page."
    )


# Audits


def test_audits_that_did_not_pass_come_first() -> None:
    in_order = [(check.rule, outcome(check), check.accepted) for check in parts().sorted_checks]
    assert in_order == [
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


# Drift


@pytest.mark.parametrize(
    ("psi", "word"),
    [(0.0, "stable"), (0.0999, "stable"), (0.1, "moderate"), (0.25, "moderate"), (0.2501, "major")],
)
def test_drift_in_words(psi: float, word: str) -> None:
    assert StratumDrift("a", psi, 0.1, 5).size == word


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
        lead in text for text in parsed(drift=drift_table({**DRIFT, "same_head": False})).of("p")
    )
    widths = [
        result["width"] for tag, result in parsed().elements if tag == "rect" and result.get("rx")
    ][:3]
    assert widths == ["7.7%", "100.0%", "38.5%"]


def test_the_first_version_has_no_drift() -> None:
    assert drift_table(None) is None


# The leak meter


def test_the_figures_of_this_version_and_the_trend() -> None:
    result = parsed()
    expected = result.of("dd")
    assert {"0.4 %0.2 to 0.8", "0.6 %0.3 to 1.1"} <= set(expected)
    assert "toilets still in the feed" in result.of("dt")
    trend = [row for row in result.of("tr") if " of 300" in row]
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
    assert [row.endswith("too few labels") for row in rows] == [False, False, True]
    assert rows[1].endswith("2.0 % (1.0 to 5.0) unknown")


def test_only_the_last_versions_are_shown() -> None:
    assert [one and one.run_id for one in (parts(number=at).meter for at in (1, 3, 9))] == [
        "before",
        "run",
        None,
    ]
    meters = [meter_of(version=number) for number in range(1, 31)]
    assert [meter.version for meter in parts(meters=meters).trend] == list(range(19, 31))


def test_what_was_not_measured_is_said() -> None:
    nothing = Parsed(render(page(version=VersionFacts(1))))
    assert nothing.of("p", **{"class": "empty"}) == [
        "Not measured for this version. toiletspark leaks draw draws a small sample to label.",
        "There is no earlier version to compare the scores with.",
    ]
    few = parsed(meters=[meter_of(labelled=234, asked=76, asked_labelled=10)])
    (summary,) = few.of("p", **{"class": "empty"})
    assert summary.startswith(
        "A leak sample was drawn, but too few of its images are labelled for an estimate: "
        "10 of 76, and 224"
    )
    assert "caption" not in {tag for tag, _ in few.elements}  # a single version is no trend

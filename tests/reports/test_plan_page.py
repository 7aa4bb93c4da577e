"""The page of a plan: strangers' strings stay text, counts add up, and what is empty says so."""

from __future__ import annotations

import dataclasses
import itertools
import random
from typing import Any

import pytest

from tests.reports.test_run_page import HOSTILE, Parsed, jpeg
from toiletspark.publishing.audits.checks import Check
from toiletspark.reports.plan_page.gather import why
from toiletspark.reports.plan_page.page import (
    LEAVING,
    MAX_STRATA,
    NEW,
    RETURNING,
    ChangedImage,
    PlanPage,
    Side,
    StratumChanges,
    headline,
    render,
    what_differs,
)

BEFORE = Side("version 3", "run-3", "2026-11-20T04:12:00+00:00", "6ea2", 0.5, "fixed", 100, 10)
AFTER = Side(
    "this plan",
    "20261125T120000000000Z-ab12",
    "2026-11-25T04:12:00+00:00",
    "6ea2",
    0.4,
    "fixed",
    104,
    12,
)
#            images known leaving returning between new_excluded excluded_before excluded
STRATA = [
    StratumChanges("Harbour | rent", 60, 58, 3, 1, 1, 1, 6, 9),
    StratumChanges("Harbour | sale", 44, 40, 0, 2, 0, 1, 4, 3),
]
PASSED = Check("size", "104", "104", True)
FAILED = Check("psi", "at most 0.25", "0.4", False)


def image(image_id: str, stratum: str = "Harbour | rent", **changes: Any) -> ChangedImage:
    plain = ChangedImage(image_id, "listing-1", stratum, 0.4, 0.7, "", jpeg())
    return dataclasses.replace(plain, **changes)


def page(**changes: Any) -> PlanPage:
    changed = {
        LEAVING: [image("a"), image("b"), image("c")],
        RETURNING: [image("d", score=0.1), image("e", "Harbour | sale", score=0.1)],
        NEW: [image("f", score_before=None), image("g", "Harbour | sale", score_before=None)],
    }
    plain = PlanPage(
        before=BEFORE,
        after=AFTER,
        strata=STRATA,
        gone=2,
        changed=changed,
        audits=[PASSED],
        warnings=["The backbone is randomly initialised."],
        command="toiletspark publish approve 20261125T120000000000Z-ab12",
        removed_after_days=7.0,
    )
    return dataclasses.replace(plain, **changes)


def numbers(parsed: Parsed) -> list[str]:
    """The texts of cells for numbers, in order."""
    result = zip(parsed.texts, parsed.elements, strict=True)
    return [text for text, (_, given) in result if "number" in given.get("class", "")]


def hostile_page(text: str) -> PlanPage:
    """A page that holds the text wherever a stranger's string can stand."""
    side = Side(text, text, text, text, 0.5, text, 1, 1)
    strata = [StratumChanges(text, 5, 4, 1, 1, 0, 1, 1, 2)]
    images = [
        ChangedImage(text, text, text, 0.1, 0.9, text, jpeg()),
        ChangedImage(text, text, text, None, None, text, None),
    ]
    audits = [Check(text, text, text, False, accepted=because) for because in ("", text)]
    return page(
        before=side,
        after=dataclasses.replace(side, head_id="other"),
        strata=strata,
        audits=audits,
        warnings=[text],
        changed=dict.fromkeys((LEAVING, RETURNING, NEW), images),
        command=text,
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_stays_text_and_opens_no_way_out(text: str) -> None:
    parsed, plain = Parsed(render(hostile_page(text))), Parsed(render(hostile_page("plain")))

    assert [tag for tag, _ in parsed.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(result) for _, result in parsed.elements] == [
        sorted(result) for _, result in plain.elements
    ]
    assert not {"script", "link", "a", "form", "iframe"} & {tag for tag, _ in parsed.elements}
    assert parsed.verbatim("bdi").count(text) == plain.verbatim("bdi").count("plain") == 40
    attributes = list(
        itertools.chain.from_iterable(result.items() for _, result in parsed.elements)
    )
    assert [name for name, _ in attributes if name.startswith("on")] == []
    addresses = [
        value
        for name, value in attributes
        if name in {"href", "src", "srcset", "action", "xlink:href"}
    ]
    assert len(addresses) == 3
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)


@pytest.mark.parametrize("passes", [True, False])
def test_a_hostile_command_stays_text(passes: bool) -> None:
    text = HOSTILE[0]
    parsed = Parsed(
        render(dataclasses.replace(hostile_page(text), audits=[PASSED] if passes else [FAILED]))
    )
    assert parsed.of("p", **{"class": "command"}) == ([text] if passes else [])


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = render(page())
    policies = [
        result["content"]
        for tag, result in Parsed(html).elements
        if tag == "meta" and "http-equiv" in result
    ]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert (
        "http://" not in html
        and "https://" not in html
        and "url(" not in html
        and "@import" not in html
    )
    assert "prefers-color-scheme: dark" in html


def test_the_counts_are_told_and_add_up() -> None:
    shown = page()
    parsed = Parsed(render(shown))
    tiles = dict(
        zip(
            parsed.of("dt"),
            [text for text in parsed.of("dd") if "excluded" not in text],
            strict=False,
        )
    )
    assert {name: tiles[name] for name in list(tiles)[:6]} == {
        "leave the feed": "3",
        "return to it": "3",
        "stay as they are": "91",
        "kept before and without a score now, or the reverse": "1",
        "new images": "6",
        "gone from the catalog": "2",
    }
    assert "2 of them excluded" in parsed.of("dd", **{"class": "meaning"})
    assert AFTER.images == 3 + 3 + 91 + 1 + 6
    assert BEFORE.images == 3 + 3 + 91 + 1 + 2


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_parts_of_any_plan_add_up(seed: int) -> None:
    chance = random.Random(seed)
    strata = []
    for number in range(50):
        # same, leaving, returning, between, new, new_excluded
        parts = [chance.randrange(9) for _ in range(6)]
        known, images = sum(parts[:4]), sum(parts)
        strata.append(
            StratumChanges(
                f"S{number}", images, known, *parts[1:4], parts[5], parts[2], parts[1] + parts[5]
            )
        )
    shown = page(strata=strata)
    sides = [shown.total(name) for name in ("leaving", "returning", "between")]
    assert shown.unchanged + sum(sides) + shown.new == shown.total("images")
    rows = [row for row in Parsed(render(shown)).of("tr") if row.startswith(("S", "10 further"))]
    assert len(rows) == MAX_STRATA + 1
    rest = sorted(strata, key=lambda row: (-row.changed, -row.new_excluded, row.stratum))[
        MAX_STRATA:
    ]
    assert rows[-1].startswith(f"10 further strata{sum(row.images for row in rest):,}")
    assert rows[0].startswith(max(strata, key=lambda row: (row.changed, row.new_excluded)).stratum)


def test_a_stratum_tells_images_leave_return_net_and_shares() -> None:
    parsed = Parsed(render(page(strata=[*STRATA, StratumChanges("", 3, 0, 0, 0, 0, 1, 0, 1)])))
    cells = numbers(parsed)
    assert cells[7:14] == ["60", "3", "1", "-2", "1", "10.3 %", "15.0 %"]
    assert cells[14:21] == ["44", "0", "2", "+2", "1", "10.0 %", "6.8 %"]
    assert cells[21:28] == ["3", "0", "0", "0", "1", "new", "33.3 %"]
    assert parsed.of("th", scope="row")[-2] == "without a stratum"


def test_the_pictures_stand_by_kind_and_stratum() -> None:
    parsed = Parsed(render(page()))
    assert [text for text in parsed.of("h2") if ":" in text] == [
        "Would leave the feed: 3",
        "Would return to the feed: 3, 2 of them shown",
        "New, and excluded at once: 2",
        "Audits: all passed",
    ]
    assert parsed.of("h3") == [
        "Harbour | rent 3",
        "Harbour | rent 1",
        "Harbour | sale 1 of 2",
        "Harbour | rent 1",
        "Harbour | sale 1",
    ]
    scores = parsed.of("p", **{"class": "score"})
    assert scores == [*["0.400 → 0.700"] * 3, *["0.400 → 0.100"] * 2, *["0.700"] * 2]
    ids = [text for text in parsed.of("p", **{"class": "id"}) if text.startswith("image ")]
    assert ids == [f"image {name}" for name in "abcdefg"]


def test_a_score_that_has_not_changed_stands_once_and_a_reason_where_there_is_one() -> None:
    images = [
        image("a", score_before=0.45, score=0.45),
        image(
            "b", score_before=None, score=0.9, why="It had no score before: now the score decides."
        ),
        image(
            "c", score_before=None, score=None, why="override: marta: a logo", thumbnail_jpeg=None
        ),
    ]
    parsed = Parsed(render(page(changed={LEAVING: images})))
    assert parsed.of("p", **{"class": "score"}) == ["0.450", "no score → 0.900", "no score"]
    assert parsed.of("p", **{"class": "note"}) == [images[1].why, images[2].why]
    assert parsed.of("span", **{"class": "placeholder"}) == [
        "no thumbnail:the image could not be read, or has changed"
    ]
    assert "None of them is shown on this page." in parsed.of("p", **{"class": "empty"})


def test_a_first_version_shows_what_would_be_excluded() -> None:
    strata = [StratumChanges("S", 10, 0, 0, 0, 0, 4, 0, 4)]
    first = page(before=None, strata=strata, changed={NEW: [image("f", "S")]}, gone=0)
    parsed = Parsed(
        render(dataclasses.replace(first, after=dataclasses.replace(AFTER, images=10, excluded=4)))
    )
    assert parsed.of("p", **{"class": "headline"}) == [
        "Nothing is published yet. If this ships, 4 of 10 images stay out of the feed."
    ]
    assert parsed.of("h2")[2] == "Would be excluded: 4, 1 of them shown"
    assert "There is no live version to compare with" in what_differs(first)
    assert parsed.of("th", scope="col")[:2] == ["", "if this ships"]
    assert "leave" not in parsed.of("th", scope="col")


def test_a_first_version_that_excludes_nothing_says_so() -> None:
    strata = [StratumChanges("S", 10, 0, 0, 0, 0, 0, 0, 0)]
    first = page(before=None, changed={}, strata=strata)
    assert "Nothing." in Parsed(render(first)).of("p", **{"class": "empty"})


def test_a_plan_that_changes_nothing_says_so() -> None:
    same = [StratumChanges("S", 104, 104, 0, 0, 0, 0, 12, 12)]
    parsed = Parsed(render(page(strata=same, changed={}, warnings=[])))
    assert parsed.of("p", **{"class": "headline"}) == [
        "If this ships, none of 104 images leaves the feed and none returns to it."
    ]
    assert parsed.of("p", **{"class": "empty"}) == [
        "No image that is in the feed today would leave it.",
        "No image that is excluded today would return.",
    ]
    assert parsed.of("h2", id="new") == parsed.of("h2", id="warnings") == []
    empty = Parsed(render(page(strata=[], changed={}, audits=[])))
    assert empty.of("p", **{"class": "empty"})[2:] == ["The plan holds no image."]


@pytest.mark.parametrize(
    ("leaving", "returning", "expected"),
    [
        (1, 0, "1 image leaves the feed and no image returns to it."),
        (0, 1, "no image leaves the feed and 1 image returns to it."),
        (1_234, 2, "1,234 images leave the feed and 2 images return to it."),
    ],
)
def test_the_headline_speaks_english(leaving: int, returning: int, expected: str) -> None:
    strata = [StratumChanges("S", 2_000, 2_000, leaving, returning, 0, 0, 0, 0)]
    assert headline(page(strata=strata)) == f"If this ships, {expected}"


@pytest.mark.parametrize(
    ("head_id", "threshold", "expected"),
    [
        ("6ea2", 0.4, "The same head, but the operating threshold goes from 0.5 to 0.4."),
        ("beef", 0.5, "Another head scores; the operating threshold stays 0.5."),
        ("beef", 0.4, "Another head scores, and the operating threshold goes from 0.5 to 0.4."),
        ("6ea2", 0.5, "Head and operating threshold (0.5) are those of the live version"),
    ],
)
def test_the_page_says_why_anything_would_change(
    head_id: str, threshold: float, expected: str
) -> None:
    after = dataclasses.replace(AFTER, head_id=head_id, operating_threshold=threshold)
    assert what_differs(page(after=after)).startswith(expected)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"reason": "model"}, {"reason": "model"}, ""),
        (None, {"reason": "model"}, ""),
        ({"reason": "override"}, {"reason": "model"}, "An override has ended: the score decides."),
        (
            {"reason": "unscored"},
            {"reason": "model"},
            "It had no score before: now the score decides.",
        ),
        (
            {"reason": "model"},
            {"reason": "override", "override": "marta: a logo"},
            "override: marta: a logo",
        ),
        (
            {"reason": "model"},
            {"reason": "last_score"},
            "It could not be fetched now: its last score decides.",
        ),
        (
            {"reason": "model"},
            {"reason": "unscored", "status": "truncated"},
            "no score: The file ends too early.",
        ),
    ],
)
def test_what_has_decided_is_told_where_it_is_not_the_score(
    before: dict[str, Any] | None, now: dict[str, Any], expected: str
) -> None:
    assert why(before, {"override": None, "status": "ok", **now}) == expected


@pytest.mark.parametrize(
    ("audits", "heading"),
    [
        ([PASSED], "Audits: all passed"),
        ([PASSED, dataclasses.replace(FAILED, passed=None)], "Audits: none failed"),
        ([PASSED, dataclasses.replace(FAILED, accepted="a new city")], "Audits: none failed"),
        ([PASSED, FAILED], "Audits: 1 failed"),
    ],
)
def test_the_audits_results_are_told(audits: list[Check], heading: str) -> None:
    parsed = Parsed(render(page(audits=audits)))
    assert parsed.of("h2", id="audits") == [heading]
    assert len([row for row in parsed.of("tr") if row.startswith(("size", "psi"))]) == len(audits)


def test_a_plan_that_failed_its_audits_cannot_be_shipped_and_says_so_first() -> None:
    parsed = Parsed(render(page(audits=[PASSED, FAILED], warnings=[])))
    (warning,) = parsed.of("section", **{"class": "warnings"})
    assert "This plan has failed its audits and cannot be shipped: psi." in warning
    assert parsed.of("h2", id="approve") == ["This plan cannot be shipped"]
    assert "how to ship it" not in parsed.of("p", **{"class": "lead"})[0]
    assert parsed.of("p", **{"class": "command"}) == []
    sound = Parsed(render(page()))
    assert sound.of("p", **{"class": "command"}) == [page().command]
    assert "The end of the page tells how to ship it." in sound.of("p", **{"class": "lead"})[0]
    assert any(
        "the plan is removed after 7 days" in text for text in sound.of("p", **{"class": "lead"})
    )
    assert "is removed after" not in render(page(removed_after_days=0.0))

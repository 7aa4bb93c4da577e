"""Rows of the overrides table: checked, resolved, and as labels."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from toiletspark.errors import TableError
from toiletspark.labels import merge
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.publishing import override_rules
from toiletspark.publishing.override_rules import (
    Override,
    as_labels,
    class_of,
    moment,
    parse,
    resolve,
)
from toiletspark.tables.runs import Store

CLASSES = ["toilet", "bath", "other"]
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
DOING = "reading the overrides table o.csv"


def row(**said: str | None) -> dict[str, str | None]:
    usual = {
        "image_id": "a",
        "decision": "keep",
        "who": "ann",
        "why": "no toilet",
        "until": None,
        "when": None,
    }
    return {**usual, **said}


def override(**said: Any) -> Override:
    usual = {
        "image_id": "a",
        "content_digest": "",
        "decision": "keep",
        "label": "",
        "who": "ann",
        "why": "so",
    }
    return Override(**{**usual, "when": None, "until": None, **said})


# Rows


def test_a_row_gets_its_types() -> None:
    rows = [
        row(when="2026-11-20", until="2026-11-30", label=" bath "),
        row(
            image_id=" ",
            content_digest="d",
            decision="exclude",
            when="2026-11-20 18:00",
            until="2026-11-20T18:00+02:00",
        ),
    ]
    first, second = parse(rows, CLASSES, doing=DOING)
    assert first == override(
        why="no toilet",
        label="bath",
        when=datetime(2026, 11, 20, tzinfo=UTC),
        until=datetime(2026, 11, 30, 23, 59, 59, 999999, UTC),
    )
    assert second.key == ("", "d")
    assert (second.when, second.until) == (
        datetime(2026, 11, 20, 18, tzinfo=UTC),
        datetime(2026, 11, 20, 16, tzinfo=UTC),
    )
    assert second.note == "ann: no toilet"
    assert parse([], CLASSES, doing=DOING) == []


@pytest.mark.parametrize(
    ("rows", "expected", "found", "todo"),
    [
        (
            [
                row(),
                row(image_id="b", decision="kept"),
                row(image_id=None, content_digest="d", decision="KEEP"),
            ],
            "the decision keep or exclude in each row",
            "'kept', 'KEEP' (did you mean 'keep'?) in 2 rows: 'b', 'd'",
            "correct these rows",
        ),
        (
            [row(decision=None)],
            "the decision keep or exclude in each row",
            "'' in 1 row: 'a'",
            "correct these rows",
        ),
        (
            [row(), row(content_digest="d"), row(image_id="b", content_digest="e", who="bob")],
            "either an image_id or a content_digest in each row",
            "'both' in 2 rows: 'a', 'b'",
            "make two rows of a row with both: one for the image, one for its content",
        ),
        (
            [row(image_id=""), row(image_id=None, who="bob")],
            "either an image_id or a content_digest in each row",
            "'neither' in 2 rows: 'by ann', 'by bob'",
            "name the image or the content that the row is about, or remove it",
        ),
        (
            [row(who=" "), row(image_id="c")],
            "in each row the person who decided",
            "'' in 1 row: 'a'",
            "fill it in: an override beats every score, so others must be able to ask about it",
        ),
        (
            [row(), row(image_id="b", why=None)],
            "in each row the reason",
            "'' in 1 row: 'b'",
            "fill it in: an override beats every score, so others must be able to ask about it",
        ),
        (
            [row(label="toilets"), row(label="other")],
            "one of labels.classes, or nothing: toilet, bath, other",
            "'toilets' (did you mean 'toilet'?) in 1 row: 'a'",
            "correct the class, or leave it empty",
        ),
        (
            [
                row(until="30.11.2026"),
                row(image_id="b", until="soon"),
                row(image_id="c", until="soon"),
            ],
            "in until a day or a moment, as in 2026-11-30 or 2026-11-30T18:00:00+01:00, or nothing",
            "'30.11.2026', 'soon' in 3 rows: 'a', 'b', 'c'",
            "write years first; a moment without a zone is UTC",
        ),
        (
            [row(when="2026-02-30")],
            "in when a day or a moment, as in 2026-11-30 or 2026-11-30T18:00:00+01:00, or nothing",
            "'2026-02-30' in 1 row: 'a'",
            "write years first; a moment without a zone is UTC",
        ),
        (
            [row(until="0001-01-01T00:00+01:00")],
            "in until a day or a moment, as in 2026-11-30 or 2026-11-30T18:00:00+01:00, or nothing",
            "'0001-01-01T00:00+01:00' in 1 row: 'a'",
            "write years first; a moment without a zone is UTC",
        ),
    ],
    ids=[
        "words",
        "no word",
        "both",
        "neither",
        "nobody",
        "no reason",
        "class",
        "until",
        "when",
        "before all time",
    ],
)
def test_rows_that_cannot_be_taken(rows: Any, expected: str, found: str, todo: str) -> None:
    with pytest.raises(TableError) as stopped:
        parse(rows, CLASSES, doing=DOING)
    text = f"while {DOING}\n  expected: {expected}\n  found:    {found}\n  do:       {todo}"
    assert str(stopped.value) == text


# Until


def test_a_day_ends_at_midnight_in_utc_and_a_moment_is_still_in() -> None:
    day, at_noon = override(until=moment("2026-11-25", last=True)), override(until=NOON)
    assert [day.counts_at(NOON + timedelta(hours=hours)) for hours in (0, 11.999, 12)] == [
        True,
        True,
        False,
    ]
    assert [at_noon.counts_at(NOON + timedelta(seconds=late)) for late in (-1, 0, 1)] == [
        True,
        True,
        False,
    ]
    assert override().counts_at(datetime.max.replace(tzinfo=UTC))
    assert override(until=moment("9999-12-31", last=True)).counts_at(NOON)


@pytest.mark.parametrize(
    "text",
    [
        "9999-12-31T23:59:59.000000-05:00",  # as a session in New York shows it
        "9999-12-31 23:59:59-08:00",
        "+10000-01-01T00:59:59.000000+01:00",  # as a session in Berlin does
        "+10000-01-01T08:59:59.999999+09:00",
        "+10000-01-01",
    ],
)
def test_an_end_after_the_last_year_is_for_ever(text: str) -> None:
    (read,) = parse([row(until=text)], CLASSES, doing=DOING)
    assert read.until is not None
    assert read.until.year == 9999
    assert read.counts_at(datetime(9999, 12, 30, tzinfo=UTC))
    assert parse([row(when=text)], CLASSES, doing=DOING)[0].when == read.until


@pytest.mark.parametrize(
    "text", ["+10000", "+10000-13-01T00:00:00", "+10000-01-01T25:00", "+1000-01-01", "10000-01-01"]
)
def test_what_only_looks_like_the_year_10000_is_refused(text: str) -> None:
    with pytest.raises(TableError, match="a day or a moment"):
        parse([row(until=text)], CLASSES, doing=DOING)


# What is said twice


LATER = NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    ("said", "decision"),
    [
        ([("keep", NOON), ("exclude", LATER)], "exclude"),
        ([("exclude", NOON), ("keep", LATER)], "keep"),
        ([("exclude", NOON), ("keep", NOON)], "exclude"),
        ([("exclude", None), ("keep", None)], "exclude"),
        ([("exclude", None), ("keep", LATER)], "exclude"),
        ([("keep", None), ("exclude", NOON)], "exclude"),
        ([("keep", None), ("exclude", NOON), ("keep", LATER)], "keep"),
        ([("keep", None)], "keep"),
    ],
)
def test_the_newer_word_counts_and_where_that_is_open_the_one_that_excludes(
    said: Any, decision: str
) -> None:
    rows = [
        override(decision=word, when=at, who=f"w{place}") for place, (word, at) in enumerate(said)
    ]
    found = {resolve(order)["a", ""].who for order in itertools.permutations(rows)}
    assert {rows[int(who[1])].decision for who in found} == {decision}
    assert len(found) == 1  # in whichever order the rows come


def test_images_and_contents_are_different_subjects() -> None:
    said = [
        override(image_id="x"),
        override(image_id="", content_digest="x", decision="exclude"),
        override(),
    ]
    assert {key: one.decision for key, one in resolve(said).items()} == {
        ("x", ""): "keep",
        ("", "x"): "exclude",
        ("a", ""): "keep",
    }


def test_resolving_gives_the_same_whatever_the_order() -> None:
    rng = random.Random(4)
    times = [None, NOON, LATER]
    for _ in range(200):
        rows = [
            override(
                decision=rng.choice(["keep", "exclude"]),
                when=rng.choice(times),
                who=rng.choice("vw"),
            )
            for _ in range(rng.randint(1, 5))
        ]
        once = resolve(rows)
        rng.shuffle(rows)
        assert resolve(rows) == once
        newest = max((one.when for one in rows if one.when), default=None)
        in_question = [one.decision for one in rows if one.when in (newest, None)]
        assert once["a", ""].decision == ("exclude" if "exclude" in in_question else "keep")


# As labels


@pytest.mark.parametrize(
    ("said", "classes", "label"),
    [
        (override(decision="exclude"), ["toilet", "other"], "toilet"),
        (override(decision="keep"), ["toilet", "other"], "other"),
        (override(decision="exclude"), CLASSES, "toilet"),
        (override(decision="keep"), CLASSES, ""),
        (override(decision="keep", label="toilet"), CLASSES, "toilet"),
    ],
    ids=[
        "excluded",
        "kept",
        "the only excluded one",
        "two kept ones",
        "a toilet that shall be shown",
    ],
)
def test_the_class_of_an_override(said: Override, classes: list[str], label: str) -> None:
    assert class_of(said, classes, ["toilet"]) == label


def test_what_overrides_say_as_labels() -> None:
    said = [
        override(image_id="a", decision="exclude", when=NOON),
        override(image_id="b", decision="keep", label="bath", who="bob"),
        override(image_id="c", decision="keep"),  # bath or other?
        override(
            image_id="gone", decision="exclude"
        ),  # of no image of the catalog: known by its id all the same
        override(
            image_id="", content_digest="of a", decision="keep", label="other"
        ),  # said of the image goes first
        override(image_id="", content_digest="of z", decision="exclude", who="cem"),
        override(image_id="", content_digest="nowhere", decision="exclude"),
    ]
    found, missing = as_labels(
        resolve(said), {"a": "of a", "b": "of b"}, {"of a": "a", "of z": "z"}, CLASSES, ["toilet"]
    )
    assert found == [
        Label("a", "toilet", "of a", "override", "ann", NOON),
        Label("b", "bath", "of b", "override", "bob", None),
        Label("gone", "toilet", None, "override", "ann", None),
        Label("z", "toilet", "of z", "override", "cem", None),
    ]
    assert missing == {"without_class": 1, "without_image": 1}


def test_each_row_of_the_one_voice_has_its_own_labeller() -> None:
    """A row that changes or goes takes back what its own labeller has said, whoever imports."""

    def said(*words: tuple[str, str, str], shows: str = "") -> SourceLabels:
        found = [
            Label(image_id, name, None, "override", who, NOON) for image_id, name, who in words
        ]
        return SourceLabels(found, frozenset([*shows, *(label.image_id for label in found)]))

    first = merge.merge(
        [], [], said(("a", "toilet", "ann"), ("b", "other", "bob")), "O", "importer"
    )
    assert sorted(first.labels) == [("a", "ann"), ("b", "bob")]
    again = merge.merge(
        first.labels.values(),
        first.sources,
        said(("a", "toilet", "ann"), ("b", "other", "bob")),
        "O",
        "else",
    )
    assert (again.labels, again.sources) == (first.labels, first.sources)
    assert again.summary() == "0 new, 0 changed, 0 gone, 2 unchanged"
    moved = merge.merge(
        again.labels.values(), again.sources, said(("b", "toilet", "cem"), shows="a"), "O", "else"
    )
    assert {key: label.label for key, label in moved.labels.items()} == {("b", "cem"): "toilet"}
    assert moved.summary() == "0 new, 1 changed (other -> toilet 1), 1 gone, 0 unchanged"


def test_what_its_labeller_has_also_said_elsewhere_outlives_an_override(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "output"))

    def words(*ids: str, shows: Iterable[str] = ()) -> SourceLabels:
        return SourceLabels(
            [Label(name, "toilet", "d", "override", "ann", NOON) for name in ids],
            frozenset([*ids, *shows]),
        )

    merge.save(
        store, SourceLabels([Label("a", "toilet", "d", "sheet", "ann", NOON)]), "importer", {}, "S"
    )
    merge.save(store, words("a", "b"), "importer", {}, "O")
    spoken = merge.labelled_contents(store, "O", "override")
    assert spoken == {"b": "d"}
    assert merge.labelled_contents(store, "S", "sheet") == {}  # which has no one voice
    _, merged = merge.save(store, words(shows=spoken), "importer", {}, "O")
    assert {key: label.how for key, label in merged.labels.items()} == {("a", "ann"): "sheet"}


def test_all_columns_are_read() -> None:
    assert set(override_rules.COLUMNS) == set(Override.__dataclass_fields__)

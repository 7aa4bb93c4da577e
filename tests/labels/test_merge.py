"""Merging labels: nothing is lost silently, and each label keeps its labeller."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from toiletspark.errors import LabelsError
from toiletspark.labels import merge as labels
from toiletspark.labels.class_folders import ExportedImage, export, read
from toiletspark.labels.merge import Label, Merged, SourceLabels, conflicts, merge, shown_conflict
from toiletspark.tables import arrow_io as rows
from toiletspark.tables.runs import Store
from toiletspark.tables.schemas import CONFLICTS, LABEL_SOURCES, LABELS

CLASSES = ["toilet", "other"]
MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1)


def folder(
    *imported: tuple[str, str], shows: str = "abcdefgh", waiting: tuple[tuple[str, str], ...] = ()
) -> SourceLabels:
    """The labels of a folder of eight pictures; digests follow from the ids."""
    return SourceLabels(
        [Label(image_id, name, f"d-{image_id}", "folder") for image_id, name in imported],
        frozenset(shows),
        [Label(image_id, name, f"d-{image_id}", "folder_presorted") for image_id, name in waiting],
    )


def sheet(labeller: str, at: datetime, *imported: tuple[str, str]) -> SourceLabels:
    return SourceLabels(
        [
            Label(image_id, name, f"d-{image_id}", "sheet", labeller, at)
            for image_id, name in imported
        ]
    )


def after(*imports: tuple[SourceLabels, str, str]) -> Merged:
    """The labels after several imports: (labels, source, importer)."""
    merged = Merged({}, [])
    for imported, source, who in imports:
        merged = merge(merged.labels.values(), merged.sources, imported, source, who)
    return merged


def kept(merged: Merged) -> dict[tuple[str, str], tuple[str, str]]:
    return {key: (label.label, label.how) for key, label in merged.labels.items()}


# Times that no clock showed


@pytest.mark.parametrize(
    "at",
    [
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
        datetime(2999, 1, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    ],
    ids=["the last", "the future", "an empty date", "the first"],
)
def test_a_time_that_no_clock_showed_is_that_of_the_import(tmp_path: Path, at: datetime) -> None:
    """What was written can be read, and a later word counts."""
    store = Store.open(str(tmp_path / "out"))
    run, merged = labels.save(store, sheet("ann", at, ("a", "toilet")), "me", {}, "S")
    assert run.counts["misdated"] == 1
    assert "1 with a date that no clock showed: the import's counts" in merged.summary()
    (label,) = labels.newest(store)
    assert abs(datetime.now(UTC) - label.labelled_at) < timedelta(minutes=5)
    later = label.labelled_at + timedelta(hours=1)
    labels.save(store, sheet("ann", later, ("a", "other")), "me", {}, "S")
    assert [label.label for label in labels.newest(store)] == ["other"]


def test_a_label_of_the_future_that_is_known_does_not_win_for_ever() -> None:
    known = Label("a", "toilet", "d-a", "sheet", "ann", datetime(2999, 1, 1, tzinfo=UTC))
    merged = merge([known], [], sheet("ann", datetime.now(UTC), ("a", "other")), "S", "me")
    assert kept(merged) == {("a", "ann"): ("toilet", "sheet")}  # it counts as of now, this once
    tomorrow = sheet("ann", datetime.now(UTC) + timedelta(hours=1), ("a", "other"))
    merged = merge(merged.labels.values(), [], tomorrow, "S", "me")
    assert kept(merged) == {("a", "ann"): ("other", "sheet")}


# A source that says two things of an image


def two(*words: tuple[str, str]) -> SourceLabels:
    return SourceLabels(
        [Label("a", name, None, "table", who) for name, who in words], frozenset("ab")
    )


def test_two_words_of_one_source_on_an_image_are_both_kept_and_compared() -> None:
    both = two(("other", "x"), ("toilet", "y"))
    merged = after((both, "T", "me"))
    assert kept(merged) == {("a", "x"): ("other", "table"), ("a", "y"): ("toilet", "table")}
    assert len(conflicts(merged.labels.values())) == 1
    merged = after((both, "T", "me"), (both, "T", "me"))
    assert merged.summary() == "0 new, 0 changed, 0 gone, 2 unchanged"
    merged = after((both, "T", "me"), (two(("toilet", "")), "T", "me"))
    assert merged.summary() == "0 new, 0 changed, 1 gone, 1 unchanged"
    assert kept(merged) == {("a", "y"): ("toilet", "table")}
    merged = after((two(("toilet", "")), "T", "me"), (both, "T", "me"))
    assert merged.summary() == "1 new, 0 changed, 0 gone, 1 unchanged"
    merged = after((both, "T", "me"), (two(), "T", "me"))
    assert (merged.summary(), merged.sources) == ("0 new, 0 changed, 2 gone, 0 unchanged", [])


# A folder, import after import


def test_what_changed_since_the_last_import_is_told() -> None:
    before = folder(("a", "toilet"), ("b", "toilet"), ("c", "other"), ("d", "other"))
    now = folder(("a", "toilet"), ("b", "other"), ("d", "other"), ("e", "toilet"))
    merged = after((before, "F", "ann"), (now, "F", "ann"))
    assert merged.summary() == "1 new, 1 changed (toilet -> other 1), 1 gone, 2 unchanged"
    assert {image_id: label for (image_id, _), (label, _) in kept(merged).items()} == {
        **{"a": "toilet", "b": "other", "d": "other", "e": "toilet"}
    }


def test_unchanged_labels_keep_who_and_when() -> None:
    first = after((folder(("a", "toilet"), ("b", "other")), "F", "ann"))
    second = merge(
        first.labels.values(), first.sources, folder(("a", "toilet"), ("b", "toilet")), "F", "bob"
    )
    assert second.labels["a", "ann"] == first.labels["a", "ann"]
    assert ("b", "ann") not in second.labels
    assert second.labels["b", "bob"].labelled_at > first.labels["b", "ann"].labelled_at
    assert second.summary() == "0 new, 1 changed (other -> toilet 1), 0 gone, 1 unchanged"


def test_a_folder_that_repeats_itself_does_not_overrule_a_later_correction() -> None:
    """The sheet has corrected a; the folder still says what it said before."""
    stale = folder(("a", "toilet"), ("b", "other"))
    corrected = sheet("ann", datetime.now(UTC) + timedelta(seconds=1), ("a", "other"))
    merged = after(
        (stale, "F", "ann"), (corrected, "S", "ann"), (stale, "F", "ann"), (stale, "F", "ann")
    )
    assert kept(merged)["a", "ann"] == ("other", "sheet")
    assert merged.summary() == "0 new, 0 changed, 0 gone, 2 unchanged"
    moved = merge(merged.labels.values(), merged.sources, folder(("b", "other")), "F", "ann")
    assert kept(moved)["a", "ann"] == ("other", "sheet")  # it is not the folder's to take back


def test_a_folder_takes_back_only_what_it_shows() -> None:
    """Another sample was exported to the same place: what was labelled there before stays."""
    merged = after(
        (folder(("a", "toilet")), "F", "ann"), (folder(("x", "other"), shows="xyz"), "F", "ann")
    )
    assert sorted(image_id for image_id, _ in merged.labels) == ["a", "x"]
    assert merged.gone == 0
    assert {row["image_id"] for row in merged.sources} == {"a", "x"}


def test_two_folders_do_not_touch_each_other() -> None:
    merged = after(
        (folder(("a", "toilet"), ("b", "other")), "F", "ann"),
        (folder(("a", "other"), ("b", "other")), "G", "bob"),
        (folder(("b", "other")), "G", "bob"),
    )
    assert {key: label for key, (label, _) in kept(merged).items()} == {
        ("a", "ann"): "toilet",
        ("b", "ann"): "other",
        ("b", "bob"): "other",
    }


def test_presorted_pictures_wait_until_somebody_has_looked() -> None:
    waiting = (("a", "toilet"), ("b", "toilet"))
    first = after((folder(("c", "other"), waiting=waiting), "F", "ann"))
    assert first.summary() == "1 new, 0 changed, 0 gone, 0 unchanged, 2 presorted and not looked at"
    assert list(first.labels) == [("c", "ann")]
    looked = SourceLabels(
        [*folder(("c", "other")).labels, *folder(waiting=waiting).waiting], frozenset("abc")
    )
    second = merge(first.labels.values(), first.sources, looked, "F", "ann")
    assert kept(second)["a", "ann"] == ("toilet", "folder_presorted")
    third = merge(
        second.labels.values(), second.sources, folder(("c", "other"), waiting=waiting), "F", "ann"
    )
    assert third.summary() == "0 new, 0 changed, 0 gone, 3 unchanged"  # confirmed once is confirmed


def test_what_was_moved_away_and_back_is_a_label() -> None:
    merged = after(
        (folder(("a", "other"), waiting=(("b", "toilet"),)), "F", "ann"),
        (folder(waiting=(("a", "toilet"), ("b", "toilet"))), "F", "ann"),
    )
    assert {key: label for key, (label, _) in kept(merged).items()} == {("a", "ann"): "toilet"}
    assert merged.summary() == (
        "0 new, 1 changed (other -> toilet 1), 0 gone, 0 unchanged, 1 presorted and not looked at"
    )


# Files with names and times


def test_a_labellers_newer_word_replaces_the_older_one() -> None:
    merged = after(
        (sheet("ann", MONDAY, ("a", "toilet")), "1", "me"),
        (sheet("ann", TUESDAY, ("a", "other")), "2", "me"),
    )
    assert kept(merged) == {("a", "ann"): ("other", "sheet")}
    assert merged.labels["a", "ann"].labelled_at == TUESDAY
    assert merged.summary() == "0 new, 1 changed (toilet -> other 1), 0 gone, 0 unchanged"


def test_an_older_word_that_comes_later_is_not_taken() -> None:
    merged = after(
        (sheet("ann", TUESDAY, ("a", "other")), "2", "me"),
        (sheet("ann", MONDAY, ("a", "toilet")), "1", "me"),
    )
    assert kept(merged) == {("a", "ann"): ("other", "sheet")}
    assert merged.summary() == "0 new, 0 changed, 0 gone, 0 unchanged, 1 older than what is known"


def test_a_file_adds_and_takes_nothing_back() -> None:
    merged = after(
        (sheet("ann", MONDAY, ("a", "other"), ("b", "other")), "1", "me"),
        (sheet("", MONDAY), "2", "me"),
    )
    assert len(merged.labels) == 2
    again = merge(
        merged.labels.values(), merged.sources, sheet("ann", TUESDAY, ("a", "other")), "1", "me"
    )
    assert again.summary() == "0 new, 0 changed, 0 gone, 1 unchanged"
    # said again, at a time that somebody noted
    assert again.labels["a", "ann"].labelled_at == TUESDAY


def test_a_word_that_is_known_keeps_its_time() -> None:
    """Labels by Tuesday's sheet; then by a folder, which knows no times, and an older sheet."""
    words = (
        sheet("ann", TUESDAY, ("a", "other")),
        folder(("a", "other")),
        sheet("ann", MONDAY, ("a", "other")),
    )
    merged = after(
        *((imported, source, "ann") for imported, source in zip(words, "SFT", strict=True))
    )
    assert merged.labels["a", "ann"] == Label("a", "other", "d-a", "sheet", "ann", TUESDAY)
    assert merged.summary() == "0 new, 0 changed, 0 gone, 1 unchanged"


def test_another_picture_under_the_same_id_is_labelled_anew() -> None:
    old = SourceLabels([Label("a", "toilet", "old", "sheet", "ann", MONDAY)])
    new = SourceLabels([Label("a", "other", "new", "sheet", "ann", TUESDAY)])
    merged = after((old, "1", "me"), (new, "2", "me"))
    assert (merged.new, merged.changed.total(), merged.outdated) == (1, 0, 0)
    assert merged.labels["a", "ann"].content_digest == "new"


@pytest.mark.parametrize("old_class", ["other", "toilet"])
def test_an_old_sheet_that_comes_again_does_not_take_the_label_of_the_newer_picture(
    old_class: str,
) -> None:
    old = SourceLabels([Label("a", old_class, "old", "sheet", "ann", MONDAY)])
    new = SourceLabels([Label("a", "toilet", "new", "sheet", "ann", TUESDAY)])
    merged = after((old, "1", "me"), (new, "2", "me"), (old, "1", "me"))
    assert merged.labels["a", "ann"] == new.labels[0]
    assert merged.summary() == "0 new, 0 changed, 0 gone, 0 unchanged, 1 older than what is known"


# Conflicts


def test_who_was_asked_answers_though_a_folder_had_said_the_same() -> None:
    """Labels of people's own folders count for no draw; an answer about a drawn image does."""
    own = SourceLabels([Label("H1", "toilet", "d-H1", labels.IMAGE_FOLDER)], frozenset({"H1"}))
    asked = sheet("ann", MONDAY, ("H1", "toilet"))
    for imports in (
        [(own, "mine", "ann"), (asked, "s", "ann")],
        [(asked, "s", "ann"), (own, "mine", "ann")],
    ):
        assert [label.how for label in after(*imports).labels.values()] == ["sheet"]


def test_labellers_who_disagree_are_both_kept_and_listed() -> None:
    merged = after(
        (sheet("ann", MONDAY, ("a", "toilet"), ("b", "other")), "1", "me"),
        (sheet("bob", TUESDAY, ("a", "other"), ("b", "other")), "2", "me"),
    )
    assert len(merged.labels) == 4
    ((one, other),) = conflicts(merged.labels.values())
    assert (
        shown_conflict([one, other])
        == "'a': toilet (ann, 2026-11-23, sheet), other (bob, 2026-11-24, sheet)"
    )
    settled = merge(
        merged.labels.values(), merged.sources, sheet("ann", TUESDAY, ("a", "other")), "3", "me"
    )
    assert conflicts(settled.labels.values()) == []


def test_conflicts_are_about_contents() -> None:
    words = [
        Label("a", "toilet", "same", "sheet", "ann", MONDAY),
        Label("b", "other", "same", "sheet", "ann", MONDAY),  # the same file under another id
        Label("c", "toilet", "old", "sheet", "ann", MONDAY),
        Label("c", "other", "new", "sheet", "bob", MONDAY),  # the image was replaced in between
        Label("d", "toilet", "d", "sheet", "ann", MONDAY),
        Label("d", "other", None, "table", "bob", MONDAY),  # came without its picture
        Label("e", "toilet", None, "table", "ann", MONDAY),
        Label("e", "other", None, "table", "bob", MONDAY),
    ]
    result = [
        [(label.image_id, label.label) for label in imported] for imported in conflicts(words)
    ]
    assert result == [
        [("a", "toilet"), ("b", "other")],
        [("d", "toilet"), ("d", "other")],
        [("e", "toilet"), ("e", "other")],
    ]


# Keeping


def test_labels_are_kept_with_who_and_when_and_how(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path / "root"))
    before = datetime.now(UTC)
    run, _ = labels.save(store, folder(("b", "other"), ("a", "toilet")), "ann", {"seed": 1}, "F")
    assert [
        (row["image_id"], row["labeller"], row["class"], row["content_digest"], row["how"])
        for row in rows.read(run)
    ] == [("a", "ann", "toilet", "d-a", "folder"), ("b", "ann", "other", "d-b", "folder")]
    assert all(before <= row["labelled_at"] <= datetime.now(UTC) for row in rows.read(run))
    assert list(run.columns) == list(LABELS.columns)
    assert run.inputs.as_json() == {"source": "F", "before": None}
    counts = run.counts
    assert (run.rows, counts["images"], counts["per_class"], counts["new"]) == (
        2,
        2,
        {"toilet": 1, "other": 1},
        2,
    )


def test_the_newest_run_holds_everything_and_earlier_ones_stay(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path))
    first, _ = labels.save(store, folder(("a", "toilet")), "ann", {}, "F")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    second, _ = labels.save(
        store, sheet("bob", MONDAY, ("a", "other"), ("b", "other")), "ann", {}, "S"
    )
    assert {path: path.read_bytes() for path in before} == before
    assert store.newest(LABELS) == second
    assert second.inputs.as_json() == {"source": "S", "before": first.run_id}
    assert [(row["image_id"], row["labeller"]) for row in rows.read(second)] == [
        ("a", "ann"),
        ("a", "bob"),
        ("b", "bob"),
    ]
    assert rows.read(second)[0] == rows.read(first)[0]
    disputed = rows.read(store.run(CONFLICTS, second.run_id))
    assert [(row["conflict"], row["labeller"], row["class"]) for row in disputed] == [
        (1, "ann", "toilet"),
        (1, "bob", "other"),
    ]
    assert second.counts["conflicts"] == 1
    imported = rows.read(store.run(LABEL_SOURCES, second.run_id))
    assert imported == [{"source": "F", "image_id": "a", "class": "toilet", "labeller": "ann"}]


def test_a_labeller_without_a_name_is_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    run, _ = labels.save(Store.open(str(tmp_path)), folder(("a", "toilet")), "", {}, "x")
    assert [row["labeller"] for row in rows.read(run)] == ["grace"]


def test_an_import_without_any_label_is_refused(tmp_path: Path) -> None:
    where = tmp_path / "labelling"
    export(
        [ExportedImage("a", "d", b"", "toilet"), ExportedImage("b", "d", b"", "other")],
        where,
        CLASSES,
    )
    store = Store.open(str(tmp_path / "root"))
    with pytest.raises(LabelsError) as caught:
        labels.save(store, read(where, CLASSES), "ann", {}, str(where))
    assert str(caught.value) == (
        f"while importing labels from {where}\n"
        "  expected: at least one label\n"
        "  found:    none, and 2 presorted pictures that nobody has looked at\n"
        "  do:       look through the class folders, move the mistakes, "
        "then run `toiletspark labels import --reviewed CLASS` "
        "for each class that you have looked through"
    )
    assert store.newest(LABELS) is None

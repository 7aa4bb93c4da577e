"""Labels as one JSON file: strictly read, and hostile text in it stays text."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.labels.test_class_folders import HOSTILE
from toiletspark.errors import LabelsError
from toiletspark.labels import label_studio
from toiletspark.labels.label_files import read
from toiletspark.labels.merge import Label

CLASSES = ["toilet", "other"]
AT = "2026-11-24T10:00:00Z"
MOMENT = datetime(2026, 11, 24, 10, tzinfo=UTC)


def word(image_id: str = "a", label: str = "toilet", **changes: Any) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "content_digest": "d",
        "class": label,
        "labelled_at": AT,
        **changes,
    }


def sheet(*labels: dict[str, Any], **changes: Any) -> dict[str, Any]:
    whole = {
        "format": "toiletspark-labels",
        "format_version": 1,
        "sheet": "s1",
        "labeller": "ann",
        "labels": labels,
    }
    return {**whole, **changes}


def saved(tmp_path: Path, content: Any) -> str:
    path = tmp_path / "labels.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(path)


def refused(tmp_path: Path, content: Any) -> LabelsError:
    path = saved(tmp_path, content)
    with pytest.raises(LabelsError) as caught:
        read(path, CLASSES)
    assert caught.value.doing == f"importing labels from {path}"
    return caught.value


# The contact sheet's file


def test_the_sheets_file_is_read(tmp_path: Path) -> None:
    content = sheet(
        word(), word("b", "other", content_digest=None, labelled_at="2026-11-24T12:00:00.5+02:00")
    )
    imported = read(saved(tmp_path, content), CLASSES)
    assert imported.labels == [
        Label("a", "toilet", "d", "sheet", "ann", MOMENT),
        Label("b", "other", None, "sheet", "ann", MOMENT.replace(microsecond=500_000)),
    ]
    assert imported.covers is None


def test_hostile_ids_come_back(tmp_path: Path) -> None:
    ids = [*HOSTILE, "A.jpg", "a.jpg"]
    imported = read(
        saved(tmp_path, sheet(*(word(image_id) for image_id in ids), labeller="<b>../eve</b>")),
        CLASSES,
    )
    assert [label.image_id for label in imported.labels] == ids
    assert {label.labeller for label in imported.labels} == {"<b>../eve</b>"}
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]


@pytest.mark.parametrize(
    ("content", "results", "todo"),
    [
        (b"", "no JSON: EOF while parsing", "as it was downloaded"),
        (b"\xff\xfe", "no JSON: expected value", "as it was downloaded"),
        (b"[" * 100_000, "no JSON: recursion limit exceeded", "as it was downloaded"),
        ({"labels": []}, "JSON of another format", "the contact sheet downloads"),
        (3, "JSON of another format", "the contact sheet downloads"),
        (
            sheet(word(), format_version=2),
            "format_version 2; this toiletspark reads 1",
            "make the sheet again",
        ),
        (sheet(word(), format_version=None), "format_version None; this", "make the sheet again"),
        (sheet(word(), word()), "1 images more than once: 'a'", "keep the right label of each"),
        (
            sheet(word(), extra=1),
            "at extra: Extra inputs are not permitted",
            "as it was downloaded",
        ),
        (sheet(word(extra=1)), "at labels.0.extra: Extra inputs", "as it was downloaded"),
        (
            sheet(word(), word("b", labelled_at="yesterday")),
            "at labels.1.labelled_at: Input should",
            "as it was",
        ),
        (
            sheet(word(labelled_at="2026-11-24T10:00:00")),
            "at labels.0.labelled_at: Input should have time",
            "as it",
        ),
        (sheet(word(7)), "at labels.0.image_id: Input should be a valid string", "as it was"),  # type: ignore[arg-type]
        (
            b'{"format": "toiletspark-labels", "format_version": 1, "sheet": "", "labeller": "", '
            b'"labels": [{"image_id": "\\ud800", "content_digest": null, "class": "toilet", '
            b'"labelled_at": "2026-11-24T10:00:00Z"}]}',
            "no JSON: ",
            "as it was",
        ),
    ],
)
def test_a_file_that_is_not_as_downloaded_is_refused(
    tmp_path: Path, content: Any, results: str, todo: str
) -> None:
    error = refused(tmp_path, content)
    assert error.found.startswith(results)
    assert todo in error.todo
    assert error.expected == (
        "a labels file of the contact sheet (toiletspark-labels 1, each image once), or Label "
        "Studio's export (JSON or JSON-MIN) of tasks that `toiletspark labels tasks` made, "
        "with one choice per annotation"
    )


def test_an_unknown_class_names_the_nearest(tmp_path: Path) -> None:
    assert str(refused(tmp_path, sheet(word(), word("b", "toilets")))) == (
        f"while importing labels from {tmp_path}/labels.json\n"
        "  expected: at least one label, each one of labels.classes: toilet, other\n"
        "  found:    'toilets' 1 (did you mean 'toilet'?) in 1 of 2 rows\n"
        "  do:       set labels.classes to the classes that were labelled, or correct the words"
    )


def test_one_label_in_a_hundred_may_have_a_class_that_nobody_knows(tmp_path: Path) -> None:
    words = [word(f"i{number}") for number in range(99)]
    source = read(saved(tmp_path, sheet(*words, word("b", "zebra"))), CLASSES)
    assert len(source.labels) == 99
    assert source.counts == {"unknown_classes": {"zebra": 1}}
    several = sheet(*words, word("b", "zebra"), word("c", "zebra"))
    assert refused(tmp_path, several).found == "'zebra' 2 in 2 of 101 rows"


def test_a_file_without_labels_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path, sheet()).found == "no labels"
    assert refused(tmp_path, []).found == "no labels"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        LabelsError,
        match=r"found:    nothing that can be read\n  do:       check labels\.file \(FileNotF",
    ):
        read(str(tmp_path / "nowhere.json"), CLASSES)


# Label Studio


def annotation(*choices: str, **changes: Any) -> dict[str, Any]:
    result = [
        {
            "id": "x",
            "from_name": "choice",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": list(choices)},
        }
    ]
    stated = {
        "completed_by": 1,
        "created_at": AT,
        "updated_at": AT,
        "was_cancelled": False,
        "lead_time": 2.5,
    }
    return {"id": 7, "result": result if choices else [], **stated, **changes}


def task(image_id: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    guess = {"model_version": "h", "score": 0.9, "result": annotation("other")["result"]}
    data = {
        "image": "https://x/1.jpg",
        "image_id": image_id,
        "content_digest": "d",
        "listing_id": "L",
    }
    return {
        "id": 1,
        "data": data,
        "annotations": list(annotations),
        "predictions": [guess],
        "drafts": [],
        "project": 3,
    }


def test_what_people_said_in_label_studio_is_read(tmp_path: Path) -> None:
    """Two annotators; skipped, empty and earlier annotations; one pre-annotation alone."""
    earlier = "2026-11-24T09:00:00.000001Z"
    ann = {"id": 4, "email": "ann@x.org", "first_name": "Ann"}
    content = [
        task(
            "a",
            annotation("toilet"),
            annotation("other", completed_by=ann),
            annotation("other", updated_at=earlier),
        ),
        task("b", annotation("other", was_cancelled=True), annotation(completed_by=2)),
        task("c"),
        task("d", annotation("other", completed_by=None, updated_at=None, created_at=earlier)),
    ]
    assert read(saved(tmp_path, content), CLASSES).labels == [
        Label("a", "toilet", "d", "label_studio", "label_studio:1", MOMENT),
        Label("a", "other", "d", "label_studio", "ann@x.org", MOMENT),
        Label(
            "d", "other", "d", "label_studio", "", datetime(2026, 11, 24, 9, 0, 0, 1, tzinfo=UTC)
        ),
    ]


@pytest.mark.parametrize("wrong", ["2999-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_an_annotation_of_the_future_or_without_a_day_is_not_the_newest(
    tmp_path: Path, wrong: str
) -> None:
    said = [annotation("other", updated_at=wrong), annotation("toilet")]
    for annotations in (said, said[::-1]):
        source = read(saved(tmp_path, [task("a", *annotations)]), CLASSES)
        assert [label.label for label in source.labels] == ["toilet"]


def test_json_min_is_read_too(tmp_path: Path) -> None:
    common = {
        "image": "https://x/1.jpg",
        "listing_id": "L",
        "content_digest": "",
        "id": 1,
        "annotation_id": 2,
    }
    content = [
        {
            **common,
            "image_id": "a",
            "choice": "toilet",
            "annotator": 1,
            "created_at": AT,
            "updated_at": AT,
        },
        {
            **common,
            "image_id": "a",
            "choice": "other",
            "annotator": "bob@x.org",
            "created_at": AT,
            "updated_at": AT,
        },
        {**common, "image_id": "b", "annotator": 1, "created_at": AT, "updated_at": AT},
    ]
    assert read(saved(tmp_path, content), CLASSES).labels == [
        Label("a", "toilet", None, "label_studio", "label_studio:1", MOMENT),
        Label("a", "other", None, "label_studio", "bob@x.org", MOMENT),
    ]


@pytest.mark.parametrize("value", ["toilet", ["toilet"], {"choices": ["toilet"]}])
def test_a_choice_is_read_in_every_form_that_label_studio_has(tmp_path: Path, value: Any) -> None:
    stated = annotation("toilet")
    stated["result"][0]["value"] = value
    content = [task("a", stated), {"image_id": "b", "choice": value}]
    labels = read(saved(tmp_path, content), CLASSES).labels
    assert [(label.image_id, label.label) for label in labels] == [("a", "toilet"), ("b", "toilet")]


@pytest.mark.parametrize(
    ("content", "results"),
    [
        (["text"], "at 0.JSON-MIN: Input should be a valid dictionary"),
        (
            [{"id": 5, "data": {"image": "x"}, "annotations": []}],
            "at 0.JSON.data.image_id: Field required",
        ),
        ([{"id": 5, "data": [], "annotations": []}], "at 0.JSON.data: Input should be"),
        ([{"id": 5, "choice": "toilet"}], "at 0.JSON-MIN.image_id: Field required"),
        (
            [task("a"), {**task("b"), "data": {"image_id": "b", "content_digest": 7}}],
            "at 1.JSON.data.content_digest: Input should be a valid string",
        ),
        ([task("a", annotation("toilet", "other"))], "image 'a' with 2 choices: 'toilet', 'other'"),
        (
            [task("a", annotation("toilet", updated_at="soon"))],
            "at 0.JSON.annotations.0.updated_at: Input should be a valid datetime",
        ),
        (
            [{**task("a"), "annotations": {"0": 1}}],
            "at 0.JSON.annotations: Input should be a valid list",
        ),
    ],
)
def test_an_export_of_something_else_is_refused(tmp_path: Path, content: Any, results: str) -> None:
    error = refused(tmp_path, content)
    assert error.found.startswith(results)
    assert error.todo == "export the project again as JSON; tasks from elsewhere have no image_id"


def test_the_labelling_configuration_has_a_choice_per_class() -> None:
    view = ET.fromstring(label_studio.labelling_config([*CLASSES, 'a"<&']))
    image, choices = view.find("Image"), view.find("Choices")
    assert image is not None and choices is not None
    assert (image.get("value"), choices.get("toName"), choices.get("choice")) == (
        "$image",
        image.get("name"),
        "single-radio",
    )
    assert [choice.get("value") for choice in choices] == [*CLASSES, 'a"<&']


def test_a_task_goes_there_and_back(tmp_path: Path) -> None:
    """An annotation made from the pre-annotation by Label Studio returns with the hostile id."""
    tasks = []
    for image_id in HOSTILE:
        row = {"image_id": image_id, "listing_id": "L", "content_digest": "d"}
        tasks.append(
            label_studio.task(
                {**row, "suggested": "other", "certainty": 0.75, "head_id": "h1"}, "https://x/1.jpg"
            )
        )
    plain = label_studio.task(
        {**row, "suggested": None, "certainty": None, "head_id": None}, "https://x/1.jpg"
    )
    assert "predictions" not in plain
    (guess,) = tasks[0]["predictions"]
    assert (guess["model_version"], guess["score"]) == ("h1", 0.75)
    answered = [
        {
            **one,
            "id": 1,
            "annotations": [{**annotation(), "result": one["predictions"][0]["result"]}],
        }
        for one in tasks
    ]
    imported = read(saved(tmp_path, json.loads(json.dumps(answered))), CLASSES)
    assert [(label.image_id, label.label) for label in imported.labels] == [
        (image_id, "other") for image_id in HOSTILE
    ]


@pytest.mark.parametrize(
    ("url", "root", "shown"),
    [
        ("https://x/1.jpg", "", "https://x/1.jpg"),
        ("s3://bucket/1.jpg", "/photos", "s3://bucket/1.jpg"),
        ("/photos/a b/1.jpg", "/photos", "/data/local-files/?d=a%20b/1.jpg"),
        ("file:///photos/1&d=2.jpg", "/photos/", "/data/local-files/?d=1%26d%3D2.jpg"),
        ("/photos/../etc/passwd", "/photos", None),
        ("/photos2/1.jpg", "/photos", None),
        ("/photos/1.jpg", "", None),
        ("tar://a/1.jpg::s3://photos/1.tar", "", None),
        ("tar://a/1.jpg::https://x/1.tar", "", None),
        (None, "/photos", None),
    ],
)
def test_where_label_studio_finds_a_picture(url: str | None, root: str, shown: str | None) -> None:
    assert label_studio.shown_url(url, root) == shown

"""Label Studio: tasks with suggestions for it, and what people have said there. JSON only; no server is asked.

The format is Label Studio's own: https://labelstud.io/guide/tasks (import), /guide/predictions (pre-annotations) and
/guide/export (JSON and JSON-MIN).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from toiletspark.errors import LabelsError, shown
from toiletspark.labels.merge import Label

CHOICE, IMAGE = "choice", "image"  # the names of the two tags in the labelling configuration
REMOTE = ("http://", "https://", "s3://", "gs://", "azure-blob://")
_TIME: TypeAdapter[Any] = TypeAdapter(AwareDatetime)


def labelling_config(classes: Iterable[str]) -> str:
    """The labelling interface as XML: one picture, one choice per class, keys 1 to 9."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    return (
        f'<View>\n  <Image name="{IMAGE}" value="$image"/>\n'
        f'  <Choices name="{CHOICE}" toName="{IMAGE}" choice="single-radio" required="true">\n{choices}  </Choices>\n'
        "</View>\n"
    )


def task(row: Mapping[str, Any], url: str) -> dict[str, Any]:
    """One task, with a pre-annotation where a head suggests a class.

    Args:
        row: image_id, listing_id, content_digest; suggested, certainty ([0, 1]) and head_id, null without scores.
        url: where Label Studio finds the picture, see `shown_url`.
    """
    named = {name: row[name] for name in ("image_id", "listing_id", "content_digest")}
    made: dict[str, Any] = {"data": {"image": url, **named}}
    if row["suggested"] is not None:
        choice = {
            "from_name": CHOICE,
            "to_name": IMAGE,
            "type": "choices",
            "value": {"choices": [row["suggested"]]},
        }
        made["predictions"] = [
            {"model_version": row["head_id"], "score": row["certainty"], "result": [choice]}
        ]
    return made


def shown_url(image_url: str | None, document_root: str) -> str | None:
    """Where Label Studio finds a picture; None where it cannot: inline bytes, shards, paths outside document_root."""
    if image_url is None or "::" in image_url:
        return None
    path = image_url.removeprefix("file://")
    root = f"{document_root.rstrip('/')}/"
    inside = document_root and path.startswith(root) and ".." not in path.split("/")
    if inside:
        return f"/data/local-files/?d={quote(path.removeprefix(root))}"
    return image_url if image_url.startswith(REMOTE) else None


def labels_of(tasks: list[Any], doing: str) -> list[Label]:
    """What people have said, out of an export as JSON or JSON-MIN.

    Each annotator has his own word; of several annotations of one task by one annotator the newest counts. Skipped
    (cancelled) and empty annotations are no labels, and pre-annotations never are.

    Args:
        tasks: the parsed export.
        doing: for messages.

    Raises:
        LabelsError: it is another format, a task was not made by `toiletspark labels tasks`, or an annotation has
            several choices.
    """
    newest: dict[tuple[str, str], Label] = {}
    for number, one in enumerate(tasks):
        if not isinstance(one, dict):
            _refuse(doing, f"entry {number} is {type(one).__name__}")
        full = "annotations" in one
        about = one.get("data") if full else one
        about = about if isinstance(about, dict) else {}
        image_id = about.get("image_id")
        if not isinstance(image_id, str):
            _refuse(
                doing,
                f"task {one.get('id', number)!r} without the image_id that `toiletspark labels tasks` gives",
            )
        digest = about.get("content_digest") or None
        if not isinstance(digest, str | None):
            _refuse(
                doing,
                f"task {one.get('id', number)!r} with a content_digest that is {type(digest).__name__}",
            )
        for label in _words(one, full, image_id, digest, doing):
            before = newest.get((image_id, label.labeller))
            if before is None or _later(label, before):
                newest[(image_id, label.labeller)] = label
    return list(newest.values())


def _words(
    one: dict[str, Any], full: bool, image_id: str, digest: str | None, doing: str
) -> Iterable[Label]:
    """The words of one task, annotation by annotation; JSON-MIN has one annotation an entry."""
    place = f"task {one.get('id')!r} (image {image_id!r})"
    annotations = one["annotations"] if full else [one]
    if not isinstance(annotations, list) or not all(isinstance(said, dict) for said in annotations):
        _refuse(doing, f"annotations of {place} that are no list of objects")
    for said in annotations:
        chosen = (
            _choices_of_result(said.get("result")) if full else _choices_of_min(said.get(CHOICE))
        )
        if said.get("was_cancelled") or not chosen:
            continue
        if len(chosen) > 1:
            _refuse(doing, f"{place} with {len(chosen)} choices: {shown(chosen)}")
        who = _annotator(said.get("completed_by") if full else said.get("annotator"))
        when = said.get("updated_at") or said.get("created_at")
        try:
            at = None if when is None else _TIME.validate_python(when)
        except ValidationError:
            _refuse(doing, f"{place} labelled at {when!r}")
        yield Label(image_id, chosen[0], digest, "label_studio", who, at)


def _choices_of_result(result: Any) -> list[str]:
    listed = result if isinstance(result, list) else []
    entries = [one for one in listed if isinstance(one, dict) and one.get("type") == "choices"]
    return [choice for one in entries for choice in _choices_of_min(one.get("value"))]


def _choices_of_min(value: Any) -> list[str]:
    """JSON-MIN writes one choice as a string and several as {"choices": [...]}."""
    if isinstance(value, dict):
        value = value.get("choices", [])
    return (
        [str(choice) for choice in value]
        if isinstance(value, list)
        else [str(value)]
        if value
        else []
    )


def _annotator(who: Any) -> str:
    """An e-mail address where the export tells it, else the id with where it means something."""
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    if who is None:
        return ""
    return who if isinstance(who, str) else f"label_studio:{who}"


def _later(one: Label, other: Label) -> bool:
    return one.labelled_at is not None and (
        other.labelled_at is None or one.labelled_at > other.labelled_at
    )


def _refuse(doing: str, found: str) -> NoReturn:
    raise LabelsError(
        doing=doing,
        expected="Label Studio's export (JSON or JSON-MIN) of tasks that `toiletspark labels tasks` made, with one "
        "choice an annotation",
        found=found,
        todo="export the project again as JSON; tasks from elsewhere have no image_id",
    )

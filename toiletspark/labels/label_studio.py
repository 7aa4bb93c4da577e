"""Label Studio: tasks with suggestions, and exports read back. JSON only; no server is asked.

The format is Label Studio's own: https://labelstud.io/guide/tasks (import), /guide/predictions
(pre-annotations) and /guide/export (JSON and JSON-MIN).
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated, Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from pydantic import (
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
)

from toiletspark.errors import shown
from toiletspark.labels.merge import Label, credible

CHOICE, IMAGE = "choice", "image"  # the names of the two tags in the labelling configuration
REMOTE = ("http://", "https://", "s3://", "gs://", "azure-blob://")


def labelling_config(classes: Iterable[str]) -> str:
    """The labelling interface as XML: one picture, one choice per class, keys 1 to 9."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    return f"""<View>
  <Image name="{IMAGE}" value="$image"/>
  <Choices name="{CHOICE}" toName="{IMAGE}" choice="single-radio" required="true">
{choices}  </Choices>
</View>
"""


def task(row: Mapping[str, Any], url: str) -> dict[str, Any]:
    """One task, with a pre-annotation where a head suggests a class; `url` is a `shown_url`.

    `row`: image_id, listing_id, content_digest; suggested, certainty ([0, 1]) and head_id, null
    without scores.
    """
    data = {name: row[name] for name in ("image_id", "listing_id", "content_digest")}
    made: dict[str, Any] = {"data": {"image": url, **data}}
    if row["suggested"] is not None:
        value = {"choices": [row["suggested"]]}
        choice = {"from_name": CHOICE, "to_name": IMAGE, "type": "choices", "value": value}
        prediction = {"model_version": row["head_id"], "score": row["certainty"]}
        made["predictions"] = [{**prediction, "result": [choice]}]
    return made


def shown_url(image_url: str | None, document_root: str) -> str | None:
    """The URL under which Label Studio can open a picture.

    None where it cannot: inline bytes, shards, paths outside of document_root.
    """
    if image_url is None or "::" in image_url:
        return None
    path = image_url.removeprefix("file://")
    root = f"{document_root.rstrip('/')}/"
    if document_root and path.startswith(root) and ".." not in path.split("/"):
        return f"/data/local-files/?d={quote(path.removeprefix(root))}"
    return image_url if image_url.startswith(REMOTE) else None


class _User(BaseModel):
    id: int | None = None
    email: str | None = None


def _chosen(value: Any) -> Any:
    """The list of choices in "toilet", ["toilet"] or {"choices": ["toilet"]}; [] without any."""
    if isinstance(value, dict):
        return value.get("choices", [])
    return [value] if value and isinstance(value, str) else value or []


_Choices = Annotated[list[str], BeforeValidator(_chosen)]


class _Region(BaseModel):
    type: str = ""
    value: _Choices = []


class _Annotation(BaseModel):
    """One annotation: JSON has it in a list, JSON-MIN as an entry of its own."""

    annotator: int | str | _User | None = Field(
        default=None, validation_alias=AliasChoices("completed_by", "annotator")
    )
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    was_cancelled: bool | None = None
    result: list[_Region] = []  # of JSON
    choice: _Choices = []  # of JSON-MIN

    def choices(self) -> list[str]:
        """The chosen classes; none where the annotation is empty or was skipped."""
        if self.was_cancelled:
            return []
        values = [region.value for region in self.result if region.type == "choices"]
        return self.choice or list(chain.from_iterable(values))

    def labeller(self) -> str:
        """The annotator's e-mail address, or else the id and where it means something."""
        user = self.annotator
        if isinstance(user, _User):
            user = user.email or user.id
        if user is None:
            return ""
        return user if isinstance(user, str) else f"label_studio:{user}"


class _Image(BaseModel):
    image_id: str
    content_digest: str | None = None


class _Task(BaseModel):
    """An entry of an export as JSON."""

    data: _Image
    annotations: list[_Annotation]


class _MinTask(_Image, _Annotation):
    """An entry of an export as JSON-MIN."""


def _format(entry: Any) -> str:
    return "JSON" if isinstance(entry, dict) and "annotations" in entry else "JSON-MIN"


_Entry = Annotated[
    Annotated[_Task, Tag("JSON")] | Annotated[_MinTask, Tag("JSON-MIN")], Discriminator(_format)
]
_EXPORT: TypeAdapter[list[_Task | _MinTask]] = TypeAdapter(list[_Entry])


def labels_of(export: list[Any]) -> list[Label]:
    """The labels of an export as JSON or JSON-MIN: one per annotator and image, the newest.

    Skipped (cancelled) and empty annotations are no labels, and pre-annotations never are.

    Raises:
        ValueError: another format, a task that `toiletspark labels tasks` did not make, or an
            annotation with several choices.
    """
    newest: dict[tuple[str, str], Label] = {}
    now = datetime.now(UTC)
    for entry in _EXPORT.validate_python(export):
        for label in _labels(entry):
            key = (label.image_id, label.labeller)
            before = credible(newest.setdefault(key, label).labelled_at, now)
            at = credible(label.labelled_at, now)
            if at and (before is None or at > before):
                newest[key] = label
    return list(newest.values())


def _labels(entry: _Task | _MinTask) -> Iterator[Label]:
    if isinstance(entry, _Task):
        image, annotations = entry.data, entry.annotations
    else:
        image, annotations = entry, [entry]
    for annotation in annotations:
        choices = annotation.choices()
        if len(choices) > 1:
            number = f"{len(choices)} choices"
            raise ValueError(f"image {image.image_id!r} with {number}: {shown(choices)}")
        if choices:
            at = annotation.updated_at or annotation.created_at
            named = image.image_id, choices[0], image.content_digest or None
            yield Label(*named, "label_studio", annotation.labeller(), at)

"""Labels from a JSON file of the contact sheet or of Label Studio. Without Spark."""

import codecs
import collections
from dataclasses import replace
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from toiletspark.errors import LabelsError, shown
from toiletspark.labels import label_studio
from toiletspark.labels.merge import Label, SourceLabels
from toiletspark.tables import storage
from toiletspark.tables.words import require_few_unknown

FORMAT, FORMAT_VERSION = "toiletspark-labels", 1
_OTHER_FORMAT = "take the file that the contact sheet downloads, or Label Studio's export"
_DAMAGED = "take the file as it was downloaded, or download it again"
_OTHER_VERSION = "import it with the toiletspark that made the sheet, or make the sheet again"
_NOT_OURS = "export the project again as JSON; tasks from elsewhere have no image_id"


class _SheetLabel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    image_id: str
    content_digest: str | None
    label: str = Field(alias="class")
    labelled_at: AwareDatetime


class _SheetFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: Literal["toiletspark-labels"]
    format_version: int
    sheet: str
    labeller: str
    labels: list[_SheetLabel]


def read(location: str, classes: list[str]) -> SourceLabels:
    """Reads a contact sheet's download, or Label Studio's export as JSON or JSON-MIN.

    Raises:
        LabelsError: no such file, another format or version, unknown classes (see
            `of_known_classes`), an image twice in a sheet, or no label.
    """
    doing = f"importing labels from {location}"
    content = _parsed(location, doing)
    labels = (_of_label_studio if isinstance(content, list) else _of_sheet)(content, doing)
    return of_known_classes(SourceLabels(labels), classes, doing)


def of_known_classes(source: SourceLabels, classes: list[str], doing: str) -> SourceLabels:
    """The labels without those of classes that labels.classes does not have, which are counted.

    Raises a LabelsError without a label, or if more than 1 label in 100 has an unknown class.
    """
    used = collections.Counter(label.label for label in source.labels)
    unknown = {name: count for name, count in used.items() if name not in classes}
    expected = f"at least one label, each one of labels.classes: {', '.join(classes)}"
    todo = "set labels.classes to the classes that were labelled, or correct the words"
    parts = {"doing": doing, "expected": expected}
    require_few_unknown(unknown, used.total(), classes, LabelsError, **parts, todo=todo)
    if not used:
        raise LabelsError(**parts, found="no labels", todo="label some images first")
    labels = [label for label in source.labels if label.label in classes]
    counts = {**source.counts, **({"unknown_classes": unknown} if unknown else {})}
    return replace(source, labels=labels, counts=counts)


def _parsed(location: str, doing: str) -> Any:
    filesystem, path = storage.open_filesystem(location)
    try:
        content = filesystem.cat_file(path).removeprefix(codecs.BOM_UTF8)
        # not json.loads, which takes half a character ("\\ud800") for text; no table could keep it
        return from_json(content, allow_inf_nan=False)
    except OSError as error:
        todo = f"check labels.file ({type(error).__name__})"
        raise _refusal(doing, "nothing that can be read", todo) from None
    except ValueError as error:
        raise _refusal(doing, f"no JSON: {error}", _DAMAGED) from None


def _of_sheet(content: Any, doing: str) -> list[Label]:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _refusal(doing, "JSON of another format", _OTHER_FORMAT)
    if content.get("format_version") != FORMAT_VERSION:
        version = f"format_version {content.get('format_version')!r}"
        found = f"{version}; this toiletspark reads {FORMAT_VERSION}"
        raise _refusal(doing, found, _OTHER_VERSION)
    try:
        sheet = _SheetFile.model_validate(content)
    except ValidationError as error:
        raise _refusal(doing, _first(error), _DAMAGED) from None
    counts = collections.Counter(label.image_id for label in sheet.labels)
    repeated = sorted(image_id for image_id, count in counts.items() if count > 1)
    if repeated:
        found = f"{len(repeated)} images more than once: {shown(repeated)}"
        raise _refusal(doing, found, "keep the right label of each")
    labels = []
    for row in sheet.labels:
        named = row.image_id, row.label, row.content_digest or None
        labels.append(Label(*named, "sheet", sheet.labeller, row.labelled_at))
    return labels


def _of_label_studio(content: list[Any], doing: str) -> list[Label]:
    try:
        return label_studio.labels_of(content)
    except ValueError as error:
        raise _refusal(doing, _first(error), _NOT_OURS) from None


def _first(error: ValueError) -> str:
    """The error or a validation's first one, as in "at labels.0.image_id: Field required"."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    return f"at {path}: {first['msg']}"


def _refusal(doing: str, found: str, todo: str) -> LabelsError:
    return LabelsError(
        doing=doing,
        expected=f"a labels file of the contact sheet ({FORMAT} {FORMAT_VERSION}, each image once),"
        " or Label Studio's export (JSON or JSON-MIN) of tasks that `toiletspark labels tasks` "
        "made, with one choice per annotation",
        found=found,
        todo=todo,
    )

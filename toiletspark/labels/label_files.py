"""Labels that come as one JSON file: from the contact sheet, or from Label Studio. Without Spark."""

from __future__ import annotations

import codecs
import collections
from typing import Any, Literal, NoReturn

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from toiletspark.errors import LabelsError, nearest, shown
from toiletspark.labels import label_studio
from toiletspark.labels.merge import Label, Said
from toiletspark.tables import storage

FORMAT, FORMAT_VERSION = "toiletspark-labels", 1


class _Word(BaseModel):
    model_config = ConfigDict(extra="forbid")
    image_id: str
    content_digest: str | None
    label: str = Field(alias="class")
    labelled_at: AwareDatetime


class _Sheet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: Literal["toiletspark-labels"]
    format_version: int
    sheet: str
    labeller: str
    labels: list[_Word]


def read(location: str, classes: list[str]) -> Said:
    """Reads a file of labels, whichever of the two kinds it is.

    Args:
        location: a path or URL: what the contact sheet downloads ("toiletspark-labels", version 1), or Label Studio's
            export as JSON or JSON-MIN.
        classes: labels.classes; what others say is refused.

    Raises:
        LabelsError: no such file, another format or version, an unknown class, an image twice, or no label.
    """
    doing = f"importing labels from {location}"
    content = _parsed(location, doing)
    labels = (
        label_studio.labels_of(content, doing)
        if isinstance(content, list)
        else _of_sheet(content, doing)
    )
    unknown = sorted({label.label for label in labels} - set(classes))
    if unknown or not labels:
        raise LabelsError(
            doing=doing,
            expected=f"at least one label, each one of labels.classes: {', '.join(classes)}",
            found=f"{shown(unknown)}{nearest(unknown[0], classes)}" if unknown else "no labels",
            todo="set labels.classes to the classes that were labelled"
            if unknown
            else "label some images first",
        )
    return Said(labels)


def _parsed(location: str, doing: str) -> Any:
    filesystem, path = storage.open_filesystem(location)
    try:
        # not json.loads, which takes half a character ("\\ud800") for text; no table could keep that
        return from_json(
            filesystem.cat_file(path).removeprefix(codecs.BOM_UTF8), allow_inf_nan=False
        )
    except OSError as error:
        _refuse(doing, "nothing that can be read", f"check labels.file ({type(error).__name__})")
    except ValueError as error:
        _refuse(
            doing,
            f"something else: {error}",
            "take the file as it was downloaded, or download it again",
        )


def _of_sheet(content: Any, doing: str) -> list[Label]:
    """The words of a contact sheet's file."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        _refuse(
            doing,
            "JSON of another kind",
            "take the file that the contact sheet downloads, or Label Studio's export",
        )
    if content.get("format_version") != FORMAT_VERSION:
        version = f"format_version {content.get('format_version')!r}; this toiletspark reads {FORMAT_VERSION}"
        _refuse(
            doing,
            version,
            "import it with the toiletspark that made the sheet, or make the sheet again",
        )
    try:
        sheet = _Sheet.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        _refuse(
            doing,
            f"at {place}: {first['msg']}",
            "take the file as it was downloaded, or download it again",
        )
    times = collections.Counter(word.image_id for word in sheet.labels)
    doubled = sorted(image_id for image_id, count in times.items() if count > 1)
    if doubled:
        _refuse(
            doing,
            f"{len(doubled)} images more than once: {shown(doubled)}",
            "keep the right label of each",
        )
    return [
        Label(
            word.image_id,
            word.label,
            word.content_digest or None,
            "sheet",
            sheet.labeller,
            word.labelled_at,
        )
        for word in sheet.labels
    ]


def _refuse(doing: str, found: str, todo: str) -> NoReturn:
    raise LabelsError(
        doing=doing,
        expected=f"a labels file of the contact sheet ({FORMAT} {FORMAT_VERSION}, each image once), or Label Studio's "
        "export as JSON or JSON-MIN",
        found=found,
        todo=todo,
    ) from None

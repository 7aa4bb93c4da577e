"""One entry of the log of versions, or the pointer: read, and refused where it is not what was written."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, ValidationError, field_validator

from toiletspark.errors import OutputError
from toiletspark.tables import storage

LAYOUT = 2


class _Entry(BaseModel):
    """What we rely on in an entry of the log, or in the pointer; the rest is only told."""

    run_id: str = Field(pattern=r"^\w[\w.-]{0,99}$")  # it becomes a part of a path
    layout: int = 1
    version: int = 0
    rolled_back_to: int = 0
    counts: dict[str, Any] = {}
    published_at: str = ""
    valid_until: str | None = None

    @field_validator("valid_until")
    @classmethod
    def _has_a_zone(cls, value: str | None) -> str | None:
        if value and datetime.fromisoformat(value).tzinfo is None:
            raise ValueError("no time zone")
        return value


def checked(said: dict[str, Any] | None, location: str) -> dict[str, Any] | None:
    """An entry as it was written; None where there is none.

    Args:
        said: what the file holds.
        location: of the file, for messages.

    Raises:
        OutputError: it was damaged or altered since.
    """
    try:
        if said is not None:
            _Entry.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        doing, layout = f"reading {location}", said.get("layout") if said else None
        if isinstance(layout, int) and layout > LAYOUT:
            raise newer(layout, doing=doing) from None
        raise OutputError(
            doing=doing,
            expected="an entry of the log of versions, as it was written",
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            todo="take the file from its backup, or run `toiletspark publish` again",
        ) from None
    return said


def read(location: str) -> dict[str, Any] | None:
    """The entry in a file, see `checked`; None where there is no such file."""
    return checked(storage.read_json(location), location)


def newer(layout: object, *, doing: str) -> OutputError:
    """What is told of an entry that a newer toiletspark has made."""
    return OutputError(
        doing=doing,
        expected=f"a version of layout {LAYOUT} at most",
        found=f"layout {layout}, made by a newer toiletspark",
        todo="read it with the toiletspark that publishes it",
    )

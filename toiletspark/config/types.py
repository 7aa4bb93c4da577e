"""What keys may hold, where several sections say it."""

from __future__ import annotations

import ipaddress
import os
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from toiletspark.config import allowed_places as allowed


def absolute(location: str) -> str:
    """A local path made absolute, because executors run in other folders; URLs and "" stay as they are."""
    if not location or "://" in location:
        return location.removeprefix("file://") if location.startswith("file:///") else location
    return os.path.abspath(os.path.expanduser(location))


def absolute_prefix(prefix: str) -> str:
    """As `absolute`, but a closing slash stays: what follows may be the rest of a file's name."""
    return absolute(prefix) + "/" * (
        prefix.endswith("/") and "://" not in prefix and prefix.strip("/") != ""
    )


def _readable_place(line: str) -> str:
    place = absolute_prefix(line) if not re.match(r"\w+:(?!//)", line) else line
    allowed.parse(place)
    return place


def _network(network: str) -> str:
    return str(ipaddress.ip_network(network))


Location = Annotated[str, AfterValidator(absolute)]
Prefix = Annotated[str, AfterValidator(absolute_prefix)]
Place = Annotated[str, Field(min_length=1), AfterValidator(_readable_place)]
Network = Annotated[str, AfterValidator(_network)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Format = Literal["parquet", "csv", "json"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

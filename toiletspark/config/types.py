"""Types of values that several sections use."""

import ipaddress
import os
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from toiletspark.config.allowed_places import parse


def absolute(location: str) -> str:
    """Makes a local path absolute, as executors run in other folders; keeps URLs and ""."""
    if not location or "://" in location:
        return location.removeprefix("file://") if location.startswith("file:///") else location
    return os.path.abspath(os.path.expanduser(location))


def absolute_prefix(prefix: str) -> str:
    """Makes a local prefix absolute; its closing slash stays, as a part of a name may follow."""
    is_local_folder = prefix.endswith("/") and "://" not in prefix and prefix.strip("/") != ""
    return f"{absolute(prefix)}/" if is_local_folder else absolute(prefix)


def _allow_line(line: str) -> str:
    location = line if re.match(r"\w+:(?!//)", line) else absolute_prefix(line)
    parse(location)
    return location


def _network(network: str) -> str:
    return str(ipaddress.ip_network(network))


Location = Annotated[str, AfterValidator(absolute)]
Prefix = Annotated[str, AfterValidator(absolute_prefix)]
AllowLine = Annotated[str, Field(min_length=1), AfterValidator(_allow_line)]
Network = Annotated[str, AfterValidator(_network)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

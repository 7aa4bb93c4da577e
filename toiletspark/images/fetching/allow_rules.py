"""Whether an image may come from where its URL says: judged by the text alone, before anything is opened.

Hosts are judged here by their names, and by the addresses that they are when they look like one; what a name
resolves to is judged where it is dialled, in `web`.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote

from toiletspark.config.allowed_places import ALIASES, WEB, Allowed, parse
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.ip_addresses import Networks

if TYPE_CHECKING:
    from yarl import URL

_NEVER = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"[A-Za-z0-9._-]+(@[A-Za-z0-9.-]+)?")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?\.?")
_DECODED_TIMES = 3
_A_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_AZURE = re.compile(
    r"@[a-z0-9]+\.(dfs|blob)\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)"
)


@dataclass(frozen=True)
class Location:
    """Where an image may be read: `location` is a path with all links followed if `scheme` is "", else a URL."""

    scheme: str
    location: str


class AllowRules:
    """What the configuration allows.

    Args:
        allow: `fetch.allow`.
        networks: which addresses may be dialled.
        of_shards: whether a line with `*` for any host or bucket is not enough: strangers may bring an image, which
            is decoded in a child process, but nothing that Arrow or tarfile reads in the worker itself.
    """

    def __init__(
        self, allow: Iterable[str], networks: Networks, *, of_shards: bool = False
    ) -> None:
        self._networks, self._of_shards = networks, of_shards
        lines = [parse(line) for line in allow]
        self._folders = [os.path.realpath(line.path) for line in lines if not line.scheme]
        self._lines = [line for line in lines if line.scheme]

    def judge(self, location: str) -> Location:
        """The place that a path or a URL names, if images may come from there; members of shards are not for here.

        Raises:
            FetchError: refused, with scheme, host, address, path, shard or url as its detail; missing: it is neither.
        """
        if _NEVER.search(location):
            raise _refused("url")
        if location.startswith("/"):
            return self._local(location)
        found = _SCHEME.match(location)
        if not found:
            raise FetchError("missing", "not a URL that can be opened here")
        scheme, rest = found[1].lower(), location[found.end() :]
        if scheme == "file" and rest.startswith("///"):
            return self._local(rest[2:])
        known = ALIASES.get(scheme, scheme)
        if not any(line.scheme == known for line in self._lines):
            raise _refused("scheme")
        if "\\" in rest:
            raise _refused("url")
        if known in WEB:
            return Location(
                known, f"{scheme}:{rest}"
            )  # the rest is judged by `of_web`, on the URL that is asked for
        return self._object(known, rest, f"{scheme}:{rest}")

    def of_web(self, url: URL) -> None:
        """Judges an http(s) URL as it is going to be asked for, the first one or one that a server redirects to.

        Raises:
            FetchError: as `judge`.
        """
        if url.user is not None or url.password is not None or not url.raw_host:
            raise _refused("url")
        if url.scheme not in WEB or not any(line.scheme == url.scheme for line in self._lines):
            raise _refused("scheme")
        host = self._host(url.raw_host.lower())
        lines = [line for line in self._lines if line.scheme == url.scheme and line.has_host(host)]
        lines = [line for line in lines if _has_port(line, url)]
        if not lines:
            raise _refused("host")
        if _climbs(url.raw_path):
            raise _refused("path")
        self._require_path(url.raw_path, lines)

    def _host(self, host: str) -> str:
        """The host for comparing; a number must be an address as everybody reads it, and one that may be dialled."""
        if ":" in host:
            return self._address(host)
        if not _HOST.fullmatch(host) or ".." in host:
            raise _refused("host")
        if _A_NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            return self._address(host)
        return host.rstrip(".")

    def _address(self, host: str) -> str:
        try:
            address = ipaddress.ip_address(host)
        except (
            ValueError
        ):  # 0x7f.1, 2130706433, 127.0.0.1. and others that a resolver may take for one
            raise _refused("host") from None
        if not self._networks.may_dial(host):
            raise _refused("address")
        return address.compressed

    def _object(self, scheme: str, rest: str, location: str) -> Location:
        """An object of a store; its key is compared as it is, and must not climb."""
        if (
            not rest.startswith("//") or "::" in rest
        ):  # fsspec would take what follows for another file system
            raise _refused("url")
        authority, _, key = rest[2:].partition("/")
        if authority and not _AUTHORITY.fullmatch(authority):
            raise _refused("host")
        if "@" in authority and not (scheme == "abfss" and _AZURE.search(authority)):
            raise _refused("host")
        lines = [line for line in self._lines if line.scheme == scheme and line.has_host(authority)]
        if not lines:
            raise _refused("host")
        if any(part in (".", "..") for part in key.split("/")):
            raise _refused("path")
        self._require_path(f"/{key}", lines)
        return Location(scheme, location)

    def _require_path(self, path: str, lines: list[Allowed]) -> None:
        """One of the lines that allow the host has a folder above the path, and is enough for a shard if it is one."""
        allowing = [line for line in lines if path.startswith(line.path)]
        if not allowing:
            raise _refused("path")
        if self._of_shards and all(line.host == "*" for line in allowing):
            raise _refused("shard")

    def _local(self, path: str) -> Location:
        """A file below an allowed folder, wherever links and `..` lead."""
        if not self._folders:
            raise _refused("path")
        try:
            real = _real(path)
        except ValueError:  # of names that cannot be encoded
            raise FetchError("missing", "not a URL that can be opened here") from None
        if not any(real.startswith(folder.rstrip("/") + "/") for folder in self._folders):
            raise _refused("path")
        return Location("", real)


def _real(path: str) -> str:
    """The path with all links followed. Images of one folder come in rows, so it is asked about once a second."""
    folder, name = os.path.split(path)
    if name in ("", ".", "..") or os.path.islink(path):  # noqa: PTH114 - no Path for each of a billion files
        return os.path.realpath(path)
    return f"{_real_folder(folder, int(time.monotonic())).rstrip('/')}/{name}"


@lru_cache(64)
def _real_folder(folder: str, second: int) -> str:
    return os.path.realpath(folder)


def _climbs(path: str) -> bool:
    """Whether a server may read a part as `.` or `..`: some decode twice and more, some leave out what follows `;`."""
    for _ in range(_DECODED_TIMES):
        path = unquote(path)
        if any(part.partition(";")[0] in (".", "..") for part in re.split(r"[/\\]", path)):
            return True
    return False


def _has_port(line: Allowed, url: URL) -> bool:
    if line.port is None and line.host == "*":
        return True
    return url.port == (line.port or {"http": 80, "https": 443}[url.scheme])


def _refused(detail: str) -> FetchError:
    return FetchError("refused", detail)

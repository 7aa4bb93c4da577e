"""The rules of `fetch.allow`: they check an image's URL by its text, before anything is opened.

The addresses that a host's name resolves to are checked when they are dialled, in `http_session`.
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
from urllib.parse import unquote, urlsplit

from toiletspark.config.allowed_places import ALIASES, WEB, Allowed, has_dots, parse
from toiletspark.images.fetching.failures import FetchError, no_url
from toiletspark.images.fetching.ip_addresses import Networks

if TYPE_CHECKING:
    from yarl import URL  # loaded only where images come by http

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # of two letters at least: C: is a drive
_NOT_IN_REQUESTS = re.compile(r"[^!-~]+")  # blanks and letters beyond ASCII
_OWN_FILE = re.compile(
    r"//(localhost)?(?=/)|(?=/[^/])", re.IGNORECASE
)  # between file: and its path
_AUTHORITY = re.compile(r"[A-Za-z0-9._-]+(@[A-Za-z0-9.-]+)?")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?\.?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_AZURE = re.compile(
    r"@[a-z0-9]+\.(dfs|blob)\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)"
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Location:
    """An allowed location: `path` is a URL, or without a scheme local, with all links followed."""

    scheme: str
    path: str


class AllowRules:
    """The parsed lines of `fetch.allow`.

    A line with `*` for any host or bucket is not enough for shards. Strangers may bring an image,
    which is decoded in a sandbox, but nothing that Arrow or tarfile reads in the worker.
    """

    def __init__(
        self, allow: Iterable[str], networks: Networks, *, for_shards: bool = False
    ) -> None:
        self._networks, self._for_shards = networks, for_shards
        lines = [parse(line) for line in allow]
        self._folders = [os.path.realpath(line.path) for line in lines if not line.scheme]
        self._lines = [line for line in lines if line.scheme]
        self._schemes = {line.scheme for line in self._lines}

    def check(self, location: str) -> Location:
        """Checks a path or a URL; for a shard's member, the shard's URL.

        Raises FetchError: refused, with scheme, host, address, path, shard or url as its detail;
        bad_url, if it is neither a path nor a URL.
        """
        if _CONTROL.search(location):
            raise _refused("url")
        match = _SCHEME.match(location)
        if not match and (location[:1] != "/" or location[:2] == "//"):  # //host/a.jpg is relative
            raise no_url()
        if not match:
            return self._check_local(location)
        scheme, rest = match[1].lower(), location[match.end() :]
        if scheme == "file" and (own := _OWN_FILE.match(rest)):
            return self._check_local(_as_written_or_unquoted(rest[own.end() :]))
        known = ALIASES.get(scheme, scheme)
        if known not in self._schemes:
            raise _refused("scheme")
        if "\\" in rest:
            raise _refused("url")
        if known not in WEB:
            self._check_object(known, rest)
        return Location(known, f"{scheme}:{rest}")  # `check_url` checks the rest of http(s) URLs

    def check_url(self, url: URL) -> None:
        """Checks an http(s) URL in normal form, before each request and redirect; see `check`."""
        if not url.raw_host:
            raise no_url()
        if url.user is not None or url.password is not None:
            raise _refused("url")
        if url.scheme not in WEB or url.scheme not in self._schemes:
            raise _refused("scheme")
        named = self._lines_for(url.scheme, self._host(url.raw_host.lower()))
        lines = [line for line in named if _has_port(line, url)]
        if not lines:
            raise _refused("host")
        if _climbs(url.raw_path):
            raise _refused("path")
        self._require_path(url.raw_path, lines)

    def _lines_for(self, scheme: str, host: str) -> list[Allowed]:
        return [line for line in self._lines if line.scheme == scheme and line.has_host(host)]

    def _host(self, host: str) -> str:
        """Normalises a host. A number must be an address in usual notation that may be dialled."""
        if ":" in host:
            return self._address(host)
        if not _HOST.fullmatch(host) or ".." in host:
            raise _refused("host")
        if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            return self._address(host)
        return host.rstrip(".")

    def _address(self, host: str) -> str:
        try:
            address = ipaddress.ip_address(host)
        except ValueError:  # 0x7f.1, 2130706433, 127.0.0.1. and others that a resolver may accept
            raise _refused("host") from None
        if not self._networks.may_dial(host):
            raise _refused("address")
        return address.compressed

    def _check_object(self, scheme: str, rest: str) -> None:
        """Checks an object of a store; its key is compared as it is, and must not climb."""
        if not rest.startswith("//") or "::" in rest:  # fsspec would chain another file system
            raise _refused("url")
        authority, _, key = rest[2:].partition("/")
        if authority and not _AUTHORITY.fullmatch(authority):
            raise _refused("host")
        if "@" in authority and not (scheme == "abfss" and _AZURE.search(authority)):
            raise _refused("host")
        lines = self._lines_for(scheme, authority)
        if not lines:
            raise _refused("host")
        if has_dots(key):
            raise _refused("path")
        self._require_path(f"/{key}", lines)

    def _require_path(self, path: str, lines: list[Allowed]) -> None:
        """Requires one of the lines to name a folder above the path and, for shards, a host."""
        allowing = [line for line in lines if path.startswith(line.path)]
        if not allowing:
            raise _refused("path")
        if self._for_shards and all(line.host == "*" for line in allowing):
            raise _refused("shard")

    def _check_local(self, path: str) -> Location:
        """Requires a file below an allowed folder, wherever links and `..` lead."""
        if not self._folders:
            raise _refused("path")
        try:
            real = _real(path)
        except ValueError:  # of names that cannot be encoded
            raise no_url() from None
        if not any(real.startswith(folder.rstrip("/") + "/") for folder in self._folders):
            raise _refused("path")
        return Location("", real)


def _real(path: str) -> str:
    """Follows all links. A folder is resolved once a second, because its images are adjacent."""
    folder, name = os.path.split(path)
    if name in ("", ".", "..") or os.path.islink(path):  # noqa: PTH114 - Path is slow
        return os.path.realpath(path)
    return f"{_real_folder(folder, int(time.monotonic())).rstrip('/')}/{name}"


@lru_cache(64)
def _real_folder(folder: str, second: int) -> str:
    return os.path.realpath(folder)


def _as_written_or_unquoted(path: str) -> str:
    """The path of a file: URL. Spark's binaryFile writes names as they are, others encode them."""
    if "%" not in path or os.path.lexists(path):
        return path
    return unquote(path, errors="surrogateescape")


def url_to_send(text: str, url: URL) -> URL:
    """Returns an http(s) URL as it was written, with what no request line can hold encoded.

    Signatures hold for the URL as it stands, so `%2F` in a query stays as it is. `url` is its
    normal form, by which it was judged; it is sent itself if a server may read dots in the path.
    """
    written = urlsplit(text)
    path = written.path or "/"
    path = url.raw_path if _climbs(path) else _encoded(path)
    query = f"?{_encoded(written.query)}" if written.query else ""
    return type(url)(f"{url.scheme}://{url.raw_authority}{path}{query}", encoded=True)


def _encoded(part: str) -> str:
    """Percent-encodes blanks and what is not ASCII; servers' bytes stay as they were received."""
    return _NOT_IN_REQUESTS.sub(
        lambda match: "".join(
            f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape")
        ),
        part,
    )


def _climbs(path: str) -> bool:
    """Returns True if a server may read a part as `.` or `..`.

    Some servers decode twice and more, some leave out what follows `;`.
    """
    for _ in range(3):
        path = unquote(path)
        if has_dots(re.sub(r";[^/\\]*", "", path).replace("\\", "/")):
            return True
    return False


def _has_port(line: Allowed, url: URL) -> bool:
    if line.port is None and line.host == "*":
        return True
    return url.port == (line.port or _PORTS[url.scheme])


def _refused(detail: str) -> FetchError:
    return FetchError("refused", detail)

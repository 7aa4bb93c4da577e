"""Parses a line of `fetch.allow`: a local folder, hosts with a path, or a bucket with a prefix.

    https://img.example.com/    https://*.example.com/photos/    https://*    /photos/
    http://10.1.2.3:8080/       s3://bucket/prefix/              s3://*

A line always names a folder; a missing slash at its end is added.
"""

import ipaddress
import re
from dataclasses import dataclass

ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss"}
WEB = ("http", "https")
_BUCKETS = ("s3", "gs", "abfss")  # the endpoint is not part of the URL, so * is safe
_FOLDER, _SHARDS = "the folder's path", "the location of the shards"
_OTHER_NAMES = {"file": _FOLDER, "local": _FOLDER, "tar": _SHARDS, "parquet": _SHARDS}
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(
    r"(?P<host>\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
)
_BUCKET = re.compile(r"[A-Za-z0-9._-]+(@[A-Za-z0-9.-]+)?")  # container@account for abfss


@dataclass(frozen=True)
class Allowed:
    """The locations that one line allows."""

    scheme: str  # in lower case, aliases resolved (s3a is s3); "" for a local folder
    host: str  # a host without brackets, a bucket, `*`, or `*.` and a domain
    port: int | None  # None: any for the host `*`, else the scheme's own
    path: str  # begins and ends with a slash

    def has_host(self, host: str) -> bool:
        """Returns True if the line names this host (in lower case) or bucket."""
        ending = self.host[1:] if self.host.startswith("*") else None
        return host == self.host if ending is None else host.endswith(ending) and host != ending


def parse(line: str) -> Allowed:
    """Reads one line; ValueError with the mistake."""
    line.encode()  # raises ValueError for half a surrogate pair
    if re.search(r"[\x00-\x1f\x7f\\]", line) or has_dots(line):
        raise ValueError("no control characters, backslashes, and no parts '.' or '..'")
    if line.startswith("/") and "*" not in line:
        return Allowed("", "", None, _folder(line))
    scheme, mark, rest = line.partition("://")
    scheme, (host, _, path) = ALIASES.get(scheme.lower(), scheme.lower()), rest.partition("/")
    if not mark or not _SCHEME.fullmatch(scheme):
        raise ValueError(
            "neither a folder's path nor a URL as in https://img.example.com/ or "
            "s3://bucket/prefix/"
        )
    if scheme in _OTHER_NAMES or "::" in re.sub(r"\[.*?\]", "", line):
        raise ValueError(f"name {_OTHER_NAMES.get(scheme, _OTHER_NAMES['tar'])} instead")
    if scheme in WEB:
        return _web(scheme, host.lower(), path)
    if not (_BUCKET.fullmatch(host) or (host == "*" and scheme in _BUCKETS) or (not host and path)):
        raise ValueError(
            f"{host!r} is no bucket or host; * alone stands for any bucket of {', '.join(_BUCKETS)}"
        )
    return Allowed(scheme, host, None, _folder(path))


def _web(scheme: str, host: str, path: str) -> Allowed:
    match = _HOST.fullmatch(host)
    if not match or not path.isascii() or re.search(r"[?# ]", path):
        raise ValueError(
            "https://host/path/ is expected: ASCII (xn--..., %C3%BC), without user, query or #; "
            "* for a host or its start"
        )
    name = match["host"].strip("[]")
    if match["host"].startswith("["):
        name = ipaddress.IPv6Address(name).compressed
    return Allowed(scheme, name, int(match["port"]) if match["port"] else None, _folder(path))


def folder_of(prefix: str) -> str:
    """The folder of a URL prefix; "" if it cannot be a line of fetch.allow.

    >>> folder_of("https://img.example.com/photos/a-")
    'https://img.example.com/photos/'
    >>> folder_of("https://img.exam")
    ''
    """
    folder = prefix[: prefix.rfind("/") + 1]
    try:
        parse(folder)
    except ValueError:
        return ""
    return "" if folder.endswith("://") else folder


def _folder(path: str) -> str:
    return f"/{path.strip('/')}/" if path.strip("/") else "/"


def has_dots(path: str) -> bool:
    """Returns True if a part of a path is `.` or `..`."""
    return any(part in (".", "..") for part in path.split("/"))

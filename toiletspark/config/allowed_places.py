"""One line of `fetch.allow`, read: a folder on this machine, hosts and what lies below a path there, or a bucket.

    https://img.example.com/           https://*.example.com/photos/      https://*          http://10.1.2.3:8080/
    s3://bucket/prefix/                s3://*                             /photos/

A line always names a folder: a slash is put behind it where there is none.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "abfss"}
WEB = ("http", "https")
_BUCKETS = (
    "s3",
    "gs",
    "abfss",
)  # asked at an endpoint that the conf or the cloud's own library names, so * is safe
_OTHER_NAMES = {
    "file": "the folder's path",
    "local": "the folder's path",
    "tar": "where the shards lie",
}
_OTHER_NAMES["parquet"] = _OTHER_NAMES["tar"]
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(
    r"(?P<host>\*|(\*\.)?[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
)
_BUCKET = re.compile(r"[A-Za-z0-9._-]+(@[A-Za-z0-9.-]+)?")  # container@account for abfss


@dataclass(frozen=True)
class Allowed:
    """What one line allows.

    Attributes:
        scheme: in lower case, without aliases (s3a is s3); "" for a folder of this machine.
        host: a host without brackets, a bucket, `*`, or `*.` and the end of a host's name.
        port: None: any for the host `*`, else the scheme's own.
        path: begins and ends with a slash.
    """

    scheme: str
    host: str
    port: int | None
    path: str

    def has_host(self, host: str) -> bool:
        """Whether a host or a bucket, in lower case where case means nothing, is one that the line names."""
        ending = self.host[1:] if self.host.startswith("*") else None
        return host == self.host if ending is None else host.endswith(ending) and host != ending


def parse(line: str) -> Allowed:
    """Reads one line.

    Raises:
        ValueError: says what is wrong.
    """
    line.encode()  # half characters end here, as ValueErrors
    if re.search(r"[\x00-\x1f\x7f\\]", line) or _has_dots(line):
        raise ValueError("no control characters, backslashes, and no parts '.' or '..'")
    if line.startswith("/") and "*" not in line:
        return Allowed("", "", None, _folder(line))
    scheme, mark, rest = line.partition("://")
    scheme, (host, _, path) = ALIASES.get(scheme.lower(), scheme.lower()), rest.partition("/")
    if not mark or not _SCHEME.fullmatch(scheme):
        raise ValueError(
            "neither a folder's path nor a URL as in https://img.example.com/ or s3://bucket/prefix/"
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
    found = _HOST.fullmatch(host)
    if not found or not path.isascii() or re.search(r"[?# ]", path):
        raise ValueError(
            "https://host/path/ is meant: ASCII (xn--..., %C3%BC), without user, query or #; * for a host or its start"
        )
    name = found["host"].strip("[]")
    if found["host"].startswith("["):
        name = ipaddress.IPv6Address(name).compressed
    return Allowed(scheme, name, int(found["port"]) if found["port"] else None, _folder(path))


def folder_of(prefix: str) -> str:
    """The folder that what begins with `prefix` lies in; "" if it is none that `parse` reads.

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


def _has_dots(line: str) -> bool:
    return any(part in (".", "..") for part in line.split("/"))

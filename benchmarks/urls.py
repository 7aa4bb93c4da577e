"""Hostile URLs against forbidden servers, and servers that never end: `make bench-urls`.

Forbidden servers listen on 127.0.0.1 and ::1 and count who comes and what they send. The one public
site of this small world is 127.0.0.2: it redirects to where it should not, drips, lies and goes on
for ever. Names are resolved by a patched getaddrinfo, so that one can answer what may be dialled
first and what may not the second time.
"""

from __future__ import annotations

import json
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.measure import machine
from toiletspark.config import Fetch, loading
from toiletspark.images.fetching import Fetched, Fetcher

PUBLIC = "127.0.0.2"
TIMEOUT_S = 1.0
GRACE_S = 0.5
MAX_BYTES = 200_000
ADDRESSES = [
    *(
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
    ),
    *(
        "192.0.0.8",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
    ),
    *(
        "[::]",
        "[::1]",
        "[::10.0.0.1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[2002:7f00:1::]",
        "[2002:0a00:1::]",
    ),
    *(
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::7f00:1]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
    ),
    *("[2606:4700::5efe:127.0.0.1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]"),
]
DRESSED = [
    "0x7f.1",
    "2130706433",
    "0177.0.0.1",
    "127.1",
    "127.0.0.1.",
    "127。0。0。1",
    "１２７.0.0.1",
    "localhost",
    "LOCALHOST",
]
SCHEMES = [
    *(
        "file:///etc/hostname",
        "file:/etc/hostname",
        "file://localhost/etc/hostname",
        "FILE:///etc/hostname",
    ),
    *(
        "data:text/plain,a",
        "memory://a/b",
        "local:///etc/hostname",
        "github://a:b@c/d",
        "simplecache::file:///etc/hostname",
    ),
    *(
        "tar://a::file:///etc/hostname",
        "parquet://a::/etc/hostname",
        "tar://a::simplecache::file:///etc/hostname",
    ),
    *(
        "filecache::https://a.example/b",
        "zip://a::/etc/hostname",
        "reference::a",
        "s3::https://a.example/b",
    ),
]
PATHS = [
    "/etc/hostname",
    "{folder}/../secret.jpg",
    "{folder}/link.jpg",
    "s3://photos/../other/a.jpg",
    "s3://other/a.jpg",
]
REDIRECTS = ["loopback", "name", "file", "bucket", "metadata", "loop", "again"]


@dataclass
class World:
    """A model of the net with forbidden servers, and the requests that reached them."""

    folder: Path
    forbidden: int = 0  # port
    public: int = 0  # port
    connections: int = 0
    received: int = 0
    pieces: int = 0  # that the public site has sent of answers in pieces
    answers: dict[str, list[list[str]]] = field(default_factory=dict)

    @property
    def named(self) -> str:
        """The public site as a line of `fetch.allow` that is enough for shards."""
        return f"http://{PUBLIC}:{self.public}/"

    @property
    def limits(self) -> Fetch:
        """Everything is open that can be, but for addresses that are not public."""
        sets = [
            'fetch.allow=["http://*", "https://*", "s3://photos/", '
            f'"{self.folder}/photos", "{self.named}"]',
            f'fetch.allow_private=["{PUBLIC}/32"]',
            *(
                f"fetch.timeout_s={TIMEOUT_S}",
                f"fetch.shard_timeout_s={TIMEOUT_S}",
                "fetch.retries=2",
            ),
            *("fetch.first_wait_s=0.01", f"fetch.max_image_bytes={MAX_BYTES}"),
        ]
        return loading.load([], sets).fetch

    def hostile(self) -> dict[str, str]:
        """URLs that must be refused, by name."""
        summary = {host: f"http://{host}:{self.forbidden}/a.jpg" for host in [*ADDRESSES, *DRESSED]}
        summary |= {url: url for url in SCHEMES}
        summary |= {url: url.format(folder=self.folder / "photos") for url in PATHS}
        summary |= {
            f"redirect to {to}": f"http://{PUBLIC}:{self.public}/to/{to}" for to in REDIRECTS
        }
        summary |= {
            "user": f"http://{PUBLIC}@127.0.0.1:{self.forbidden}/a.jpg",
            "backslash": f"http://{PUBLIC}:{self.public}\\@127.0.0.1:{self.forbidden}/a.jpg",
            "tab": f"ht\ttp://127.0.0.1:{self.forbidden}/a.jpg",
            "ftp": f"ftp://127.0.0.1:{self.forbidden}/a.jpg",
            "gopher": f"gopher://127.0.0.1:{self.forbidden}/_a",
            "jar": f"jar:http://127.0.0.1:{self.forbidden}/a!/b",
            "shard": f"tar://a::http://127.0.0.1:{self.forbidden}/a.tar",
            "shard of a stranger": "parquet://a::http://8.8.8.8/a.parquet",
            "shard in a stranger's bucket": "parquet://a::s3://strangers/a.parquet",
            "shard behind a redirect": f"tar://a::http://{PUBLIC}:{self.public}/to/loopback",
            "name of a private address": f"http://private.example:{self.forbidden}/a.jpg",
            "name of two private addresses": f"http://two.example:{self.forbidden}/a.jpg",
            "name that changes": f"http://rebound.example:{self.public}/to/rebound",
        }
        return summary

    def endless(self) -> dict[str, str]:
        """Answers that do not end, or not as they say."""
        kinds = ("drip", "headers", "status", "endless", "long", "short", "compressed", "loop")
        urls = {
            kind: f"http://{PUBLIC}:{self.public}/{'to/' * (kind == 'loop')}{kind}"
            for kind in kinds
        }
        return urls | {
            f"shard: {kind}": f"tar://a::{urls[kind]}" for kind in ("drip", "headers", "endless")
        }

    def target(self, to: str) -> str:
        """The public site's redirect targets."""
        here, there = f"http://{PUBLIC}:{self.public}", f"//127.0.0.1:{self.forbidden}/a.jpg"
        return {
            "loopback": f"http:{there}",
            "name": f"http://private.example:{self.forbidden}/a.jpg",
            "file": "file:///etc/hostname",
            "own-file": f"file://{self.folder}/photos/own.jpg",
            "no-host": "https:///a.jpg",
            "no-port": f"http://{PUBLIC}:port/a.jpg",
            "bucket": "s3://photos/a.jpg",
            "metadata": "http://169.254.169.254/latest/meta-data/",
            "loop": f"{here}/to/loop",
            "again": f"{here}/to/loopback",
            "rebound": f"http://rebound.example:{self.forbidden}/a.jpg",
        }[to]


@contextmanager
def world() -> Iterator[World]:
    """The servers, the names and the files, for as long as they are needed."""
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as folder:
        made = World(Path(folder))
        (made.folder / "photos").mkdir()
        (made.folder / "secret.jpg").write_bytes(b"secret")
        (made.folder / "photos" / "link.jpg").symlink_to(made.folder / "secret.jpg")
        made.answers = {
            "private.example": [["127.0.0.1"]],
            "two.example": [["127.0.0.1", "10.0.0.1"]],
            "rebound.example": [[PUBLIC], ["127.0.0.1"]],
        }
        asked: dict[str, int] = {}
        really = socket.getaddrinfo

        def resolved(host: Any, port: Any, *words: Any, **more: Any) -> Any:
            if host not in made.answers:
                return really(host, port, *words, **more)
            number = asked[host] = asked.get(host, -1) + 1
            answers = made.answers[host]
            of_now = answers[min(number, len(answers) - 1)]
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port)))
                for address in of_now
            ]

        with _forbidden(made), _public(made), mock.patch("socket.getaddrinfo", resolved):
            yield made


def fetch_one(limits: Fetch, url: str) -> tuple[Fetched, float]:
    """By a fetcher of its own; how long it took, s."""
    began = time.monotonic()
    result = Fetcher(limits).start(url).result()
    return result, time.monotonic() - began


def main() -> None:
    with world() as made:
        limits = made.limits
        # what imports cost is not the first one's
        fetch_one(limits, f"http://{PUBLIC}:{made.public}/a.jpg")
        hostile = {name: fetch_one(limits, url) for name, url in made.hostile().items()}
        slow = {name: fetch_one(limits, url) for name, url in made.endless().items()}
        over = {
            name: round(seconds - TIMEOUT_S, 3)
            for name, (_, seconds) in {**hostile, **slow}.items()
        }
        slowest = max(over, key=lambda name: over[name])
        print(
            json.dumps(
                {
                    "refused": sum(result.status == "refused" for result, _ in hostile.values()),
                    "of": len(hostile),
                    "not_refused": {
                        name: one.status
                        for name, (one, _) in hostile.items()
                        if one.status != "refused"
                    },
                    "forbidden_connections": made.connections,
                    "forbidden_bytes": made.received,
                    "timeout_s": TIMEOUT_S,
                    "slowest_over_deadline_s": over[slowest],
                    "slowest": slowest,
                    "within_grace": all(seconds <= GRACE_S for seconds in over.values()),
                    "endless": {
                        name: [one.status, one.detail, round(took, 3)]
                        for name, (one, took) in slow.items()
                    },
                    "machine": machine(),
                }
            )
        )


@contextmanager
def _forbidden(made: World) -> Iterator[None]:
    """Listens where nobody may come; counts each connection before anything is read from it."""

    def count(connection: socket.socket) -> None:
        made.connections += 1
        with suppress(OSError):
            connection.settimeout(1)
            made.received += len(connection.recv(65_536))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    four = socket.create_server(("127.0.0.1", 0))
    made.forbidden = four.getsockname()[1]
    servers = [four]
    with suppress(OSError):  # machines without IPv6
        servers.append(socket.create_server(("::1", made.forbidden), family=socket.AF_INET6))
    with _serving(servers, count):
        yield


@contextmanager
def _public(made: World) -> Iterator[None]:
    server = socket.create_server((PUBLIC, 0))
    made.public = server.getsockname()[1]

    def answer(connection: socket.socket) -> None:
        with suppress(OSError, ValueError):  # whoever hangs up says nothing
            asked = connection.recv(65_536).decode()
            method, path = asked.split(" ")[:2]
            if path.startswith("/to/"):
                location = made.target(path.removeprefix("/to/"))
                connection.sendall(
                    f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n"
                    "Content-Length: 0\r\n\r\n".encode()
                )
            else:
                for piece, pause_s in _pieces(path.removeprefix("/")):
                    if path == "/drip" and "\r\nRange: " in asked:
                        piece = piece.replace(b" 200 OK", b" 206 Partial Content")
                    head, end, _ = piece.partition(b"\r\n\r\n")
                    connection.sendall(head + end if method == "HEAD" else piece)
                    if method == "HEAD" and end:
                        return
                    made.pieces += 1
                    time.sleep(pause_s)

    with _serving([server], answer):
        yield


def _pieces(kind: str) -> Iterator[tuple[bytes, float]]:
    """The public site's response in pieces, and the pause after each, s."""
    head = b"HTTP/1.1 200 OK\r\n"
    if kind == "status":
        yield from ((bytes([letter]), 0.05) for letter in head * 10)
    elif kind == "headers":
        yield head, 0.0
        yield from ((f"X-{number}: a\r\n".encode(), 0.05) for number in range(100))
    elif kind == "drip":
        yield head + b"Content-Length: 1000\r\n\r\n", 0.0
        yield from ((b"x", 0.05) for _ in range(100))
    elif kind == "endless":
        yield head + b"\r\n", 0.0
        yield from ((bytes(65_536), 0.0) for _ in range(1_000))
    elif kind == "long":  # says more than the cap, and sends little
        yield head + b"Content-Length: 99999999999\r\n\r\nx", 5.0
    elif kind == "short":  # says less than it sends
        yield head + b"Content-Length: 3\r\n\r\nabcdef", 0.0
    elif kind == "compressed":  # a hundred times what it looks like
        import gzip

        content = gzip.compress(bytes(20_000_000))
        yield (
            head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(content) + content,
            0.0,
        )
    else:
        yield head + b"Content-Length: 4\r\n\r\nhere", 0.0


@contextmanager
def _serving(
    servers: list[socket.socket], answer: Callable[[socket.socket], None]
) -> Iterator[None]:
    """A thread for each server and each connection."""

    def one(connection: socket.socket) -> None:
        with connection:
            answer(connection)

    def accept(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

    for server in servers:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
    try:
        yield
    finally:
        for server in servers:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()


if __name__ == "__main__":
    main()

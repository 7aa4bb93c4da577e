"""Fetching hostile URLs for real: forbidden servers listen, and nobody may come to them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any, ClassVar

import fsspec.asyn
import pytest

from benchmarks.urls import PUBLIC, World, fetch_one, world
from tests.support.quiet_server import QuietHandler
from toiletspark.config import Fetch
from toiletspark.images.fetching import Fetched, Fetcher, http_session
from toiletspark.images.fetching.allow_rules import AllowRules
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.ip_addresses import Networks

CODES = {"scheme", "host", "address", "path", "redirect", "shard", "url"}


@pytest.fixture(scope="module")
def made() -> Iterator[World]:
    with world() as started:
        yield started


def patient(made: World) -> Fetch:
    """Limits whose time no busy machine reaches: the verdict is tested, not the deadline."""
    return made.limits.model_copy(update={"timeout_s": 60.0, "shard_timeout_s": 60.0})


def test_hostile_urls_are_refused_and_nobody_is_dialled(made: World) -> None:
    by = Fetcher(patient(made))
    urls = made.hostile()
    result = dict(zip(urls, by.fetch(urls.values()), strict=True))
    assert len(result) >= 40
    assert {
        name: one
        for name, one in result.items()
        if one.status != "refused" or one.detail not in CODES
    } == {}
    assert (made.connections, made.received) == (0, 0)


def test_the_forbidden_servers_would_answer(made: World) -> None:
    """The control: the same requests do reach servers that are not forbidden."""
    open_limits = patient(made).model_copy(update={"allow_private": ["127.0.0.0/8"]})
    assert (
        fetch_one(open_limits, f"http://127.0.0.1:{made.forbidden}/a.jpg")[0].content == b"secret"
    )
    assert made.connections == 1
    made.connections = made.received = 0


def test_a_name_is_resolved_once_for_each_connection(made: World) -> None:
    made.answers["once.example"] = [[PUBLIC], ["127.0.0.1"]]
    assert (
        fetch_one(patient(made), f"http://once.example:{made.public}/a.jpg")[0].content == b"here"
    )
    assert fetch_one(patient(made), f"http://once.example:{made.public}/a.jpg")[0] == Fetched(
        "refused", "address"
    )
    made.answers["mixed.example"] = [["127.0.0.1", PUBLIC]]
    assert (
        fetch_one(patient(made), f"http://mixed.example:{made.public}/a.jpg")[0].content == b"here"
    )
    assert made.connections == 0


@pytest.mark.parametrize("kind", ["drip", "headers", "status"])
def test_what_drips_ends_with_the_time_for_the_image(made: World, kind: str) -> None:
    limits = made.limits.model_copy(update={"timeout_s": 0.3})
    made.pieces = 0
    assert fetch_one(limits, made.endless()[kind])[0] == Fetched("timeout", "over 0.3 s")
    # of a hundred and more, twenty a second; whoever reads on gets all of them
    assert made.pieces < 60


@pytest.mark.parametrize("kind", ["endless", "long", "compressed"])
def test_what_is_too_large_is_told_by_size_whatever_it_says(made: World, kind: str) -> None:
    assert fetch_one(patient(made), made.endless()[kind])[0] == Fetched(
        "too_large", "over 200000 bytes"
    )


def test_sockets_judge_for_themselves(made: World) -> None:
    """Addresses in URLs pass by aiohttp's resolver; here the judge of URLs lets them pass, too."""
    everything = Networks(["0.0.0.0/0"])
    rules = AllowRules(["http://*"], everything)
    filesystem = http_session.filesystem(made.limits, rules, Networks([]))

    async def asked() -> Any:
        session = await filesystem.set_session()
        return await session.get(f"http://127.0.0.1:{made.forbidden}/a.jpg")

    with pytest.raises(FetchError, match="address"):
        fsspec.asyn.sync(filesystem.loop, asked)
    assert made.connections == 0


@pytest.mark.parametrize("to", ["own file", "no host", "no port"])
def test_a_redirect_to_what_is_no_url_of_the_web_is_refused(made: World, to: str) -> None:
    """Also to a file that may be read where it is named itself."""
    (made.folder / "photos" / "own.jpg").write_bytes(b"own")
    assert fetch_one(patient(made), f"{made.folder}/photos/own.jpg")[0].content == b"own"
    assert fetch_one(patient(made), f"http://{PUBLIC}:{made.public}/to/{to.replace(' ', '-')}")[
        0
    ] == Fetched("refused", "redirect")


def test_the_environments_proxy_is_not_asked(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{made.forbidden}")
    assert fetch_one(patient(made), f"http://{PUBLIC}:{made.public}/a.jpg")[0].content == b"here"
    assert made.connections == 0


class Told(QuietHandler):
    """Keeps the requests; /to/PORT redirects to that port."""

    headers_of: ClassVar[dict[str, dict[str, str]]] = {}

    def do_GET(self) -> None:
        Told.headers_of[self.path] = dict(self.headers)
        to = self.path.removeprefix("/to/") if self.path.startswith("/to/") else ""
        self.send_response(302 if to else 200)
        if to:
            self.send_header("Location", f"http://127.0.0.1:{to}/end" if to.isdigit() else f"/{to}")
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_what_one_host_is_told_does_not_go_to_the_next(made: World) -> None:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Told) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    first, second = (server.server_port for server in servers)
    summary = {
        "headers": {"Authorization": "Bearer x", "User-Agent": "us"},
        "client_kwargs": {"headers": {"X-Key": "y"}},
    }
    allow = [f"http://127.0.0.1:{port}/" for port in (first, second)]
    update = {
        "allow": allow,
        "allow_private": ["127.0.0.0/8"],
        "storage_options": {"http": summary},
    }
    by = Fetcher(made.limits.model_copy(update=update))
    assert [
        one.status
        for one in by.fetch([f"http://127.0.0.1:{first}/to/{to}" for to in (second, "here")])
    ] == ["ok"] * 2
    for path, secrets in ((f"/to/{second}", True), ("/here", True), ("/end", False)):
        headers = Told.headers_of[path]
        assert headers["User-Agent"] == "us"
        assert headers["Accept-Encoding"] == "identity"
        assert [name in headers for name in ("Authorization", "X-Key")] == [secrets, secrets]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_shard_that_drips_is_slow_and_not_missing(made: World) -> None:
    limits = made.limits.model_copy(update={"shard_timeout_s": 0.3, "retries": 0})
    for kind in ("drip", "headers"):
        assert fetch_one(limits, made.endless()[f"shard: {kind}"])[0] == Fetched(
            "timeout", "over 0.3 s"
        )

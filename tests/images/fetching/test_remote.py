"""Objects in an S3 store and parts of files on servers: contents, amounts, allowed sources."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.support.object_store import ObjectStore
from tests.support.quiet_server import QuietHandler
from tests.support.shard_files import CONTENTS, MAKERS, QUICK, SECRET, fetcher, one, tar_of
from toiletspark.images.fetching import Fetched, tar_shard
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.reading import read_range
from toiletspark.images.fetching.stores import Stores

# S3


def test_objects_come_from_s3(store: ObjectStore) -> None:
    urls = [store.put(name, content) for name, content in CONTENTS.items()]
    result = fetcher(store).fetch([*urls, urls[0].replace("s3://", "s3a://")])
    assert [one.content for one in result] == [*CONTENTS.values(), CONTENTS["kitchen/000.jpg"]]


def test_what_s3_says_is_a_status(store: ObjectStore) -> None:
    by = fetcher(store)
    store.put("denied/a.jpg", b"abc")
    assert one("s3://photos/denied/a.jpg", by) == Fetched("denied", "http 403")
    assert one("s3://photos/nowhere.jpg", by) == Fetched("missing", "http 404")
    assert one("s3://no-such-bucket/a.jpg", by) == Fetched("missing", "http 404")
    assert one("s3://NO BUCKET/a.jpg", by) == Fetched("refused", "host")
    assert one(store.put("empty.jpg", b""), by) == Fetched("ok", "", b"")
    assert one(store.put("full.jpg", bytes(10_000)), by).status == "ok"
    assert one(store.put("over.jpg", bytes(10_001)), by) == Fetched("too_large", "over 10000 bytes")


class NoRanges(QuietHandler):
    """A server that always sends the whole file."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(tar_of(CONTENTS))))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(tar_of(CONTENTS))


def test_a_shard_on_a_server_without_ranges_is_a_status() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), NoRanges) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}/"
        result = one(f"tar://kitchen/020.jpg::{here}1.tar", fetcher(allow=[here]))
        server.shutdown()
    assert result == Fetched("bad_answer", "no ranges")


class Ranges(QuietHandler):
    """A server with one tar under any name; the path's first part says how it answers ranges."""

    protocol_version = "HTTP/1.1"
    content = tar_of(CONTENTS)
    sent: ClassVar[Counter[str]] = Counter()

    def do_HEAD(self) -> None:
        if self.path.startswith("/to/"):
            self._begin(302, {"Location": self.path.removeprefix("/to/"), "Content-Length": "0"})
        else:
            self._begin(200, {"Content-Length": str(len(self.content))})

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.do_HEAD()
            return
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        asked = self.content[int(first) : int(last) + 1]
        how = self.path.strip("/")
        code = {"whole": 200, "error": 404, "busy": 503}.get(how, 206)
        length = {"sound": len(asked), "long": 60 << 20, "one more": len(asked) + 1}.get(
            how.replace("-", " ")
        )
        self._begin(
            code, {"Connection": "close"} if length is None else {"Content-Length": str(length)}
        )
        left = (length or 60 << 20) - len(asked)  # no end, as far as anybody can tell
        self._send(how, asked)
        while left > 0:
            self._send(how, bytes(min(left, 65_536)))
            left -= 65_536

    def _begin(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, how: str, content: bytes) -> None:
        self.wfile.write(content)
        Ranges.sent[how] += len(content)


@pytest.fixture
def ranges() -> Iterator[str]:
    Ranges.sent.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        *[("whole", ("bad_answer", "no ranges")), ("long", ("bad_answer", "no ranges"))],
        *[("one-more", ("bad_answer", "no ranges")), ("endless", ("bad_answer", "no ranges"))],
        *[("error", ("missing", "http 404")), ("busy", ("timeout", "http 503"))],
    ],
)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_server_that_sends_more_than_it_was_asked_for_is_cut_off(
    kind: str, how: str, outcome: tuple[str, str], ranges: str
) -> None:
    result = one(f"{kind}://kitchen/020.jpg::{ranges}{how}", fetcher(allow=[ranges], retries=0))
    assert (result.status, result.detail) == outcome
    assert Ranges.sent[how] < 16 << 20  # what lies in sockets


@pytest.mark.parametrize("how", ["one-more", "endless", "error"])
def test_a_range_of_http_is_no_longer_than_asked(how: str, ranges: str) -> None:
    """Reads a range like a member whose position is known."""
    stores = Stores(QUICK.model_copy(update={"allow": [ranges]}))
    filesystem, path = stores._open_shard(f"{ranges}sound")
    assert read_range(filesystem, path, 512, 600, time.monotonic() + 10) == Ranges.content[512:600]
    with pytest.raises((FetchError, FileNotFoundError)):
        read_range(*stores._open_shard(f"{ranges}{how}"), 512, 600, time.monotonic() + 10)
    assert Ranges.sent[how] < 16 << 20


def test_a_member_is_as_long_as_its_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(CONTENTS))
    monkeypatch.setattr(tar_shard, "read_range", lambda *asked: read_range(*asked) + b"more")
    assert one(f"tar://kitchen/020.jpg::{tmp_path}/a.tar").content == CONTENTS["kitchen/020.jpg"]


# Where shards may lie


@pytest.mark.parametrize("kind", MAKERS)
def test_a_shard_may_only_come_from_a_place_with_a_name(
    kind: str, store: ObjectStore, ranges: str
) -> None:
    """A stranger may bring an image, but nothing that Arrow or tarfile reads in the worker."""
    shard = store.put(f"named.{kind}", MAKERS[kind](CONTENTS))
    by_http = shard.replace("s3:/", store.options["endpoint_url"])
    for url, wide, named in (
        (shard, "s3://*", "s3://photos/"),
        (by_http, "http://*", f"{store.options['endpoint_url']}/photos/"),
        (
            by_http,
            f"{store.options['endpoint_url'].replace('127.0.0.1', '*')}/photos/",
            f"{store.options['endpoint_url']}/",
        ),
    ):
        member = f"{kind}://kitchen/020.jpg::{url}"
        # it is there
        assert one(url, fetcher(store, allow=[wide], max_image_bytes=100_000)).status == "ok"
        assert one(member, fetcher(store, allow=[wide])) == Fetched("refused", "shard")
        assert one(member, fetcher(store, allow=[wide, named])).status == "ok"
    assert one(f"{kind}://a::s3://other/1", fetcher(store, allow=["s3://photos/"])) == Fetched(
        "refused", "host"
    )
    assert one(
        f"{kind}://a::s3://photos/1", fetcher(store, allow=["s3://photos/2024/", "s3://*"])
    ) == Fetched("refused", "shard")


def test_a_shard_does_not_come_by_a_redirect_from_a_place_without_a_name(ranges: str) -> None:
    other = ranges.replace("127.0.0.1", "127.0.0.2")
    sound, led = (
        f"tar://kitchen/020.jpg::{ranges}sound",
        f"tar://kitchen/020.jpg::{ranges}to/{{}}sound",
    )
    assert one(sound, fetcher(allow=[ranges])).content == CONTENTS["kitchen/020.jpg"]
    assert one(led.format(ranges), fetcher(allow=[ranges])).content == CONTENTS["kitchen/020.jpg"]
    assert one(led.format(other), fetcher(allow=[ranges, "http://*"])) == Fetched(
        "refused", "redirect"
    )


# An S3 that is busy, or not there


class Busy(QuietHandler):
    """An S3 that only says that it is too busy."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Busy.asked.append(self.headers.get("Range", ""))
        text = (
            b"<?xml version='1.0'?>"
            b"<Error><Code>SlowDown</Code><Message>s3://photos/kitchen</Message></Error>"
        )
        self.send_response(503)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def test_s3_is_asked_again_as_often_as_we_say_and_never_for_more_than_the_cap() -> None:
    Busy.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        by = fetcher(
            storage_options={"s3": {"endpoint_url": endpoint, "key": "a", "secret": SECRET}},
            retries=2,
        )
        assert one("s3://photos/a.jpg", by) == Fetched("timeout", "http 503, 3 tries")
        server.shutdown()
    assert Busy.asked == ["bytes=0-10000"] * 3


def test_an_s3_that_is_not_there_is_transient() -> None:
    options = {"endpoint_url": "http://127.0.0.1:9", "key": "a", "secret": SECRET}
    assert one("s3://photos/a.jpg", fetcher(storage_options={"s3": options}, retries=1)) == Fetched(
        "timeout", "EndpointConnectionError, 2 tries"
    )

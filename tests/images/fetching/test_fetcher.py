"""Fetching from real servers and files: bytes or a status, never a URL in stored details."""

import threading
import time
import uuid
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec
import pytest

from tests.conftest import literal_config
from tests.support.quiet_server import QuietHandler
from toiletspark.images.fetching import Fetched, Fetcher
from toiletspark.images.statuses import STATUSES

BASE = literal_config().fetch
LIMITS = BASE.model_copy(
    update={"timeout_s": 30, "max_image_bytes": 100_000, "threads_per_task": 8, "retries": 0}
)
SECRET = "s3cr3t-token"


class Site(QuietHandler):
    """/<what>/...: what the path's first part says."""

    protocol_version = "HTTP/1.0"
    sent_bytes = 0

    def do_GET(self) -> None:
        what = self.path.split("?")[0].split("/")[1]
        if what.isdigit():
            self.send_error(int(what), SECRET)
        elif what == "redirect":
            self.send_response(302)
            self.send_header("Location", self.path.replace("redirect", "ok"))
            self.end_headers()
        elif what == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.end_headers()
        else:
            if what == "stall":
                time.sleep(1)
            self.send_response(200)
            self.end_headers()
            getattr(self, f"_{what}")()

    def _ok(self) -> None:
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        time.sleep(0.01 * (int(name) % 3) if name.isdigit() else 0)  # answers come out of order
        self.wfile.write(b"content of " + name.encode())

    def _full(self) -> None:
        self.wfile.write(bytes(100_000))

    def _over(self) -> None:
        self.wfile.write(bytes(100_001))

    def _empty(self) -> None:
        pass

    def _stall(self) -> None:
        pass

    def _mute(self) -> None:
        self.wfile.flush()
        time.sleep(1)

    def _drip(self) -> None:
        for _ in range(100):
            self._send(b"x")
            time.sleep(0.05)

    def _endless(self) -> None:
        for _ in range(
            1_000
        ):  # endless enough, and a fetcher without a limit does not fill the memory
            Site.sent_bytes += 65_536  # before: who gets them may ask at once
            self._send(bytes(65_536))

    def _send(self, content: bytes) -> None:
        self.wfile.write(content)
        self.wfile.flush()


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def one(url: str | None, **limits: Any) -> Fetched:
    result = Fetcher(LIMITS.model_copy(update=limits)).start(url).result()
    assert result.status in STATUSES
    assert (result.content is not None) == (result.status == "ok")
    if url:
        assert SECRET not in result.detail
        assert "127.0.0.1" not in result.detail
        assert "://" not in result.detail
    return result


# http


def test_bytes_come_over_http(site: str) -> None:
    result = one(f"{site}/ok/a.jpg?token={SECRET}")
    assert result == Fetched("ok", "", b"content of a.jpg", "http 200 no length")


def test_a_redirect_is_followed(site: str) -> None:
    assert one(f"{site}/redirect/a.jpg").content == b"content of a.jpg"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (404, "missing"),
        (410, "missing"),
        (401, "denied"),
        (403, "denied"),
        (500, "timeout"),
        (503, "timeout"),
        (429, "timeout"),
    ],
)
def test_an_http_error_is_a_status(site: str, code: int, status: str) -> None:
    result = one(f"{site}/{code}/a.jpg?token={SECRET}")
    assert result.status == status
    assert result.detail in (f"http {code}", "FileNotFoundError")


def test_a_redirect_loop_ends(site: str) -> None:
    assert one(f"{site}/loop/a.jpg") == Fetched("refused", "redirect")


def test_a_slow_drip_is_cut_off_by_the_time_for_the_whole_image(site: str) -> None:
    result = one(f"{site}/drip/a.jpg?token={SECRET}", timeout_s=0.3)
    assert result.status == "timeout"
    assert one(f"{site}/ok/a.jpg").status == "ok"


@pytest.mark.parametrize("what", ["stall", "mute"])
def test_a_server_that_keeps_silent_is_not_waited_for(site: str, what: str) -> None:
    """Before its headers or after them; whoever waits gets an empty body in the end."""
    assert one(f"{site}/{what}/a.jpg", timeout_s=0.3).status == "timeout"
    assert one(f"{site}/{what}/a.jpg").content == b""


def test_an_endless_body_is_cut_off_by_its_size(site: str) -> None:
    Site.sent_bytes = 0
    assert one(f"{site}/endless/a.jpg", timeout_s=60, max_image_bytes=5_000_000) == Fetched(
        "too_large", "over 5000000 bytes"
    )
    assert 5_000_000 <= Site.sent_bytes < 30_000_000  # and not read to an end that never comes


def test_the_size_limit_is_inclusive(site: str) -> None:
    assert len(one(f"{site}/full/a.jpg").content or b"") == 100_000
    assert one(f"{site}/over/a.jpg") == Fetched("too_large", "over 100000 bytes")


def test_an_empty_body_is_no_failure_of_fetching(site: str) -> None:
    assert one(f"{site}/empty/a.jpg") == Fetched("ok", "", b"", "http 200 empty")


def test_a_refused_connection_is_transient() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        port = server.server_port
    assert one(f"http://127.0.0.1:{port}/a.jpg?token={SECRET}").status == "timeout"


def test_an_unknown_host_is_transient() -> None:
    assert one(f"http://no-such-host.invalid/a.jpg?token={SECRET}").status == "timeout"


# Files and other stores


def test_a_local_file_is_read_by_path_and_by_file_url(tmp_path: Path) -> None:
    path = tmp_path / "a b#c%20ü.jpg"
    path.write_bytes(b"abc")
    assert one(str(path)) == Fetched("ok", "", b"abc")
    assert one(f"file://{path}") == Fetched("ok", "", b"abc")


def test_a_file_that_is_too_large_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(bytes(100_001))
    assert one(str(tmp_path / "a.jpg")).status == "too_large"


def test_an_object_of_another_store_is_read() -> None:
    name = f"memory://photos/{uuid.uuid4().hex}/a.jpg"
    with fsspec.open(name, "wb") as file:
        file.write(b"abc")
    assert one(name, allow=["memory://photos/"]) == Fetched("ok", "", b"abc")
    assert one(f"{name}x", allow=["memory://photos/"]).status == "missing"


@pytest.mark.parametrize("url", [None, "", " "])
def test_an_image_without_a_url_is_missing(url: str | None) -> None:
    assert one(url) == Fetched("missing", "no image_url")


@pytest.mark.parametrize(
    "url",
    [
        "/tmp/" + "x" * 5_000,
        "/tmp/" + "x/" * 5_000,
        "://",
        "s3",
        "\ud800",
        "/tmp/\ud800",
    ],
    ids=lambda url: ascii(url)[:30],
)
def test_a_name_that_cannot_be_opened_is_no_url(url: str) -> None:
    assert one(url).status == "bad_url"


@pytest.mark.parametrize("before", ["", "file:", "file://", "file://localhost"])
@pytest.mark.parametrize("name", ["a.jpg", "my photo é.jpg", "100%25.jpg"])
def test_a_local_file_is_read_however_it_is_written(tmp_path: Path, before: str, name: str) -> None:
    (tmp_path / name).write_bytes(b"abc")
    allow = [str(tmp_path)]
    assert one(f"  {before}{tmp_path}/{name}\u00a0", allow=allow).content == b"abc"
    assert one(f"{before}{tmp_path}/nowhere.jpg", allow=allow).status == "missing"
    if before:
        quoted = quote(f"{tmp_path}/{name}")
        assert one(f"{before}{quoted}", allow=allow).content == b"abc"


def test_a_path_through_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert one(str(tmp_path / "a" / "b.jpg")).status == "missing"


def test_links_that_lead_in_a_circle_are_missing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    assert one(str(tmp_path / "a.jpg"), retries=3) == Fetched("missing", "links in a circle")
    assert one(str(tmp_path / "a.jpg" / "c.jpg"), retries=3) == Fetched(
        "missing", "links in a circle"
    )


# Batches


def test_order_is_kept_with_many_threads(site: str) -> None:
    urls = [f"{site}/ok/{number}" for number in range(60)]
    result = Fetcher(LIMITS).fetch(urls)
    assert [outcome.content for outcome in result] == [
        f"content of {number}".encode() for number in range(60)
    ]


def test_inline_bytes_and_urls_are_mixed_in_order(site: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"file")
    urls = [
        f"{site}/ok/1",
        None,
        str(tmp_path / "a.jpg"),
        str(tmp_path / "b.jpg"),
        f"{site}/404/x",
        None,
        None,
    ]
    contents = [None, b"inline", None, b"wins", None, None, bytes(100_001)]
    result = Fetcher(LIMITS).fetch_all(iter(urls), iter(contents))
    assert [outcome.content for outcome in result] == [
        b"content of 1",
        b"inline",
        b"file",
        b"wins",
        None,
        None,
        None,
    ]
    assert [outcome.status for outcome in result] == [
        "ok",
        "ok",
        "ok",
        "ok",
        "missing",
        "missing",
        "too_large",
    ]
    assert result[-1].detail == "over 100000 bytes"


def test_nothing_is_fetched_for_nothing() -> None:
    assert Fetcher(LIMITS).fetch([]) == []
    assert Fetcher(LIMITS).fetch_all([], []) == []


def test_columns_of_different_length_are_a_defect() -> None:
    with pytest.raises(ValueError, match="zip"):
        Fetcher(LIMITS).fetch_all(["a"], [])


def test_one_bad_image_does_not_spoil_its_batch(site: str) -> None:
    urls = [f"{site}/ok/1", "/tmp/nowhere", f"{site}/500/x", f"{site}/drip/x", f"{site}/ok/2"]
    result = Fetcher(LIMITS.model_copy(update={"timeout_s": 2.0})).fetch(urls)
    assert [outcome.status for outcome in result] == ["ok", "missing", "timeout", "timeout", "ok"]

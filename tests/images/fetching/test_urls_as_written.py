"""URLs are judged in normal form, and sent to servers as they were written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests.conftest import literal_config
from tests.support.quiet_server import QuietHandler
from toiletspark.images.fetching import Fetched, Fetcher


class Echo(QuietHandler):
    """Sends the request's own path; /to/... redirects to a location with escapes."""

    location: ClassVar[str] = ""

    def do_GET(self) -> None:
        is_redirect = self.path.startswith("/to/")
        self.send_response(302 if is_redirect else 200)
        if is_redirect:
            self.send_header("Location", Echo.location)
        body = b"" if is_redirect else self.requestline.split(" ")[1].encode("latin-1")
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetched(url: str) -> Fetched:
    return Fetcher(literal_config({"fetch.retries": 0}).fetch).start(url).result()


WRITTEN = [
    "/a.jpg?key=AK%2F2026%3A11%2Cb%40c%27&sig=x%2by%3d",
    "/it%27s%28a%29%2C%3a%40%7eb.jpg",
    '/a|b^c{d}"e<f>.jpg?g=h|i',
    "/a%2Fb%20c+d.jpg?e=+f&&g=&h",
    "//a///b.jpg",
    "/a;v=1/b.jpg;c?d;e",
]


@pytest.mark.parametrize("written", WRITTEN)
def test_a_url_is_sent_as_it_was_written(site: str, written: str) -> None:
    assert fetched(f" {site}{written}#part\n").content == written.encode()


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("is_whole", [True, False])
def test_so_is_a_redirects(site: str, written: str, is_whole: bool) -> None:
    if written.startswith("//") and not is_whole:
        written = written[1:]
    Echo.location = f"{site}{written}" if is_whole else written
    assert fetched(f"{site}/to/a").content == written.encode()


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("/a b.jpg?c d", "/a%20b.jpg?c%20d"),
        ("/é.jpg?ü=%2F", "/%C3%A9.jpg?%C3%BC=%2F"),
        ("", "/"),
        ("?a=%2F", "/?a=%2F"),
        ("/x/../a.jpg", "/a.jpg"),
        ("/x/%2e%2e/a.jpg?b=%2F..", "/a.jpg?b=%2F.."),
    ],
)
def test_only_what_a_request_cannot_hold_is_changed(site: str, written: str, sent: str) -> None:
    assert fetched(f"{site}{written}").content == sent.encode()


@pytest.mark.parametrize("written", ["http://[::1", "http://127.0.0.1:port/a", "http:///a.jpg"])
def test_what_cannot_be_parsed_is_no_url(written: str) -> None:
    assert fetched(written).status == "bad_url"

"""Answers of a host that is out of order for a night are in doubt, sound ones are not."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import ClassVar

import pytest

from tests.conftest import literal_config, picture
from tests.support.quiet_server import QuietHandler
from toiletspark.images.fetching import Fetched, Fetcher
from toiletspark.images.fetching.answers import Answer, of_response

JPEG = picture("kitchen", 1)
HTML = b"<!DOCTYPE html>\n<html><body>We are back tomorrow.</body></html>"
LENGTH = {"Content-Length": "1"}


class Night(QuietHandler):
    """/NAME: the answer of that name; without Content-Length the connection ends the body."""

    answers: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {
        "sound": (200, {"Content-Type": "image/jpeg", **LENGTH}, JPEG),
        "binary": (200, {"Content-Type": "binary/octet-stream", **LENGTH}, JPEG),
        "packed": (200, {"Content-Encoding": "gzip", **LENGTH}, gzip.compress(JPEG)),
        "page": (200, {"Content-Type": "text/html; charset=utf-8", **LENGTH}, HTML),
        "page as image": (200, {"Content-Type": "image/jpeg", **LENGTH}, HTML),
        "json": (200, {"Content-Type": "application/json", **LENGTH}, b'{"error": 1}'),
        "no content": (204, {}, b""),
        "not modified": (304, {}, b""),
        "accepted": (202, {"Content-Type": "image/jpeg", **LENGTH}, JPEG),
        "no location": (302, LENGTH, b""),
        "empty": (200, {"Content-Type": "image/jpeg", **LENGTH}, b""),
        "cut": (200, {"Content-Type": "image/jpeg"}, JPEG[:500]),
        "cut packed": (200, {"Content-Encoding": "gzip", **LENGTH}, gzip.compress(JPEG)[:500]),
        "broken packed": (200, {"Content-Encoding": "gzip", **LENGTH}, b"no gzip at all"),
    }

    def do_GET(self) -> None:
        status, headers, body = self.answers[self.path[1:].replace("%20", " ")]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(len(body)) if name == "Content-Length" else value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def night() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Night)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("name", "doubt"),
    [
        ("sound", ""),
        ("binary", ""),
        ("packed", ""),
        ("page", "http 200 html"),
        ("page as image", "http 200 html"),
        ("json", "http 200 application/json"),
        ("no content", "http 204 empty"),
        ("not modified", "http 304 empty"),
        ("accepted", "http 202"),
        ("no location", "http 302 empty"),
        ("empty", "http 200 empty"),
        ("cut", "http 200 no length"),
        ("cut packed", "http 200 cut compression"),
        ("broken packed", "http 200 damaged compression"),
    ],
)
def test_an_answer_is_in_doubt_unless_it_is_whole_and_a_file(
    night: str, name: str, doubt: str
) -> None:
    result = Fetcher(literal_config({"fetch.retries": 0}).fetch).start(f"{night}/{name}").result()
    assert (result.status, result.doubt) == ("ok", doubt)
    if not doubt:
        assert result == Fetched("ok", "", JPEG)


def test_what_a_server_writes_of_itself_is_shortened() -> None:
    headers = {"Content-Type": "text/https://x.example/?secret=" + "a" * 900, **LENGTH}
    doubt = of_response(200, headers, b"x", 10).doubt
    assert doubt.startswith("http 200 text/https?//x.example/?secret?a")
    assert len(doubt) == len("http 200 ") + 60


def test_a_body_in_chunks_is_whole() -> None:
    headers = {"Transfer-Encoding": "chunked"}
    assert of_response(200, headers, JPEG, 10**6) == Answer(JPEG)


def test_what_is_packed_is_unpacked_to_the_cap() -> None:
    headers = {"Content-Encoding": "GZIP", **LENGTH}
    assert of_response(200, headers, gzip.compress(bytes(10**6)), 99) == Answer(bytes(100))

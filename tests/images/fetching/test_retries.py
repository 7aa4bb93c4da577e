"""Retries, their pauses and limits; per-host limits; reuse of connections."""

import os
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import wait
from email.utils import formatdate
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.conftest import literal_config
from tests.support.quiet_server import QuietHandler
from toiletspark.config import Fetch
from toiletspark.images.fetching import Fetched, Fetcher
from toiletspark.images.fetching.failures import FetchError, failure_of
from toiletspark.images.fetching.host_limits import HostLimits, host_of

BASE = literal_config().fetch
QUICK = BASE.model_copy(update={"first_wait_s": 0.001, "max_wait_s": 0.002, "retries": 3})


class Site(QuietHandler):
    """/<answers>/<name>: one answer per request, the last one for ever; "cut" hangs up."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    asked: ClassVar[defaultdict[str, list[float]]] = defaultdict(list)
    connections = 0
    release = threading.Event()
    counting = threading.Lock()

    def setup(self) -> None:
        with Site.counting:
            Site.connections += 1
        super().setup()

    def do_GET(self) -> None:
        name, _, retry_after = self.path.partition("?after=")
        Site.asked[name].append(time.monotonic())
        answers = name.split("/")[1].split("-")
        answer = answers[min(len(Site.asked[name]), len(answers)) - 1]
        if answer == "cut":
            self.close_connection = True
            return
        if answer == "half":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return
        if answer == "hang":
            Site.release.wait(10)
            answer = "200"
        self.send_response(int(answer))
        content = b"here" if answer == "200" else b"no"
        self.send_header("Content-Length", str(len(content)))
        if retry_after:
            self.send_header("Retry-After", retry_after.replace("%20", " "))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def site() -> Iterator[str]:
    Site.asked.clear()
    Site.connections = 0
    Site.release.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    Site.release.set()
    server.shutdown()
    server.server_close()


def fetched(url: str, **limits: Any) -> Fetched:
    return Fetcher(QUICK.model_copy(update=limits)).start(url).result()


# What is tried again


@pytest.mark.parametrize(
    ("answers", "tries", "status", "detail"),
    [
        ("200", 1, "ok", ""),
        ("503-500-429-200", 4, "ok", ""),
        ("cut-half-408-200", 4, "ok", ""),
        ("503", 4, "timeout", "http 503, 4 tries"),
        ("503-404", 2, "missing", "http 404, 2 tries"),
        ("401", 1, "denied", "http 401"),
        ("403", 1, "denied", "http 403"),
        ("404", 1, "missing", "http 404"),
        ("410", 1, "missing", "http 410"),
        ("400", 1, "timeout", "http 400"),
    ],
)
def test_only_what_may_pass_is_asked_again(
    site: str, answers: str, tries: int, status: str, detail: str
) -> None:
    result = fetched(f"{site}/{answers}/a.jpg")
    assert (result.status, result.detail) == (status, detail)
    assert result.content == (b"here" if status == "ok" else None)
    assert len(Site.asked[f"/{answers}/a.jpg"]) == tries


def test_a_body_that_is_cut_off_is_no_image(site: str) -> None:
    assert fetched(f"{site}/half/a.jpg").detail == "ClientPayloadError, 4 tries"


def test_what_is_too_large_is_asked_for_once(site: str) -> None:
    assert fetched(f"{site}/200/a.jpg", max_image_bytes=3) == Fetched("too_large", "over 3 bytes")
    assert len(Site.asked["/200/a.jpg"]) == 1


def test_without_retries_each_image_is_asked_for_once(site: str) -> None:
    assert fetched(f"{site}/503/a.jpg", retries=0) == Fetched("timeout", "http 503")
    assert len(Site.asked["/503/a.jpg"]) == 1


def test_a_refused_connection_is_tried_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert fetched(f"http://127.0.0.1:{port}/a.jpg") == Fetched(
        "timeout", "ClientConnectorError, 4 tries"
    )


def test_a_server_that_hangs_is_asked_again(site: str) -> None:
    assert fetched(f"{site}/hang-200/a.jpg", silence_timeout_s=1.0) == Fetched("ok", "", b"here")
    assert len(Site.asked["/hang-200/a.jpg"]) == 2


def test_retries_end_with_the_time_for_the_image(site: str) -> None:
    result = fetched(f"{site}/hang/a.jpg", silence_timeout_s=0.2, timeout_s=1.5, retries=20)
    assert result.status == "timeout"
    assert "127.0.0.1" not in result.detail
    assert 2 <= len(Site.asked["/hang/a.jpg"]) <= 8  # of 21; there is time for seven


# How long is waited


def waits(retries: int, **limits: float) -> list[float]:
    """The waits that a fetcher draws, without waiting."""
    tries = Fetcher(
        QUICK.model_copy(update={"retries": retries, "timeout_s": 1e6, **limits})
    )._image
    drawn: list[float] = []
    with pytest.raises(FetchError):
        tries.copy(sleep=drawn.append)(_always_busy)
    return drawn


def _always_busy() -> None:
    raise FetchError("timeout", "http 503", retryable=True)


def test_waits_are_drawn_below_a_bound_that_doubles() -> None:
    bounds = [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    drawn = [waits(6, first_wait_s=0.5, max_wait_s=8.0) for _ in range(200)]
    for number, bound in enumerate(bounds):
        column = [row[number] for row in drawn]
        assert 0 <= min(column) < 0.2 * bound  # so that workers do not come back in step ...
        assert 0.8 * bound < max(column) <= bound


def test_the_server_says_how_long_to_wait(site: str) -> None:
    assert fetched(f"{site}/429-200/a.jpg?after=1").status == "ok"
    first, second = Site.asked["/429-200/a.jpg"]
    assert second - first >= 1


def test_who_is_told_to_come_back_too_late_gives_up_at_once(site: str) -> None:
    assert fetched(f"{site}/503-200/a.jpg?after=3600") == Fetched("timeout", "http 503")
    assert len(Site.asked["/503-200/a.jpg"]) == 1


ABSURD = [
    "Mon, 01 Jan 99999999999 00:00:00 GMT",
    "Mon, 01 Jan 2040 99999999999:00:00 GMT",
    "Mon, 01 Jan 2040 00:00:00 +99999999999",
    "Mon, 01 Jan 0001 00:00:00 +2359",
    "9" * 5_000 + " Jan 2040",
    ",",
]


class AnswerError(Exception):
    def __init__(self, retry_after: str) -> None:
        self.status = 503
        self.headers = {"RETRY-after": retry_after}


@pytest.mark.parametrize(
    ("retry_after", "low", "high"),
    [
        *[
            ("2", 2, 2),
            ("0.5", 0.5, 0.5),
            ("-3", 0, 0),
            ("soon", 0, 0),
            ("", 0, 0),
            (formatdate(0, usegmt=True), 0, 0),
        ],
        *[
            ("inf", 0, 0),
            ("-inf", 0, 0),
            ("nan", 0, 0),
            ("1e999", 0, 0),
            *((date, 0, 0) for date in ABSURD),
        ],
    ],
)
def test_retry_after_is_seconds_or_nothing(retry_after: str, low: float, high: float) -> None:
    assert low <= failure_of(AnswerError(retry_after)).retry_after_s <= high


@pytest.mark.parametrize("retry_after", ["inf", "nan", ABSURD[0]])
def test_an_absurd_retry_after_is_as_none(site: str, retry_after: str) -> None:
    assert (
        fetched(f"{site}/503/a.jpg?after={retry_after.replace(' ', '%20')}").detail
        == "http 503, 4 tries"
    )


def test_what_nobody_thought_of_is_a_status(monkeypatch: pytest.MonkeyPatch, site: str) -> None:
    def broken(error: Exception) -> FetchError:
        raise OverflowError(site)

    monkeypatch.setattr("toiletspark.images.fetching.fetcher.failure_of", broken)
    assert fetched(f"{site}/404/a.jpg") == Fetched("timeout", "OverflowError")
    monkeypatch.setattr("toiletspark.images.fetching.fetcher.shard_of", broken)
    assert fetched(f"{site}/200/a.jpg") == Fetched("timeout", "OverflowError")


def test_retry_after_may_be_a_date() -> None:
    failure = failure_of(AnswerError(formatdate(time.time() + 100, usegmt=True)))
    assert 90 < failure.retry_after_s <= 100
    assert failure.retryable


# Hosts


def test_a_host_has_no_more_than_its_places() -> None:
    lanes: HostLimits[int] = HostLimits(threads=8, max_per_host=3)
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    lock = threading.Lock()

    def work(host: str, number: int) -> int:
        with lock:
            running[host] += 1
            most[host] = max(most[host], running[host])
        time.sleep(0.002)
        with lock:
            running[host] -= 1
        return number

    started = [
        lanes.start(f"host {n % 2}", lambda n=n: work(f"host {n % 2}", n)) for n in range(60)
    ]  # type: ignore[misc]
    assert [one.result() for one in started] == list(range(60))
    assert most == {"host 0": 3, "host 1": 3}
    wait([lanes.start("", lambda: 0)])
    assert not lanes._queues
    assert not +lanes._running


def test_this_machine_has_all_threads() -> None:
    together = threading.Barrier(4, timeout=10)
    lanes: HostLimits[int] = HostLimits(threads=4, max_per_host=1)
    started = [lanes.start("", together.wait) for _ in range(4)]
    assert sorted(one.result() for one in started) == [0, 1, 2, 3]


def test_what_fails_in_a_lane_is_told_and_frees_its_place() -> None:
    lanes: HostLimits[float] = HostLimits(threads=2, max_per_host=1)
    broken = lanes.start("a", lambda: 1 / 0)
    sound = lanes.start("a", lambda: 1.0)
    assert sound.result(10) == 1.0
    with pytest.raises(ZeroDivisionError):
        broken.result()


def test_a_host_that_hangs_holds_up_nobody_else(site: str, tmp_path: Path) -> None:
    port = site.rpartition(":")[2]
    (tmp_path / "a.jpg").write_bytes(b"file")
    fetcher = Fetcher(QUICK.model_copy(update={"threads_per_task": 4, "max_per_host": 2}))
    stuck = [fetcher.start(f"http://localhost:{port}/hang/{number}") for number in range(30)]
    # 127.0.0.1 is another host
    assert fetcher.start(f"{site}/200/a.jpg").result(5) == Fetched("ok", "", b"here")
    assert fetcher.start(str(tmp_path / "a.jpg")).result(5).content == b"file"
    assert not any(one.done() for one in stuck)
    Site.release.set()
    assert {one.result(10).status for one in stuck} == {"ok"}


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("http://Example.com/a.jpg", "example.com"),
        ("https://user:secret@example.com:8443/a@b.jpg", "example.com:8443"),
        ("s3://bucket/a.jpg", "bucket"),
        ("tar://kitchen/a.jpg::s3://bucket/1.tar", "bucket"),
        ("parquet://http://key::https://example.com/1.parquet", "example.com"),
        ("/photos/a.jpg", ""),
        ("file:///photos/a.jpg", ""),
        ("tar://a.jpg::/photos/1.tar", ""),
        ("", ""),
        ("https://img.example.com?sig=SECRET", "img.example.com"),
        ("https://img.example.com?1", "img.example.com"),
        ("https://img.example.com.#SECRET@h", "img.example.com"),
        ("https://img.example.com\\SECRET@h/x", "img.example.com"),
        (
            "https://u:p/w@h/x",
            "",
        ),  # a host without a port that is one; what else could tell a half word
        ("https://u:p@w@h/x", "h"),
        ("https://u:SECRET@h:port/x", ""),
        ("https://SECRET h/x", ""),
        ("https://[2606:4700::1]:8443/a.jpg", "[2606:4700::1]:8443"),
        ("https://u:p@[2606:4700::1]/a.jpg", "[2606:4700::1]"),
        ("tar://a.jpg::https://[2606:4700::1]/1.tar?sig=SECRET", "[2606:4700::1]"),
        ("https://img.example.com/a::https://other.example.com/b", "img.example.com"),
        ("https://b\u00fccher.example/a.jpg", "b\u00fccher.example"),
        ("abfss://photos@account.dfs.core.windows.net/a.jpg", "account.dfs.core.windows.net"),
    ],
)
def test_the_host_of_a_location(location: str, host: str) -> None:
    assert host_of(location) == host


# Connections and processes


def test_connections_are_used_again(site: str) -> None:
    fetcher = Fetcher(QUICK.model_copy(update={"max_per_host": 4}))
    for _ in range(3):
        assert {one.status for one in fetcher.fetch([f"{site}/200/{n}" for n in range(40)])} == {
            "ok"
        }
    assert len(Site.asked) == 40
    assert 1 <= Site.connections <= 4


def test_a_fetcher_made_before_a_fork_works_after_it(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"file")
    fetcher = Fetcher(QUICK)
    assert fetcher.start(str(tmp_path / "a.jpg")).result().status == "ok"
    child = os.fork()
    if not child:
        os._exit(0 if fetcher.start(str(tmp_path / "a.jpg")).result(10).content == b"file" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_limits_of_base_toml_let_retries_happen() -> None:
    limits: Fetch = BASE
    assert limits.silence_timeout_s * 2 < limits.timeout_s
    assert limits.max_per_host < limits.threads_per_task

"""A host that does not answer costs a worker a bounded time, whatever its number of images."""

from __future__ import annotations

import socket
from collections import Counter

import pytest

from tests.conftest import literal_config
from toiletspark.images.fetching import Fetcher, silent_hosts
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.silent_hosts import SilentHosts

SILENT = FetchError("timeout", "over 20 s")


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(silent_hosts, "time", made)
    return made


def failing(hosts: SilentHosts, clock: Clock, images: int, times: int, by_s: float) -> None:
    for number in range(times):
        assert hosts.may_ask("a")
        clock.now += by_s
        hosts.note("a", str(number % images), SILENT)


def test_a_host_is_given_up_after_several_images_and_some_time(clock: Clock) -> None:
    hosts = SilentHosts(10.0)
    failing(hosts, clock, images=3, times=3, by_s=6.0)
    assert not hosts.may_ask("a")
    assert hosts.may_ask("b")


@pytest.mark.parametrize(("images", "times", "by_s"), [(1, 9, 6.0), (2, 9, 6.0), (9, 9, 1.0)])
def test_one_odd_image_and_a_short_break_do_not_count(
    clock: Clock, images: int, times: int, by_s: float
) -> None:
    hosts = SilentHosts(10.0)
    failing(hosts, clock, images, times, by_s)
    assert hosts.may_ask("a")


def test_once_a_minute_one_image_tries_again(clock: Clock) -> None:
    hosts = SilentHosts(10.0)
    failing(hosts, clock, images=3, times=3, by_s=6.0)
    clock.now += 61
    assert [hosts.may_ask("a") for _ in range(3)] == [True, False, False]
    hosts.note("a", "9", SILENT)
    assert not hosts.may_ask("a")
    clock.now += 61
    assert hosts.may_ask("a")
    hosts.note("a", "9", None)
    assert [hosts.may_ask("a") for _ in range(3)] == [True, True, True]


@pytest.mark.parametrize(
    ("failure", "is_silence"),
    [
        (None, False),
        (FetchError("missing", "http 404"), False),
        (FetchError("timeout", "http 500"), False),
        (FetchError("timeout", "http 429"), False),
        (FetchError("timeout", "certificate: certificate has expired"), False),
        (FetchError("refused", "address"), False),
        (FetchError("timeout", "http 503"), True),
        (FetchError("timeout", "ClientConnectorError"), True),
        (FetchError("timeout", "SocketTimeoutError"), True),
    ],
)
def test_any_answer_ends_the_silence(
    clock: Clock, failure: FetchError | None, is_silence: bool
) -> None:
    hosts = SilentHosts(10.0)
    failing(hosts, clock, images=2, times=4, by_s=6.0)
    hosts.note("a", "new", failure)
    assert hosts.may_ask("a") == (not is_silence)


def test_local_files_are_never_given_up(clock: Clock) -> None:
    hosts = SilentHosts(0.0)
    for number in range(9):
        hosts.note("", str(number), SILENT)
    assert hosts.may_ask("")


def test_most_images_of_a_host_that_hangs_are_not_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections, and never answers
        update = {"timeout_s": 1.0, "silence_timeout_s": 0.3, "max_per_host": 6}
        limits = literal_config().fetch.model_copy(update=update)
        urls = [f"http://127.0.0.1:{mute.getsockname()[1]}/{number}" for number in range(100)]
        result = Fetcher(limits).fetch(urls)
    assert {one.status for one in result} == {"timeout"}
    at_once = Counter(one.detail for one in result)["host did not answer"]
    assert at_once >= 80

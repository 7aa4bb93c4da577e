"""Fetches many images at once: each within a deadline, with retries, and never an exception."""

import os
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

import tenacity

from toiletspark.config import Fetch
from toiletspark.images.fetching.answers import Answer
from toiletspark.images.fetching.failures import FetchError, failure_of
from toiletspark.images.fetching.host_limits import HostLimits, host_of
from toiletspark.images.fetching.shards import shard_of
from toiletspark.images.fetching.silent_hosts import SilentHosts
from toiletspark.images.fetching.stores import Stores


@dataclass(frozen=True)
class Fetched:
    """`content` if status is ok, else None. `detail` never holds a URL: URLs carry secrets.

    `doubt` is the reason why the content may not be the whole file, see `answers`.
    """

    status: str
    detail: str = ""
    content: bytes | None = None
    doubt: str = ""


class Fetcher:
    """Fetches in threads. Make one per Python worker, because it keeps connections and shards."""

    def __init__(self, limits: Fetch) -> None:
        self.limits = limits
        self._image = self._retrying(limits.timeout_s)
        self._member = self._retrying(limits.shard_timeout_s)
        self._process = 0

    def start(self, url: str | None) -> Future[Fetched]:
        """Queues a path, a URL that fsspec opens or a shard's member, and returns at once.

        A failure is a status, never an exception; None and "" are missing. Blanks around it do not
        matter.
        """
        url = (url or "").strip()
        if self._process != os.getpid():  # threads and connections do not survive a fork
            self._process = os.getpid()
            self._stores = Stores(self.limits)
            self._silent_hosts = SilentHosts(self.limits.timeout_s / 2)
            self._threads: HostLimits[Fetched]
            self._threads = HostLimits(self.limits.threads_per_task, self.limits.max_per_host)
        return self._threads.start(host_of(url), lambda: self._fetch_one(url))

    def fetch(self, urls: Iterable[str | None]) -> list[Fetched]:
        """Fetches each URL, see `start`; one outcome per URL, in order."""
        futures = [self.start(url) for url in urls]
        return [future.result() for future in futures]

    def fetch_all(
        self, urls: Iterable[str | None], contents: Iterable[bytes | None]
    ) -> list[Fetched]:
        """Takes inline bytes, and fetches the others (None); one outcome per image, in order."""
        pairs = list(zip(urls, contents, strict=True))
        fetched = iter(self.fetch([url for url, content in pairs if content is None]))
        return [next(fetched) if content is None else self.inline(content) for _, content in pairs]

    def inline(self, content: bytes | None) -> Fetched:
        """Returns the outcome for inline bytes; None: they were too many to be passed on."""
        limit = self.limits.max_image_bytes
        if content is None or len(content) > limit:
            return Fetched("too_large", f"over {limit} bytes")
        return Fetched("ok", "", content)

    def _fetch_one(self, url: str) -> Fetched:
        if not url:
            return Fetched("missing", "no image_url")
        try:
            return self._outcome(url)
        except Exception as error:  # noqa: BLE001 - a defect of ours costs this image, not the job
            return Fetched("timeout", type(error).__name__)

    def _outcome(self, url: str) -> Fetched:
        if shard_of(url):
            retrying, within_s = self._member, self.limits.shard_timeout_s
        else:
            retrying, within_s = self._image, self.limits.timeout_s
        try:
            answer = retrying(self._read, url, time.monotonic() + within_s, within_s)
        except FetchError as failure:
            tries = retrying.statistics["attempt_number"]  # of this thread's last call
            suffix = f", {tries} tries" if tries > 1 else ""
            return Fetched(failure.status, failure.detail + suffix)
        return Fetched("ok", "", answer.content, answer.doubt)

    def _read(self, url: str, deadline: float, within_s: float) -> Answer:
        host = host_of(url)
        if not self._silent_hosts.may_ask(host):
            raise FetchError("timeout", "host did not answer")
        try:
            answer = self._stores.read(url, deadline)
        except Exception as error:  # noqa: BLE001 - every store's client has its own errors
            failure = failure_of(error)
            if failure.status == "timeout" and time.monotonic() > deadline:
                failure = FetchError("timeout", f"over {within_s:g} s")
            self._silent_hosts.note(host, url, failure)
            raise failure from None
        self._silent_hosts.note(host, url, None)
        return answer

    def _retrying(self, within_s: float) -> tenacity.Retrying:
        attempts = tenacity.stop_after_attempt(self.limits.retries + 1)
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_retryable),
            wait=self._wait_s,
            stop=attempts | tenacity.stop_before_delay(within_s),
            reraise=True,
        )

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """Random exponential backoff, but never shorter than the server's Retry-After."""
        backoff = tenacity.wait_random_exponential(self.limits.first_wait_s, self.limits.max_wait_s)
        failure = state.outcome.exception() if state.outcome else None
        pause_s = failure.retry_after_s if isinstance(failure, FetchError) else 0.0
        return max(backoff(state), pause_s)


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, FetchError) and error.retryable

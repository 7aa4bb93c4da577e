"""Fetching many images at once: each within a deadline, some of them again, and none as an exception."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass

import tenacity

from toiletspark.config import Fetch
from toiletspark.images.fetching.failures import FetchError, failure_of
from toiletspark.images.fetching.host_limits import HostLimits, host_of
from toiletspark.images.fetching.shards import shard_of
from toiletspark.images.fetching.stores import Stores


@dataclass(frozen=True)
class Fetched:
    """`content` if status is ok, else None. detail is a short code and never holds a URL: URLs carry secrets."""

    status: str
    detail: str = ""
    content: bytes | None = None


class Fetcher:
    """Fetches with a few threads; made once per Python worker, because stores keep connections and shards."""

    def __init__(self, limits: Fetch) -> None:
        self.limits = limits
        self._image, self._member = (
            self._tries(limits.timeout_s),
            self._tries(limits.shard_timeout_s),
        )
        self._process = 0

    def start(self, url: str | None) -> Future[Fetched]:
        """Begins to fetch one image, or has it wait for a thread, and returns at once.

        Args:
            url: a path, a URL that fsspec opens, or a shard's member; None and "" are missing.

        Returns:
            The outcome to come. A URL that cannot be had is a status, never an exception.
        """
        if (
            self._process != os.getpid()
        ):  # new, or forked: threads and connections stay behind in the parent
            self._process = os.getpid()
            self._stores = Stores(self.limits)
            self._lanes: HostLimits[Fetched] = HostLimits(
                self.limits.threads_per_task, self.limits.max_per_host
            )
        return self._lanes.start(host_of(url or ""), lambda: self._fetch_one(url))

    def fetch(self, urls: Iterable[str | None]) -> list[Fetched]:
        """Fetches each URL, as `start` does.

        Returns:
            One outcome per URL, in order.
        """
        started = [self.start(url) for url in urls]
        return [one.result() for one in started]

    def fetch_all(
        self, urls: Iterable[str | None], contents: Iterable[bytes | None]
    ) -> list[Fetched]:
        """Takes inline bytes as they are, under the same cap, and fetches where there are none.

        Args:
            urls: one per image.
            contents: one per image, None where the URL is to be fetched.

        Returns:
            One outcome per image, in order.
        """
        pairs = list(zip(urls, contents, strict=True))
        fetched = iter(self.fetch([url for url, content in pairs if content is None]))
        return [next(fetched) if content is None else self.inline(content) for _, content in pairs]

    def inline(self, content: bytes) -> Fetched:
        """The outcome for bytes that stood in the table."""
        limit = self.limits.max_image_bytes
        return (
            Fetched("ok", "", content)
            if len(content) <= limit
            else Fetched("too_large", f"over {limit} bytes")
        )

    def _fetch_one(self, url: str | None) -> Fetched:
        try:
            return self._outcome(url) if url else Fetched("missing", "no image_url")
        except Exception as error:  # noqa: BLE001 - a defect of ours costs this image, not the job
            return Fetched("timeout", type(error).__name__)

    def _outcome(self, url: str) -> Fetched:
        in_shard = bool(shard_of(url))
        within_s = self.limits.shard_timeout_s if in_shard else self.limits.timeout_s
        tries = self._member if in_shard else self._image
        try:
            return Fetched("ok", "", tries(self._try, url, time.monotonic() + within_s, within_s))
        except FetchError as failure:
            number = tries.statistics["attempt_number"]  # of this thread's last call
            return Fetched(
                failure.status, failure.detail + (f", {number} tries" if number > 1 else "")
            )

    def _try(self, url: str, deadline: float, within_s: float) -> bytes:
        try:
            return self._stores.read(url, deadline)
        except Exception as error:  # noqa: BLE001 - every store's client raises its own kinds; each is a row
            failure = failure_of(error)
            if failure.status == "timeout" and time.monotonic() > deadline:
                failure = FetchError("timeout", f"over {within_s:g} s")
            raise failure from None

    def _tries(self, within_s: float) -> tenacity.Retrying:
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, FetchError) and error.again
            ),
            wait=self._wait_s,
            stop=tenacity.stop_after_attempt(self.limits.retries + 1)
            | tenacity.stop_before_delay(within_s),
            reraise=True,
        )

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """Between nothing and a bound that doubles, at random; but never shorter than the server asked for."""
        drawn = tenacity.wait_random_exponential(self.limits.first_wait_s, self.limits.max_wait_s)(
            state
        )
        failure = state.outcome.exception() if state.outcome else None
        return max(drawn, failure.after_s) if isinstance(failure, FetchError) else drawn

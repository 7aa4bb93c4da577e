"""http(s): URLs are judged before they are asked for, addresses before they are dialled, redirects as URLs are.

A name is resolved once for a connection; what is dialled are the addresses that were judged. fsspec's file system of
http keeps the session and reads shards through it, so that images and shards obey the same rules. It reads a range as
far as a server sends, so that the session sees to it that nobody sends more than was asked for.
"""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from fsspec.implementations.http import HTTPFileSystem
from yarl import URL

from toiletspark.config import Fetch
from toiletspark.images.fetching.allow_rules import AllowRules
from toiletspark.images.fetching.failures import FetchError
from toiletspark.images.fetching.ip_addresses import Networks
from toiletspark.images.fetching.reading import DEADLINE

_REDIRECTS = (301, 302, 303, 307, 308)
_PARTIAL, _ERRORS = 206, 400
_RANGE = re.compile(
    r"bytes=(?P<first>[0-9]+)-(?P<last>[0-9]+)"
)  # all that `read_range` and fsspec's files ask for
_FOR_ALL_HOSTS = {
    "accept",
    "accept-encoding",
    "range",
    "user-agent",
}  # what goes along when another host is asked
_NEVER_ROUND_S = (
    1e9  # aiohttp would round deadlines of more than five seconds up to the next second
)
_RESOLVING_THREADS = 32  # a name server that does not answer holds one for half a minute


def filesystem(limits: Fetch, places: AllowRules, networks: Networks) -> HTTPFileSystem:
    """fsspec's file system of http over a session that obeys the rules; the session is opened with its first use."""
    told = {**limits.storage_options.get("http", {}), **limits.storage_options.get("https", {})}

    async def client(loop: asyncio.AbstractEventLoop, **told_client: Any) -> Session:
        return Session(limits, places, networks, told_client)

    return HTTPFileSystem(
        **{**told, "get_client": client, "skip_instance_cache": True, "use_listings_cache": False}
    )


class Session:
    """As much of `aiohttp.ClientSession` as fsspec and `stores` use.

    Args:
        limits: timeouts and the number of redirects.
        places: judges URLs.
        networks: judges addresses.
        told: the user's arguments for `ClientSession`; its connector, cookie jar and proxies are not the environment's
            or theirs to choose.
    """

    def __init__(
        self, limits: Fetch, places: AllowRules, networks: Networks, told: dict[str, Any]
    ) -> None:
        self._limits, self._places = limits, places
        self._told: dict[str, Any] = {
            name: told[name] for name in ("headers", "auth", "cookies") if name in told
        }
        rest = {name: value for name, value in told.items() if name not in self._told}
        ours: dict[str, Any] = {
            "connector": _connector(networks),
            "cookie_jar": aiohttp.DummyCookieJar(),
            "trust_env": False,
        }
        rest |= {**ours, "auto_decompress": False, "response_class": _Answer}
        self._session = aiohttp.ClientSession(**rest)
        self._connector = ours[
            "connector"
        ]  # what fsspec closes where the loop is past closing sessions

    def get(self, url: str | URL, **options: Any) -> _Asked:
        """What GET brings, after redirects."""
        return _Asked(self._ask("GET", URL(url), options))

    def head(self, url: str | URL, **options: Any) -> _Asked:
        """What HEAD brings, after redirects."""
        return _Asked(self._ask("HEAD", URL(url), options))

    async def close(self) -> None:
        """Hangs up."""
        await self._session.close()

    async def _ask(self, method: str, url: URL, options: dict[str, Any]) -> aiohttp.ClientResponse:
        headers = {
            **self._told.get("headers", {}),
            **options.get("headers", {}),
            "Accept-Encoding": "identity",
        }
        options = {**self._told, **options, "headers": headers, "allow_redirects": False}
        for hop in range(self._limits.max_redirects + 1):
            try:
                self._places.of_web(url)
                answer = await self._session.request(
                    method, url, timeout=self._timeout(), **options
                )
            except FetchError as failure:
                raise FetchError("refused", "redirect" if hop else failure.detail) from None
            location = answer.headers.get("Location")
            if answer.status not in _REDIRECTS or location is None:
                return _of_range(answer, headers.get("Range"))
            answer.release()
            following = self._following(url, location)
            if following.origin() != url.origin():
                options = _for_another_host(options)
            url = following
        raise FetchError("refused", "redirect")

    def _following(self, url: URL, location: str) -> URL:
        try:
            following = url.join(URL(location))
            self._places.judge(str(following) if "\\" not in location else location)
            following.origin()  # which a file has not, though one may be named, nor a URL without a host
            return following.with_fragment(None)
        except (ValueError, FetchError):
            raise FetchError("refused", "redirect") from None

    def _timeout(self) -> aiohttp.ClientTimeout:
        silence_s = self._limits.silence_timeout_s
        left_s = DEADLINE.get(time.monotonic() + self._limits.shard_timeout_s) - time.monotonic()
        return aiohttp.ClientTimeout(
            total=max(left_s, 0.001),
            sock_connect=silence_s,
            sock_read=silence_s,
            ceil_threshold=_NEVER_ROUND_S,
        )


class _Answer(aiohttp.ClientResponse):
    """An answer that is read no further than it was asked for.

    Attributes:
        most_bytes: of a range; None: all there is.
    """

    most_bytes: int | None = None

    async def read(self) -> bytes:
        """The body, but for that of an error, which nobody looks at.

        Raises:
            FetchError: it is longer than the range that was asked for.
        """
        if self.status >= _ERRORS:
            return b""
        if self.most_bytes is None:
            return await super().read()
        pieces = []
        async for piece in self.content.iter_any():
            pieces.append(piece)
            self.most_bytes -= len(piece)
            if self.most_bytes < 0:
                raise _no_ranges(self)
        return b"".join(pieces)


def _of_range(answer: aiohttp.ClientResponse, asked: str | None) -> aiohttp.ClientResponse:
    """The answer, which says that it is the range that was asked for, or says what is wrong."""
    found = _RANGE.fullmatch(asked or "")
    if not found or answer.status >= _ERRORS or not isinstance(answer, _Answer):
        return answer
    answer.most_bytes = int(found["last"]) - int(found["first"]) + 1
    if answer.status != _PARTIAL or (answer.content_length or 0) > answer.most_bytes:
        raise _no_ranges(answer)
    return answer


def _no_ranges(answer: aiohttp.ClientResponse) -> FetchError:
    answer.close()  # what comes may have no end
    return FetchError("missing", "no ranges")


class _Asked:
    """An answer to come; as aiohttp's, it can be awaited or entered."""

    def __init__(self, asked: Coroutine[Any, Any, aiohttp.ClientResponse]) -> None:
        self._asked = asked

    def __await__(self) -> Generator[Any, Any, aiohttp.ClientResponse]:
        return self._asked.__await__()

    async def __aenter__(self) -> aiohttp.ClientResponse:
        self._answer = await self._asked
        return self._answer

    async def __aexit__(self, *_: object) -> None:
        self._answer.release()


class Resolver(AbstractResolver):
    """The addresses behind a name, without those that may not be dialled; in threads of its own."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._threads = ThreadPoolExecutor(_RESOLVING_THREADS, "resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """As `aiohttp.abc.AbstractResolver` has it.

        Raises:
            FetchError: none of the addresses may be dialled.
            OSError: the name is not known.
        """
        asked = partial(
            socket.getaddrinfo,
            host,
            port,
            family,
            socket.SOCK_STREAM,
            flags=getattr(socket, "AI_ADDRCONFIG", 0),
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, asked)
        numeric = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        permitted = [
            ResolveResult(
                hostname=host,
                host=str(to[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=numeric,
            )
            for kind, _, protocol, _, to in found
            if self._networks.may_dial(str(to[0]))
        ]
        if not permitted:
            raise FetchError("refused", "address")
        return permitted

    async def close(self) -> None:
        """Lets its threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _connector(networks: Networks) -> aiohttp.TCPConnector:
    """Dials what the resolver has judged; and judges once more where sockets are made, which sees all there is."""

    def judged(to: Any) -> socket.socket:
        family, kind, protocol, _, address = to
        if not networks.may_dial(str(address[0])):
            raise FetchError("refused", "address")
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(resolver=Resolver(networks), socket_factory=judged)


def _for_another_host(options: dict[str, Any]) -> dict[str, Any]:
    """What one host was told is not for the next one."""
    kept = {
        name: value for name, value in options["headers"].items() if name.lower() in _FOR_ALL_HOSTS
    }
    return {
        **{name: value for name, value in options.items() if name not in ("auth", "cookies")},
        "headers": kept,
    }

"""An aiohttp session that checks each URL, each redirect and each address that it dials.

A name is resolved once per connection, and only the checked addresses are dialled. fsspec's file
system of http reads images and shards through this session, so that both obey the same rules.
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
from urllib.parse import urljoin

import aiohttp
from aiohttp import ClientResponse
from aiohttp.abc import AbstractResolver, ResolveResult
from fsspec.implementations.http import HTTPFileSystem
from yarl import URL

from toiletspark.config import Fetch
from toiletspark.config.allowed_places import WEB
from toiletspark.images.fetching.allow_rules import AllowRules, url_to_send
from toiletspark.images.fetching.failures import FetchError, no_url
from toiletspark.images.fetching.ip_addresses import Networks
from toiletspark.images.fetching.reading import DEADLINE

_REDIRECTS = (301, 302, 303, 307, 308)
_PARTIAL, _ERRORS = 206, 400
_RANGE = re.compile(r"bytes=(?P<first>[0-9]+)-(?P<last>[0-9]+)")  # the only form that we send
_CREDENTIALS = ("headers", "auth", "cookies")
_PUBLIC_HEADERS = {"accept", "accept-encoding", "range", "user-agent"}  # sent to any other host
_NEVER_ROUND_S = 1e9  # aiohttp would round deadlines of more than five seconds up to a second
_RESOLVING_THREADS = 32  # a name server that does not answer holds one for half a minute


def filesystem(limits: Fetch, rules: AllowRules, networks: Networks) -> HTTPFileSystem:
    """Returns fsspec's file system of http over a `Session`, which opens with its first use."""
    options = {**limits.storage_options.get("http", {}), **limits.storage_options.get("https", {})}

    async def client(loop: asyncio.AbstractEventLoop, **arguments: Any) -> Session:
        return Session(limits, rules, networks, arguments)

    options |= {"get_client": client, "skip_instance_cache": True, "use_listings_cache": False}
    options["encoded"] = True  # the session gets URLs as they were written
    return HTTPFileSystem(**options)


class Session:
    """The part of `aiohttp.ClientSession` that fsspec and `stores` use.

    `arguments` are the user's for `ClientSession`. Connector, cookie jar and proxies are ours, and
    not taken from them or from the environment.
    """

    def __init__(
        self, limits: Fetch, rules: AllowRules, networks: Networks, arguments: dict[str, Any]
    ) -> None:
        self._limits, self._rules = limits, rules
        self._credentials = {key: arguments[key] for key in _CREDENTIALS if key in arguments}
        others = {key: value for key, value in arguments.items() if key not in _CREDENTIALS}
        self._connector = _connector(networks)  # fsspec closes it if the loop has ended
        others |= {
            "connector": self._connector,
            "cookie_jar": aiohttp.DummyCookieJar(),
            "trust_env": False,
            "auto_decompress": False,
            "response_class": _Response,
        }
        self._session = aiohttp.ClientSession(**others)

    def get(self, url: str | URL, **options: Any) -> _PendingResponse:
        """Sends GET, and follows redirects."""
        return _PendingResponse(self._request("GET", str(url), options))

    def head(self, url: str | URL, **options: Any) -> _PendingResponse:
        """Sends HEAD, and follows redirects."""
        return _PendingResponse(self._request("HEAD", str(url), options))

    async def close(self) -> None:
        """Closes all connections."""
        await self._session.close()

    async def _request(self, method: str, text: str, options: dict[str, Any]) -> ClientResponse:
        headers = {**self._credentials.get("headers", {}), **options.get("headers", {})}
        headers["Accept-Encoding"] = "identity"
        options = {**self._credentials, **options, "headers": headers, "allow_redirects": False}
        send = self._session.request
        for hop in range(self._limits.max_redirects + 1):
            try:
                url = self._checked(text)
                response = await send(method, url, timeout=self._timeout(), **options)
            except FetchError:
                if hop:
                    raise FetchError("refused", "redirect") from None
                raise
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None:
                return _with_range(response, headers.get("Range"))
            response.release()
            text, origin = _redirected(url, target)
            if origin != url.origin():
                options = _without_credentials(options)
        raise FetchError("refused", "redirect")

    def _checked(self, text: str) -> URL:
        """The URL to send; FetchError if it may not be fetched, or is no URL."""
        if self._rules.check(text).scheme not in WEB:
            raise FetchError("refused", "scheme")  # a file, which may be allowed by itself
        try:
            url = URL(text)
            self._rules.check_url(url)
            return url_to_send(text, url)
        except ValueError:
            raise no_url() from None

    def _timeout(self) -> aiohttp.ClientTimeout:
        now = time.monotonic()
        left_s = DEADLINE.get(now + self._limits.shard_timeout_s) - now
        return aiohttp.ClientTimeout(
            total=max(left_s, 0.001),
            sock_connect=self._limits.silence_timeout_s,
            sock_read=self._limits.silence_timeout_s,
            ceil_threshold=_NEVER_ROUND_S,
        )


class _Response(ClientResponse):
    """A response that is read no further than the range that was asked for."""

    max_bytes: int | None = None  # of the range; None without one

    async def read(self) -> bytes:
        """Reads the body (b"" for errors); FetchError if it is longer than the range."""
        if self.status >= _ERRORS:
            return b""
        if self.max_bytes is None:
            return await super().read()
        content = bytearray()
        async for chunk in self.content.iter_any():
            content += chunk
            if len(content) > self.max_bytes:
                raise _no_ranges(self)
        return bytes(content)


def _with_range(response: ClientResponse, range_header: str | None) -> ClientResponse:
    """Requires the response to be the range that was asked for, if one was."""
    match = _RANGE.fullmatch(range_header or "")
    if not match or response.status >= _ERRORS or not isinstance(response, _Response):
        return response
    response.max_bytes = int(match["last"]) - int(match["first"]) + 1
    if response.status != _PARTIAL or (response.content_length or 0) > response.max_bytes:
        raise _no_ranges(response)
    return response


def _no_ranges(response: ClientResponse) -> FetchError:
    response.close()  # its body may have no end
    return FetchError("bad_answer", "no ranges")


class _PendingResponse:
    """A response to come; like aiohttp's, it can be awaited or entered."""

    def __init__(self, response: Coroutine[Any, Any, ClientResponse]) -> None:
        self._pending = response

    def __await__(self) -> Generator[Any, Any, ClientResponse]:
        return self._pending.__await__()

    async def __aenter__(self) -> ClientResponse:
        self._response = await self._pending
        return self._response

    async def __aexit__(self, *_: object) -> None:
        self._response.release()


class Resolver(AbstractResolver):
    """Resolves names to the addresses that may be dialled, in threads of its own."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._threads = ThreadPoolExecutor(_RESOLVING_THREADS, "resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Resolves a name; OSError if it is unknown, FetchError if no address may be dialled."""
        hints = getattr(socket, "AI_ADDRCONFIG", 0)
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=hints)
        addresses = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        results = []
        for version, _, proto, _, address in addresses:
            ip = str(address[0])
            if self._networks.may_dial(ip):
                result = ResolveResult(
                    hostname=host, host=ip, port=port, family=version, proto=proto, flags=flags
                )
                results.append(result)
        if not results:
            raise FetchError("refused", "address")
        return results

    async def close(self) -> None:
        """Ends its threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _connector(networks: Networks) -> aiohttp.TCPConnector:
    """Dials the resolver's addresses, and checks once more where sockets are made."""

    def checked(info: Any) -> socket.socket:
        family, socket_type, protocol, _, address = info
        if not networks.may_dial(str(address[0])):
            raise FetchError("refused", "address")
        return socket.socket(family, socket_type, protocol)

    return aiohttp.TCPConnector(resolver=Resolver(networks), socket_factory=checked)


def _redirected(url: URL, target: str) -> tuple[str, URL]:
    """The URL of a redirect as it was written, unchecked, and its origin."""
    try:
        text = urljoin(str(url), target)
        return text, URL(text).origin()
    except ValueError:
        raise FetchError("refused", "redirect") from None


def _without_credentials(options: dict[str, Any]) -> dict[str, Any]:
    """Drops headers, logins and cookies that were meant for the host that redirects."""
    headers = options["headers"]
    public = {name: value for name, value in headers.items() if name.lower() in _PUBLIC_HEADERS}
    others = {name: value for name, value in options.items() if name not in _CREDENTIALS}
    return {**others, "headers": public}

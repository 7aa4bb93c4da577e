"""A web server that serves given files, counts requests, and can delay responses."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class PictureServer:
    """Serves `pictures` by path; whatever is not there is a 404.

    Attributes:
        address: scheme, host and port.
        pictures: path (with its slash) to bytes.
        gets: how often each path was asked for.
        before: called with the path before each answer, in the thread that answers; may wait.
    """

    def __init__(self) -> None:
        self.pictures: dict[str, bytes] = {}
        self.gets: Counter[str] = Counter()
        self.before: Callable[[str], object] = lambda path: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        # ends as soon as asked
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def serve(self, name: str, content: bytes) -> str:
        """Serves a picture from now on; returns its URL."""
        self.pictures[f"/{name}"] = content
        return f"{self.address}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self
        counting = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with counting:
                    site.gets[self.path] += 1
                site.before(self.path)
                content = site.pictures.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # whoever asked was killed meanwhile
                    super().handle()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@contextlib.contextmanager
def served() -> Iterator[PictureServer]:
    """A server for the length of a test."""
    server = PictureServer()
    try:
        yield server
    finally:
        server.close()

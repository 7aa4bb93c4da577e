"""A handler for tests of fetching that logs neither requests nor broken connections."""

import contextlib
from http.server import BaseHTTPRequestHandler


class QuietHandler(BaseHTTPRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # fetchers hang up
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

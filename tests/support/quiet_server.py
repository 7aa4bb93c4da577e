"""What answers in the tests of fetching: a handler that minds neither being hung up on nor being asked."""

import contextlib
from http.server import BaseHTTPRequestHandler


class QuietHandler(BaseHTTPRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # fetchers hang up
            super().handle()

    def log_message(self, *_: object) -> None:
        pass

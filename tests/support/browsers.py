"""A real browser for the tests of pages: Debian's chromium, which is no part of the project.

Where there is none, tests skip and say so. TOILETSPARK_BROWSER names one that must be there, as
.ci/run does once it has seen it: then its absence fails.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The browser's program; skips or fails the test where there is none."""
    named = os.environ.get("TOILETSPARK_BROWSER")
    found = [path for path in map(shutil.which, [named] if named else NAMES) if path]
    if found:
        return found[0]
    if named:
        pytest.fail(f"TOILETSPARK_BROWSER names {named}, which is not there", pytrace=False)
    pytest.skip("there is no chromium on the PATH; on Debian, `make browser` installs it (as root)")


@contextmanager
def launched() -> Iterator[Browser]:
    """A headless browser; without its sandbox, which root cannot have."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """A person at a machine: pages share a profile, and whatever goes wrong is in `trouble`."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.trouble: list[str] = []
        self.warned = 0
        context.add_init_script(
            "document.addEventListener('securitypolicyviolation', (e) => console.error('policy', "
            "e.violatedDirective))"
        )

    def page(self) -> Page:
        """A new tab that notes errors and requests; "leave this page?" is counted and confirmed."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.trouble.append(str(error)))
        page.on(
            "console",
            lambda told: (
                self.trouble.append(told.text) if told.type in ("error", "warning") else None
            ),
        )
        page.on("request", lambda request: self._asked(request.url))
        page.on("dialog", self._leave)
        return page

    def open(self, file: Path) -> Page:
        """A tab with this file, once all of it has been read."""
        page = self.page()
        page.goto(file.as_uri())
        return page

    def _asked(self, url: str) -> None:
        if not url.startswith(("data:", "blob:")) and not (
            url.startswith("file:") and "sheet" in url
        ):
            self.trouble.append(f"asked for {url}")

    def _leave(self, dialog: Any) -> None:
        self.warned += dialog.type == "beforeunload"
        dialog.accept()

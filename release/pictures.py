"""Makes the pictures of docs/: runs the demo and photographs its run page in headless Chromium (`make pictures`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MAX_BYTES = 200_000
_WIDTH_PX, _HEIGHT_PX = 1100, 1000


def main() -> None:
    """Writes docs/pictures/run-page.png; ends with a message if it is too large or there is no browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(
            "there is no chromium on the PATH; on Debian, `make browser` installs it (as root)"
        )
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = run_demo(Path(folder))
        picture = PICTURES / "run-page.png"
        photograph(browser, page, picture)
    reduce_colours(picture)
    size = picture.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{picture} has {size} bytes, more than {MAX_BYTES}")
    print(f"{picture}: {size} bytes")


def run_demo(folder: Path) -> Path:
    """Runs the demo below a folder; returns its run page."""
    command = ["demo", "--folder", str(folder / "demo"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "toiletspark.jobs.cli", *command],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Path(json.loads(done.stdout.splitlines()[-1])["report"])


def photograph(browser: str, page: Path, picture: Path) -> None:
    """Saves the upper part of a page as a PNG."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": _WIDTH_PX, "height": _HEIGHT_PX})
        tab.goto(page.as_uri())
        tab.screenshot(path=picture)
        chromium.close()


def reduce_colours(picture: Path) -> None:
    """Saves a PNG with 256 colours, a third of the size."""
    with Image.open(picture) as full:
        full.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT).save(
            picture, optimize=True
        )


if __name__ == "__main__":
    main()

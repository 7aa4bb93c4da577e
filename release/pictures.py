"""Makes the pictures of docs/ (`make pictures`): photographs the demo's run page in Chromium."""

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
SECTIONS = ("The run in numbers", "How often the head is right", "Excluded")
_WIDTH_PX, _HEIGHT_PX = 1100, 1270
# removes the sections that are not wanted, but no warning; returns the number of wanted ones
_KEEP_SECTIONS = """wanted => [...document.querySelectorAll('section')].filter(section => {
    const heading = section.querySelector('h2').textContent.trim();
    const stays = wanted.some(start => heading.startsWith(start));
    if (!stays && !section.matches('.warnings')) section.remove();
    return stays;
}).length"""


def main() -> None:
    """Writes docs/pictures/run-page.png.

    Ends with a message if it is too large, or if there is no browser.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(
            "there is no chromium on the PATH; on Debian, `make browser` installs it (as root)"
        )
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page = run_demo(Path(folder), sys.argv[1:])
        picture = PICTURES / "run-page.png"
        photograph(browser, page, picture)
    reduce_colours(picture)
    size = picture.stat().st_size
    if size > MAX_BYTES:
        sys.exit(f"{picture} has {size} bytes, more than {MAX_BYTES}")
    print(f"{picture}: {size} bytes")


def run_demo(folder: Path, sets: list[str]) -> Path:
    """Runs the demo below a folder, with keys as --set takes them; returns its run page."""
    command = ["demo", "--folder", str(folder / "demo"), "--json"]
    command += [f"--set={key}" for key in sets]
    done = subprocess.run(
        [sys.executable, "-m", "toiletspark.jobs.cli", *command],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Path(json.loads(done.stdout.splitlines()[-1])["report"])


def photograph(browser: str, page: Path, picture: Path) -> None:
    """Saves the wanted sections of a page, as far as they fit, as a PNG."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        tab = chromium.new_page(viewport={"width": _WIDTH_PX, "height": _HEIGHT_PX})
        tab.goto(page.as_uri())
        sections = tab.evaluate(_KEEP_SECTIONS, list(SECTIONS))
        tab.screenshot(path=picture)
        chromium.close()
    if sections != len(SECTIONS):
        sys.exit(f"{page} should have the sections {SECTIONS}; {sections} of them are there")


def reduce_colours(picture: Path) -> None:
    """Saves a PNG with 256 colours, a third of the size."""
    with Image.open(picture) as full:
        full.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT).save(
            picture, optimize=True
        )


if __name__ == "__main__":
    main()

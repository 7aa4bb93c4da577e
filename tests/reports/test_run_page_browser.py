"""The run page in a real browser: whole thumbnails, and no page wider than the screen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.conftest import picture
from tests.reports.test_run_page import card, page
from tests.support.browsers import launched
from toiletspark.reports.run_page.page import render

SIZES_PX = [(64, 48), (48, 64), (200, 20), (20, 200), (8, 8), (400, 300)]
# thumbnails of which a part lies outside of their frame, by more than a rounding
CUT = """() => [...document.querySelectorAll('.frame img')].filter((image) => {
  const [inner, outer] = [image, image.parentElement].map((e) => e.getBoundingClientRect());
  return inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1 ||
    inner.left < outer.left - 1 || inner.right > outer.right + 1;
}).map((image) => image.alt)"""


@pytest.mark.parametrize("width_px", [390, 1400])
def test_every_thumbnail_is_whole_and_the_page_fits_the_screen(
    tmp_path: Path, width_px: int
) -> None:
    cards = [
        dataclasses.replace(card(), image_id=f"{size}", thumbnail_jpeg=picture(size_px=size))
        for size in SIZES_PX
    ]
    file = tmp_path / "page.html"
    file.write_text(render(page(excluded=cards)))
    with launched() as browser:
        tab = browser.new_page(viewport={"width": width_px, "height": 900})
        tab.goto(file.as_uri())
        assert tab.locator(".frame img").count() >= len(SIZES_PX)
        assert tab.evaluate(CUT) == []
        assert tab.evaluate("document.documentElement.scrollWidth") <= width_px

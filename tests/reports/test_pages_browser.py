"""Every page in a real browser, on a phone and on a desk: whole pictures and words, no overflow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.conftest import picture
from tests.reports import test_head_page as head_page
from tests.reports import test_plan_page as plan_page
from tests.reports import test_run_page as run_page
from tests.reports import test_run_page_version as version
from tests.reports import test_sample_page as sample_page
from tests.support.browsers import launched
from tests.support.sheets import tiles
from tests.training.test_evaluate import CONFIG, HEAD, SAMPLE, examples
from toiletspark.publishing.audits.checks import Check
from toiletspark.reports.contact_sheet import page as contact_sheet
from toiletspark.reports.head_page.page import render as render_head
from toiletspark.reports.html import ImageCard
from toiletspark.reports.plan_page.page import LEAVING
from toiletspark.reports.plan_page.page import render as render_plan
from toiletspark.reports.run_page.page import render as render_run
from toiletspark.reports.sample_page.page import render as render_sample
from toiletspark.training.evaluation.evaluate import evaluate

SIZES_PX = [(64, 48), (48, 64), (200, 20), (20, 200), (8, 8), (400, 300)]
STRATUM = "Charlottenburg-Wilmersdorf | holiday_apartment | furnished"
CHECKS = [
    Check(
        "rate_of_change.excluded",
        "a share of excluded images within a factor of 2 of the last versions' "
        "(publish.audits.max_change_excluded)",
        "3.21 % (128 of 3,987) after 1.04 % in all; 2 of 9 strata break it, as in "
        f"{STRATUM}: 12.3 % (61 of 496) after 1.2 %",
        False,
        accepted="a new head, looked at",
    ),
    *version.AUDITS,
]
# pictures of which a part lies outside of what holds them, by more than a rounding
CUT_PICTURES = """() => [...document.querySelectorAll('img')].filter((image) => {
  const [inner, outer] = [image, image.parentElement].map((e) => e.getBoundingClientRect());
  return inner.width > 0 && (inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1 ||
    inner.left < outer.left - 1 || inner.right > outer.right + 1);
}).map((image) => image.alt)"""
# words of tables that stand on two lines, or reach out of their cell
BROKEN_WORDS = r"""() => {
  const broken = [];
  for (const cell of document.querySelectorAll('th, td')) {
    const within = cell.getBoundingClientRect();
    const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      if (texts.currentNode.parentElement.closest('.unseen')) continue;
      for (const word of texts.currentNode.data.matchAll(/[\p{L}\p{N}_.]+/gu)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        const boxes = [...range.getClientRects()].filter((box) => box.width > 1);
        if (new Set(boxes.map((box) => Math.round(box.top))).size > 1 ||
            boxes.some((box) => box.right > within.right + 1)) broken.push(word[0]);
      }
    }
  }
  return broken;
}"""


def run() -> str:
    """A run page with pictures of all shapes, and long names."""
    cards = [
        dataclasses.replace(
            run_page.card(), image_id=f"{size}", thumbnail_jpeg=picture(size_px=size)
        )
        for size in SIZES_PX
    ]
    facts = version.parts(checks=CHECKS)
    return render_run(run_page.page(excluded=cards, excluded_total=len(cards), version=facts))


def plan() -> str:
    """A plan's page with failed audits, which are shown open."""
    images = [
        plan_page.image(f"{size}", STRATUM, thumbnail_jpeg=picture(size_px=size))
        for size in SIZES_PX
    ]
    strata = [dataclasses.replace(row, stratum=STRATUM) for row in plan_page.STRATA]
    page = plan_page.page(strata=strata, audits=[*CHECKS, plan_page.FAILED])
    return render_plan(dataclasses.replace(page, changed={**page.changed, LEAVING: images}))


def head() -> str:
    """A head's page with all its plots and its worst mistakes."""
    images, labels = examples(360, strata=4)
    named = dataclasses.replace(images, stratum=[f"{STRATUM} {name}" for name in images.stratum])
    made = evaluate(HEAD, named, labels, SAMPLE, 0.5, CONFIG)
    made = dataclasses.replace(made, **head_page.MADE)
    pictures = {row.image_id: picture() for row in made.mistakes}
    return render_head(made, pictures)


def sample() -> str:
    """A sample's page, with a thin stratum."""
    return render_sample(
        sample_page.page(sample_page.row(STRATUM), sample_page.row("b | sale", thin=True))
    )


def sheet() -> str:
    """A contact sheet."""
    shown = [
        dataclasses.replace(tile, jpeg=picture(size_px=SIZES_PX[number % len(SIZES_PX)]))
        for number, tile in enumerate(tiles(30))
    ]
    [made] = contact_sheet.cut(shown, "sample", ("toilet", "kitchen", "other"), len(shown))
    return contact_sheet.render(made)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as started:
        yield started


def opened(browser: Browser, file: Path, width_px: int) -> Page:
    """A tab of this width with a page whose details are all open."""
    tab = browser.new_page(viewport={"width": width_px, "height": 900})
    tab.goto(file.as_uri())
    tab.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    return tab


@pytest.mark.parametrize("width_px", [390, 1400])
@pytest.mark.parametrize("made", [run, plan, head, sample, sheet])
def test_pictures_and_words_are_whole_and_the_page_fits_the_screen(
    browser: Browser, tmp_path: Path, made: Callable[[], str], width_px: int
) -> None:
    file = tmp_path / f"{made.__name__}.html"
    file.write_text(made())
    tab = opened(browser, file, width_px)
    assert made is sample or tab.locator("img").count()
    assert tab.evaluate(CUT_PICTURES) == []
    assert tab.evaluate(BROKEN_WORDS) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width_px
    tab.close()


def test_a_word_that_is_wider_than_the_screen_scrolls_in_its_table(
    browser: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    card = ImageCard("i" * 500, "l" * 500, 0.9, picture(), "n" * 500)
    checks = [Check("r" * 500, "e" * 500, "f" * 500, None)]
    page = run_page.page(
        title="t" * 500, excluded=[card], warnings=["w" * 500], version=version.parts(checks=checks)
    )
    file.write_text(render_run(page))
    tab = opened(browser, file, 390)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    tab.close()

"""The contact sheet as people have it: in a real browser, with mouse and keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browsers import Visit, launched
from tests.support.sheets import (
    CLASSES,
    HALF,
    box,
    downloaded,
    drag,
    expected,
    jpeg,
    labels,
    selected,
    tile,
    tiles,
    until,
    written,
)
from toiletspark.reports.contact_sheet import page as contact_sheet
from toiletspark.reports.contact_sheet.page import Tile

HOSTILE = [
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\photos\\1.jpg",
    "nul\0nul",
    "x" * 300,
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "\"&quot;&amp;'`${1}{{ 1 }}",
    "Twin",
    "twin",
    "TWIN",
    "line\u2028and\u2029breaks\r\n\t",
    "right\u202eto\u202cleft",
    f"half {HALF} a character",
    "\U0001f6bd",
    "e\u0301",
    "\u00e9",
    "",
    " ",
    "__proto__",
    "constructor",
    "0",
    "null",
]


# What a test gets


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as started:
        yield started


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[], Visit]]:
    """New people at new machines; no page may have errors, requests or policy breaches."""
    visits: list[Visit] = []

    def come() -> Visit:
        visits.append(
            Visit(
                browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
            )
        )
        return visits[-1]

    yield come
    assert [one.trouble for one in visits if one.trouble] == []
    for one in visits:
        one.context.close()


# Labelling


def test_more_than_fifty_images_with_mouse_and_keys(
    visit: Callable[[], Visit], tmp_path: Path
) -> None:
    """Label, undo, redo, reload, filter, download, go on elsewhere: no label is lost on the way."""
    sheet, path = written(tmp_path, tiles(120))
    ann = visit()
    page = ann.open(path)
    words: dict[int, str] = {}

    for number, name in enumerate(
        ["toilet", "kitchen", "other", "toilet"]
    ):  # one by one: the focus goes on by itself
        page.keyboard.press(str(CLASSES.index(name) + 1))
        words[number] = name
    tile(page, 5).click()
    tile(page, 12).click(modifiers=["Shift"])
    assert selected(page) == set(range(5, 13))
    tile(page, 7).click(modifiers=["Control"])
    tile(page, 14).click(modifiers=["Control"])
    page.keyboard.press("2")
    words |= dict.fromkeys([5, 6, *range(8, 13), 14], "kitchen")

    touched = drag(page, 15, 28)
    assert touched == selected(page)
    assert len(touched) > 4
    more = drag_with(page, "Control", 32, 34)
    assert selected(page) == touched | more
    page.get_by_role("button", name="other").click()
    words |= dict.fromkeys(touched | more, "other")

    tile(page, 40).dblclick()
    assert selected(page) == {39, 40, 41}
    page.keyboard.press("1")
    tile(page, 44).click()
    page.keyboard.press("g")
    page.keyboard.press("Enter")
    words |= dict.fromkeys([39, 40, 41, 42, 43, 44], "toilet")
    page.locator(".heading", has_text="other?").scroll_into_view_if_needed()
    page.locator(".heading", has_text="other?").click()
    page.keyboard.press("3")
    words |= dict.fromkeys(range(60, 120), "other")
    assert len(words) > 50
    expect(page.locator("#labelled")).to_have_text(f"{len(words)} of 120 labelled")
    assert labels(downloaded(page), sheet) == expected(words)

    for _ in range(3):
        page.keyboard.press("u")
    undone = {
        number: name
        for number, name in words.items()
        if number < 60 and number not in range(39, 45)
    }
    assert labels(downloaded(page), sheet) == expected(undone)
    page.keyboard.press("Shift+U")
    page.keyboard.press("Control+y")
    redone = undone | dict.fromkeys([39, 40, 41, 42, 43, 44], "toilet")
    page.reload()
    expect(page.locator("#labelled")).to_have_text(f"{len(redone)} of 120 labelled")
    page.keyboard.press("Control+Shift+Z")  # what was undone before the reload comes back after it
    page.get_by_label("Your name").fill("Ann <b>")
    file = downloaded(page)
    assert labels(file, sheet, "Ann <b>") == expected(words)

    bob = visit().open(path)
    for key in (
        "1",
        "2",
        "0",
    ):  # two labels of his own, one of them newer than hers, and one taken away
        bob.keyboard.press(key)
    bob.set_input_files("#file", file)
    expect(bob.locator("#message")).to_have_text(
        f"{len(words) - 2} labels taken up, 2 as new or newer here"
    )
    assert labels(downloaded(bob), sheet, "Ann <b>") == expected(
        words | {0: "toilet", 1: "kitchen"}
    )
    bob.keyboard.press("u")
    assert labels(downloaded(bob), sheet, "Ann <b>") == {"image-0": "toilet", "image-1": "kitchen"}


def drag_with(page: Page, key: str, start: int, end: int) -> set[int]:
    page.keyboard.down(key)
    touched = drag(page, start, end)
    page.keyboard.up(key)
    return touched


def test_hostile_ids_come_back_as_they_are(visit: Callable[[], Visit], tmp_path: Path) -> None:
    """They are shown as text, and found by searching for them."""
    shown = [Tile(text, text, None, jpeg(n), section="") for n, text in enumerate(HOSTILE)]
    sheet, path = written(tmp_path, shown)
    page = visit().open(path)
    page.keyboard.press("Control+a")
    page.keyboard.press("2")
    assert labels(downloaded(page), sheet) == dict.fromkeys(HOSTILE, "kitchen")
    page.reload()
    assert labels(downloaded(page), sheet) == dict.fromkeys(HOSTILE, "kitchen")
    assert page.evaluate("document.querySelectorAll('script, img').length") == 3 + len(HOSTILE) + 1
    page.get_by_label("Image or listing").fill("<script>alert")
    expect(page.locator("#shown")).to_have_text("1 shown")
    assert page.locator(".tile").get_attribute("aria-label") == (
        "labelled kitchen, image <script>alert(1)</script>, listing <script>alert(1)</script>"
    )
    assert page.locator("#focused").inner_text().startswith("<script>alert(1)</script> · listing")


def test_a_second_look_takes_kept_labels_for_answers(
    visit: Callable[[], Visit], tmp_path: Path
) -> None:
    shown = [replace(one, label="kitchen", section="") for one in tiles(8)]
    sheet, path = written(tmp_path, shown, "second_look")
    page = visit().open(path)
    expect(page.locator("#labelled")).to_have_text("0 of 8 answered")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.keyboard.press("3")
    assert labels(downloaded(page), sheet) == {
        "image-0": "kitchen",
        "image-1": "toilet",
        "image-2": "other",
    }
    page.get_by_label("Label", exact=True).select_option("open")
    expect(page.locator("#shown")).to_have_text("5 shown")
    assert tile(page, 3).inner_text().split() == ["kitchen", "≠", "toilet"]


def test_an_earlier_label_is_no_decision_of_this_sheet(
    visit: Callable[[], Visit], tmp_path: Path
) -> None:
    sheet, path = written(
        tmp_path,
        [replace(one, label="kitchen" if n < 3 else None) for n, one in enumerate(tiles(8))],
    )
    page = visit().open(path)
    expect(page.locator("#labelled")).to_have_text("3 of 8 labelled")
    assert labels(downloaded(page), sheet) == {}
    page.keyboard.press("1")
    assert labels(downloaded(page), sheet) == {"image-0": "toilet"}
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Backspace")
    assert labels(downloaded(page), sheet) == {}
    expect(page.locator("#labelled")).to_have_text("3 of 8 labelled")


# Finding one's way


def test_filters_show_what_they_say_and_labels_reach_nothing_else(
    visit: Callable[[], Visit], tmp_path: Path
) -> None:
    sheet, path = written(tmp_path, tiles(40))
    page = visit().open(path)
    page.keyboard.press("Control+a")
    page.get_by_label("Suggestion").select_option("other")
    expect(page.locator("#shown")).to_have_text("20 shown")
    assert selected(page) == set(range(20, 40))  # what is hidden is no longer selected
    page.get_by_label("Score from").fill("0.2")
    page.get_by_label("Score to").fill("0.4")
    numbers = [
        n
        for n, one in enumerate(sheet.tiles)
        if one.suggested == "other" and 0.2 <= one.score <= 0.4
    ]
    assert page.evaluate("shown") == numbers == list(range(24, 33))
    page.keyboard.press("Enter")  # out of the field, to the pictures
    page.keyboard.press("2")
    page.get_by_label("Score from").fill("")
    page.get_by_label("Score to").fill("")
    page.get_by_label("Suggestion").select_option("")
    assert labels(downloaded(page), sheet) == expected(dict.fromkeys(numbers, "kitchen"))
    for state, count in (
        ("differs", len(numbers)),
        ("labelled", len(numbers)),
        ("open", 40 - len(numbers)),
    ):
        page.get_by_label("Label", exact=True).select_option(state)
        expect(page.locator("#shown")).to_have_text(f"{count} shown")
    page.locator("#grid").focus()
    page.keyboard.press("Home")
    # what is labelled leaves the view of what is not, and the next one has the focus
    page.keyboard.press("1")
    page.keyboard.press("3")
    assert page.evaluate("[shown.length, focus]") == [29, 2]
    page.keyboard.press("u")
    assert page.evaluate("[shown.length, focus]") == [30, 1]
    page.keyboard.press("/")
    page.keyboard.type("NO SUCH IMAGE")
    expect(page.get_by_text("No picture is shown")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    assert page.locator("#message").inner_text() == "nothing to change"


def test_one_picture_large_with_keys_alone(visit: Callable[[], Visit], tmp_path: Path) -> None:
    sheet, path = written(tmp_path, tiles(30))
    page = visit().open(path)
    page.keyboard.press("Control+a")
    page.keyboard.press("Space")
    assert (
        page.locator("#large-picture").evaluate(
            "(one) => one.decode().then(() => one.naturalWidth)"
        )
        == 64
    )
    page.keyboard.press("ArrowRight")
    page.keyboard.press("2")  # the one that is large, whatever is selected
    expect(page.locator("#large-place")).to_have_text(re.compile("^3 of 30 · image-2"))
    page.keyboard.press("Escape")
    expect(page.locator("#large")).to_be_hidden()
    assert labels(downloaded(page), sheet) == {"image-1": "kitchen"}
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("1")  # not while the help is read
    page.keyboard.press("Escape")
    assert labels(downloaded(page), sheet) == {"image-1": "kitchen"}


def test_arrows_move_and_select_and_size_changes(
    visit: Callable[[], Visit], tmp_path: Path
) -> None:
    _, path = written(tmp_path, [replace(one, section="") for one in tiles(60)])
    page = visit().open(path)
    columns = page.evaluate("columns")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("focus") == columns + 1
    page.keyboard.press("Shift+ArrowDown")
    assert selected(page) == set(range(columns + 1, 2 * columns + 2))
    page.keyboard.press("End")
    expect(tile(page, 59)).to_be_in_viewport()
    active = page.locator("#grid").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("aria-posinset") == "60"
    for _ in range(10):
        page.keyboard.press("+")
    assert page.evaluate("columns") < columns
    for _ in range(10):
        page.keyboard.press("-")
    assert page.evaluate("columns") > columns
    x0, _, x1, _ = box(page, 1)
    assert 70 < x1 - x0 < 80


def test_of_thousands_only_what_is_near_is_drawn_and_dragging_scrolls(
    visit: Callable[[], Visit], tmp_path: Path
) -> None:
    _, path = written(tmp_path, tiles(2000))
    page = visit().open(path)
    columns = page.evaluate("columns")
    assert page.locator(".tile").count() < 200
    x0, y0, *_ = box(page, 0)
    page.mouse.move(x0 + 5, y0 + 5)
    page.mouse.down()
    page.mouse.move(x0 + 20, 880, steps=5)
    until(page, "grid.scrollTop > 3000")
    page.mouse.up()
    result = selected(page)
    # the first column, down to where the window has come
    assert result == set(range(0, max(result) + 1, columns))
    assert len(result) > 20
    page.keyboard.press("End")
    expect(tile(page, 1999)).to_be_in_viewport()
    assert page.evaluate("drawn.get(1999).firstChild.decode().then(() => true)")
    assert page.locator(".tile").count() < 250


# What must not be lost


def test_leaving_with_labels_that_nobody_else_has_is_asked_about(
    visit: Callable[[], Visit], tmp_path: Path
) -> None:
    _, path = written(tmp_path, tiles(6))
    ann = visit()
    page = ann.open(path)
    page.keyboard.press("Escape")  # a browser asks only where somebody has done something
    page.reload()
    assert ann.warned == 0
    page.keyboard.press("1")
    page.reload()
    assert ann.warned == 1
    page.keyboard.press("Escape")
    downloaded(page)
    page.reload()
    assert ann.warned == 1


def test_two_sheets_do_not_mix_and_two_tabs_of_one_do(
    visit: Callable[[], Visit], tmp_path: Path
) -> None:
    first, first_path = written(tmp_path, tiles(10))
    second, second_path = written(tmp_path, tiles(10)[1:])
    ann = visit()
    one, other = ann.open(first_path), ann.open(second_path)
    one.keyboard.press("1")
    other.keyboard.press("2")
    again = ann.open(first_path)
    again.keyboard.press("ArrowRight")
    again.keyboard.press("3")
    expect(one.locator("#labelled")).to_have_text("2 of 10 labelled")
    one.keyboard.press("2")  # its focus is still on the second, which the other tab has labelled
    other.reload()
    assert labels(downloaded(one), first) == {"image-0": "toilet", "image-1": "kitchen"}
    assert labels(downloaded(other), second) == {"image-1": "kitchen"}


def test_storage_that_is_switched_off_is_told_and_the_file_is_whole(
    visit: Callable[[], Visit], tmp_path: Path
) -> None:
    sheet, _ = written(tmp_path, tiles(6))
    page = visit().page()
    page.set_content(contact_sheet.render(sheet))  # a page without an address has no storage
    expect(page.get_by_role("alert")).to_contain_text("This browser does not keep your labels")
    page.keyboard.press("1")
    page.keyboard.press("1")
    page.keyboard.press("u")
    assert labels(downloaded(page), sheet) == {"image-0": "toilet"}


def test_storage_that_is_full_is_told(visit: Callable[[], Visit], tmp_path: Path) -> None:
    sheet, path = written(tmp_path, tiles(6))
    page = visit().open(path)
    expect(page.get_by_role("alert")).to_be_hidden()
    page.evaluate(
        "for (let size = 1 << 22, n = 0; size; size >>= 1)"
        "  for (;;) try { localStorage.setItem(`other-${n++}`, 'x'.repeat(size)) } catch { break }"
    )
    page.keyboard.press("1")
    expect(page.get_by_role("alert")).to_contain_text("This browser does not keep your labels")
    page.evaluate("localStorage.clear()")
    page.keyboard.press("2")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.reload()
    assert labels(downloaded(page), sheet) == {"image-0": "toilet", "image-1": "kitchen"}


@pytest.mark.parametrize(
    ("content", "summary"),
    [
        ("{", "cannot be taken up"),
        ('{"format": "something else"}', "not a labels file"),
        (
            '{"format": "toiletspark-labels", "format_version": 2, "labels": []}',
            "not a labels file",
        ),
        (
            '{"format": "toiletspark-labels", "format_version": 1, "labels": ['
            '{"image_id": "image-0", "content_digest": "another", '
            '"class": "toilet", "labelled_at": "2026-01-01"},'
            '{"image_id": "nobody", "content_digest": null, '
            '"class": "toilet", "labelled_at": "2026-01-01"},'
            '{"image_id": "image-1", "content_digest": null, '
            '"class": "cellar", "labelled_at": "2026-01-01"},'
            '{"image_id": "image-2", "content_digest": null, '
            '"class": "toilet", "labelled_at": "soon"},'
            '{"image_id": "image-3", "content_digest": null, '
            '"class": "toilet", "labelled_at": "2026-01-01"}]}',
            "1 labels taken up, 4 of other pictures or classes left out",
        ),
    ],
    ids=["broken", "foreign", "newer", "half of it"],
)
def test_a_file_that_does_not_fit_is_told(
    visit: Callable[[], Visit], tmp_path: Path, content: str, summary: str
) -> None:
    _, path = written(tmp_path, tiles(6))
    (tmp_path / "a.json").write_text(content)
    page = visit().open(path)
    page.set_input_files("#file", tmp_path / "a.json")
    expect(page.locator("#message")).to_contain_text(summary)


def test_the_policy_stops_scripts_and_requests_that_slip_in(
    browser: Browser, tmp_path: Path
) -> None:
    """Otherwise the other tests could not tell that none was needed."""
    _, path = written(tmp_path, tiles(3))
    ann = Visit(browser.new_context())
    page = ann.open(path)
    page.evaluate(
        "const script = document.createElement('script'); script.textContent = 'window.broken = 1';"
        "document.body.append(script); const img = new Image(); "
        "img.src = 'https://example.invalid/1.png'"
    )
    for directive in ("script-src-elem", "img-src"):
        until(page, lambda directive=directive: f"policy {directive}" in ann.trouble)
    assert page.evaluate("window.broken") is None
    ann.context.close()

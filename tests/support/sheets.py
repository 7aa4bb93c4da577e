"""A contact sheet for the tests, and what people do to it in a browser."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page

from toiletspark.errors import LabelsError
from toiletspark.labels import label_files
from toiletspark.reports.contact_sheet import page as contact_sheet
from toiletspark.reports.contact_sheet.page import ContactSheet, Tile

HALF = "\ud800"
CLASSES = ("toilet", "kitchen", "other")


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), (number * 37 % 256, number * 91 % 256, number * 13 % 256)).save(
        file, "JPEG"
    )
    return file.getvalue()


def tiles(count: int) -> list[Tile]:
    """Half of them suggested as toilets; three each look alike."""
    return [
        Tile(
            image_id=f"image-{number}",
            listing_id=f"L{number // 5}",
            content_digest=f"{number:064x}",
            jpeg=jpeg(number),
            score=round(1 - number / count, 4),
            suggested="toilet" if number < count // 2 else "other",
            group=number // 3,
            section="toilet? 0.5 to 1" if number < count // 2 else "other? 0 to 0.5",
        )
        for number in range(count)
    ]


def written(folder: Path, shown: list[Tile], kind: str = "sample") -> tuple[ContactSheet, Path]:
    [sheet] = contact_sheet.cut(shown, kind, CLASSES, len(shown))
    path = folder / f"sheet-{sheet.sheet_id}.html"
    path.write_bytes(contact_sheet.render(sheet).encode())
    return sheet, path


# What a test does


def tile(page: Page, number: int) -> Any:
    return page.locator(f"#t{number}")


def box(page: Page, number: int) -> tuple[float, float, float, float]:
    found = tile(page, number).bounding_box()
    return found["x"], found["y"], found["x"] + found["width"], found["y"] + found["height"]


def drag(page: Page, start: int, end: int) -> set[int]:
    """Drags a frame from one tile's middle to another's; returns the ids that it touches."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = box(page, start), box(page, end)
    xs, ys = sorted([(ax0 + ax1) / 2, (bx0 + bx1) / 2]), sorted([(ay0 + ay1) / 2, (by0 + by1) / 2])
    page.mouse.move((ax0 + ax1) / 2, (ay0 + ay1) / 2)
    page.mouse.down()
    page.mouse.move((bx0 + bx1) / 2, (by0 + by1) / 2, steps=4)
    page.mouse.up()
    numbers = page.evaluate(
        "[...document.querySelectorAll('.tile')].map((one) => Number(one.id.slice(1)))"
    )
    boxes = {number: box(page, number) for number in numbers}
    return {
        n
        for n, (x0, y0, x1, y1) in boxes.items()
        if x0 < xs[1] and x1 > xs[0] and y0 < ys[1] and y1 > ys[0]
    }


def until(page: Page, true: str | Callable[[], bool]) -> None:
    """Waits; Playwright's wait_for_function evaluates strings, which the page's policy forbids."""
    deadline = time.monotonic() + 20
    while not (page.evaluate(true) if isinstance(true, str) else true()):
        assert time.monotonic() < deadline, true
        page.wait_for_timeout(20)


def selected(page: Page) -> set[int]:
    return set(page.evaluate("[...selected]"))


def downloaded(page: Page) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download labels").click()
    path: Path = download.value.path()
    assert (
        download.value.suggested_filename
        == f"toiletspark-labels-{json.loads(path.read_text())['sheet']}.json"
    )
    return path


def labels(path: Path, sheet: ContactSheet, labeller: str = "") -> dict[str, str]:
    """The labels of a file by image_id, checked with `toiletspark labels import`."""
    file = json.loads(path.read_text(encoding="utf-8"))
    rows = file.pop("labels")
    assert file == {
        "format": "toiletspark-labels",
        "format_version": 1,
        "sheet": sheet.sheet_id,
        "labeller": labeller,
    }
    digests = {one.image_id: one.content_digest for one in sheet.tiles}
    for row in rows:
        assert sorted(row) == ["class", "content_digest", "image_id", "labelled_at"]
        assert row["content_digest"] == digests[row["image_id"]]
        assert (
            abs((datetime.fromisoformat(row["labelled_at"]) - datetime.now(UTC)).total_seconds())
            < 300
        )
    assert len({row["image_id"] for row in rows}) == len(rows)
    said = {row["image_id"]: row["class"] for row in rows}
    assert imported(path, rows) == {
        name: (given, digests[name]) for name, given in said.items() if HALF not in name
    }
    return said


def imported(path: Path, rows: list[dict[str, Any]]) -> dict[str, tuple[str, str | None]]:
    """Class and content by image_id, as imported. No table can hold half a character."""
    whole = [row for row in rows if HALF not in row["image_id"]]
    if whole != rows:
        with pytest.raises(LabelsError):
            label_files.read(str(path), list(CLASSES))
        file = {**json.loads(path.read_text(encoding="utf-8")), "labels": whole}
        path.write_text(json.dumps(file), encoding="utf-8")
    read = label_files.read(str(path), list(CLASSES)).labels if whole else []
    assert {label.how for label in read} <= {"sheet"}
    return {label.image_id: (label.label, label.content_digest) for label in read}


def expected(said: dict[int, str]) -> dict[str, str]:
    return {f"image-{number}": name for number, name in said.items()}

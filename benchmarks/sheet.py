"""The contact sheet with 5,000 thumbnails in a headless browser: `make bench-sheet`.

A sheet of real photos (mirrored and cropped into enough of them; drawn rooms where there are no photos), opened in
fresh profiles: how long until something is seen, and until the first screen of pictures is. Then all of it is scrolled
through, and 100 images are labelled with keys.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from playwright.sync_api import Page

from benchmarks.measure import SHARED, machine
from tests.support.browsers import launched
from toiletspark.config import loading as conf_files
from toiletspark.demo.rooms import ROOMS, draw_room
from toiletspark.images.decoding import thumbnail
from toiletspark.reports.contact_sheet import page as contact_sheet
from toiletspark.reports.contact_sheet.page import ContactSheet, Tile

IMAGES = 5000
LABELLED = 100
PROFILES = 5
CLASSES = ("bathroom", "bedroom", "kitchen", "other")
SCROLL_PX = 200  # a frame: 12,000 px/s, faster than anybody reads
SLOW_MS = 50

# When all pictures of the first screen are decoded and have been drawn, in ms since the page was asked for; a paint is
# told as of when it was on the screen, which is up to a frame later
FIRST_SCREEN = """
const look = async () => {
  const pictures = [...document.querySelectorAll('.tile img')];
  const near = pictures.filter((one) => one.getBoundingClientRect().top < innerHeight);
  if (!near.length || near.some((one) => !one.src)) return requestAnimationFrame(look);
  await Promise.all(near.map((one) => one.decode()));
  requestAnimationFrame(() => requestAnimationFrame(() => (window.firstScreen = performance.now())));
};
requestAnimationFrame(look);
"""
# Milliseconds between frames from top to bottom, and in how many of them a picture in the window was missing
SCROLL = """(step) => new Promise((done) => {
  const took = [], seen = grid.getBoundingClientRect();
  let blank = 0, before = performance.now();
  const next = (now) => {
    took.push(now - before);
    before = now;
    const near = [...document.querySelectorAll('.tile')].filter((one) => {
      const box = one.getBoundingClientRect();
      return box.bottom > seen.top && box.top < seen.bottom;
    });
    blank += near.some((one) => !one.firstChild.complete || !one.firstChild.naturalWidth);
    const at = grid.scrollTop;
    grid.scrollTop += step;
    if (grid.scrollTop === at) done({ took: took.slice(1), blank });
    else requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
})"""
# Milliseconds of one label while all others are there: the decision, the autosave, the drawing
LABEL_ALL = """() => {
  select(shown);
  labelWith(classes[0]);
  return Array.from({ length: 50 }, (_, n) => {
    const before = performance.now();
    moveTo(n);
    labelWith(classes[1]);
    document.body.offsetHeight;
    return performance.now() - before;
  });
}"""


def main() -> None:
    sheet = made(IMAGES)
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as folder:
        path = Path(folder) / f"sheet-{sheet.sheet_id}.html"
        path.write_bytes(contact_sheet.render(sheet).encode())
        told = {**measured(sheet, path, PROFILES), "file_mb": round(path.stat().st_size / 1e6, 1)}
    kinds = "photos" if _photos() else "drawn rooms"
    print(json.dumps({"images": len(sheet.tiles), "pictures": kinds, **told, "machine": machine()}))


def made(count: int) -> ContactSheet:
    """A sheet of `count` different pictures, each in one of the classes by its own suggestion."""
    with ProcessPoolExecutor() as pool:
        jpegs = list(pool.map(_jpeg, range(count), chunksize=50))
    tiles = [
        Tile(
            image_id=f"H{number // 25:04}-{number % 25}",
            listing_id=f"H{number // 25:04}",
            content_digest=f"{number:064x}",
            jpeg=jpeg,
            score=1 - number % (count // 4) / (count // 2),
            suggested=CLASSES[number * 4 // count],
            group=number,
            section=f"{CLASSES[number * 4 // count]}? 0.5 to 1",
        )
        for number, jpeg in enumerate(jpegs)
    ]
    return contact_sheet.cut(tiles, "sample", CLASSES, count)[0]


def measured(sheet: ContactSheet, path: Path, profiles: int) -> dict[str, Any]:
    """Opens the page in fresh profiles, and works with it in the last one."""
    opened = []
    for number in range(profiles):
        with launched() as browser:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.add_init_script(FIRST_SCREEN)
            page.goto(path.as_uri())
            opened.append(_opened(page))
            if number < profiles - 1:
                continue
            scrolled, version = _scrolled(page), browser.version
            lost = labels_lost(_label(page), _said(sheet))
            page.on("dialog", lambda dialog: dialog.accept())
            page.reload()
            lost_by_reload = labels_lost(_downloaded(page), _said(sheet))
            label_ms = page.evaluate(LABEL_ALL)
    names = ("first_paint_s", "first_screen_s", "loaded_s")
    figures = {name: round(statistics.median(one[name] for one in opened), 3) for name in names}
    return {
        **figures,
        "profiles": profiles,
        **scrolled,
        "labelled": len(_said(sheet)),
        "labels_lost": lost,
        "labels_lost_by_reload": lost_by_reload,
        "label_ms_with_all_labelled": round(statistics.median(label_ms), 1),
        "chromium": version,
    }


def labels_lost(file: dict[str, Any], said: dict[str, str]) -> int:
    """How many of the labels that were given are not, or otherwise, in a labels file."""
    found = {row["image_id"]: row["class"] for row in file["labels"]}
    return sum(found.get(image_id) != name for image_id, name in said.items())


def _opened(page: Page) -> dict[str, float]:
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    while not page.evaluate(
        f"window.firstScreen && {paint}"
    ):  # a paint is told somewhat later than it was
        page.wait_for_timeout(20)
    return {
        "first_paint_s": page.evaluate(paint) / 1000,
        "first_screen_s": page.evaluate("window.firstScreen") / 1000,
        "loaded_s": page.evaluate(
            "performance.timing.loadEventEnd - performance.timing.navigationStart"
        )
        / 1000,
    }


def _scrolled(page: Page) -> dict[str, Any]:
    found = page.evaluate(SCROLL, SCROLL_PX)
    took = sorted(found["took"])
    return {
        "scroll_frames": len(took),
        "scroll_median_ms": round(statistics.median(took), 1),
        "scroll_worst_ms": round(took[-1], 1),
        "scroll_frames_over_50_ms": round(sum(one > SLOW_MS for one in took) / len(took), 4),
        "scroll_frames_with_a_blank": round(found["blank"] / len(took), 4),
    }


def _said(sheet: ContactSheet) -> dict[str, str]:
    """The first images, each with another class than the one before."""
    return {
        tile.image_id: CLASSES[number % 4] for number, tile in enumerate(sheet.tiles[:LABELLED])
    }


def _label(page: Page) -> dict[str, Any]:
    page.keyboard.press("Home")
    for number in range(LABELLED):
        page.keyboard.press(str(number % 4 + 1))
    return _downloaded(page)


def _downloaded(page: Page) -> dict[str, Any]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download labels").click()
    file: dict[str, Any] = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    return file


def _photos() -> list[Path]:
    return sorted(
        [*(SHARED / "photos" / "files").glob("*.jpg"), *(SHARED / "rooms").glob("*/*.jpg")]
    )


def _jpeg(number: int) -> bytes:
    """A thumbnail as `labels sheet` makes it; another number is another picture."""
    config, file = conf_files.load([], ["images.path=none"]), BytesIO()
    _picture(number).save(file, "PNG", compress_level=1)
    jpeg = thumbnail(
        file.getvalue(), config.decode, config.sheet.max_side_px, config.sheet.jpeg_quality
    )
    if jpeg is None:
        raise SystemExit(f"picture {number} is no sound image")
    return jpeg


def _picture(number: int) -> Image.Image:
    photos = _photos()
    if not photos:
        return draw_room(ROOMS[number % len(ROOMS)], number, (224, 168))
    with Image.open(photos[number % len(photos)]) as photo:
        photo.draft("RGB", (448, 448))
        return _variant(photo.convert("RGB"), number // len(photos))


def _variant(photo: Image.Image, turn: int) -> Image.Image:
    """The photo itself, mirrored, and cut a little closer each time."""
    cut = turn // 2 * 0.05
    width, height = photo.size
    box = (
        round(width * cut),
        round(height * cut),
        round(width * (1 - cut)),
        round(height * (1 - cut)),
    )
    return (ImageOps.mirror(photo) if turn % 2 else photo).crop(box)


if __name__ == "__main__":
    main()

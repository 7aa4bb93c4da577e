"""The contact sheet: an HTML file in which people label thousands of pictures, without a server.

Pictures, style and script are inside it. Decisions stay in the browser, and leave it as a labels
file (`toiletspark-labels-<sheet>.json`) that `toiletspark labels import` takes. Ids come from
strangers (threat T8): they travel as JSON and are only ever shown as text. The page's own policy
allows its one script, named by its hash, and no connection to anywhere.
"""

import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from markupsafe import Markup

from toiletspark.errors import OutputError
from toiletspark.hashing import settings_digest
from toiletspark.reports import html

TITLES = {
    "sample": "Sample",
    "suggest": "Suggested images",
    "second_look": "Second look",
    "leaks": "Leak sample",
}
_SCRIPTS = [f"contact_sheet_{part}.js" for part in ("labels", "grid", "hands", "start")]
_PICTURES_PER_BLOCK = 64  # about 0.6 MB, unpacked at once when one of them comes near


@dataclass(frozen=True)
class Tile:
    """One picture on the sheet."""

    image_id: str  # any text, comes back in the labels file as it is
    listing_id: str | None  # any text, or None
    content_digest: str | None  # of the file that the picture was made from; comes back too
    jpeg: bytes  # a JPEG that we encoded ourselves, at most 224 px on either side
    # tiles are sorted by it, higher = first; None or NaN where there is none
    score: float | None = None
    suggested: str | None = None  # a class that a head or the neighbours suggest, or None
    label: str | None = None  # the present label, given elsewhere before, or None
    group: int = 0  # near-duplicates have the same number
    # the heading above the tile; "" for none. Tiles of a section follow one another.
    section: str = ""


@dataclass(frozen=True)
class ContactSheet:
    """The content of one page; tiles are shown in the order given."""

    # a key of `TITLES`; second_look asks about the present labels, so that keeping one is an answer
    kind: str
    classes: tuple[str, ...]  # in the order of the keys 1 to 9 and then letters
    tiles: tuple[Tile, ...]  # at least one, each image_id once
    title: str  # heading of the page

    @functools.cached_property
    def sheet_id(self) -> str:
        """16 digits of all that is shown; a browser keeps labels under it, so sheets do not mix."""
        shown = [_described(tile) for tile in self.tiles]
        return settings_digest([self.kind, self.classes, shown])[:16]


def cut(
    tiles: list[Tile], kind: str, classes: Iterable[str], max_images: int
) -> list[ContactSheet]:
    """Sheets of at most `max_images` tiles in their order, numbered in their titles.

    Raises OutputError if there is no tile.
    """
    if not tiles:
        raise OutputError(
            doing="making a contact sheet",
            expected="at least one image that can be shown",
            found="none: each is broken, or no longer in the images table",
            todo="see the column status after `toiletspark embed`, or draw another sample",
        )
    count = math.ceil(len(tiles) / max_images)
    sheets = []
    for number in range(count):
        part = tuple(tiles[number * max_images : (number + 1) * max_images])
        title = f"{TITLES[kind]}, {number + 1} of {count}" if count > 1 else TITLES[kind]
        sheets.append(ContactSheet(kind, tuple(classes), part, title))
    return sheets


def render(sheet: ContactSheet) -> str:
    """The page as HTML text; every string of the sheet is taken as text, never as markup.

    Cost: 1.4 characters per byte of picture, and about 350 a tile.
    """
    style, script = _source("contact_sheet.css"), "\n".join(map(_source, _SCRIPTS))
    content = {
        "id": sheet.sheet_id,
        "asks_about_labels": sheet.kind == "second_look",
        "classes": sheet.classes,
        "pictures_per_block": _PICTURES_PER_BLOCK,
        "tiles": [_described(tile) for tile in sheet.tiles],
    }
    return html.render(
        "contact_sheet.html.j2",
        title=sheet.title,
        kind=sheet.kind,
        style=Markup(style),  # noqa: S704 - files of ours
        style_hash=_policy_hash(style),
        script=Markup(script),  # noqa: S704
        script_hash=_policy_hash(script),
        tiles=Markup(_json(content)),  # noqa: S704 - see _json
        blocks=_blocks(sheet.tiles),
    )


def _described(tile: Tile) -> dict[str, Any]:
    """A tile without its picture, as JSON."""
    score = None
    if tile.score is not None and math.isfinite(tile.score):
        score = round(tile.score, 4)
    described = vars(tile) | {"score": score}
    del described["jpeg"]
    return described


def _json(content: object) -> str:
    r"""ASCII JSON that cannot end its <script>, nor be taken for markup.

    >>> _json("</script>\ud800")
    '"\\u003c/script\\u003e\\ud800"'
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _blocks(tiles: Iterable[Tile]) -> Iterator[str]:
    """The pictures in base64, one a line; its alphabet can neither end a script nor a line."""
    encoded = (html.as_base64(tile.jpeg) for tile in tiles)
    while block := list(itertools.islice(encoded, _PICTURES_PER_BLOCK)):
        yield "\n".join(block)


def _source(name: str) -> str:
    """A template file verbatim, since the policy names it by the hash of its text."""
    return (resources.files("toiletspark.reports") / "templates" / name).read_text(encoding="utf-8")


def _policy_hash(text: str) -> str:
    """The name of an inline text in a Content-Security-Policy."""
    return f"sha256-{html.as_base64(hashlib.sha256(text.encode()).digest())}"

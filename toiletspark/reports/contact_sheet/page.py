"""The contact sheet: one HTML file in which people label thousands of pictures with mouse and keys, without a server.

Pictures, style and script are inside it. What people decide stays in their browser, and leaves it as a labels file
(`toiletspark-labels-<sheet>.json`) that `toiletspark labels import` takes. Ids come from strangers (threat T8): they
travel as JSON and are only ever shown as text; the page's own policy allows its one script, named by its hash, and no
connection to anywhere.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources

import jinja2
from markupsafe import Markup

from toiletspark.errors import OutputError
from toiletspark.hashing import settings_digest

LEADS = {
    "sample": "Say what each picture shows.",
    "suggest": "Pictures of which little is known yet. Say what each one shows.",
    "second_look": "Is each label right? Keep it (k), or give another.",
    "leaks": "Say what each picture shows. From the labels follows how many of them the feed should not show.",
}
TITLES = {
    "sample": "Sample",
    "suggest": "Suggested images",
    "second_look": "Second look",
    "leaks": "Leak sample",
}
_SCRIPTS = (
    "contact_sheet_labels.js",
    "contact_sheet_grid.js",
    "contact_sheet_hands.js",
    "contact_sheet_start.js",
)
_STYLE = "contact_sheet.css"
_PICTURES_PER_BLOCK = 64  # about 0.6 MB: what is unpacked at once when one of them comes near


@dataclass(frozen=True)
class Tile:
    """One picture on the sheet.

    Attributes:
        image_id: key of the image; any text, comes back in the labels file as it is.
        listing_id: key of its listing; any text, or None.
        content_digest: of the file that the picture was made from; comes back too.
        jpeg: a JPEG that we encoded ourselves, at most 224 px on either side.
        score: what the picture is sorted by, higher = first; None or NaN where there is none.
        suggested: a class that a head or the neighbours suggest, or None.
        label: the present label, given elsewhere before, or None.
        group: near-duplicates have the same number.
        section: heading under which the tile stands; "" for none. Tiles of a section follow one another.
    """

    image_id: str
    listing_id: str | None
    content_digest: str | None
    jpeg: bytes
    score: float | None = None
    suggested: str | None = None
    label: str | None = None
    group: int = 0
    section: str = ""


@dataclass(frozen=True)
class ContactSheet:
    """What one page holds; tiles are shown in the order given.

    Attributes:
        kind: a key of `LEADS`; second_look asks about the present labels, so that keeping one is an answer.
        classes: what people may say, in the order of the keys 1 to 9 and then letters.
        tiles: at least one, each image_id once.
        title: heading of the page.
    """

    kind: str
    classes: tuple[str, ...]
    tiles: tuple[Tile, ...]
    title: str

    @functools.cached_property
    def sheet_id(self) -> str:
        """16 digits that follow from all that is shown; a browser keeps labels under it, so that sheets do not mix."""
        shown = [_described(tile) for tile in self.tiles]
        return settings_digest([self.kind, self.classes, shown])[:16]


def cut(
    tiles: list[Tile], kind: str, classes: Iterable[str], max_images: int
) -> list[ContactSheet]:
    """Sheets of at most so many tiles, in their order; the titles tell which of how many.

    Raises:
        OutputError: there is no tile.
    """
    if not tiles:
        raise OutputError(
            doing="making a contact sheet",
            expected="at least one image that can be shown",
            found="none: each is broken, or no longer in the images table",
            todo="see the column status after `toiletspark embed`, or draw another sample",
        )
    parts = [tuple(tiles[start : start + max_images]) for start in range(0, len(tiles), max_images)]
    of = f", {{}} of {len(parts)}" if len(parts) > 1 else ""
    titles = [TITLES[kind] + of.format(number) for number in range(1, len(parts) + 1)]
    return [
        ContactSheet(kind, tuple(classes), part, title)
        for part, title in zip(parts, titles, strict=True)
    ]


def render(sheet: ContactSheet) -> str:
    """The page as HTML text, ASCII but for our own words; 1.4 characters per byte of picture and about 350 a tile.

    Args:
        sheet: what to show; every string in it is taken as text, never as markup.
    """
    environment = _environment()
    style, script = _source(_STYLE), "\n".join(map(_source, _SCRIPTS))
    page = environment.get_template("contact_sheet.html.j2")
    return page.render(
        title=sheet.title,
        lead=LEADS[sheet.kind],
        style=Markup(style),  # noqa: S704 - files of ours
        style_hash=_hash_source(style),
        script=Markup(script),  # noqa: S704
        script_hash=_hash_source(script),
        tiles=Markup(_json(_page_tiles(sheet))),  # noqa: S704 - see _json
        blocks=_blocks(sheet.tiles),
    )


def _page_tiles(sheet: ContactSheet) -> dict[str, object]:
    return {
        "id": sheet.sheet_id,
        "asks_about_labels": sheet.kind == "second_look",
        "classes": sheet.classes,
        "pictures_per_block": _PICTURES_PER_BLOCK,
        "tiles": [_described(tile) for tile in sheet.tiles],
    }


def _described(tile: Tile) -> dict[str, object]:
    """A tile without its picture."""
    scored = tile.score is not None and math.isfinite(tile.score)
    return {
        "image_id": tile.image_id,
        "listing_id": tile.listing_id,
        "content_digest": tile.content_digest,
        "score": round(tile.score, 4) if scored and tile.score is not None else None,
        "suggested": tile.suggested,
        "label": tile.label,
        "group": tile.group,
        "section": tile.section,
    }


def _json(content: object) -> str:
    r"""JSON that cannot end its <script>, nor be taken for markup; all characters beyond ASCII are escaped too.

    >>> _json("</script>\ud800")
    '"\\u003c/script\\u003e\\ud800"'
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _blocks(tiles: Iterable[Tile]) -> Iterator[str]:
    """The pictures in base64, one a line, whose alphabet can neither end a script nor a line."""
    encoded = (base64.b64encode(tile.jpeg).decode("ascii") for tile in tiles)
    while block := list(itertools.islice(encoded, _PICTURES_PER_BLOCK)):
        yield "\n".join(block)


@functools.cache
def _environment() -> jinja2.Environment:
    """Escapes every value, and refuses names that do not exist; also reads from a zip, which Spark's --py-files is."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("toiletspark.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _source(name: str) -> str:
    """A file of the templates folder as it is, since the policy's hashes are of the very text."""
    return (resources.files("toiletspark.reports") / "templates" / name).read_text(encoding="utf-8")


def _hash_source(text: str) -> str:
    """How a Content-Security-Policy names an inline text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"

"""The contact sheet as text: nothing leaves its place, and its id follows from what is shown."""

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from toiletspark.errors import OutputError
from toiletspark.reports.contact_sheet import page as contact_sheet
from toiletspark.reports.contact_sheet.order import arranged, grouped
from toiletspark.reports.contact_sheet.page import ContactSheet, Tile

CLASSES = ("toilet", "kitchen")


def sheet(*tiles: Tile, kind: str = "sample") -> ContactSheet:
    [made] = contact_sheet.cut(list(tiles), kind, CLASSES, 1000)
    return made


def tile(name: str = "a", **known: object) -> Tile:
    return replace(
        Tile(name, "L1", "d" * 64, b"jpeg of " + name.encode("utf-8", "replace")), **known
    )


# The text


def test_nothing_that_strangers_wrote_is_markup() -> None:
    evil = "</script><script>alert(1)</script><!-- & \u2028"
    page = contact_sheet.render(
        sheet(tile(evil, listing_id=evil, suggested=evil, label=evil, section=evil))
    )
    # tiles, the script, one block of pictures
    assert page.count("<script") == page.count("</script") == 3
    assert "alert(1)" in page
    assert "<!--" not in page
    assert "&" not in page.partition('id="sheet">')[2].partition("</script>")[0]


def test_the_policy_names_the_very_script_and_style_and_nothing_else() -> None:
    page = contact_sheet.render(sheet(tile()))
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    hashes = {}
    for name in ("script", "style"):
        [text] = re.findall(rf"<{name}>(.*?)</{name}>", page, flags=re.DOTALL)
        hashes[name] = "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert "\r" not in text  # browsers would make it \n before they hash it
    assert policy == (
        f"default-src 'none'; img-src data:; style-src '{hashes['style']}'; "
        f"script-src '{hashes['script']}'; base-uri 'none'; form-action 'none'"
    )
    assert re.findall(r"https?://|@import|url\(| on[a-z]+=| style=", page) == []


def test_pictures_and_tiles_come_back_out_of_the_page() -> None:
    tiles = [
        tile(str(number), score=number / 7, suggested="toilet", group=3, section="s")
        for number in range(130)
    ]
    made = sheet(*tiles)
    page = contact_sheet.render(made)
    blocks = re.findall(
        r'<script type="text/plain" id="p(\d+)">(.*?)</script>', page, flags=re.DOTALL
    )
    assert [int(number) for number, _ in blocks] == [0, 1, 2]
    lines = itertools.chain.from_iterable(block.split("\n") for _, block in blocks)
    assert list(map(base64.b64decode, lines)) == [one.jpeg for one in tiles]
    summary = json.loads(page.partition('id="sheet">')[2].partition("</script>")[0])
    assert (summary["id"], summary["classes"], summary["asks_about_labels"]) == (
        made.sheet_id,
        list(CLASSES),
        False,
    )
    assert summary["tiles"][1] == {
        "image_id": "1",
        "listing_id": "L1",
        "content_digest": "d" * 64,
        "score": 0.1429,
        "suggested": "toilet",
        "label": None,
        "group": 3,
        "section": "s",
    }


@pytest.mark.parametrize("score", [None, float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_none(score: float | None) -> None:
    assert '"score":null' in contact_sheet.render(sheet(tile(score=score)))


def test_the_page_is_valid_utf_8_whatever_the_ids_are() -> None:
    page = contact_sheet.render(sheet(tile("half \ud800")))
    assert page.encode("utf-8").decode("utf-8") == page
    # as JSON's escape, from which the browser makes the same again
    assert '"image_id":"half \\ud800"' in page


# Ids and parts


def test_another_sheet_has_another_id() -> None:
    ids = [
        made.sheet_id
        for made in (
            sheet(tile("a"), tile("b")),
            sheet(tile("b"), tile("a")),
            sheet(tile("a")),
            sheet(tile("a"), kind="second_look"),
            sheet(tile("a", label="toilet")),
            sheet(tile("a", content_digest="e" * 64)),
            ContactSheet("sample", ("kitchen", "toilet"), (tile("a"),), "Sample"),
        )
    ]
    assert len(set(ids)) == len(ids)
    assert sheet(tile("a"), tile("b")).sheet_id == ids[0]
    assert re.fullmatch("[0-9a-f]{16}", ids[0])


def test_more_images_than_fit_are_cut_in_their_order() -> None:
    tiles = [tile(str(number)) for number in range(7)]
    parts = contact_sheet.cut(tiles, "suggest", CLASSES, 3)
    assert list(itertools.chain.from_iterable(part.tiles for part in parts)) == tiles
    assert [(part.title, len(part.tiles)) for part in parts] == [
        ("Suggested images, 1 of 3", 3),
        ("Suggested images, 2 of 3", 3),
        ("Suggested images, 3 of 3", 1),
    ]
    assert [part.title for part in contact_sheet.cut(tiles, "sample", CLASSES, 7)] == ["Sample"]


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(OutputError) as raised:
        contact_sheet.cut([], "sample", CLASSES, 10)
    assert str(raised.value) == (
        "while making a contact sheet\n"
        "  expected: at least one image that can be shown\n"
        "  found:    none: each is broken, or no longer in the images table\n"
        "  do:       see the column status after `toiletspark embed`, or draw another sample"
    )


# Order


def embeddings(*angles: float) -> np.ndarray:
    """Directions in the plane, in degrees."""
    return np.array([(np.cos(np.radians(a)), np.sin(np.radians(a))) for a in angles], np.float32)


def names(result: list[Tile]) -> str:
    return " ".join(one.image_id for one in result)


def test_classes_then_bands_then_likeness() -> None:
    expected = [
        ("a", "kitchen", 0.99),
        ("b", "toilet", 0.6),
        ("c", "toilet", 0.99),
        ("d", None, None),
    ]
    expected += [
        ("e", "toilet", 0.96),
        ("f", "toilet", 0.95),
        ("g", "cellar", 0.5),
        ("h", "toilet", 0.97),
    ]
    tiles = [tile(name, suggested=suggested, score=score) for name, suggested, score in expected]
    result = arranged(tiles, embeddings(0, 0, 0, 0, 50, 20, 0, 80), CLASSES, 0.9999)
    # c has the highest score, then 20, 50 and 80 degrees from it
    assert names(result) == "c f e h b a g d"
    assert [one.section for one in result] == [
        *["toilet? 0.95 to 1"] * 4,
        "toilet? 0.5 to 0.8",
        "kitchen? 0.95 to 1",
        "cellar? 0.5 to 0.8",
        "no suggestion",
    ]
    assert {one.group for one in result if one.image_id in "abcdg"} == {0}
    assert len({one.group for one in result}) == 4


def test_without_suggestions_there_are_no_headings_and_without_embeddings_the_order_stays() -> None:
    tiles = [tile(name) for name in "abcd"]
    nothing = np.zeros((4, 1), np.float32)
    result = arranged(tiles, nothing, CLASSES, 0.9)
    assert (names(result), {one.section for one in result}) == ("a b c d", {""})
    assert [one.group for one in result] == [0, 1, 2, 3]
    scored = [replace(one, suggested="toilet", score=0.5 + n / 10) for n, one in enumerate(tiles)]
    assert names(arranged(scored, nothing, CLASSES, 0.9)) == "d c b a"


def test_a_queue_keeps_its_ranks_and_has_groups() -> None:
    tiles = [tile(name, suggested="toilet", score=0.5) for name in "abc"]
    result = grouped(tiles, embeddings(0, 90, 0), 0.9)
    assert [(one.image_id, one.group, one.section) for one in result] == [
        ("a", 0, ""),
        ("b", 1, ""),
        ("c", 0, ""),
    ]

"""The page of a run: foreign strings stay text, counts are right, no reader meets half a page."""

import base64
import dataclasses
import io
import itertools
import os
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from toiletspark.images import statuses
from toiletspark.reports import html
from toiletspark.reports.html import ImageCard
from toiletspark.reports.run_page import page as run_page
from toiletspark.reports.run_page.page import HeadFigures, RunPage, bars, render
from toiletspark.reports.run_page.version import VersionFacts
from toiletspark.sampling import evaluation_sample

HOSTILE = [
    "<script>alert(1)</script>",
    '"><script src=//evil.example/x.js></script>',
    '" onerror="alert(1)',
    "' onmouseover='alert(1)",
    "x onload=alert(1) ",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "{{7*7}}",
    "{% include '/etc/passwd' %}",
    "{# not a comment #}",
    "</style><style>body{display:none}</style>",
    "</title><h1>other page</h1>",
    "<!-- never closed",
    "]]><![CDATA[x",
    "&lt;b&gt; &amp;amp; &#60;script&#62; &nbsp",
    "\x00\x01\x07\x1b[31m\x7f",
    "\u202egpj.drowssap\u2066\u200b",
    "<base href=//evil.example>" + "A" * 20_000,
]


class Parsed(HTMLParser):
    """A page as a browser would split it: elements with attributes, and each one's text.

    Attributes:
        elements: Tag and attributes of every element, in the order of the page.
        texts: The text inside every element, verbatim; same order and length as elements.
    """

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[self.elements[index][0] for index in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")
        if tag not in {"meta", "img", "br"}:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        opened = self.elements[self._open.pop()][0]
        assert opened == tag, f"<{opened}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.texts[index] += data

    def of(self, tag: str, **attributes: str) -> list[str]:
        """Texts of a tag's elements that have all the attributes; white space is collapsed."""
        return [
            " ".join(text.split())
            for (name, result), text in zip(self.elements, self.texts, strict=True)
            if name == tag and attributes.items() <= result.items()
        ]

    def verbatim(self, tag: str) -> list[str]:
        """Returns the texts of a tag's elements, exactly as they stand."""
        return [
            text for (name, _), text in zip(self.elements, self.texts, strict=True) if name == tag
        ]


def jpeg(side_px: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side_px, side_px), "teal").save(buffer, "JPEG")
    return buffer.getvalue()


def card(
    image_id: str = "image-1", exclusion_score: float | None = 0.9, note: str = "toilet"
) -> ImageCard:
    return ImageCard(image_id, "listing-1", exclusion_score, jpeg(), note)


VALIDATION = HeadFigures(
    {"recall": 0.95, "precision": 0.92, "accuracy": 0.969, "n": 1340},
    {"recall": (0.91, 0.98)},
    "catalog",
)


def page(**changes: object) -> RunPage:
    plain = RunPage(
        title="Exclusion run",
        run_id="run-1",
        made_from=[("head", "ab12")],
        made_at="2025-01-03 04:12 UTC",
        facts=[("images in", "1,300")],
        unscored={"missing": 12, "timeout": 1_200},
        seconds={"embed": 75.0, "score": 0.42},
        validation=VALIDATION,
        operating_threshold=0.62,
        threshold_reason="min_recall 0.95",
        score_histogram=[1000, 20, 0, 3, 80],
        excluded=[card()],
        excluded_total=1,
        borderline=[card("image-2", 0.6)],
        warnings=["The backbone is randomly initialised."],
        version=VersionFacts(1),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def hostile_page(text: str) -> RunPage:
    """Returns a page that holds the text wherever a caller's string can stand."""
    cards = [ImageCard(text, text, 0.9, jpeg(), text), ImageCard(text, text, None, None, text)]
    return page(
        title=text,
        run_id=text,
        made_from=[(text, text)],
        made_at=text,
        facts=[(text, text)],
        unscored={text: 1},
        seconds={text: 1.0},
        validation=HeadFigures({text: 0.5}, {}, text),
        threshold_reason=text,
        excluded=cards,
        borderline=cards,
        warnings=[text],
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_stays_text(text: str) -> None:
    parsed = Parsed(render(hostile_page(text)))
    plain = Parsed(render(hostile_page("plain")))

    assert [tag for tag, _ in parsed.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(result) for _, result in parsed.elements] == [
        sorted(result) for _, result in plain.elements
    ]
    assert "script" not in {tag for tag, _ in parsed.elements}
    assert parsed.verbatim("title")[0] == text
    assert parsed.verbatim("bdi").count(text) == plain.verbatim("bdi").count("plain") == 26


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_opens_no_way_out(text: str) -> None:
    elements = Parsed(render(hostile_page(text))).elements
    attributes = list(itertools.chain.from_iterable(result.items() for _, result in elements))

    assert [name for name, _ in attributes if name.startswith("on")] == []
    addresses = [
        value
        for name, value in attributes
        if name in {"href", "src", "srcset", "action", "xlink:href"}
    ]
    assert len(addresses) == 2  # the two cards that have a thumbnail
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert [value for name, value in attributes if name == "title"].count(text) == 12
    assert f"Thumbnail of image {text}" in [value for name, value in attributes if name == "alt"]


def test_the_policy_forbids_everything_but_thumbnails_and_style() -> None:
    policies = [
        result
        for tag, result in Parsed(render(page())).elements
        if tag == "meta" and "http-equiv" in result
    ]

    content = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert policies == [{"http-equiv": "Content-Security-Policy", "content": content}]


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = render(page())

    assert (
        "http://" not in text
        and "https://" not in text
        and "url(" not in text
        and "@import" not in text
    )


def test_cards_keep_the_order_given() -> None:
    given = ["c", "a", "e", "b", "d"]

    parsed = Parsed(
        render(
            page(excluded=[card(image_id) for image_id in given], excluded_total=5, borderline=[])
        )
    )

    assert [text for text in parsed.of("p", **{"class": "id"}) if text.startswith("image ")] == [
        f"image {image_id}" for image_id in given
    ]


def test_a_thumbnail_comes_back_byte_for_byte() -> None:
    content = jpeg(side_px=64)

    parsed = Parsed(
        render(page(excluded=[dataclasses.replace(card(), thumbnail_jpeg=content)], borderline=[]))
    )

    (address,) = [result["src"] for tag, result in parsed.elements if tag == "img"]
    assert base64.b64decode(address.removeprefix("data:image/jpeg;base64,")) == content


@pytest.mark.parametrize("content", [None, b""])
def test_an_unreadable_image_has_a_placeholder(content: bytes | None) -> None:
    parsed = Parsed(
        render(page(excluded=[dataclasses.replace(card(), thumbnail_jpeg=content)], borderline=[]))
    )

    assert "img" not in {tag for tag, _ in parsed.elements}
    assert parsed.of("span", **{"class": "placeholder"}) == [
        "no thumbnail:the image could not be read"
    ]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_card_without_a_score_says_so(missing: float | None) -> None:
    parsed = Parsed(
        render(
            page(
                excluded=[], borderline=[card(exclusion_score=missing), card(exclusion_score=0.25)]
            )
        )
    )

    assert parsed.of("p", **{"class": "score"}) == ["no score", "0.250 below"]


def test_a_borderline_card_says_on_which_side_of_the_threshold_it_lies() -> None:
    scores = [0.61, 0.62, 0.63]

    parsed = Parsed(
        render(page(excluded=[], borderline=[card(exclusion_score=score) for score in scores]))
    )

    assert parsed.of("p", **{"class": "score"}) == [
        "0.610 below",
        "0.620 at or above",
        "0.630 at or above",
    ]


@pytest.mark.parametrize(
    ("shown", "total", "heading"),
    [
        (0, 0, "Excluded: 0"),
        (1, 1, "Excluded: 1"),
        (120, 120, "Excluded: 120"),
        (120, 172, "Excluded: 172, the 120 most certain shown"),
        (2, 1_234_567, "Excluded: 1,234,567, the 2 most certain shown"),
    ],
)
def test_the_heading_counts_all_and_those_shown(shown: int, total: int, heading: str) -> None:
    parsed = Parsed(render(page(excluded=[card()] * shown, excluded_total=total)))

    assert parsed.of("h2", id="excluded") == [heading]


def test_counts_of_unscored_borderline_and_scored_images() -> None:
    parsed = Parsed(render(page()))

    assert parsed.of("h2", id="unscored") == ["Unscored: 1,212"]
    assert parsed.of("h2", id="borderline") == ["Borderline: 1"]
    assert parsed.of("h2", id="scores") == ["Exclusion scores: 1,103 images"]
    rows = [row for row in parsed.of("tr") if row.startswith(("missing", "timeout"))]
    assert rows == [
        "timeoutThe image did not arrive in the time allowed.1,200",
        "missingThere was no image at the address.12",
    ]


def test_every_status_of_the_design_has_a_meaning() -> None:
    not_fetched = ["missing", "denied", "refused", "bad_url", "timeout", "bad_answer", "too_large"]
    not_decoded = ["not_an_image", "truncated", "too_many_pixels", "too_small", "decode_failed"]
    ended_the_decoder = ["decode_timeout", "busy", "out_of_memory", "crashed"]
    assert set(statuses.MEANINGS) == {*not_fetched, *not_decoded, *ended_the_decoder}


def test_empty_parts_say_that_they_are_empty() -> None:
    nothing: dict[str, object] = {
        "facts": [],
        "score_histogram": [],
        "excluded": [],
        "borderline": [],
    }
    without: dict[str, object] = {"unscored": {}, "seconds": {}, "validation": None, "warnings": []}
    empty = page(**nothing, **without, excluded_total=0)

    parsed = Parsed(render(empty))

    assert parsed.of("p", **{"class": "empty"}) == [
        "No numbers were given for this run.",
        "Not measured for this version. toiletspark leaks draw draws a small sample to label.",
        "The head was not validated on held-out images, "
        "so its accuracy, precision and recall are not known.",
        "No image was scored in this run.",
        "Nothing was excluded in this run.",
        "No image is near the operating threshold.",
        "Every image of this run was scored.",
        "There is no earlier version to compare the scores with.",
        "No times were measured in this run.",
    ]
    assert parsed.of("h2", id="warnings") == []


def test_a_full_page_has_no_empty_part() -> None:
    parsed = Parsed(render(page()))

    of_version = [
        "Not measured for this version. toiletspark leaks draw draws a small sample to label.",
        "There is no earlier version to compare the scores with.",
    ]
    assert parsed.of("p", **{"class": "empty"}) == of_version
    assert parsed.of("h2", id="warnings") == ["Read this first"]


def test_excluded_images_without_cards_are_not_called_none() -> None:
    parsed = Parsed(render(page(excluded=[], excluded_total=172)))

    assert "None of the excluded images is shown on this page." in parsed.of(
        "p", **{"class": "empty"}
    )


def test_validation_and_times_are_said_as_people_say_them() -> None:
    expected = Parsed(render(page())).of("dd") + Parsed(render(page())).of(
        "td", **{"class": "number"}
    )

    assert {"96.9 %", "92.0 %", "95.0 %91.0 to 98.0", "1,340", "1 min 15 s", "0.4 s"} <= set(
        expected
    )


@pytest.mark.parametrize(
    "figures_of",
    [
        evaluation_sample.CATALOG,
        evaluation_sample.PART,
        evaluation_sample.UNLABELLED,
        evaluation_sample.LABELLED,
    ],
)
def test_figures_say_what_they_are_figures_of(figures_of: str) -> None:
    parsed = Parsed(render(page(validation=HeadFigures({"recall": 0.95}, {}, figures_of))))

    assert run_page.POPULATIONS[figures_of] in parsed.of("p", **{"class": "lead"})


def test_a_precision_of_nothing_is_unknown() -> None:
    parsed = Parsed(
        render(
            page(
                validation=HeadFigures(
                    {"precision": float("nan"), "n": 3}, {"precision": (0.0, 1.0)}, "catalog"
                )
            )
        )
    )

    assert {"unknown", "3"} <= set(parsed.of("dd"))


def test_the_reason_for_the_threshold_is_told_where_there_is_one() -> None:
    assert "Why 0.62: <bdi>min_recall 0.95</bdi>." in render(page())
    assert "Why 0.62" not in render(page(threshold_reason=""))


def test_bars_are_split_at_the_operating_threshold() -> None:
    parsed = Parsed(render(page(operating_threshold=0.62, score_histogram=[1000, 20, 0, 3, 80])))

    rects = [result for tag, result in parsed.elements if tag == "rect" and "class" in result]
    edges = [
        (result["class"], float(result["x"][:-1]), float(result["width"][:-1])) for result in rects
    ]
    assert edges == [
        ("kept", 0, 20),
        ("kept", 20, 20),
        ("kept", 60, 2),
        ("excluded", 62, pytest.approx(18)),
        ("excluded", 80, 20),
    ]
    (line,) = [
        result
        for tag, result in parsed.elements
        if tag == "line" and result["class"] == "threshold"
    ]
    assert line["x1"] == line["x2"] == "62.0%"


@pytest.mark.parametrize(("threshold", "left"), [(0.0, "0.0%"), (1.0, "100.0%"), (1.5, "100.0%")])
def test_a_threshold_at_or_past_the_end_stays_in_the_plot(threshold: float, left: str) -> None:
    parsed = Parsed(render(page(operating_threshold=threshold)))

    (line,) = [
        result
        for tag, result in parsed.elements
        if tag == "line" and result["class"] == "threshold"
    ]
    assert line["x1"] == left


def test_a_bar_is_taller_when_it_counts_more_and_a_single_image_is_seen() -> None:
    counts = [0, 1, 10, 999, 1000]

    tops = [bar.top for bar in bars(counts, 0.5)]

    assert tops == sorted(tops, reverse=True)
    assert tops[0] == 100 and tops[-1] == 0
    assert 100 - tops[1] > 5


def test_write_replaces_the_page_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "made" / "run.html"

    html.write(str(path), "the first")
    html.write(str(path), "the second")

    assert path.read_text(encoding="utf-8") == "the second"
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_page_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.html"
    path.write_text("the old page")
    moved = []

    def refuse(source: Path, target: Path) -> None:
        moved.append((source.parent, source.read_bytes(), str(target)))
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no space left"):
        html.write(str(path), render(page()))

    # complete before it is moved, and on the same disk
    assert moved == [(tmp_path, render(page()).encode(), str(path))]
    assert path.read_text() == "the old page"
    assert list(tmp_path.iterdir()) == [path]


def test_an_id_that_has_no_utf_8_form_does_not_cost_the_page(tmp_path: Path) -> None:
    html.write(str(tmp_path / "run.html"), render(page(excluded=[card("bad\udcff.jpg")])))

    assert "bad\\udcff.jpg" in (tmp_path / "run.html").read_text(encoding="utf-8")


def test_the_page_renders_from_a_zipped_package(tmp_path: Path) -> None:
    package = Path(run_page.__file__).parents[2]
    archive = tmp_path / "toiletspark.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted(
            [*package.rglob("*.py"), *(package / "reports" / "templates").iterdir()]
        ):
            zipped.write(path, path.relative_to(package.parent))
    code = (
        "from toiletspark.reports.run_page import page as r; print(r.__file__); "
        "page = r.RunPage('zipped', '', [], '', [], {}, {}, None, 0.5, '', [1], [], 0, [], [], "
        "r.VersionFacts(1)); print(r.render(page))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(archive)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    origin, text = done.stdout.split("\n", 1)
    assert origin.startswith(str(archive))
    assert Parsed(text).of("h1") == ["zipped"]

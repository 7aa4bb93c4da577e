"""The page of a head: its claims and their limits, foreign strings as text, stable plots."""

import base64
import copy
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.reports.test_run_page import HOSTILE, Parsed, jpeg
from tests.training.test_evaluate import CONFIG, HEAD, SAMPLE, examples
from toiletspark.reports.head_page import page as head_page
from toiletspark.reports.head_page import plots
from toiletspark.reports.head_page.page import headline, population, render
from toiletspark.sampling.estimates import Share
from toiletspark.sampling.evaluation import Evaluation, LearningCurve, LearningPoint
from toiletspark.training.evaluation.evaluate import evaluate

MADE: dict[str, Any] = {
    "run_id": "20261124T120000000000Z-ab12",
    "training_set": "t1",
    "trained_on": 1200,
    "corrupt": 0,
}


@pytest.fixture(scope="module")
def made() -> Evaluation:
    result, labels = examples(360, strata=4)
    few = [f"S{min(number // 3 % 40, 2)}" for number in range(360)]
    torn = type(result)(**{**result.__dict__, "stratum": few})
    return replace(evaluate(HEAD, torn, labels, SAMPLE, 0.5, CONFIG), **MADE)


@pytest.fixture
def evaluation(made: Evaluation) -> Evaluation:
    return copy.deepcopy(made)


def shared(value: float | None, low: float, high: float) -> Share:
    return Share(value, low, high, 10)


def warnings(evaluation: Evaluation) -> str:
    return "".join(Parsed(render(evaluation, {})).of("section", **{"class": "warnings"}))


def test_the_headline_is_one_sentence_of_what_counts(evaluation: Evaluation) -> None:
    shares = {
        "recall": shared(0.931, 0.902, 0.953),
        "good_images_lost": shared(0.006, 0.003, 0.011),
    }
    shares = {**evaluation.shares, **shares}
    evaluation = replace(evaluation, exclude_classes=["toilet"], shares=shares)
    assert headline(evaluation) == (
        "Of the catalog's toilet photos this head finds 93.1 % (90.2 to 95.3); "
        "of the good photos it loses 0.6 % (0.3 to 1.1)."
    )
    draw = replace(evaluation.draw, said=" (which leaves 3 strata out)")
    evaluation = replace(evaluation, figures_of="part of the catalog", draw=draw)
    assert headline(evaluation).startswith(
        "Of the toilet photos like those that were drawn and labelled this head finds"
    )
    assert "not for the whole catalog" in population(evaluation)
    assert f"the sample {evaluation.draw.run_id} (which leaves 3 strata out)" in warnings(
        evaluation
    )
    evaluation = replace(evaluation, figures_of="unlabelled images")
    assert headline(evaluation).startswith(
        "Of the toilet photos that nobody had labelled this head finds 93.1 %"
    )
    assert "not for the whole catalog" in population(evaluation)
    evaluation = replace(evaluation, figures_of="labelled images")
    assert headline(evaluation).startswith(
        "Of the labelled toilet photos that it had not seen this head finds 93.1 %"
    )
    assert "these are no estimates for the catalog" in population(evaluation)
    assert "none of the held-out images was drawn at random" in warnings(evaluation)


def test_the_page_tells_weighted_beside_plain_figures(evaluation: Evaluation) -> None:
    evaluation.shares["recall"] = shared(0.9, 0.8, 0.95)
    evaluation.naive["recall"] = 0.97
    parsed = Parsed(render(evaluation, {}))
    (row,) = [text for text in parsed.of("tr") if text.startswith("recall")]
    assert row == "recall90.0 %80.0 to 95.0 97.0 %"
    assert parsed.of("th", scope="col")[:3] == ["figure", "of the catalog", "plain"]


def test_thin_strata_are_named_and_nothing_is_claimed_of_them(evaluation: Evaluation) -> None:
    parsed = Parsed(render(evaluation, {}))
    (summary,) = parsed.of("summary")
    assert summary.startswith("2 strata are too thin for an estimate")
    rows = [text for text in parsed.of("tr") if text.startswith(("S0", "S1", "S2"))]
    assert [row[:2] for row in rows] == ["S2", "S1", "S0"]  # by their part of the whole
    assert "%" in rows[0]
    assert "%" not in rows[1] + rows[2]


def test_few_toilets_and_none_are_told_first(evaluation: Evaluation) -> None:
    assert warnings(evaluation) == ""
    evaluation.shares["recall"] = shared(0.8, 0.4, 0.9)
    assert "so the share that stays in the feed is hardly known" in warnings(evaluation)
    evaluation.shares["recall"] = shared(None, 0.0, 1.0)
    assert "None of the images that should be excluded was held out" in warnings(evaluation)


def test_what_others_add_is_shown_where_it_is_there(evaluation: Evaluation) -> None:
    plain = Parsed(render(evaluation, {}))
    assert plain.of("h2", id="champion") == plain.of("h2", id="learning") == []
    share = shared(0.9, 0.85, 0.94)
    evaluation = replace(
        evaluation,
        threshold_reason="min_recall 0.95 by the estimate",
        naive_split={"accuracy": 0.991, "precision": 0.5, "recall": None, "n": 77},
        champion={
            "head_id": "6ea2",
            "verdict": "not distinguishable",
            "n": 300,
            "sentence": "It may be luck.",
            "differences": {
                "recall": {"value": 0.012, "low": -0.003, "high": 0.027},
                "precision": {"value": None, "low": None, "high": None},
            },
        },
        learning_curve=LearningCurve(
            [LearningPoint(part, int(200 * part), share, share, share) for part in (0.5, 1.0)],
            "More labels are worth it.",
        ),
    )
    parsed = Parsed(render(evaluation, {}))
    assert "Why this threshold: min_recall 0.95 by the estimate" in parsed.of(
        "p", **{"class": "lead"}
    )
    assert "It may be luck." in parsed.of("p", **{"class": "lead"})
    rows = parsed.of("tr")
    assert "recall +1.2 points (-0.3 to +2.7)" in [
        row.replace("recall+", "recall +") for row in rows
    ]
    assert "precisionunknown" in rows
    assert any(row.startswith("accuracy") and row.endswith("99.1 %") for row in rows)
    assert len(parsed.of("img")) == len(plain.of("img")) + 1
    assert parsed.of("figcaption")[-1] == "More labels are worth it."


def test_mistakes_are_shown_with_their_thumbnails(evaluation: Evaluation) -> None:
    missed = [row for row in evaluation.mistakes if row.kind == "missed"]
    parsed = Parsed(render(evaluation, {missed[0].image_id: jpeg()}))
    pictures = [
        given["src"] for name, given in parsed.elements if name == "img" and "jpeg" in given["src"]
    ]
    assert [base64.b64decode(src.partition(",")[2]) for src in pictures] == [jpeg()]
    assert f"Missed: {len(missed)} shown" in parsed.of("h3")
    notes = parsed.of("p", **{"class": "note"})
    assert len(notes) == len(evaluation.mistakes)
    expected = missed[0].said
    share = missed[0].probabilities[expected]
    assert notes[0] == f"labelled a; {expected} {share:.2f}; {missed[0].stratum}"
    alone = Parsed(render(evaluation, {})).of("span", **{"class": "placeholder"})
    assert set(alone) == {"no thumbnail:this page was made without the images"}
    evaluation = replace(evaluation, mistakes=[])
    assert "No held-out image was decided wrongly." in Parsed(render(evaluation, {})).of(
        "p", **{"class": "empty"}
    )


def hostile_evaluation(evaluation: Evaluation, text: str) -> Evaluation:
    """With the text wherever strangers may have a say."""
    one = dict.fromkeys(("image_id", "listing_id", "stratum", "label", "content_digest"), text)
    champion = {"head_id": text, "verdict": text, "n": 1, "differences": {}, "sentence": text}
    return replace(
        evaluation,
        threshold_reason=text,
        mistakes=[replace(evaluation.mistakes[0], **one)],
        per_stratum=[replace(row, stratum=text) for row in evaluation.per_stratum],
        champion=champion,
        training_set=text,
    )


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_stays_text(
    made: Evaluation, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    # which hold nothing of strangers, and take time
    monkeypatch.setattr(head_page, "_plots", lambda evaluation: [])
    parsed, plain = (
        Parsed(render(hostile_evaluation(made, one), {one: jpeg()})) for one in (text, "plain")
    )
    assert [tag for tag, _ in parsed.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(given) for _, given in parsed.elements] == [
        sorted(given) for _, given in plain.elements
    ]
    assert not {"script", "link", "iframe", "base", "form", "object"} & {
        tag for tag, _ in parsed.elements
    }
    names = itertools.chain.from_iterable(given for _, given in parsed.elements)
    assert [name for name in names if name.startswith("on")] == []
    sources = [given["src"] for tag, given in parsed.elements if tag == "img"]
    assert all(source.startswith("data:image/") for source in sources)
    assert parsed.verbatim("bdi").count(text) == plain.verbatim("bdi").count("plain") >= 8


def test_the_page_loads_nothing_and_runs_nothing(evaluation: Evaluation) -> None:
    html = render(evaluation, {})
    parsed = Parsed(html)
    (policy,) = [given["content"] for _, given in parsed.elements if "http-equiv" in given]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert (
        "http://" not in html
        and "https://" not in html
        and "url(" not in html
        and "@import" not in html
    )
    images = [given for tag, given in parsed.elements if tag == "img"]
    assert len(images) == 3
    assert all(
        len(given["alt"]) > 30 and given["src"].startswith("data:image/svg+xml;base64,")
        for given in images
    )


def test_page_and_json_lie_side_by_side(evaluation: Evaluation, tmp_path: Path) -> None:
    evaluation.mistakes[0] = replace(evaluation.mistakes[0], image_id="bad\udcff.jpg")
    index = Path(head_page.write(str(tmp_path), evaluation, {}))
    assert index == tmp_path / "reports" / f"head-{MADE['run_id']}.html"
    assert "bad\\udcff.jpg" in index.read_text(encoding="utf-8")
    assert json.loads(index.with_suffix(".json").read_text()) == evaluation.as_json()


# Plots


def test_plots_are_the_same_twice_and_hold_no_date(evaluation: Evaluation) -> None:
    points, shares = evaluation.curves.points, evaluation.shares
    for first, second in (
        (plots.precision_recall(points, shares), plots.precision_recall(points, shares)),
        (plots.roc(points, shares), plots.roc(points, shares)),
        (
            plots.reliability(evaluation.calibration),
            plots.reliability(evaluation.calibration),
        ),
    ):
        assert first == second
        assert first.startswith(b"<?xml") and b"<dc:date>" not in first and b"<script" not in first


def test_a_plot_shows_the_operating_threshold_if_it_has_a_point(evaluation: Evaluation) -> None:
    points, shares = evaluation.curves.points, evaluation.shares
    assert b"operating threshold" in plots.roc(points, shares)
    shares["precision"] = shared(None, 0.0, 1.0)
    assert b"operating threshold" not in plots.precision_recall(points, shares)


def test_legends_name_the_line_and_its_interval_apart(evaluation: Evaluation) -> None:
    def texts(svg: bytes) -> list[str]:
        return re.findall(r">([^<>]+)</text>", svg.decode())

    points, shares = evaluation.curves.points, evaluation.shares
    curve = [LearningPoint(0.5, 600, *[shared(0.9, 0.8, 0.95)] * 3)]
    for line, svg in (
        ("precision", plots.precision_recall(points, shares)),
        ("recall", plots.roc(points, shares)),
        ("accuracy", plots.learning_curve(curve)),
    ):
        assert texts(svg).count(line) == 2  # of the axis and of the legend
        assert texts(svg).count("95 % interval") == 1
    bare = [replace(point, intervals={}) for point in points]
    assert "95 % interval" not in texts(plots.roc(bare, shares))
    assert "bin of images, 95 % interval" in texts(plots.reliability(evaluation.calibration))


def test_the_page_is_imported_without_matplotlib() -> None:
    code = (
        "import sys, toiletspark.reports.head_page.page, toiletspark.jobs.train_head; "
        "print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

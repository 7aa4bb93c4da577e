"""The page of a sample and its preview: foreign names stay text, figures follow the formulas."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conftest import literal_config
from tests.reports.test_run_page import HOSTILE, Parsed
from toiletspark.jobs import cli
from toiletspark.launch.job import Job
from toiletspark.reports.sample_page import preview
from toiletspark.reports.sample_page.page import (
    SamplePage,
    StratumRow,
    as_json,
    design_effect,
    render,
)
from toiletspark.sampling.allocation import Stratum


def row(stratum: str = "a | rent", **changes: Any) -> StratumRow:
    plain = StratumRow(stratum, 1000, 4000, 40, 40, 70, 0.04, 0.155, False)
    return dataclasses.replace(plain, **changes)


def page(*rows: StratumRow) -> SamplePage:
    how = [("allocation", "sqrt"), ("weighed by", "<b>views</b>")]
    return SamplePage(
        "run-1", "2026-11-24 12:00 UTC", "listing", how, 2, 0.18, 0.75, 0.8, 1.25, 56.0, list(rows)
    )


def test_the_design_effect_by_hand() -> None:
    assert design_effect(3, 9.0, 27.0) == 1
    assert design_effect(2, 4.0, 10.0) == 1.25
    assert math.isnan(design_effect(0, 0.0, 0.0))


def test_images_as_units_are_told_once() -> None:
    listings = page(row())
    images = dataclasses.replace(page(row()), unit="image")
    assert Parsed(render(listings)).of("th")[1:6] == [
        "listings",
        "images",
        "asked",
        "got",
        "images got",
    ]
    assert Parsed(render(images)).of("th")[1:4] == ["images", "asked", "got"]
    cells = [len(Parsed(render(one)).of("td")) for one in (listings, images)]
    assert cells == [18, 14]  # of the sum and of one stratum


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_strata_stay_text(text: str) -> None:
    plain = Parsed(render(page(row(), row())))
    parsed = Parsed(render(page(row(text), row())))
    assert [name for name, _ in parsed.elements] == [name for name, _ in plain.elements]
    assert [given for _, given in parsed.elements] == [given for _, given in plain.elements]
    assert text in parsed.verbatim("bdi")
    assert not {"script", "link", "img", "iframe", "base", "form"} & {
        name for name, _ in parsed.elements
    }
    assert json.loads(json.dumps(as_json(page(row(text)))))["strata"][0]["stratum"] == text


def test_the_page_says_what_cannot_be_said() -> None:
    out = row("gone", asked=0, got=0, images_got=0, fraction=0.0, half_width=None, thin=True)
    luckless = row("luckless", got=0, images_got=0, half_width=None, thin=True)
    few = row("few", got=5, images_got=8, half_width=0.438, thin=True)
    parsed = Parsed(render(page(out, luckless, few, row())))
    warnings = parsed.of("li")
    assert warnings[0].startswith(
        "1 of 4 strata had no chance to be drawn: they hold 4,000 images, 25.0 % of the catalog."
    )
    assert warnings[1] == "1 strata were asked, but nothing was drawn from them by chance."
    assert warnings[2].startswith(
        "3 of 4 strata, with 75.0 % of the images, are too thin for an estimate of their own"
    )
    cells = parsed.of("td")
    assert [cells[at] for at in range(8, len(cells), 9)] == [
        "",
        "no chance",
        "nothing drawn",
        "thin",
        "",
    ]
    assert parsed.of("tr", **{"class": "sum"}) == ["in all4,00016,00012045" + "78"]
    assert "as precise as 56 images of equal weight" in parsed.of("dd", **{"class": "meaning"})


def test_a_sample_without_a_flaw_warns_of_nothing() -> None:
    parsed = Parsed(render(page(row())))
    assert parsed.of("section", **{"class": "warnings"}) == []
    (policy,) = (given["content"] for name, given in parsed.elements if given.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


# The preview


def test_a_preview_is_a_table_or_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    cells = [
        Stratum("[red]a[/red]\x1b[31m | rent", 2500, 2500, 1.0),
        Stratum("b | sale", 10, 10, 1.0),
    ]
    summary = preview.preview(cells, {cells[0].name: 25, "b | sale": 0}, literal_config().sample)
    preview.show(summary, False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    rows = [
        [part.strip() for part in line.split("│")[1:-1]]
        for line in shown.splitlines()
        if line.startswith("│")
    ]
    assert rows == [
        ["[red]a[/red]\N{REPLACEMENT CHARACTER}[31m | rent", "2,500", "25", "0.0100", "100.00"],
        ["b | sale", "10", "0", "0.0000", "none"],
        ["in all", "2,510", "25", "0.0100", "100.40"],
    ]
    preview.show(summary, True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["strata"][1] == {
        "stratum": "b | sale",
        "N": 10,
        "n": 0,
        "fraction": 0.0,
        "weight": None,
    }


@pytest.mark.parametrize(
    ("expected", "job"), [([], "draw_sample"), (["--preview"], "preview_sample")]
)
def test_the_command_previews_when_asked(
    monkeypatch: pytest.MonkeyPatch, expected: list[str], job: str
) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(Job, "run", lambda *arguments: ran.append(arguments))
    done = CliRunner().invoke(cli.app, ["sample", "--json", "--set", "sample.size=3", *expected])
    assert done.exit_code == 0, done.output
    ((started, files, sets, as_object),) = ran
    assert (started.name, files, sets, as_object) == (job, [], ["sample.size=3"], True)
    assert (started.show is preview.show) == started.read_only == bool(expected)
    assert Path(started.step.__code__.co_filename).stem == job

"""The `toiletspark` command: the steps of jobs/, for people.

It stands above jobs/; in toiletspark/, only it and `cli_publish` know them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from toiletspark.config.command_line import AsJson, ConfFiles, Sets, show, told_errors
from toiletspark.errors import UserError
from toiletspark.jobs import cli_publish

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
labels_app = typer.Typer(no_args_is_help=True)
app.add_typer(
    labels_app, name="labels", help="What people are asked about images, and what they say."
)
leaks_app = typer.Typer(no_args_is_help=True)
app.add_typer(
    leaks_app,
    name="leaks",
    help="How many toilets are still in the feed, by the labels of a small sample.",
)


class Failures(StrEnum):
    """Which of the images whose last attempt failed are tried again."""

    transient = "transient"
    failed = "failed"


class Kind(StrEnum):
    """Which queue people are asked about."""

    suggest = "suggest"
    second_look = "second_look"
    leaks = "leaks"


Retry = Annotated[
    Failures | None,
    typer.Option(
        help="Try only those images of the last run's catalog whose last status asks for it; nothing else."
    ),
]
Queue = Annotated[
    Kind | None,
    typer.Option(
        "--queue", help="The images of the newest queue of this kind; without it, labels.of."
    ),
]


def _command(job: str) -> Callable[..., None]:
    """A command that runs the step of a file in jobs/."""

    def run(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
        from toiletspark.launch import (
            job as entry,
        )  # Spark is imported when a step runs, not for --help

        entry.run_step(import_module(f"toiletspark.jobs.{job}").step, conf, sets, as_json)

    return run


def _asking_command(job: str) -> Callable[..., None]:
    """As `_command`, for the steps that put images before people."""

    def run(
        conf: ConfFiles = [], sets: Sets = [], queue: Queue = None, as_json: AsJson = False
    ) -> None:
        _command(job)(conf, [*sets, *_of(queue)], as_json)

    return run


def _of(queue: Kind | None) -> list[str]:
    return [f"labels.of={queue.value}"] if queue else []


def _retrying_command(job: str) -> Callable[..., None]:
    """As `_command`, for the steps that can be confined to the images whose last attempt failed."""

    def run(
        conf: ConfFiles = [], sets: Sets = [], retry: Retry = None, as_json: AsJson = False
    ) -> None:
        only = [f"embed.only_retry={retry.value}"] if retry else []
        _command(job)(conf, [*sets, *only], as_json)

    return run


for name, job, text in [
    ("run", "run_chain", "Every step in order, from the sample to the feed."),
    ("score", "score_catalog", "Score the catalog with a head, without reading images."),
    ("feed", "build_feed", "Build the feed without the excluded images."),
    ("report", "write_report", "Write the HTML page of the published version."),
]:
    app.command(name, help=text)(_command(job))
app.command("publish")(cli_publish.publish)
app.command("embed", help="Embed the images that have no embedding yet.")(
    _retrying_command("embed_images")
)
app.command("rescore", help="Embed what is new, score, publish: what a scheduler calls.")(
    _retrying_command("rescore_catalog")
)
labels_app.command("second-look", help="Rank the labels that are most likely wrong.")(
    _command("second_look")
)
labels_app.command("tasks", help="Write tasks for Label Studio, with suggestions.")(
    _asking_command("write_tasks")
)
labels_app.command(
    "sheet",
    help="Write the contact sheet: one HTML file to label the sample, or a queue, in a browser.",
)(_asking_command("make_sheet"))


@app.command()
def train(
    conf: ConfFiles = [],
    sets: Sets = [],
    accept_worse: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Use the head though it is worse than the live one (train.accept_worse).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a head to the labelled embeddings, and compare it with the live one."""
    with told_errors():
        if accept_worse is not None and not accept_worse.strip():
            raise UserError(
                doing="reading --accept-worse",
                expected="the reason, in words, why a worse head shall be used; it is kept with the head",
                found="an empty one",
                todo='say why, as in --accept-worse "the old one knows no bathrooms"',
            )
    accepted = (
        [f"train.accept_worse={json.dumps(accept_worse, ensure_ascii=False)}"]
        if accept_worse
        else []
    )
    _command("train_head")(conf, [*sets, *accepted], as_json)


@app.command()
def sample(
    conf: ConfFiles = [],
    sets: Sets = [],
    preview: Annotated[
        bool,
        typer.Option(
            "--preview", help="Only print what each stratum would give; draws and writes nothing."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Draw the stratified sample, or preview it."""
    if not preview:
        return _command("draw_sample")(conf, sets, as_json)
    from toiletspark.launch import job as entry
    from toiletspark.reports.sample_page import preview as table

    entry.run_step(
        import_module("toiletspark.jobs.preview_sample").step, conf, sets, as_json, table.show
    )


@labels_app.command("export")
def export_labels(
    presort: Annotated[
        bool,
        typer.Option(
            "--presort", help="Into the class folders, by the newest scores (labels.presort)."
        ),
    ] = False,
    conf: ConfFiles = [],
    sets: Sets = [],
    queue: Queue = None,
    as_json: AsJson = False,
) -> None:
    """Put the images of the sample, or of a queue, into a folder with class folders."""
    presorted = ["labels.presort=true"] if presort else []
    _command("export_labels")(conf, [*sets, *_of(queue), *presorted], as_json)


@labels_app.command("import")
def import_labels(
    file: Annotated[
        Path | None,
        typer.Option(help="Of the contact sheet or of Label Studio (labels.file).", metavar="JSON"),
    ] = None,
    reviewed: Annotated[
        list[str],
        typer.Option(
            metavar="CLASS", help="You have looked through this class folder (labels.reviewed)."
        ),
    ] = [],
    conf: ConfFiles = [],
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Read the class folders, the labels table or a file; tell what has changed since the last import."""
    asked = [f"labels.file={json.dumps(str(file))}"] if file else []
    asked += [f"labels.reviewed={json.dumps(reviewed)}"] if reviewed else []
    _command("import_labels")(conf, [*sets, *asked], as_json)


@labels_app.command("suggest")
def suggest(
    n: Annotated[int | None, typer.Option("--n", min=1, help="How many (suggest.size).")] = None,
    conf: ConfFiles = [],
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Draw what to label next: what the head is unsure of, and a random part."""
    _command("suggest_labels")(conf, [*sets, *([f"suggest.size={n}"] if n else [])], as_json)


@leaks_app.command("draw")
def draw_leaks(
    n: Annotated[int | None, typer.Option("--n", min=1, help="How many (leaks.size).")] = None,
    conf: ConfFiles = [],
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Draw a sample of the published version, to be labelled with `labels sheet --queue leaks`."""
    _command("draw_leaks")(conf, [*sets, *([f"leaks.size={n}"] if n else [])], as_json)


@leaks_app.command("show")
def show_leaks(
    conf: ConfFiles = [],
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Tell what is still in the feed and what was lost, by the labels so far, for each version that has a sample."""
    from toiletspark.config import loading as conf_files
    from toiletspark.feed import leak_meter as leaks
    from toiletspark.tables.runs import Store

    with told_errors():
        config = conf_files.load(conf, sets)
        meters = leaks.trend(Store(config.output.root), config.labels)
    if as_json:
        show({"versions": [meter.told() for meter in meters]}, as_json)
    else:
        print(leaks.shown(meters))


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo puts everything.")] = Path(
        "toiletspark-demo"
    ),
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Draw a small catalog and run every step on it, on this machine."""
    from toiletspark.demo import tour
    from toiletspark.demo.catalog import draw_catalog
    from toiletspark.demo.labelling import label_like_a_person
    from toiletspark.jobs import draw_sample, export_labels, make_sheet, run_chain
    from toiletspark.launch import job as entry
    from toiletspark.launch import session

    started = time.monotonic()
    with told_errors():
        folder = folder.absolute()
        drawn = draw_catalog(folder / "catalog")
        drawing_s = round(time.monotonic() - started, 2)
        config = tour.settings(folder, drawn, sets)
        spark = session.start(config.spark)
        summary = entry.in_turn([draw_sample.step, export_labels.step], spark, config)
        label_like_a_person(Path(config.labels_folder), drawn.truth, tour.CLASS_OF_ROOM)
        summary = run_chain.from_labels(spark, config, summary)
        summary = entry.merged(summary, entry.in_turn([make_sheet.step], spark, config))
        spark.stop()
    summary["seconds"] = {"draw_catalog": drawing_s, **summary["seconds"]}
    tour.show(summary, config)
    if as_json:
        show(summary, as_json)


@app.command()
def doctor(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
    """Look in a minute for what would fail or slow down hours of work on the cluster at hand."""
    from toiletspark.jobs import (
        check_cluster,
    )  # Spark is imported when it is asked for, not for --help

    check_cluster.command(conf, sets, as_json)


@app.command()
def keys() -> None:
    """Print conf/base.toml: every key with its unit and reason."""
    from toiletspark.config.loading import base_text

    print(base_text())


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()

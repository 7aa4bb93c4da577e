"""The `toiletspark` command: the jobs, for people."""

import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from toiletspark.config.command_line import AsJson, ConfFiles, Sets, reported_errors, show
from toiletspark.errors import UserError
from toiletspark.jobs import cli_publish
from toiletspark.jobs.cli_publish import job_of, set_key

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
labels_app = typer.Typer(no_args_is_help=True)
leaks_app = typer.Typer(no_args_is_help=True)


class Failures(StrEnum):
    """The failed images that are tried again."""

    transient = "transient"
    failed = "failed"


class Queue(StrEnum):
    """A queue of images for people to label."""

    suggest = "suggest"
    second_look = "second_look"
    leaks = "leaks"


Retry = Annotated[
    Failures | None,
    typer.Option(
        "--retry", help="Try only the images of the last catalog that failed so; nothing else."
    ),
]
QueueName = Annotated[
    Queue | None,
    typer.Option("--queue", help="Use the newest queue of this kind; without it, labels.of."),
]
Number = Annotated[int | None, typer.Option("--n", min=1, help="The number of images.")]


def _plain_command(name: str) -> Callable[..., None]:
    """A command that runs a job and has no options of its own."""

    def run(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
        job_of(name).run(conf, sets, as_json)

    return run


def _retry_command(name: str) -> Callable[..., None]:
    """A command that can be restricted to images that failed before."""

    def run(
        conf: ConfFiles = [], sets: Sets = [], retry: Retry = None, as_json: AsJson = False
    ) -> None:
        job_of(name).run(conf, [*sets, *set_key("embed.only_retry", retry)], as_json)

    return run


def _queue_command(name: str) -> Callable[..., None]:
    """A command that shows the images of a queue to people."""

    def run(
        conf: ConfFiles = [], sets: Sets = [], queue: QueueName = None, as_json: AsJson = False
    ) -> None:
        job_of(name).run(conf, [*sets, *set_key("labels.of", queue)], as_json)

    return run


def _number_command(name: str, key: str) -> Callable[..., None]:
    """A command that draws a number of images."""

    def run(
        n: Number = None, conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False
    ) -> None:
        job_of(name).run(conf, [*sets, *set_key(key, n)], as_json)

    return run


@app.command()
def sample(
    conf: ConfFiles = [],
    sets: Sets = [],
    preview: Annotated[
        bool, typer.Option("--preview", help="Print what each stratum would give; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Draw the stratified sample, or preview it."""
    job_of("preview_sample" if preview else "draw_sample").run(conf, sets, as_json)


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
    with reported_errors():
        if accept_worse is not None and not accept_worse.strip():
            raise UserError(
                doing="reading --accept-worse",
                expected="the reason to use a worse head, in words; it is kept with the head",
                found="an empty text",
                todo='give a reason, as in --accept-worse "the old one knows no bathrooms"',
            )
    job_of("train_head").run(conf, [*sets, *set_key("train.accept_worse", accept_worse)], as_json)


app.command("run", help="Run every step in order, from the sample to the feed.")(
    _plain_command("run_chain")
)
app.command("embed", help="Embed the images that have no embedding yet.")(
    _retry_command("embed_images")
)
app.command("score", help="Score the catalog with a head, without reading images.")(
    _plain_command("score_catalog")
)
app.command("rescore", help="Embed what is new, score, publish: the command of a scheduler.")(
    _retry_command("rescore_catalog")
)
app.command("feed", help="Build the feed without the excluded images.")(
    _plain_command("build_feed")
)
app.command("report", help="Write the HTML page of the published version.")(
    _plain_command("write_report")
)


@app.command()
def doctor(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
    """Check in a minute the cluster for what would fail or slow down hours of work."""
    from toiletspark.jobs import check_cluster

    check_cluster.command(conf, sets, as_json)


@app.command()
def keys() -> None:
    """Print conf/base.toml: every key with its unit and reason."""
    from toiletspark.config.loading import base_text

    print(base_text())


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="The folder for everything that the demo makes.")] = (
        Path("toiletspark-demo")
    ),
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Draw a small catalog and run every step on it, on this machine."""
    from toiletspark.demo import tour
    from toiletspark.demo.catalog import draw_catalog
    from toiletspark.demo.labelling import label_like_a_person
    from toiletspark.jobs import draw_sample, export_labels, make_sheet, run_chain
    from toiletspark.launch import session
    from toiletspark.launch.job import merged, run_in_turn
    from toiletspark.tables.workspace import Workspace

    started = time.monotonic()
    with reported_errors():
        folder = folder.absolute()
        drawn = draw_catalog(folder / "catalog")
        drawing_s = round(time.monotonic() - started, 2)
        config = tour.settings(folder, drawn, sets)
        work = Workspace.open(session.start(config.spark), config)
        summary = run_in_turn([draw_sample.JOB, export_labels.JOB], work)
        label_like_a_person(Path(config.labels_folder), drawn.truth, tour.CLASS_OF_ROOM)
        summary = run_chain.from_labels(work, summary)
        summary = merged(summary, run_in_turn([make_sheet.JOB], work))
        work.spark.stop()
    summary["seconds"] = {"draw_catalog": drawing_s, **summary["seconds"]}
    tour.show(summary, config)
    if as_json:
        show(summary, as_json)


# Labels

app.add_typer(labels_app, name="labels", help="Show images to people, and read their labels.")


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
    queue: QueueName = None,
    as_json: AsJson = False,
) -> None:
    """Put the images of the sample, or of a queue, into a folder with class folders."""
    keys = [*set_key("labels.of", queue), *set_key("labels.presort", presort)]
    job_of("export_labels").run(conf, [*sets, *keys], as_json)


@labels_app.command("import")
def import_labels(
    file: Annotated[
        Path | None,
        typer.Option(
            help="A file of the contact sheet or of Label Studio (labels.file).", metavar="JSON"
        ),
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
    """Read class folders, the labels table or a file; show the changes since the last import."""
    keys = [*set_key("labels.file", file and str(file)), *set_key("labels.reviewed", reviewed)]
    job_of("import_labels").run(conf, [*sets, *keys], as_json)


labels_app.command("suggest", help="Draw what to label next: uncertain images, and random ones.")(
    _number_command("suggest_labels", "suggest.size")
)
labels_app.command("second-look", help="Rank the labels that are most likely wrong.")(
    _plain_command("second_look")
)
labels_app.command("tasks", help="Write tasks for Label Studio, with suggestions.")(
    _queue_command("write_tasks")
)
labels_app.command("sheet", help="Write the contact sheet, an HTML file to label in a browser.")(
    _queue_command("make_sheet")
)


# Leaks

app.add_typer(leaks_app, name="leaks", help="Measure how many toilets are still in the feed.")
leaks_app.command("draw", help="Draw a sample of the published version, to be labelled.")(
    _number_command("draw_leaks", "leaks.size")
)


@leaks_app.command("show")
def show_leaks(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
    """Show the toilets left in the feed and the images lost, by the labels so far, per version."""
    from toiletspark.config import loading
    from toiletspark.feed import leak_meter
    from toiletspark.tables.runs import Store

    with reported_errors():
        config = loading.load(conf, sets)
        meters = leak_meter.trend(Store(config.output.root), config.labels)
    if as_json:
        show({"versions": [meter.as_json() for meter in meters]}, as_json)
    else:
        print(leak_meter.shown(meters))


app.add_typer(cli_publish.app, name="publish")


def main() -> None:
    """Runs the console script."""
    app()


if __name__ == "__main__":
    main()

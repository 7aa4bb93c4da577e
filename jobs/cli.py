"""The `toiletspark` command: the jobs, for people."""

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from toiletspark.config import stopping
from toiletspark.config.command_line import AsJson, ConfFiles, Sets, reported_errors, show
from toiletspark.errors import UserError
from toiletspark.jobs import cli_publish
from toiletspark.jobs.cli_publish import job_of, set_key

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
labels = typer.Typer(no_args_is_help=True)
leaks = typer.Typer(no_args_is_help=True)

Failures = StrEnum("Failures", ("transient", "failed"))  # the images that are tried again
Queue = StrEnum("Queue", ("suggest", "second_look", "leaks"))  # of images for people to label
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
Preview = Annotated[
    bool, typer.Option("--preview", help="Print what each stratum would give; write nothing.")
]
Presort = Annotated[
    bool,
    typer.Option(
        "--presort", help="Into the class folders, by the newest scores (labels.presort)."
    ),
]
RETRY, QUEUE = (Retry, "embed.only_retry"), (QueueName, "labels.of")


def _add(
    to: typer.Typer, name: str, job: str, text: str, option: tuple[object, str] | None = None
) -> None:
    """Adds the command `name` that runs a job; its own option sets a key of the configuration."""

    def plain(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
        job_of(job).run(conf, sets, as_json)

    if option is None:
        to.command(name, help=text)(plain)
        return
    annotation, key = option

    def with_option(
        conf: ConfFiles = [], sets: Sets = [], value: Any = None, as_json: AsJson = False
    ) -> None:
        job_of(job).run(conf, [*sets, *set_key(key, value)], as_json)

    with_option.__annotations__["value"] = annotation
    to.command(name, help=text)(with_option)


@app.command()
def sample(
    conf: ConfFiles = [], sets: Sets = [], preview: Preview = False, as_json: AsJson = False
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


_add(app, "run", "run_chain", "Run every step in order, from the sample to the feed.")
_add(app, "embed", "embed_images", "Embed the images that have no embedding yet.", RETRY)
_add(app, "score", "score_catalog", "Score the catalog with a head, without reading images.")
_add(
    app,
    "rescore",
    "rescore_catalog",
    "Embed what is new, score, publish: the command of a scheduler.",
    RETRY,
)
_add(app, "feed", "build_feed", "Build the feed without the excluded images.")
_add(app, "report", "write_report", "Write the HTML page of the published version.")


@app.command()
def doctor(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
    """Check in a minute the cluster for what would fail or slow down hours of work."""
    from toiletspark.jobs import check_cluster

    check_cluster.command(conf, sets, as_json)


@app.command()
def keys() -> None:
    """Print conf/base.toml: every key with its unit and reason."""
    from toiletspark.config import loading

    print(loading.base_text())


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="The folder for everything that the demo makes.")] = (
        Path("toiletspark-demo")
    ),
    listings: Annotated[
        int, typer.Option(help="The number of listings; each has four pictures.")
    ] = 400,
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
    from toiletspark.tables import failures
    from toiletspark.tables.workspace import Workspace

    started = time.monotonic()
    with reported_errors():
        folder = folder.absolute()
        drawn = draw_catalog(folder / "catalog", listings=listings)
        drawing_s = round(time.monotonic() - started, 2)
        config = tour.settings(folder, drawn, sets)
        with failures.explained(config, "demo"):
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

app.add_typer(labels, name="labels", help="Show images to people, and read their labels.")


@labels.command("export")
def export_labels(
    presort: Presort = False,
    conf: ConfFiles = [],
    sets: Sets = [],
    queue: QueueName = None,
    as_json: AsJson = False,
) -> None:
    """Put the images of the sample, or of a queue, into a folder with class folders."""
    keys = [*set_key("labels.of", queue), *set_key("labels.presort", presort)]
    job_of("export_labels").run(conf, [*sets, *keys], as_json)


@labels.command("import")
def import_labels(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="A folder of class folders: an export, or one that you made (labels.folder).",
            metavar="DIR",
        ),
    ] = None,
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
    """Read a folder, the labels table or a file; show the changes since the last import."""
    keys = [*set_key("labels.file", file and str(file)), *set_key("labels.reviewed", reviewed)]
    with reported_errors():
        if folder and file:
            raise UserError(
                doing="reading the options of `labels import`",
                expected="one source of labels",
                found="--folder and --file",
                todo="import one after the other",
            )
    if folder:
        keys += set_key("labels.folder", str(folder))
        keys += [*set_key("labels.file", ""), *set_key("labels.table.path", "")]
    job_of("import_labels").run(conf, [*sets, *keys], as_json)


_add(
    labels,
    "suggest",
    "suggest_labels",
    "Draw what to label next: uncertain images, and random ones.",
    (Number, "suggest.size"),
)
_add(labels, "second-look", "second_look", "Rank the labels that are most likely wrong.")
_add(labels, "tasks", "write_tasks", "Write tasks for Label Studio, with suggestions.", QUEUE)
_add(
    labels,
    "sheet",
    "make_sheet",
    "Write the contact sheet, an HTML file to label in a browser.",
    QUEUE,
)


# Leaks

app.add_typer(leaks, name="leaks", help="Measure how many toilets are still in the feed.")
_add(
    leaks,
    "draw",
    "draw_leaks",
    "Draw a sample of the published version, to be labelled.",
    (Number, "leaks.size"),
)


@leaks.command("show")
def show_leaks(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
    """Show the toilets left in the feed and the images lost, by the labels so far, per version."""
    from toiletspark.config import loading
    from toiletspark.feed import leak_meter
    from toiletspark.tables import failures
    from toiletspark.tables.runs import Store

    with reported_errors():
        config = loading.load(conf, sets)
        with failures.explained(config, "leaks show"):
            meters = leak_meter.trend(Store(config.output.root), config.labels)
    if as_json:
        show({"versions": [meter.as_json() for meter in meters]}, as_json)
    else:
        print(leak_meter.shown(meters))


app.add_typer(cli_publish.app, name="publish")


def main() -> None:
    """Runs the console script."""
    stopping.end_on_signals()
    app()


if __name__ == "__main__":
    main()

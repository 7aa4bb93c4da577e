"""`toiletspark publish`: a new version, a plan, an older version again, or the list of all."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toiletspark.config.command_line import AsJson, ConfFiles, Sets, Summary, reported_errors, show
from toiletspark.errors import UserError

if TYPE_CHECKING:
    from toiletspark.launch.job import Job

app = typer.Typer(invoke_without_command=True)

Accept = Annotated[
    list[str],
    typer.Option(
        "--accept",
        metavar="RULE",
        help="Publish though this audit fails (publish.accept); may be repeated.",
    ),
]
Because = Annotated[
    str | None,
    typer.Option("--because", metavar="TEXT", help="The reason; it is kept with the version."),
]


def job_of(name: str) -> Job:
    """The job of a file in jobs/. Spark is imported here and not for --help."""
    job: Job = import_module(f"toiletspark.jobs.{name}").JOB
    return job


def set_key(key: str, value: object) -> list[str]:
    """One key as --set takes it; nothing where there is no value."""
    if value is None or value == [] or value is False:
        return []
    return [f"{key}={json.dumps(value, ensure_ascii=False)}"]


@app.callback()
def publish(
    context: typer.Context,
    accept: Accept = [],
    because: Because = None,
    conf: ConfFiles = [],
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Publish the exclusion list as a new version; or plan, approve, go back, list."""
    name = context.invoked_subcommand
    if not name:
        _publish(accept, because, conf, sets, as_json)
    elif accept or because or conf or sets or as_json:
        with reported_errors():
            expected = f"options after the sub-command, as in `publish {name} --conf FILE`"
            raise _mistake(expected, f"options before `{name}`", "move them to the end")


@app.command("plan")
def plan(
    accept: Accept = [],
    because: Because = None,
    conf: ConfFiles = [],
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Write a version and the page of what it would change; publish nothing."""
    _publish(accept, because, conf, [*sets, "publish.plan=true"], as_json)


@app.command("approve")
def approve(
    plan_id: Annotated[str, typer.Argument(metavar="PLAN", help="The id of the plan.")],
    because: Because = None,
    once: Annotated[
        bool, typer.Option("--once", help="For this version alone: the next run takes it back.")
    ] = False,
    conf: ConfFiles = [],
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Publish a plan exactly as it was looked at."""
    with reported_errors():
        keys = [*set_key("publish.approve", _words("PLAN", plan_id)), *_reason(because)]
    keys += set_key("publish.once", once)
    job_of("publish_exclusions").run(conf, [*sets, *keys], as_json)


@app.command("rollback")
def roll_back(
    version: Annotated[
        int | None,
        typer.Argument(metavar="[VERSION]", help="Without it: the version before.", min=1),
    ] = None,
    because: Because = None,
    conf: ConfFiles = [],
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Publish an older version again. Takes a second; no Spark."""
    from toiletspark.config import loading
    from toiletspark.publishing.versions import metastore, rollback
    from toiletspark.tables import failures
    from toiletspark.tables.runs import Store

    with reported_errors():
        config = loading.load(conf, [*sets, *_reason(because)])
        store, table = Store(config.output.root), config.publish.catalog_table
        if table:
            metastore.quoted(table)  # a bad name is an error before anything changes
        with failures.explained(config, "publish rollback"):
            live = rollback.roll_back(store, config.publish, version)
            summary: Summary = rollback.summary(store, config, live)
    if table:
        sql = "; ".join(metastore.statements(table, summary["exclusion_list"]))
        stale = f"{table} still shows what was live before: no Spark was started. Run: {sql}"
        summary["catalog_table"] = stale
    show(summary, as_json)


@app.command("list")
def list_versions(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:
    """Show all versions. No Spark."""
    from toiletspark.config import loading
    from toiletspark.reports import versions_table
    from toiletspark.tables import failures
    from toiletspark.tables.runs import Store

    with reported_errors():
        config = loading.load(conf, sets)
        with failures.explained(config, "publish list"):
            summary = versions_table.history(Store(config.output.root))
    versions_table.show(summary, as_json)


def _publish(
    accept: list[str], because: str | None, conf: list[Path], sets: list[str], as_json: bool
) -> None:
    """Runs the job that publishes, with audits accepted for a reason."""
    with reported_errors():
        if accept and because is None:
            todo = 'give one, as in --because "a portal has left us"'
            raise _mistake("--accept RULE with --because", "no reason", todo)
        if because is not None and not accept:
            raise _mistake("--because with --accept", "no --accept", "leave --because out")
        rules = [_words("--accept", rule) for rule in accept]
        keys = [*set_key("publish.accept", rules), *_reason(because)]
    job_of("publish_exclusions").run(conf, [*sets, *keys], as_json)


def _reason(because: str | None) -> list[str]:
    return [] if because is None else set_key("publish.because", _words("--because", because))


def _words(option: str, text: str) -> str:
    """Returns the text of an option; raises a UserError if it is empty."""
    if not text.strip():
        raise _mistake(f"words after {option}", "an empty text", f"fill {option}, or leave it out")
    return text


def _mistake(expected: str, found: str, todo: str) -> UserError:
    doing = "reading the options of publish"
    return UserError(doing=doing, expected=expected, found=found, todo=todo)

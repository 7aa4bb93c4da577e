"""`toiletspark publish`: a new version, a plan, an older version again or the list of all; those two without Spark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from toiletspark.config.command_line import AsJson, ConfFiles, Sets, Summary, show, told_errors
from toiletspark.errors import UserError

_ALONE = ("--list", "--rollback", "--plan", "--approve")


@dataclass(frozen=True)
class Asked:
    """What the options of `publish` say; None and () = not said."""

    plan: bool = False
    approve: str | None = None
    accept: tuple[str, ...] = ()
    because: str | None = None
    rollback: bool = False
    version: int | None = None
    listed: bool = False


def publish(
    version: Annotated[
        int | None,
        typer.Argument(
            metavar="VERSION", help="With --rollback: go to this one, not to the one before.", min=1
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Write a version and the page of what it would change; publish nothing."
        ),
    ] = False,
    approve: Annotated[
        str | None,
        typer.Option(
            metavar="PLAN", help="Publish this plan as it was looked at (publish.approve)."
        ),
    ] = None,
    accept: Annotated[
        list[str],
        typer.Option(
            metavar="RULE",
            help="Publish though this audit fails (publish.accept); may be repeated.",
        ),
    ] = [],
    because: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Why you accept, approve or go back; kept with the version."
        ),
    ] = None,
    go_back: Annotated[
        bool,
        typer.Option(
            "--rollback",
            help="Publish the version before again, or VERSION. Takes a second; no Spark.",
        ),
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show all versions; no Spark.")] = False,
    conf: ConfFiles = [],
    sets: Sets = [],
    as_json: AsJson = False,
) -> None:
    """Publish the exclusion list; all that a new threshold needs. Or go back: `publish --rollback [VERSION]`."""
    asked = Asked(plan, approve, tuple(accept), because, go_back, version, listed)
    with told_errors():
        _require_sense(asked)
    said = [*sets, *_sets(asked)]
    if listed:
        _list(conf, said, as_json)
    elif go_back:
        _roll_back(conf, said, version, as_json)
    else:
        from toiletspark.launch import job as entry  # Spark is imported when a step runs

        entry.run_step(
            import_module("toiletspark.jobs.publish_exclusions").step, conf, said, as_json
        )


def _list(conf: list[Path], sets: list[str], as_json: bool) -> None:
    from toiletspark.config import loading as conf_files
    from toiletspark.reports import versions_table as history
    from toiletspark.tables.runs import Store

    with told_errors():
        summary = history.history(Store(conf_files.load(conf, sets).output.root))
    history.show(summary, as_json)


def _roll_back(conf: list[Path], sets: list[str], number: int | None, as_json: bool) -> None:
    from toiletspark.config import loading as conf_files
    from toiletspark.publishing.versions import metastore as catalog_table
    from toiletspark.publishing.versions import rollback
    from toiletspark.tables.runs import Store

    with told_errors():
        config = conf_files.load(conf, sets)
        store, name = Store(config.output.root), config.publish.catalog_table
        if name:
            catalog_table.quoted(name)  # a bad name is told before anything changes
        version = rollback.roll_back(store, config.publish, number)
        summary: Summary = rollback.told(store, config, version)
    if name:
        sql = "; ".join(catalog_table.statements(name, summary["exclusion_list"]))
        summary["catalog_table"] = (
            f"{name} still shows what was live before: no Spark was started. Run: {sql}"
        )
    show(summary, as_json)


def _sets(asked: Asked) -> list[str]:
    """The keys that the options stand for, as --set takes them."""
    said: Mapping[str, object] = {
        "plan": asked.plan or None,
        "approve": asked.approve,
        "accept": list(asked.accept) or None,
        "because": asked.because,
    }
    return [
        f"publish.{name}={json.dumps(value, ensure_ascii=False)}"
        for name, value in said.items()
        if value is not None
    ]


def _require_sense(asked: Asked) -> None:
    """Stops where options do not go together.

    Raises:
        UserError: they do not.
    """
    chosen = [asked.listed, asked.rollback, asked.plan, asked.approve is not None]
    alone = [name for name, said in zip(_ALONE, chosen, strict=True) if said]
    if len(alone) > 1:
        raise _mistake(
            f"one of {', '.join(_ALONE)}, or none",
            " and ".join(alone),
            "say what is to be done first",
        )
    if asked.version is not None and not asked.rollback:
        raise _mistake(
            "a version number only with --rollback",
            f"the number {asked.version} without it",
            f"say `toiletspark publish --rollback {asked.version}` to go back to that version",
        )
    if asked.accept and (asked.listed or asked.rollback or asked.approve is not None):
        raise _mistake(
            "--accept where audits are made: with --plan, or alone",
            f"--accept with {alone[0]}",
            "leave it out; what was planned or published has its audits behind it",
        )
    if asked.accept and asked.because is None:
        raise _mistake(
            "--accept RULE with --because",
            "no reason",
            'say why, as in --because "a portal has left us"',
        )
    if asked.because is not None and not (
        asked.accept or asked.rollback or asked.approve is not None
    ):
        raise _mistake(
            "--because with --accept, --approve or --rollback",
            "none of them",
            "leave --because out",
        )
    _require_words(asked)


def _require_words(asked: Asked) -> None:
    for option, value in (
        ("--approve", asked.approve),
        ("--because", asked.because),
        *(("--accept", r) for r in asked.accept),
    ):
        if value is not None and not value.strip():
            raise _mistake(
                f"words after {option}",
                "an empty text",
                f"say what {option} is about, or leave it out",
            )


def _mistake(expected: str, found: str, todo: str) -> UserError:
    return UserError(
        doing="reading the options of publish", expected=expected, found=found, todo=todo
    )

"""What all our programs share: their options, how they tell an error, how they show a summary. Without Spark."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from toiletspark import package_floors as floors
from toiletspark.errors import ToiletsparkError

Summary = dict[str, Any]

ConfFiles = Annotated[
    list[Path],
    typer.Option("--conf", "--conf-file", help="TOML files; later ones win over earlier ones."),
]
Sets = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="KEY=VALUE", help="One key, as in sample.size=20000; wins over files."
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="The summary as one JSON object on the last line.")
]


def run_program(function: Callable[..., object]) -> None:
    """Runs a function with Typer options as a program of its own."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(function)
    app()


@contextmanager
def told_errors(*, packages: bool = True) -> Iterator[None]:
    """Turns an error that a person can act on into its message on stderr and its exit code.

    The first such error is a package that must not be used: every program of ours begins here.

    Args:
        packages: whether that is asked. False is the doctor's alone, which reads no stranger's file with them and has
            to tell of them beside all else that it finds.
    """
    try:
        if packages:
            floors.require(doing="checking the packages of the driver")
        yield
    except ToiletsparkError as error:
        print(f"toiletspark: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


def show(summary: Summary, as_json: bool) -> None:
    """Prints a summary: a line per figure, or one JSON object."""
    if as_json:
        print(json.dumps(summary, sort_keys=True, default=str))
        return
    for name, value in summary.items():
        print(f"{name:20} {json.dumps(value, default=str) if isinstance(value, dict) else value}")

"""The options, messages and exit codes that all programs share. Without Spark."""

import json
import logging
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from toiletspark import package_floors
from toiletspark.config import stopping
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
    bool, typer.Option("--json", help="Print the summary as one JSON object on the last line.")
]


def run_program(function: Callable[..., object]) -> None:
    """Runs a function with Typer options as a program of its own."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(function)
    stopping.end_on_signals()
    app()


@contextmanager
def reported_errors(*, check_packages: bool = True) -> Iterator[None]:
    """Prints an error that a person can act on to stderr and exits with its code.

    The trace of its cause, if it has one, goes to a file that is named beside it.

    While the body runs, the logger `toiletspark` writes to stderr too. Only the doctor skips the
    check for package versions that must not be used: it lists them among its findings.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("toiletspark: %(message)s"))
    logger = logging.getLogger("toiletspark")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        if check_packages:
            package_floors.require(doing="checking the packages of the driver")
        yield
    except ToiletsparkError as error:
        trace = error.__cause__ and f"\n  trace:    {_kept_trace(error.__cause__)}"
        logger.error("%s%s", error, trace or "")
        raise SystemExit(error.exit_code) from None
    finally:
        logger.removeHandler(handler)


def _kept_trace(cause: BaseException) -> str:
    """Writes a trace to a file of its own; returns its path, or the reason why there is none."""
    trace = "".join(traceback.format_exception(cause))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="toiletspark-trace-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(trace.encode(errors="replace").decode())
    except OSError as error:
        return f"not kept ({error})"
    return file.name


def show(summary: Summary, as_json: bool) -> None:
    """Prints a summary: a line per figure, or one JSON object."""
    if as_json:
        print(json.dumps(summary, sort_keys=True, default=str))
        return
    for name, value in summary.items():
        text = json.dumps(value, default=str) if isinstance(value, dict) else value
        print(f"{name:20} {text}")


def printable(text: str) -> str:
    """Replaces control characters, which a terminal would obey: the text may be a stranger's."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)

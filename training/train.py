"""Fits a head to the newest training set: `python -m training.train --conf-file mytables.toml`.

Single node, no Spark session, no Java. The training set is what `toiletspark train` gathers on the
cluster.
"""

import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from toiletspark.config import command_line, loading
from toiletspark.config.command_line import AsJson, ConfFiles, Sets
from toiletspark.errors import UserError

NEEDED = ("petastorm", "scipy", "cleanlab", "matplotlib")
_PAGE_HELP = "Write the head's HTML page, without pictures: these need Spark."
Page = Annotated[bool, typer.Option(help=_PAGE_HELP)]


def require_extra(*, doing: str) -> None:
    """Raises a UserError that names the packages of the extra [train] that this Python lacks.

    Imported packages would end the program with a stack trace.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            doing=doing,
            expected="the extra [train] in this Python, or in the one that train.python names",
            found=f"no {', '.join(missing)} for {sys.executable}",
            todo="make a virtual environment with Python 3.11, pip install 'toiletspark[train]' "
            "there (Spark 3.5 comes along and is not started), and set train.python to its "
            "bin/python",
        )


def main(conf: ConfFiles = [], sets: Sets = [], page: Page = True, as_json: AsJson = False) -> None:
    """Fits a head to the newest training set."""
    with command_line.reported_errors():
        require_extra(doing="training the head")
        from toiletspark.reports.head_page import page as head_page
        from toiletspark.sampling import evaluation
        from toiletspark.training.heads import train

        config = loading.load(conf, sets)
        summary = train(config)
        if page:
            figures = evaluation.read(summary["head"])
            summary["head_report"] = head_page.write(config.output.root, figures, {})
    command_line.show(summary, as_json)


if __name__ == "__main__":
    command_line.run_program(main)

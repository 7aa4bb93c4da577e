"""Fits a head to the newest training set: `python -m training.train --conf-file mytables.toml`.

Single node, no Spark session, no Java. The training set is what `toiletspark train` gathers on the cluster.
"""

from __future__ import annotations

from typing import Annotated

import typer

from toiletspark.config import loading as conf_files
from toiletspark.config.command_line import (
    AsJson,
    ConfFiles,
    Sets,
    reported_errors,
    run_program,
    show,
)
from toiletspark.tables import storage
from toiletspark.training import extra

Page = Annotated[
    bool, typer.Option(help="Write the head's HTML page, without pictures: these need Spark.")
]


def main(conf: ConfFiles = [], sets: Sets = [], page: Page = True, as_json: AsJson = False) -> None:  # noqa: B006
    """Fits a head to the newest training set."""
    with reported_errors():
        extra.require(doing="training the head")
        from toiletspark.reports.head_page import page as head_page
        from toiletspark.training.heads import train

        config = conf_files.load(conf, sets)
        summary = train(config)
        if page:
            evaluation = storage.read_json(f"{summary['head']}/{head_page.EVALUATION}") or {}
            summary["head_report"] = head_page.write(config.output.root, evaluation, {})
    show(summary, as_json)


if __name__ == "__main__":
    run_program(main)

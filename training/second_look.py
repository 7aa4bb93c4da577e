"""Ranks the labels that are most likely wrong: `python -m training.second_look --conf-file
mytables.toml`.

Single node, no Spark session, no Java. What is judged is what `toiletspark labels second-look`
gathers on the cluster.
"""

from __future__ import annotations

from toiletspark.config import loading
from toiletspark.config.command_line import (
    AsJson,
    ConfFiles,
    Sets,
    reported_errors,
    run_program,
    show,
)
from toiletspark.training.train import require_extra


def main(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:  # noqa: B006 - Typer's way
    """Ranks the labels that are most likely wrong."""
    with reported_errors():
        require_extra(doing="looking for doubtful labels")
        from toiletspark.training.label_doubts import second_look

        summary = second_look(loading.load(conf, sets))
    show(summary, as_json)


if __name__ == "__main__":
    run_program(main)

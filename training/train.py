"""Fits a head, on one machine, without Spark and Java: to a folder of photos, or to a training set.

    python -m training.train --images rooms --exclude bathroom --out heads/rooms
    python -m training.train --conf mytables.toml

A training set is what `toiletspark train` gathers on the cluster; the newest one is taken.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from toiletspark.config import Config, command_line, loading
from toiletspark.config.command_line import AsJson, ConfFiles, Sets
from toiletspark.errors import UserError
from toiletspark.tables import failures

NEEDED = ("scipy", "cleanlab", "matplotlib")
_PAGE_HELP = "Write the page of a head of a training set; its pictures need Spark."
Page = Annotated[bool, typer.Option(help=_PAGE_HELP)]
_IMAGES_HELP = "A folder with a folder of photos for each class, in place of a training set."
ImagesFolder = Annotated[Path | None, typer.Option("--images", metavar="DIR", help=_IMAGES_HELP)]
_OUT_HELP = "With --images: where the head's bundle is written. Nothing is overwritten."
Out = Annotated[str, typer.Option(metavar="BUNDLE", help=_OUT_HELP)]
_EXCLUDE_HELP = "With --images: a class that the feed must not show; can be repeated."
Exclude = Annotated[list[str], typer.Option(metavar="CLASS", help=_EXCLUDE_HELP)]
_EPOCHS_HELP = "Train by epochs of AdamW, at most so many; the best one is taken."
Epochs = Annotated[int | None, typer.Option(min=1, help=_EPOCHS_HELP)]
_FINETUNE_HELP = "Fine-tune the backbone's last block first (train.finetune)."
Finetune = Annotated[bool, typer.Option("--finetune", help=_FINETUNE_HELP)]


def require_extra(*, doing: str) -> None:
    """Raises a UserError that names the packages of the extra [fit] that this Python lacks.

    Imported packages would end the program with a stack trace.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UserError(
            doing=doing,
            expected="the extra [fit] in this Python, or in the one that train.python names",
            found=f"no {', '.join(missing)} for {sys.executable}",
            todo="pip install '.[fit]' in the checkout, or '.[train]' with petastorm; or set "
            "train.python to a Python that has it",
        )


def main(
    conf: ConfFiles = [],
    sets: Sets = [],
    images: ImagesFolder = None,
    out: Out = "",
    exclude: Exclude = [],
    epochs: Epochs = None,
    finetune: Finetune = False,
    page: Page = True,
    as_json: AsJson = False,
) -> None:
    """Fits a head to a folder of photos, or to the newest training set."""
    with command_line.reported_errors():
        require_extra(doing="training the head")
        settings = [*sets, *(["train.finetune=last_block"] if finetune else [])]
        if epochs:
            settings += ["train.optimizer=adam", f"train.epochs={epochs}"]
        if (images is None) != (out == "") or (exclude and images is None):
            raise UserError(
                doing="training the head",
                expected="--images DIR together with --out BUNDLE, or none of --images, --out and "
                "--exclude",
                found=f"--images {images or 'not given'}, --out {out or 'not given'}",
                todo="give both to train on a folder of photos; none to train on the training set "
                "of output.root",
            )
        if images is None:
            config = loading.load(conf, settings)
            with failures.explained(config, "train"):
                summary = _on_training_set(config, page)
        else:
            from toiletspark.training import photo_folder

            summary = photo_folder.train(images, out, exclude, conf, settings)
    command_line.show(summary, as_json)


def _on_training_set(config: Config, page: bool) -> command_line.Summary:
    from toiletspark.reports.head_page import page as head_page
    from toiletspark.sampling import evaluation
    from toiletspark.training.heads import train

    summary = train(config)
    if page:
        figures = evaluation.read(summary["head"])
        summary["head_report"] = head_page.write(config.output.root, figures, {})
    return summary


if __name__ == "__main__":
    command_line.run_program(main)

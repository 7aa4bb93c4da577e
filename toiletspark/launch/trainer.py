"""Starts what training/ does as a process of its own: no Spark, no Java, and its memory is its own.

petastorm reads with pyarrow 14, and the newest Spark wants a newer one. Where they cannot live in one environment,
`train.python` names the Python of another, and files are all that the two exchange.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from toiletspark.config import Config
from toiletspark.errors import ToiletsparkError, UserError


class TrainingError(ToiletsparkError):
    """The trainer ended with an error that it has already told."""


def train(config: Config) -> dict[str, Any]:
    """Trains on the newest training set; returns the trainer's summary. Its progress goes to stderr.

    The head's page is left to the caller, who has a cluster to fetch its thumbnails.

    Raises:
        UserError: that Python has not the extra [train], or the trainer refused its input: its own message stands
            above.
        TrainingError: it broke.
    """
    return _run("toiletspark.training.train", "training the head", config, "--no-page")


def second_look(config: Config) -> dict[str, Any]:
    """Ranks the labels that were gathered last for it by how doubtful they are; starts, tells and fails as `train`."""
    return _run("toiletspark.training.second_look", "looking for doubtful labels", config)


def _run(module: str, doing: str, config: Config, *more: str) -> dict[str, Any]:
    python = config.train.python or sys.executable
    with tempfile.TemporaryDirectory(prefix="toiletspark-train-") as folder:
        conf = Path(folder) / "resolved.json"
        conf.write_text(json.dumps(config.resolved()), encoding="utf-8")
        command = [python, "-m", module, "--conf-file", str(conf), "--json", *more]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode:
        kind = UserError if done.returncode == UserError.exit_code else TrainingError
        raise kind(
            doing=f"{doing} (python -m {module})",
            expected="exit code 0",
            found=f"exit code {done.returncode}; its message stands above",
            todo="mend what it names; labels, embeddings and earlier heads are untouched",
        )
    return cast(dict[str, Any], json.loads(done.stdout.splitlines()[-1]))

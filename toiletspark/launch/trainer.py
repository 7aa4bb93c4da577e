"""Starts training/ as a process of its own, without Spark and Java, and with memory of its own.

petastorm reads with pyarrow 14, and the newest Spark needs a newer one. Training also works without
petastorm; to have both, `train.python` names the Python of another environment. Both exchange only
files.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

from toiletspark.config import Config
from toiletspark.errors import ToiletsparkError, UserError


class TrainingError(ToiletsparkError):
    """The trainer ended with an error that it has already reported."""


def train(config: Config) -> dict[str, Any]:
    """Trains on the newest training set; returns the trainer's summary. Progress goes to stderr.

    The caller makes the head's page, because it has a cluster that fetches the thumbnails.

    Raises:
        UserError: that Python lacks the extra [fit], or the trainer refused its input.
        TrainingError: the trainer failed.
    """
    return _run("toiletspark.training.train", "training the head", config, "--no-page")


def second_look(config: Config) -> dict[str, Any]:
    """Ranks the newest labels by how doubtful they are; raises as `train`."""
    return _run("toiletspark.training.second_look", "looking for doubtful labels", config)


def _run(module: str, doing: str, config: Config, *options: str) -> dict[str, Any]:
    python = config.train.python or sys.executable
    with tempfile.TemporaryDirectory(prefix="toiletspark-train-") as folder:
        conf = Path(folder) / "resolved.json"
        conf.write_text(json.dumps(config.resolved()), encoding="utf-8")
        command = [python, "-m", module, "--conf-file", str(conf), "--json", *options]
        # in a group of its own: Ctrl-C is for this process, which ends the trainer (`stopping`)
        done = subprocess.run(  # noqa: S603
            command, stdout=subprocess.PIPE, text=True, check=False, process_group=0
        )
    if done.returncode:
        raise (UserError if done.returncode == UserError.exit_code else TrainingError)(
            doing=f"{doing} (python -m {module})",
            expected="exit code 0",
            found=f"exit code {done.returncode}; its message stands above",
            todo="mend what it names; labels, embeddings and earlier heads are untouched",
        )
    return cast(dict[str, Any], json.loads(done.stdout.splitlines()[-1]))

"""Losses and figures of a training for TensorBoard, with the extra [tensorboard]."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from toiletspark.errors import ConfigError
from toiletspark.tables.runs import new_run_id


class Logbook:
    """Writes to TensorBoard's event files, or, without a writer, nowhere."""

    def __init__(self, writer: Any = None) -> None:
        self._writer = writer

    def loss(self, name: str, epoch: int, value: float) -> None:
        """One point of the curve `name`."""
        if self._writer:
            self._writer.add_scalar(name, value, epoch)

    def figures(self, name: str, values: Mapping[str, Any]) -> None:
        """Numbers under name/key; other values are left out."""
        for key, value in values.items():
            if self._writer and isinstance(value, (int, float)):
                self._writer.add_scalar(f"{name}/{key}", value)


@contextmanager
def opened(folder: str, config: Mapping[str, Any]) -> Iterator[Logbook]:
    """A logbook in a new folder below `folder`; one that writes nothing if that is "".

    It begins with the configuration as text. Raises a ConfigError if TensorBoard is not installed.
    """
    if not folder:
        yield Logbook()
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            doing=f"opening train.tensorboard={folder}",
            expected="the package tensorboard",
            found=str(error),
            todo="pip install '.[tensorboard]' in the checkout, or set train.tensorboard=\"\"",
        ) from None
    writer = SummaryWriter(f"{folder}/{new_run_id()}")
    try:
        text = json.dumps(config, indent=2, default=str)
        writer.add_text("configuration", f"```\n{text}\n```")
        yield Logbook(writer)
    finally:
        writer.close()

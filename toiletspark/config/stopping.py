"""Ctrl-C and SIGTERM: one sentence, no trace, no process left behind, exit code 130 or 143.

A run may be killed at any moment, so nothing has to be put away. The process ends within the
handler: an exception would pass through code that talks to a Java that is gone.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

_SENTENCE = (
    "\ntoiletspark: stopped by {name}: whatever was complete is kept (images are embedded "
    "commit by commit, and readers see whole versions only); the same command goes on from there\n"
)
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_actions: list[Callable[[], None]] = []
_owners: list[int] = []  # the process that ends so; one that is forked from it just ends


def end_on_signals() -> None:
    """Lets Ctrl-C and SIGTERM end this process, a program of its own."""
    _owners[:] = [os.getpid()]
    for number in _NAMES:
        signal.signal(number, _end)


def before_end(action: Callable[[], None]) -> None:
    """Adds something to be done before the process ends, if `end_on_signals` was called.

    PySpark takes Ctrl-C for itself when a context starts; it is taken back here.
    """
    if _owners == [os.getpid()]:
        _actions[:] = [action]
        end_on_signals()


def _end(number: int, frame: FrameType | None) -> None:
    for each in _NAMES:
        signal.signal(each, signal.SIG_DFL)  # the second one ends at once
    if _owners == [os.getpid()]:
        threading.excepthook = lambda _: None
        os.write(2, _SENTENCE.format(name=_NAMES[signal.Signals(number)]).encode())
        for action in _actions:
            with contextlib.suppress(Exception):
                action()
        _kill_children()
    os._exit(128 + number)


def _kill_children() -> None:
    for file in Path("/proc/self/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                leads_group = os.getpgid(child) == child
                (os.killpg if leads_group else os.kill)(child, signal.SIGKILL)

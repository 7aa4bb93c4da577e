"""Errors in four parts: what was being done, what was expected, what was found, what to do.

A broken image is a row (see `images.statuses`); a broken table, configuration or head is an error.
Errors are raised on the driver and printed without a stack trace.
"""

import difflib
from collections.abc import Iterable


class ToiletsparkError(Exception):
    """Base of all errors that a person can act on.

    >>> print(UserError(doing="reading a", expected="b", found="c", todo="do d"))
    while reading a
      expected: b
      found:    c
      do:       do d
    """

    exit_code = 1

    def __init__(self, *, doing: str, expected: str, found: str, todo: str) -> None:
        self.doing, self.expected, self.found, self.todo = doing, expected, found, todo
        super().__init__(
            f"while {doing}\n  expected: {expected}\n  found:    {found}\n  do:       {todo}"
        )


class UserError(ToiletsparkError):
    """A mistake in the input, the configuration or the order of the steps; exit code 2."""

    exit_code = 2


class ConfigError(UserError):
    """A key or a value of the configuration."""


class TableError(UserError):
    """An input table, or one of its columns, keys or rows."""


class LabelsError(UserError):
    """The folder or the table of labels."""


class BackboneError(UserError):
    """The backbone's weights cannot be had, or do not fit."""


class HeadError(UserError):
    """A head is missing, altered, or was fitted on another backbone."""


class OutputError(UserError):
    """The output folder cannot be used, or holds no complete version."""


class AuditError(ToiletsparkError):
    """A result that must not be published; exit code 3."""

    exit_code = 3


def shown(names: Iterable[object], limit: int = 5) -> str:
    """The first `limit` names in quotes, and how many there are beyond them.

    >>> shown(["a", "b", "c"], limit=2)
    "'a', 'b' and 1 more"
    """
    all_names = list(names)
    text = ", ".join(repr(name) for name in all_names[:limit])
    rest = len(all_names) - limit
    return f"{text} and {rest} more" if rest > 0 else text


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name closest to `word`, phrased for a message; "" when none is close.

    >>> nearest("treshold", ["threshold", "seed"])
    " (did you mean 'threshold'?)"
    """
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean '{matches[0]}'?)" if matches else ""

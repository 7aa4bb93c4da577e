"""How a worker stops a run: it refuses to work, and the driver tells why.

An exception would be tried again by Spark, four times a task and perhaps on a machine where all is well, and would end
in a stack trace. A task that refuses yields nothing instead, and what it has to say comes back with it, in an
accumulator. Tasks that yield nothing are done at once, so a machine that refuses empties the queue, and the run is over
when the others have ended the task that they are at. Nobody keeps what such a run has made.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark import SparkContext
from pyspark.accumulators import AccumulatorParam

from toiletspark import errors
from toiletspark import package_floors as floors
from toiletspark.errors import UserError

_Said = tuple[str, ...]  # an error's class and its four parts; () for none


class _First(AccumulatorParam[_Said]):
    """Of what several tasks say, the first is enough."""

    def zero(self, value: _Said) -> _Said:
        return ()

    def addInPlace(self, value1: _Said, value2: _Said) -> _Said:  # noqa: N802 - pyspark's name
        return value1 or value2


class Refusals:
    """What workers refused in one run, or in one part of it; made on the driver, sent to the tasks."""

    def __init__(self, context: SparkContext) -> None:
        self._said = context.accumulator((), _First())

    def accepts(self, check: Callable[[], None] | None = None) -> bool:
        """On a worker: whether a check raises nothing that a person can act on; the task must not work if it does.

        Before it, the worker's packages are checked: they need not be the driver's.
        """
        try:
            floors.require(doing="checking the packages of a worker, before its first batch")
            if check:
                check()
        except UserError as error:
            self._said.add(
                (type(error).__name__, error.doing, error.expected, error.found, error.todo)
            )
            return False
        return True

    def require_none(self) -> None:
        """On the driver, once tasks have run, and before anything of theirs is kept.

        Raises:
            UserError: what the first worker said that refused.
        """
        if self._said.value:
            name, doing, expected, found, todo = self._said.value
            raise getattr(errors, name)(doing=doing, expected=expected, found=found, todo=todo)

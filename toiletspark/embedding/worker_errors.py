"""Lets a worker stop a run with one message.

A task that raised would be tried again by Spark, and end in a stack trace. A refusing worker
returns nulls instead, and reports its error through an accumulator, which the driver checks
before it commits anything.
"""

from collections.abc import Callable

from pyspark import SparkContext
from pyspark.accumulators import AccumulatorParam

from toiletspark import errors, package_floors
from toiletspark.errors import UserError

_Report = tuple[str, ...]  # an error's class and its four parts; () for no error


class _FirstReport(AccumulatorParam[_Report]):
    """Keeps the report of one task and drops the others."""

    def zero(self, value: _Report) -> _Report:
        return ()

    def addInPlace(self, value1: _Report, value2: _Report) -> _Report:  # noqa: N802 - pyspark
        return value1 or value2


def check_worker(check: Callable[[], None] | None = None) -> None:
    """Raises UserError on a worker with packages that must not be used, or as `check` does."""
    package_floors.require(doing="checking the packages of a worker, before its first batch")
    if check:
        check()


class WorkerErrors:
    """The errors that workers report in one run; made on the driver, sent to the tasks."""

    def __init__(self, context: SparkContext) -> None:
        self._report = context.accumulator((), _FirstReport())

    def run_check(self, check: Callable[[], None] | None = None) -> bool:
        """Runs a check; reports a UserError and returns False: the task must not work then.

        Runs on a worker. Its packages are checked first: they need not be those of the driver.
        """
        try:
            check_worker(check)
        except UserError as error:
            parts = (error.doing, error.expected, error.found, error.todo)
            self._report.add((type(error).__name__, *parts))
            return False
        return True

    def raise_first(self) -> None:
        """Raises the UserError that a worker reported; for the driver, before it commits."""
        if self._report.value:
            name, doing, expected, found, todo = self._report.value
            raise getattr(errors, name)(doing=doing, expected=expected, found=found, todo=todo)

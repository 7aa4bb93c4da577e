"""A job: one step of the work as a program, with its session, summary and exit code."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toiletspark.config import Config, loading
from toiletspark.config.command_line import (
    AsJson,
    ConfFiles,
    Sets,
    Summary,
    reported_errors,
    run_program,
    show,
)
from toiletspark.launch import session
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

Step = Callable[[Workspace], Summary]

_log = logging.getLogger("toiletspark")


@dataclass(frozen=True)
class Job:
    """A step, and what a program needs to run it.

    Attributes:
        name: of the file in jobs/; the summary has the step's wall time under this name.
        step: does the work.
        about: the help text.
        prepare: is called with the configuration while Spark starts, and can report mistakes
            before there is a session. Spark waits for it, so long work belongs in a thread.
        show: prints the summary; its second argument is True for JSON.
        read_only: True if the step must not make the output root.
    """

    name: str
    step: Step
    about: str | None = None
    prepare: Callable[[Config], object] | None = None
    show: Callable[[Summary, bool], None] = show
    read_only: bool = False

    def submit(self) -> None:
        """Runs the job as a program of its own, as spark-submit starts it."""

        def command(
            conf: ConfFiles = [],  # noqa: B006
            sets: Sets = [],  # noqa: B006
            as_json: AsJson = False,
        ) -> None:
            self.run(conf, sets, as_json)

        command.__doc__ = self.about
        run_program(command)

    def run(self, files: list[Path], sets: list[str], as_json: bool) -> Summary:
        """Loads the configuration, starts the session, runs the step and prints the summary.

        Exits with 2 for a user's mistake and 3 for a failed audit, with a message and no stack
        trace.
        """
        with reported_errors():
            config = loading.load(files, sets)
            prepare = functools.partial(self.prepare, config) if self.prepare else None
            spark = session.start(config.spark, beside=prepare)
            if self.read_only:
                work = Workspace(spark, Store(config.output.root), config)
            else:
                work = Workspace.open(spark, config)
            summary = self.timed(work)
            spark.stop()
        self.show(summary, as_json)
        return summary

    def timed(self, work: Workspace) -> Summary:
        """Runs the step; its wall time stands in the summary under `seconds`."""
        started = time.monotonic()
        summary = self.step(work)
        seconds = {self.name: round(time.monotonic() - started, 2)}
        return {**summary, "seconds": summary.get("seconds") or seconds}


def run_in_turn(jobs: Sequence[Job], work: Workspace) -> Summary:
    """Runs jobs one after another, each as a run of its own, and merges their summaries."""
    summary: Summary = {}
    for job in jobs:
        _log.info("%s ...", job.name)
        summary = merged(summary, job.timed(work.for_next_step()))
    return summary


def merged(first: Summary, second: Summary) -> Summary:
    """Merges two summaries: later figures win, the times of one job add up."""
    seconds = dict(first.get("seconds", {}))
    for name, value in second.get("seconds", {}).items():
        seconds[name] = round(seconds.get(name, 0.0) + value, 2)
    return {**first, **second, "seconds": seconds}

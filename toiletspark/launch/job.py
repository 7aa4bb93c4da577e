"""A job: one step of the work as a program, with its session, summary and exit code."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toiletspark.config import Config, command_line, loading
from toiletspark.config.command_line import AsJson, ConfFiles, Sets, Summary
from toiletspark.launch import session
from toiletspark.tables import failures, runs, table_reader
from toiletspark.tables.workspace import Workspace

Step = Callable[[Workspace], Summary]

_log = logging.getLogger("toiletspark")


@dataclass(frozen=True)
class Job:
    """A step, and what a program needs to run it.

    `prepare` is called while Spark starts, and can report mistakes before there is a session. Spark
    waits for it, so long work belongs in a thread.
    """

    name: str  # of the file in jobs/, and of the step's wall time in the summary
    step: Step
    about: str | None = None  # the help text
    prepare: Callable[[Config], object] | None = None
    show: Callable[[Summary, bool], None] = command_line.show  # prints the summary; True: as JSON
    read_only: bool = False  # the step must not make the output root

    def submit(self) -> None:
        """Runs the job as a program of its own, as spark-submit starts it."""

        def command(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:  # noqa: B006
            self.run(conf, sets, as_json)

        command.__doc__ = self.about
        command_line.run_program(command)

    def run(self, files: list[Path], sets: list[str], as_json: bool) -> Summary:
        """Loads the configuration, starts the session, runs the step and prints the summary.

        Exits with 2 for a user's mistake and 3 for a failed audit, with a message and no stack
        trace.
        """
        with command_line.reported_errors():
            config = loading.load(files, sets)
            prepare = functools.partial(self.prepare, config) if self.prepare else None
            with runs.left_as_it_was(config.output.root):
                spark = session.start(config.spark, beside=prepare)
                session.require_same_names(spark, config)
                damaged_file = functools.partial(table_reader.damaged_file, spark)
                with failures.explained(config, self.name, damaged_file):
                    summary = self.timed(Workspace.open(spark, config, read_only=self.read_only))
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

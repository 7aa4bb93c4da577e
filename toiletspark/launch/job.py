"""How a job starts and ends: its command line, the session, the summary and the exit code."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.config.command_line import (
    AsJson,
    ConfFiles,
    Sets,
    Summary,
    run_program,
    show,
    told_errors,
)
from toiletspark.launch import session

Step = Callable[[SparkSession, Config], Summary]
Shown = Callable[[Summary, bool], None]
Beginning = Callable[[Config], object]

_beginnings: dict[Step, Beginning] = {}


def while_spark_starts(begin: Beginning) -> Callable[[Step], Step]:
    """Has a step begin before there is a session: with what needs none, and with mistakes that can be told at once.

    Args:
        begin: called with the configuration while Spark starts, which waits for it: long work belongs in a thread.
    """

    def begun_with(step: Step) -> Step:
        _beginnings[step] = begin
        return step

    return begun_with


def submit(step: Step, shown: Shown = show) -> None:
    """Runs one step as a program of its own: what each file in jobs/ calls under spark-submit."""

    def command(conf: ConfFiles = [], sets: Sets = [], as_json: AsJson = False) -> None:  # noqa: B006
        run_step(step, conf, sets, as_json, shown)

    command.__doc__ = sys.modules[step.__module__].__doc__
    run_program(command)


def run_step(
    step: Step, files: list[Path], sets: list[str], as_json: bool, shown: Shown = show
) -> Summary:
    """Loads the configuration, starts the session, runs the step, tells what came of it.

    Exits with 2 for a user's mistake and 3 for a failed audit, with the message and no stack trace.
    """
    with told_errors():
        config = conf_files.load(files, sets)
        begin = _beginnings.get(step)
        spark = session.start(
            config.spark, beside=functools.partial(begin, config) if begin else None
        )
        summary = timed(step, spark, config)
        spark.stop()
    shown(summary, as_json)
    return summary


def in_turn(steps: list[Step], spark: SparkSession, config: Config) -> Summary:
    """Runs steps one after another and merges their summaries."""
    summary: Summary = {}
    for step in steps:
        print(f"toiletspark: {_name(step)} ...", file=sys.stderr, flush=True)
        summary = merged(summary, timed(step, spark, config))
    return summary


def merged(first: Summary, second: Summary) -> Summary:
    """Two summaries in one: later figures win; times stand side by side, and those of one job add up."""
    one, other = first.get("seconds", {}), second.get("seconds", {})
    seconds = {
        name: round(one.get(name, 0.0) + other.get(name, 0.0), 2) for name in {**one, **other}
    }
    return {**first, **second, "seconds": seconds}


def timed(step: Step, spark: SparkSession, config: Config) -> Summary:
    """Runs a step; its wall time in seconds stands in the summary under `seconds`, by the job's name."""
    started = time.monotonic()
    summary = step(spark, config)
    took = {_name(step): round(time.monotonic() - started, 2)}
    return {**summary, "seconds": summary.get("seconds") or took}


def _name(step: Step) -> str:
    """The job's name, also where its file is the program that runs."""
    inner = step.func if isinstance(step, functools.partial) else step
    module = sys.modules[inner.__module__]
    return Path(module.__file__ or inner.__module__).stem

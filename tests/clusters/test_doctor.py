"""`toiletspark doctor` on standalone clusters: a sound one, and one with five faults at once.

`make bench-doctor` plants each fault alone, and an old Pillow too.
"""

from __future__ import annotations

import collections
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import doctor
from benchmarks.doctor import FAULTS, MORE, Fault, Ward, alarms
from benchmarks.measure import ROOT
from tests.support import clusters

pytestmark = pytest.mark.minutes


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with doctor.opened(tmp_path_factory.mktemp("ward"), old_pillow=False) as opened:
        yield opened


def test_a_sound_cluster_is_sound_and_nothing_is_left_behind(ward: Ward) -> None:
    report = ward.examine(Fault(""), "sound")
    assert alarms(report) == []
    assert report["returned"] == 0
    assert sorted(executor["name"] for executor in report["executors"]) == [
        "executor 0",
        "executor 1",
    ]
    assert report["executors_known"] == 2
    assert torch_versions(report) == {report["driver"]["versions"]["torch"]}
    assert report["median_image_bytes"] > 10_000
    assert f"spark.pyspark.python={ward.folder}/sound/bin/python" in report["submit"]
    assert not (ward.folder / "output-sound").exists()


def test_every_executor_answers_under_dynamic_allocation(ward: Ward) -> None:
    """Spark has no barrier stages there; no alarm, and the note that there is no maximum."""
    settings = {
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.minExecutors": "2",
    }
    report = ward.examine(Fault("", settings=settings), "dynamic")
    assert alarms(report) == []
    assert (len(report["executors"]), report["executors_known"]) == (2, 2)
    assert [finding["check"] for finding in report["findings"]] == ["dynamic_allocation"]


def test_each_executor_of_several_cores_answers_once(tmp_path: Path) -> None:
    """In a barrier stage one of its tasks works; in ordinary tasks all do, and one counts."""
    (tmp_path / "job.py").write_text(
        "import pathlib, sys, tempfile, time\n"
        "from toiletspark.config import loading\n"
        "from toiletspark.launch import session\n"
        "from toiletspark.launch.doctor import executors\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "def question():\n"
        "    tempfile.mkstemp(dir=folder)\n"
        "    time.sleep(1)\n"
        "    return {}\n"
        "context = session.start(loading.load([], ['images.path=none']).spark).sparkContext\n"
        "assert executors.wait_for_executors(context) == 3\n"
        "for can_start in (executors._can_start_all_at_once, lambda _: False):\n"
        "    executors._can_start_all_at_once = can_start\n"
        "    answers = executors.ask(context, question)\n"
        "    print(can_start(context), len(answers), len(list(folder.iterdir())))\n"
    )
    (tmp_path / "asked").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
    with clusters.started(
        tmp_path / "cluster", environment=environment, workers=3, cores=2
    ) as cluster:
        words = [clusters.SPARK_HOME / "bin" / "spark-submit"]
        words += [*cluster.options({"spark.executor.cores": "2"}), tmp_path / "job.py"]
        done = subprocess.run(
            [*words, tmp_path / "asked"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.splitlines()[-2:] == ["True 3 3", "False 3 9"]


def test_five_faults_at_once_are_found_with_the_worker_that_has_them(ward: Ward) -> None:
    names = ("oversubscribed_threads", "huge_arrow_batches", "little_overhead", "unwritable_output")
    planted = [FAULTS[name] for name in names]
    sets = dict(collections.ChainMap(*(fault.sets for fault in planted)))
    settings = dict(collections.ChainMap(*(fault.settings for fault in planted)))
    fault = Fault("", python="torchless", settings=settings, sets=sets)
    report = ward.examine(fault, "five")
    findings = {finding["check"]: finding for finding in report["findings"]}
    assert set(alarms(report)) == {"packages", *(fault.check for fault in planted)}
    assert report["returned"] == 2
    assert report["findings"][0]["level"] == "error"
    torchless = [one["python"] for one in report["executors"] if not one["versions"]["torch"]]
    assert {*torchless} == {str(ward.folder / "torchless" / "bin" / "python")}
    assert findings["packages"]["where"].count("executor") == 1
    assert "spark.executorEnv.OMP_NUM_THREADS=1" in report["submit"]


@pytest.mark.parametrize(
    ("name", "fault"), [("unreachable_host", FAULTS["unreachable_host"]), *MORE.items()]
)
def test_a_fault_is_found_and_no_other(ward: Ward, name: str, fault: Fault) -> None:
    report = ward.examine(fault, name)
    assert alarms(report) == [fault.check]
    assert report["returned"] == 2


def torch_versions(report: dict[str, Any]) -> set[str]:
    return {executor["versions"]["torch"] for executor in report["executors"]}

"""`toiletspark doctor` on a real standalone cluster of two workers: a sound one, and one with five faults at once.

`make bench-doctor` plants each fault alone, and an old Pillow too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks import doctor
from benchmarks.doctor import FAULTS, MORE, Fault, Ward, alarms

pytestmark = pytest.mark.minutes


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with doctor.opened(tmp_path_factory.mktemp("ward"), old_pillow=False) as opened:
        yield opened


def test_a_sound_cluster_is_sound_and_nothing_is_left_behind(ward: Ward) -> None:
    told = ward.examined(Fault(""), "sound")
    assert alarms(told) == []
    assert told["returned"] == 0
    assert [place["name"] for place in sorted(told["executors"], key=lambda one: one["name"])] == [
        "executor 0",
        "executor 1",
    ]
    assert told["executors_known"] == 2
    assert {place["versions"]["torch"] for place in told["executors"]} == {
        told["driver"]["versions"]["torch"]
    }
    assert told["median_image_bytes"] > 10_000
    assert f"spark.pyspark.python={ward.folder}/sound/bin/python" in told["submit"]
    assert not (ward.folder / "output-sound").exists()


def test_five_faults_at_once_are_found_with_the_worker_that_has_them(ward: Ward) -> None:
    names = ("oversubscribed_threads", "huge_arrow_batches", "little_overhead", "unwritable_output")
    planted = [FAULTS[name] for name in names]
    sets = {key: value for one in planted for key, value in one.sets.items()}
    settings = {key: value for one in planted for key, value in one.settings.items()}
    told = ward.examined(Fault("", python="torchless", settings=settings, sets=sets), "five")
    found = {finding["check"]: finding for finding in told["findings"]}
    assert set(alarms(told)) == {"packages", *(one.check for one in planted)}
    assert told["returned"] == 2
    assert told["findings"][0]["level"] == "error"
    torchless = {place["python"] for place in told["executors"] if not place["versions"]["torch"]}
    assert torchless == {str(ward.folder / "torchless" / "bin" / "python")}
    assert found["packages"]["where"].count("executor") == 1
    assert "spark.executorEnv.OMP_NUM_THREADS=1" in told["submit"]


@pytest.mark.parametrize(
    ("name", "fault"), [("unreachable_host", FAULTS["unreachable_host"]), *MORE.items()]
)
def test_a_fault_is_found_and_no_other(ward: Ward, name: str, fault: Fault) -> None:
    told = ward.examined(fault, name)
    assert alarms(told) == [fault.check]
    assert told["returned"] == 2

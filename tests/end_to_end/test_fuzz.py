"""A little of `make fuzz`, the same examples each time; and that it finds planted faults."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from benchmarks import fuzz
from tests.conftest import REPOSITORY
from tests.fuzzing import pictures, targets
from tests.fuzzing.targets import TARGETS, Files
from toiletspark.images import decoding

EXAMPLES = {"decode": 80, "thumbnail": 40, "overrides": 60, "versions": 25, "conf": 25}

PLANTED = """
import os, signal, sys, time
sys.path.insert(0, {repository!r})
from hypothesis import strategies as st
from benchmarks import fuzz
from tests.fuzzing.targets import TARGETS, Target

def check(folder):
    kind = (folder / "kind").read_bytes()
    if kind == b"raise":
        raise KeyError("no four parts")
    if kind == b"memory":
        bytearray(2**31)
    if kind == b"crash" and not os.path.exists({crashed!r}):
        open({crashed!r}, "w").close()
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == b"hang" and os.path.exists({crashed!r}):
        while True:
            pass

fuzz.EXAMPLE_TIMEOUT_S = 0.3
kinds = st.sampled_from([b"", b"raise", b"memory", b"crash", b"hang"])
TARGETS["planted"] = Target(kinds.map(lambda kind: dict(kind=kind)), check)
fuzz.main()
"""


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_files_are_told_in_four_parts_or_are_rows(
    name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """`targets.run` raises at any other outcome."""
    target = TARGETS[name]
    read: list[Path] = []

    @settings(
        max_examples=EXAMPLES.get(name, 50),
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(target.files)
    def attack(files: Files) -> None:
        folder = tmp_path_factory.mktemp(name)
        targets.write(files, folder)
        targets.run(target, folder)
        read.append(folder)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attack()
    assert len(read) >= EXAMPLES.get(name, 50) / 2


def test_the_seeds_are_sound_and_of_all_formats() -> None:
    outcomes = decoding.decode(pictures.seeds(), targets.decode_limits(), targets.INPUT)
    assert {one.status for one in outcomes} == {"ok"}
    assert all(b"".join(pictures.parts(seed)) == seed for seed in pictures.seeds())
    assert {
        decoding.open_checked(seed, targets.decode_limits()).format for seed in pictures.seeds()
    } == {*pictures.FORMATS}


def test_an_exception_without_four_parts_is_a_finding(tmp_path: Path) -> None:
    def check(folder: Path) -> None:
        raise KeyError((folder / "a").read_text())

    targets.write({"a": b"b"}, tmp_path)
    with pytest.raises(KeyError, match="b"):
        targets.run(targets.Target(targets.st.just({}), check), tmp_path)


@pytest.mark.slow
def test_a_fault_a_crash_a_hang_and_a_flood_of_memory_are_found_and_kept(tmp_path: Path) -> None:
    script = tmp_path / "planted.py"
    script.write_text(PLANTED.format(repository=str(REPOSITORY), crashed=str(tmp_path / "crashed")))
    limit = fuzz.MAX_DEATHS
    fuzz.MAX_DEATHS = 2
    try:
        found = fuzz._watched("planted", 60.0, 1, tmp_path / "kept", (sys.executable, str(script)))
    finally:
        fuzz.MAX_DEATHS = limit
    place = tmp_path / "kept" / "planted" / "findings"
    told = {
        (path / "kind").read_text(): (place / f"{path.name}.txt").read_text()
        for path in place.iterdir()
        if path.is_dir()
    }
    assert told.keys() >= {"crash", "hang"}
    assert told["crash"].startswith("SIGSEGV\n")
    assert told["hang"].startswith("SIGALRM\n")
    assert {kind for kind in told if kind in ("raise", "memory")} <= {"raise", "memory"}
    assert found.crashes == len(found.saved) == len(told)

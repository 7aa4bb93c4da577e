"""The environment without a cluster: it moves, it is whole or refused, it holds what it must."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from release import environment
from tests.conftest import REPOSITORY
from tests.support import printed
from tests.support.hiding import CAN_HIDE, blind

TORCH = ("torch", "torchvision")
HEAVY = (*TORCH, "openvino", "pyarrow", "s3fs")
PAGE = REPOSITORY / "docs" / "clusters.md"


@pytest.mark.slow
@pytest.mark.skipif(not CAN_HIDE, reason="this user may not have mount namespaces")
def test_an_environment_that_was_moved_needs_no_other_python(tmp_path: Path) -> None:
    shipped = environment.stage(tmp_path / "made", HEAVY)
    moved = (tmp_path / "made").rename(tmp_path / "moved")
    program = (
        "import numpy, pandas, PIL.Image, ssl, sqlite3, ctypes, sys; "
        "print(sys.prefix, sys.executable)"
    )
    command = blind([moved / "bin" / "python", "-c", program])
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [str(moved), str(moved / "bin" / "python")], done.stderr
    assert shipped["numpy"] and "pyspark" not in shipped


@pytest.mark.slow
def test_an_environment_that_does_not_import_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="does not import without what was left out"):
        environment.stage(tmp_path / "made", (*HEAVY, "numpy"))
    assert "numpy" in capfd.readouterr().err


def test_it_has_what_scoring_needs_and_nothing_of_training() -> None:
    names = set(environment.shipped(()))
    assert {
        "torch",
        "torchvision",
        "openvino",
        "numpy",
        "pyarrow",
        "pillow",
        "s3fs",
        "aiohttp",
    } <= names
    assert (
        not {"pyspark", "triton", "nncf", "petastorm", "matplotlib", "pytest", "toiletspark"}
        & names
    )


def test_what_only_a_left_out_package_needs_stays_behind_with_it() -> None:
    whole, small = set(environment.shipped(())), set(environment.shipped(TORCH))
    assert {"torch", "sympy", "networkx"} <= whole - small
    assert {"numpy", "openvino"} <= small


@pytest.mark.parametrize("block", printed.all_blocks("clusters.md", "bash"))
def test_the_commands_that_are_not_run_are_bash_and_name_what_there_is(block: str) -> None:
    subprocess.run(["bash", "-n", "-c", block], check=True)
    named = set(re.findall(r"(?<![\w./])(?:jobs/\w+\.py|conf/(?!mytables)\w+\.toml)", block))
    named |= {
        name.removeprefix("/opt/toiletspark/")
        for name in re.findall(r"/opt/toiletspark/jobs/\w+\.py", block)
    }
    assert [name for name in named if not (REPOSITORY / name).exists()] == []

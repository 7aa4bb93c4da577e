"""The wheel, installed in a working directory that has folders called jobs, training and conf."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, TINY_BACKBONE
from tests.support import wheels

pytestmark = [pytest.mark.slow, pytest.mark.petastorm]

LINKED = ("jobs", "training", "conf")
SUFFIXES = {".py", ".toml", ".j2", ".css", ".js", ".typed"}


@dataclass
class Installed:
    """A Python that has the wheel, and a folder with a data team's own files."""

    wheel: Path
    python: Path
    folder: Path

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(word) for word in words]
        return subprocess.run(
            command, cwd=self.folder, env=kept, capture_output=True, text=True, check=False
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    wheel = wheels.build(folder)
    python = wheels.environment(folder / "env")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet"]
    subprocess.run([*install, wheel], check=True, capture_output=True)
    for name in LINKED:
        own = folder / "work" / name
        own.mkdir(parents=True)
        (own / "__init__.py").write_text(f'raise ImportError("the team\'s own {name}")\n')
    return Installed(wheel, python, folder / "work")


def packaged(folder: str) -> set[str]:
    """Files of a top-level folder of the checkout, by their paths in the wheel."""
    paths = (path for path in (REPOSITORY / folder).rglob("*") if path.suffix in SUFFIXES)
    names = {path.relative_to(REPOSITORY).as_posix() for path in paths}
    return names if folder == "toiletspark" else {f"toiletspark/{name}" for name in names}


def test_the_wheel_holds_every_module_and_data_file_of_the_checkout(installed: Installed) -> None:
    names = {
        name for name in zipfile.ZipFile(installed.wheel).namelist() if "dist-info" not in name
    }
    assert names == packaged("toiletspark").union(*map(packaged, LINKED))


def test_the_wheel_installs_one_top_level_name(installed: Installed) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(installed.wheel).namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"toiletspark"}


def test_every_module_comes_from_the_wheel(installed: Installed) -> None:
    code = (
        "import toiletspark.jobs.cli as a, toiletspark.training.train as b; "
        "print(a.__file__, b.__file__)"
    )
    done = installed.run(installed.python, "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(installed.python.parents[1])) == 2


def test_the_installed_command_runs_the_demo(installed: Installed) -> None:
    sets = [f"--set={key}={value}" for key, value in TINY_BACKBONE.items()]
    program = installed.python.with_name("toiletspark")
    words = ("--folder", "demo", "--listings", "60", "--json")
    done = installed.run(program, "demo", *words, *sets)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["version"] == 1
    assert summary["excluded"] > 0
    assert Path(summary["report"]).is_file()

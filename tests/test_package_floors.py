"""Floors: for pip, for a program's start, and for a worker's work."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from pyspark.errors import PythonException
from pyspark.sql import SparkSession

from tests.conftest import REPOSITORY
from tests.jobs.test_cli import told_mistake
from toiletspark import package_floors as floors
from toiletspark.config.command_line import reported_errors
from toiletspark.embedding import int8
from toiletspark.errors import UserError
from toiletspark.images import thumbnails
from toiletspark.images.decoding import Preprocessing
from toiletspark.jobs import embed_images
from toiletspark.tables import user_tables as catalog
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

ALLOWED = {
    "Pillow": ["13.0.0", "13.0.1", "14.2"],
    "torch": ["2.10.0", "2.12.1+cu130", "2.13.1", "2.14.1+cpu"],
    "pyarrow": ["14.0.1", "14.0.2", "14.1.0", "23.0.1", "24.0.0"],
}
REFUSED = {
    "Pillow": ["9.5.0", "12.9.9", "13.0.0rc1"],
    "torch": ["1.13", "2.9.1+cpu", "2.13.0", "2.13.0+cpu"],
    "pyarrow": ["0.17", "13.0.0", "14.0.0", "15.0.0", "15.0.2", "18.1.0", "22.0.0", "23.0.0"],
}


def installed_as(folder: Path, package: str, version: str) -> Path:
    """A folder that, first on Python's path, makes a package look like another version of it."""
    described = folder / f"{package}-{version}.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
    )
    return folder


def run(*words: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(REPOSITORY)])}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


# Ranges


@pytest.mark.parametrize("floor", floors.FLOORS, ids=lambda floor: floor.package)
def test_the_floors_are_these(floor: floors.Floor) -> None:
    assert [version for version in ALLOWED[floor.package] if not floor.allows(version)] == []
    assert [version for version in REFUSED[floor.package] if floor.allows(version)] == []


def declared() -> Iterator[Requirement]:
    """Every requirement that setup.py writes down, in whatever list."""
    for node in ast.walk(ast.parse((REPOSITORY / "setup.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                yield Requirement(node.value)
            except InvalidRequirement:
                continue


@pytest.mark.parametrize("floor", floors.FLOORS, ids=lambda floor: floor.package)
def test_setup_says_the_same_once_and_an_extra_may_only_be_stricter(floor: floors.Floor) -> None:
    found = [
        one.specifier
        for one in declared()
        if one.name.lower() == floor.package.lower() and one.specifier
    ]
    same = [one for one in found if one == SpecifierSet(floor.versions)]
    assert len(same) == 1, f"setup.py must say {floor.requirement} in install_requires"
    for version in REFUSED[floor.package]:
        assert not any(version in one for one in found), version


# Here


def test_what_is_installed_here_may_be_used() -> None:
    assert floors.unsafe() == []
    floors.require(doing="testing")


@pytest.mark.parametrize("package", REFUSED)
def test_a_package_that_must_not_be_used_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.syspath_prepend(installed_as(tmp_path, package, REFUSED[package][0]))
    (floor,) = (one for one in floors.FLOORS if one.package == package)
    assert floors.unsafe() == [floors.Unsafe(floor, REFUSED[package][0])]
    with pytest.raises(UserError) as stopped:
        floors.require(doing="testing")
    assert stopped.value.expected == f"{floor.requirement} ({floor.why})"
    assert stopped.value.found.startswith(
        f"{package} {REFUSED[package][0]} in {sys.executable} on "
    )
    assert stopped.value.todo.startswith(f"pip install {floor.requirement!r} in that Python")


def test_a_package_that_is_missing_is_nothing_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert floors.unsafe() == []


@pytest.mark.parametrize(
    "words",
    [
        ("toiletspark.jobs.cli", "embed"),
        ("toiletspark.jobs.cli", "leaks", "show"),
        ("toiletspark.jobs.score_catalog",),
    ],
)
def test_every_program_refuses_before_it_reads_a_configuration_or_starts_spark(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    done = run(*words, "--conf", "not-there.toml", path=installed_as(tmp_path, "pillow", "12.1.1"))
    told = told_mistake(done)
    assert told.startswith(
        "toiletspark: while checking the packages of the driver\n  expected: Pillow>=13.0.0 ("
    )
    assert f"\n  found:    Pillow 12.1.1 in {sys.executable} on " in told


@pytest.mark.slow
@pytest.mark.parametrize("program", ["job", "command"])
@pytest.mark.parametrize("runtime", ["torch", "auto"])
def test_the_doctor_alone_starts_and_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, runtime: str
) -> None:
    """Spark does not start here either; OpenVINO is there and looks for a GPU by that torch."""
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "no-java"))
    path = installed_as(tmp_path / "old", "torch", "2.9.1")
    (path / "torch").mkdir()
    (path / "torch" / "__init__.py").write_text("__version__ = '2.9.1'\n")
    words = (
        ("toiletspark.jobs.cli", "doctor")
        if program == "command"
        else ("toiletspark.jobs.check_cluster",)
    )
    sets = (f"backbone.runtime={runtime}", "images.path=none", f"output.root={tmp_path / 'output'}")
    done = run(*words, "--json", *(f"--set={one}" for one in sets), path=path)
    assert "Traceback" not in done.stderr
    told = json.loads(done.stdout)
    assert (done.returncode, told["exit_code"]) == (2, 2)
    found = {
        finding["check"]: finding for finding in told["findings"] if finding["level"] == "error"
    }
    assert {"start", "floors"} <= {*found}
    assert found["floors"]["what"] == "torch is 2.9.1"
    assert found["floors"]["where"].startswith("driver on ")


def test_nothing_is_imported_for_it() -> None:
    code = (
        "import sys; from toiletspark import package_floors; package_floors.require(doing='');"
        "print({'torch', 'PIL', 'pyarrow'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


# On workers


@pytest.fixture(scope="module")
def old_workers(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Workers whose Pillow looks old; Spark starts new ones for another environment."""
    environment = spark.sparkContext.environment
    before = dict(environment)
    environment["PYTHONPATH"] = str(
        installed_as(tmp_path_factory.mktemp("old"), "pillow", "12.1.1")
    )
    yield
    environment.clear()
    environment.update(before)


def test_a_worker_with_an_old_pillow_works_on_no_image(
    spark: SparkSession,
    make_config: Callable[..., Any],
    old_workers: None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One message, exit code 2, no stack trace; no image is fetched or decoded."""
    config = make_config()
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended, reported_errors():
        embed_images.step(Workspace.open(spark, config))
    told = capfd.readouterr().err
    assert ended.value.code == 2
    assert "toiletspark: while checking the packages of a worker, before its first batch\n" in told
    assert "  found:    Pillow 12.1.1 in " in told
    assert "Traceback" not in told
    store = Store.open(config.output.root)
    assert [
        name
        for name in ("embeddings", "image_ledger", "catalog")
        if (Path(store.root) / name).exists()
    ] == []


def test_nor_does_it_decode_what_int8_is_calibrated_on(
    spark: SparkSession, make_config: Callable[..., Any], old_workers: None
) -> None:
    config = make_config()
    images = catalog.read_catalog(spark, config)
    with pytest.raises(UserError, match=r"Pillow 12\.1\.1 in "):
        int8.decode_images(images, config.fetch, config.decode, Preprocessing(40, 32))


def test_nor_does_it_make_pictures_for_people(
    spark: SparkSession, make_config: Callable[..., Any], old_workers: None
) -> None:
    """Spark tells it here, after its own stack trace: thumbnails are lazy."""
    config = make_config()
    small = thumbnails.thumbnails(
        catalog.read_catalog(spark, config), config.fetch, config.decode, 64
    )
    with pytest.raises(PythonException, match=r"(?s)before its first picture.*Pillow 12\.1\.1 in "):
        small.collect()

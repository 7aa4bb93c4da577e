"""The products of `make dist` on a standalone cluster that sees neither sources nor any .venv.

The commands of docs/clusters.md run as they are printed. The environment is the one without torch:
the other takes minutes, and differs by the packages in it alone.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from release import interpreter
from tests.conftest import REPOSITORY
from tests.support import clusters, printed, wheels
from tests.support.hiding import CAN_HIDE, blind, hidden
from toiletspark.demo.catalog import IMAGES_PER_LISTING, draw_catalog

pytestmark = [pytest.mark.slow, pytest.mark.minutes]

WITHOUT_TORCH = ("--without", "torch", "--without", "torchvision")
LISTINGS = 8
IMAGES_CONF = """
[images]
path = "{images}"
[listings]
path = "{listings}"
[output]
root = "{root}/output"
[embed]
images_per_task = 4
[backbone]
weights = "random"
resize_px = 40
crop_px = 32
runtime = "openvino"
[fetch]
allow = ["{root}"]
"""


@dataclass
class Client:
    """The folder from which jobs are submitted, as the page has it."""

    folder: Path
    images: int

    def run(self, command: str, cluster: clusters.Cluster) -> str:
        """A block of the page; returns what it printed."""
        (self.folder / "spark").mkdir(exist_ok=True)
        words = cluster.options()
        settings = [word.replace("=", " ", 1) for word in words if word.startswith("spark.")]
        (self.folder / "spark" / "spark-defaults.conf").write_text("\n".join(settings) + "\n")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYSPARK", "SPARK", "PYTHON"))
        }
        path = f"{clusters.SPARK_HOME / 'bin'}{os.pathsep}{kept['PATH']}"
        said = {"PATH": path, "MASTER": cluster.url, "SPARK_CONF_DIR": str(self.folder / "spark")}
        done = subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=self.folder,
            env={**kept, **said, "SPARK_LOCAL_IP": "127.0.0.1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-4000:]}{done.stderr[-1000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = tmp_path_factory.mktemp("client")
    wheels.build(folder)
    pack = [
        sys.executable,
        "-m",
        "release.environment",
        "--out",
        folder / "dist" / "environment.tar.gz",
    ]
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        [*pack, *WITHOUT_TORCH],
        check=True,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
    )
    for name in ("jobs", "conf"):
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    drawn = draw_catalog(folder / "catalog", listings=LISTINGS)
    (folder / "mytables.toml").write_text(
        IMAGES_CONF.format(images=drawn.images, listings=drawn.listings, root=folder)
    )

    wheels.environment(folder / ".venv")
    return Client(folder, LISTINGS * IMAGES_PER_LISTING)


@pytest.fixture(scope="module")
def cluster(client: Client) -> Iterator[clusters.Cluster]:
    """A cluster with Spark in another folder, without the sources or a virtual environment.

    Spark's starting script hides them in a mount namespace of each process, which executors and
    workers inherit.
    """
    spark = client.folder.parent / f"{client.folder.name}-spark"
    shutil.copytree(clusters.SPARK_HOME, spark, copy_function=interpreter.linked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clusters, "SPARK_HOME", spark)
        if CAN_HIDE:
            _hide(spark / "bin" / "spark-class", client.folder / ".venv")
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYSPARK", "PYTHON"))
        }
        with clusters.started(client.folder / "cluster", environment=kept, workers=1) as one:
            patch.undo()
            yield one


def _hide(program: Path, *places: Path) -> None:
    real = program.with_name(f"{program.name}-itself")
    program.rename(real)
    program.write_text(f'#!/bin/sh\nexec {shlex.join(blind([real], *places))} "$@"\n')
    program.chmod(0o755)


def test_executors_run_the_python_of_the_archive(client: Client, cluster: clusters.Cluster) -> None:
    (program,) = printed.blocks("clusters.md", "Is it really that Python", "python")
    (command,) = printed.blocks("clusters.md", "Is it really that Python", "bash")
    (client.folder / "which_python.py").write_text(program)
    told = client.run(command, cluster).splitlines()
    found = [json.loads(line) for line in told if line.startswith("{")]
    assert len(found) == len(cluster.workers), told
    executors = {worker.work for worker in cluster.workers}
    assert {Path(one["python"]).parents[4] for one in found} == executors
    for one in found:
        assert one["python"].endswith("/environment/bin/python")
        assert Path(one["toiletspark"]).parts[-3].endswith((".zip", ".whl"))
        assert one["torch"] is None and one["openvino"] and one["pillow"]


def test_a_job_embeds_with_it(client: Client, cluster: clusters.Cluster) -> None:
    (command,) = printed.blocks("clusters.md", "Standalone", "bash")
    told = json.loads(client.run(command, cluster).splitlines()[-1])
    assert told["embedded"] > 0
    assert told["images"] == client.images


@pytest.mark.skipif(not CAN_HIDE, reason="this user may not have mount namespaces")
def test_nothing_of_this_machines_python_was_to_be_seen(cluster: clusters.Cluster) -> None:
    for daemon in cluster.daemons:
        for place in hidden():
            assert list(Path(f"/proc/{daemon.pid}/root{place}").iterdir()) == []


def test_the_archive_names_no_place_of_this_machine(client: Client) -> None:
    with tarfile.open(client.folder / "dist" / "environment.tar.gz") as tar:
        entries = tar.getmembers()
    names = {entry.name for entry in entries}
    assert {"./bin/python", "./pyvenv.cfg"} <= names
    assert [
        entry.name for entry in entries if entry.issym() and entry.linkname.startswith("/")
    ] == []
    assert [
        name
        for name in names
        if "/site-packages/pyspark/" in name
        or "/site-packages/torch/" in name
        or name.endswith((".pyc", ".a"))
    ] == []

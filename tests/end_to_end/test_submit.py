"""spark-submit with the wheel, as on a cluster, in a Python without toiletspark or sources.

The jobs run on local[2] and against a standalone master with two workers; what comes of it must be
the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import FIXED, NEARBY, REPOSITORY, TINY_BACKBONE, training_python
from tests.support import clusters, wheels
from tests.support.clusters import SPARK_HOME, Cluster
from toiletspark.demo.catalog import DemoCatalog, draw_catalog
from toiletspark.demo.tour import CLASS_OF_ROOM

pytestmark = pytest.mark.slow

LABELS = ("labels.table.path=labels.csv", "labels.table.columns.class=room")
# the chain, then what stands alone in some other way than in it
LOCAL_JOBS = (
    "run_chain",
    "draw_sample",
    "embed_images",
    "rescore_catalog",
    "publish_exclusions",
    "build_feed",
)
# each job file with a Spark context of its own, as spark-submit runs it, but all in one JVM, which
# takes longest to start
ONE_BY_ONE = """
import contextlib, io, json, runpy, sys

jobs, words, told = sys.argv[1].split(","), sys.argv[2:], {}
for job in jobs:
    sys.argv, said, path = [f"jobs/{job}.py", *words], io.StringIO(), sys.path[:]
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    sys.path[:] = path  # the context's copy of the wheel is gone with it
    told[job] = json.loads(said.getvalue().splitlines()[-1])
print(json.dumps(told))
"""
# as spark-submit runs a file, but only to see what it says of itself
EACH_HELP = """
import contextlib, io, json, runpy, sys

jobs, told = sys.argv[1:], {}
for job in jobs:
    sys.argv, said = [f"jobs/{job}.py", "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        told[job] = [ended.code, "--conf" in said.getvalue()]
print(json.dumps(told))
"""
NO_JOBS = ("__init__", "cli", "cli_publish")
JOBS = sorted(path.stem for path in (REPOSITORY / "jobs").glob("*.py") if path.stem not in NO_JOBS)
LISTINGS, IMAGES = 14, 56


@dataclass
class Site:
    """A cluster's machine: the wheel, the job files, and a Python that lacks only toiletspark."""

    folder: Path
    wheel: Path
    python: Path
    drawn: DemoCatalog

    @property
    def environment(self) -> dict[str, str]:
        """Without PYSPARK_PYTHON, and python3 fails: workers must find the driver's Python."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYSPARK", "SPARK", "PYTHON"))
        }
        ours = str(Path(sys.executable).parent)
        path = [part for part in kept["PATH"].split(os.pathsep) if part != ours]
        path.insert(0, str(self.folder / "no_python"))
        return {
            **kept,
            "PATH": os.pathsep.join(path),
            "PYSPARK_DRIVER_PYTHON": str(self.python),
            "SPARK_LOCAL_IP": "127.0.0.1",
        }

    def submit(
        self, program: str, *words: str, output: str, sets: tuple[str, ...], spark: tuple[str, ...]
    ) -> Any:
        """Runs spark-submit; returns its last line. Spark puts the driver's stderr in stdout."""
        settings = {
            "listings.path": self.drawn.listings,
            "images.path": self.drawn.images,
            "images.columns.image_version": "image_version",
            "output.root": self.folder / output,
            "sample.size": 48,
            "sample.method": "exact",
            "sample.min_per_stratum": 1,
            "labels.labeller": "test",
            "embed.images_per_task": 7,
            "train.validation_share": 0.4,
            "train.python": training_python(),
            "progress.line_every_s": 1,
            **TINY_BACKBONE,
            **NEARBY,
            **FIXED,
        }
        command = [
            SPARK_HOME / "bin" / "spark-submit",
            "--py-files",
            self.wheel,
            *spark,
            program,
            *words,
            "--json",
        ]
        command += [f"--set={key}={value}" for key, value in settings.items()]
        command += [f"--set={text}" for text in sets]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program}\n{done.stdout[-4000:]}{done.stderr[-1000:]}"
        return json.loads(done.stdout.splitlines()[-1])


LOCAL = clusters.options("local[2]")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    wheel = wheels.build(folder)
    (folder / "jobs").mkdir()
    for job in JOBS:
        shutil.copy(REPOSITORY / "jobs" / f"{job}.py", folder / "jobs")
    (folder / "one_by_one.py").write_text(ONE_BY_ONE)
    (folder / "no_python").mkdir()
    decoy = folder / "no_python" / "python3"
    decoy.write_text("#!/bin/sh\nexit 1\n")
    decoy.chmod(0o755)

    python = wheels.environment(folder / "env")
    return Site(folder, wheel, python, draw_catalog(folder / "catalog", listings=LISTINGS))


def test_that_python_has_the_dependencies_but_not_toiletspark(site: Site) -> None:
    def imports(name: str) -> subprocess.CompletedProcess[str]:
        command = [site.python, "-c", f"import {name}"]
        environment = site.environment
        return subprocess.run(
            command, cwd=site.folder, env=environment, capture_output=True, text=True, check=False
        )

    assert imports("torch, pyspark, pydantic").returncode == 0
    for name in ("toiletspark", "toiletspark.jobs.draw_sample", "training"):
        assert "ModuleNotFoundError" in imports(name).stderr


@dataclass
class Locally:
    """The jobs' summaries on local[2]."""

    chain: dict[str, Any]
    told: dict[str, dict[str, Any]]


# A cluster


@pytest.fixture(scope="module")
def cluster(site: Site) -> Iterator[Cluster]:
    with clusters.started(site.folder / "cluster", environment=site.environment) as running:
        yield running


@dataclass
class OnCluster:
    """The chain's summary on the cluster, with the head that was trained locally."""

    cluster: Cluster
    chain: dict[str, Any]


@pytest.fixture(scope="module")
def both(site: Site, cluster: Cluster) -> tuple[Locally, OnCluster]:
    """The chain and the other jobs on local[2], then the chain on the cluster with its head."""
    truth = pd.read_csv(site.drawn.truth)
    truth.assign(room=truth["room"].map(CLASS_OF_ROOM)).to_csv(
        site.folder / "labels.csv", index=False
    )
    here = site.submit(
        "one_by_one.py", ",".join(LOCAL_JOBS), output="local", sets=LABELS, spark=LOCAL
    )
    chain = here["run_chain"]
    sets = (*LABELS, f"score.head={chain['head']}")
    there = site.submit("jobs/run_chain.py", output="output", sets=sets, spark=cluster.options())
    return Locally(chain, here), OnCluster(cluster, there)


@pytest.fixture(scope="module")
def locally(both: tuple[Locally, OnCluster]) -> Locally:
    return both[0]


@pytest.fixture(scope="module")
def on_cluster(both: tuple[Locally, OnCluster]) -> OnCluster:
    return both[1]


def rows(folder: str, *columns: str) -> pd.DataFrame:
    frame = pd.read_parquet(folder)
    return frame.sort_values("image_id")[list(columns) or sorted(frame.columns)].reset_index(
        drop=True
    )


def test_the_chain_runs_from_the_wheel(site: Site, locally: Locally) -> None:
    told = locally.chain
    assert told["images"] == IMAGES == told["scored"] + sum(told["unscored"].values())
    assert told["embedded"] > 30
    assert told["labelled"] > 40
    assert told["sampled"] == 48
    assert told["feed_out"] == told["feed_in"] - told["excluded"]
    assert Path(told["report"]).read_text().startswith("<!DOCTYPE html>")


def test_the_cluster_gives_the_same_scores_and_the_same_list(
    locally: Locally, on_cluster: OnCluster
) -> None:
    here, there = locally.chain, on_cluster.chain
    assert (there["embedded"], there["scored"], there["unscored"]) == (
        here["embedded"],
        here["scored"],
        here["unscored"],
    )
    one, two = rows(here["scores"]), rows(there["scores"])
    names = [name for name in one.columns if name == "exclusion_score" or name.startswith("p_")]
    others = [name for name in one.columns if name not in names]
    pd.testing.assert_frame_equal(one[others], two[others])
    # neighbours in a batch: float16's last bit
    pd.testing.assert_frame_equal(one[names], two[names], atol=1e-3)
    wanted = ["image_id", "listing_id", "reason", "head_id"]
    pd.testing.assert_frame_equal(
        rows(here["exclusion_list"], *wanted), rows(there["exclusion_list"], *wanted)
    )
    assert 0 < there["excluded"] < IMAGES


def test_the_cluster_gives_the_same_feed(locally: Locally, on_cluster: OnCluster) -> None:
    pd.testing.assert_frame_equal(rows(on_cluster.chain["feed"]), rows(locally.chain["feed"]))


def test_each_job_alone_gives_what_it_gives_in_the_chain(locally: Locally) -> None:
    told = locally.told
    pd.testing.assert_frame_equal(
        rows(told["draw_sample"]["sample"]), rows(locally.chain["sample"])
    )
    pd.testing.assert_frame_equal(rows(told["build_feed"]["feed"]), rows(locally.chain["feed"]))
    columns = ["image_id", "exclusion_score", "head_id"]
    for job in ("rescore_catalog", "publish_exclusions"):
        published = told[job]["exclusion_list"]
        pd.testing.assert_frame_equal(
            rows(published, *columns), rows(locally.chain["exclusion_list"], *columns)
        )
    # the chain's was 1
    assert [told[job]["version"] for job in ("rescore_catalog", "publish_exclusions")] == [2, 3]


def test_both_workers_ran_tasks(on_cluster: OnCluster) -> None:
    assert on_cluster.cluster.hosts_of_tasks() == [{"0", "1"}]
    for number in ("1", "2"):
        work = on_cluster.cluster.folder / f"work-{number}"
        assert len(list(work.glob("app-*"))) == 1  # each worker had an executor


def test_the_workers_ran_the_drivers_python(
    site: Site, locally: Locally, on_cluster: OnCluster
) -> None:
    """Workers that are told no Python take python3 from their path; here it embeds nothing."""
    words = ["python3", "-c", "import sys"]
    assert subprocess.run(words, cwd=site.folder, env=site.environment, check=False).returncode == 1
    assert min(told.chain["embedded"] for told in (locally, on_cluster)) > 30


def test_a_second_run_embeds_nothing(locally: Locally) -> None:
    again = locally.told["embed_images"]
    assert (again["images"], again["embedded"]) == (IMAGES, 0)


def test_every_job_file_loads_from_the_wheel(site: Site) -> None:
    """Each prints its purpose and options: all that it imports was there. No Java is started."""
    command = [site.python, "-c", EACH_HELP, *JOBS]
    environment = {**site.environment, "PYTHONPATH": str(site.wheel)}
    done = subprocess.run(
        command, cwd=site.folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {job: [0, True] for job in JOBS}

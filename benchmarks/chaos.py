"""Images, processes and readers at their worst at the same time: `make bench-chaos`.

A standalone cluster of two workers. A first version comes from a tenth of the images, with
speculation on and one task that does not end before it was started twice. Then the rest arrives:
executors are killed at 15, 35 and 55 % of its images, the driver at 70 %; and the run is repeated,
in which a Python worker dies at 80 % and a Worker with all its executors at 90 %. What is done is
read from what is written, not from a clock. Readers poll from the first version on. What is
published must be what one process finds that knows no Spark.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from benchmarks import hostile
from benchmarks.deaths import Deaths
from benchmarks.measure import ROOT, machine
from benchmarks.polling import Readers
from tests.conftest import TINY_BACKBONE
from tests.support import clusters, poison
from tests.support.clusters import SPARK_HOME, Cluster
from tests.support.picture_server import PictureServer, served
from toiletspark.config import loading as conf_files
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store

IMAGES, HOSTILE = 2000, 200
EXECUTORS_AT = (0.15, 0.35, 0.55)
SPECULATION = {
    "spark.speculation": "true",
    "spark.speculation.interval": "100ms",
    "spark.speculation.multiplier": "1.1",
    "spark.speculation.quantile": "0.5",
    "spark.speculation.minTaskRuntime": "100ms",
}
_PLANTED = (
    "import sys\nif 'pyspark.daemon' in sys.orig_argv:\n    import runpy\n"
    f"    runpy.run_path({poison.__file__!r})\n"
)


@dataclass
class Catalog:
    """Images behind a web server, and what is to become of each."""

    site: PictureServer
    folder: Path
    contents: dict[str, bytes | None]  # by image_id; None: the server does not have it
    truth: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def root(self) -> Path:
        return self.folder / "output"

    def show(self, count: int) -> list[str]:
        """Lets the images table hold the first `count` images; returns their ids."""
        ids = list(self.contents)[:count]
        urls = [f"{self.site.address}/{image}.jpg" for image in ids]
        self.site.pictures = {
            f"/{image}.jpg": content for image in ids if (content := self.contents[image])
        }
        images = pd.DataFrame(
            {"image_id": ids, "listing_id": [image[:3] for image in ids], "image_url": urls}
        )
        images.to_parquet(self.folder / "images.parquet", index=False)
        return ids

    def sets(self) -> list[str]:
        """The settings, as a command line has them."""
        count = len(self.contents)
        settings = {
            "images.path": self.folder / "images.parquet",
            "output.root": self.root,
            "embed.images_per_task": max(5, count // 40),
            "embed.images_per_commit": count // 4,
            "embed.retry": "none",
            "fetch.timeout_s": 90,
            "fetch.silence_timeout_s": 80,
            "decode.timeout_s": 1.5,  # of an idle core it would take 0.01 s
            "score.head": self.folder / "head",
            "publish.policy.name": "fixed",
            "publish.operating_threshold": self.truth.attrs.get("threshold", 0.5),
            "publish.audits.max_share_excluded": 1.0,
            "publish.audits.max_share_unscored": 1.0,
            "publish.audits.max_rise_unscored": 1.0,
            "publish.audits.max_share_listings_emptied": 1.0,
            "publish.audits.max_change_excluded": 1000,
            "publish.audits.max_psi": 0,
            **TINY_BACKBONE,
            "fetch.allow": json.dumps([f"{self.site.address}/"]),
            "fetch.allow_private": '["127.0.0.0/8"]',
        }
        return [f"{key}={value}" for key, value in settings.items()]

    def start(
        self, cluster: Cluster, settings: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """spark-submit of the rescore job."""
        words = [str(SPARK_HOME / "bin" / "spark-submit"), *cluster.options(settings)]
        words += ["jobs/rescore_catalog.py", "--json"]
        words += [f"--set={text}" for text in self.sets()]
        log = (self.folder / "submit.log").open("a")
        return subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )


def environment(**more: str) -> dict[str, str]:
    """The environment of drivers and daemons: this tree's own packages, this Python."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable, **more}


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The summary of a job that has ended well."""
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the job ended with {process.returncode}\n{said[-6000:]}")
    return dict(json.loads(said.splitlines()[-1]))


def run(
    folder: Path, images: int, bad: int, executors_at: Sequence[float] = EXECUTORS_AT
) -> dict[str, Any]:
    """The whole story; `equal_to_oracle` is for both versions.

    `executors_at` are the shares of the images, (0, 0.7), at which an executor is killed.
    """
    begun = time.monotonic()
    with served() as site:
        catalog = Catalog(site, folder, hostile.contents(images, bad))
        catalog.truth = hostile.oracle(
            catalog.contents, conf_files.load([], catalog.sets()), folder / "head"
        )
        daemons = environment(TOILETSPARK_DECODE_HOOK=poison.__file__)
        oracle_s = time.monotonic() - begun
        with clusters.started(folder / "cluster", environment=daemons) as cluster:
            told = _disturbed(catalog, cluster, images // 10, executors_at)
            told["lost_tasks"] = cluster.lost_tasks()
    return {**told, "oracle_s": round(oracle_s, 1), "seconds": round(time.monotonic() - begun, 1)}


def _disturbed(
    catalog: Catalog, cluster: Cluster, first: int, executors_at: Sequence[float]
) -> dict[str, Any]:
    store = Store.open(str(catalog.root))
    asked_twice = threading.Event()
    shown = catalog.show(first)

    def hold_back(path: str) -> None:
        if path == f"/{shown[0]}.jpg":
            if catalog.site.gets[path] > 1:
                asked_twice.set()
            asked_twice.wait(60)

    catalog.site.before = hold_back
    finished(catalog.start(cluster, SPECULATION))
    equal = [hostile.compared(store, catalog.truth.head(first))]
    polled = Readers(str(catalog.root))
    try:
        shown = catalog.show(len(catalog.contents))
        kills = _killed(catalog, cluster, store, first, executors_at)
    finally:
        right = [_excluded(catalog.truth.head(count)) for count in (first, len(shown))]
        read = polled.stop(*right)
    equal.append(hostile.compared(store, catalog.truth))
    return {
        "equal_to_oracle": all(one["equal"] for one in equal),
        **read,
        "kills": kills,
        "speculative_copy": asked_twice.is_set(),
        "images": len(shown),
        "hostile": int((catalog.truth["status"] != "ok").sum()),
        "compared": equal,
    }


def _killed(
    catalog: Catalog,
    cluster: Cluster,
    store: Store,
    first: int,
    executors_at: Sequence[float],
) -> list[dict[str, Any]]:
    """A run whose executors and driver die, then one that ends its work although workers die."""
    driver = catalog.start(cluster)
    executor = ("executor", lambda: _kill_first(cluster.executors()))
    dies = ("driver", lambda: _kill_driver(driver.pid))
    plan = [*((share, *executor) for share in executors_at), (0.7, *dies)]
    deaths = Deaths(store, first, len(catalog.contents), plan)
    catalog.site.before = deaths.look
    said, _ = driver.communicate()
    if deaths.planned:
        raise RuntimeError(
            f"the job ended with {driver.returncode} before it was killed\n{said[-6000:]}"
        )
    python = ("Python worker", lambda: _kill_first(cluster.python_workers()))
    worker = (
        "Worker with its executors",
        lambda: bool(cluster.executors(2) and cluster.kill_worker(2)),
    )
    deaths.planned = [(0.8, *python), (0.9, *worker)]
    finished(catalog.start(cluster))
    return deaths.told


def _kill_first(found: list[Any]) -> bool:
    return bool(found) and clusters.kill(found[0].pid)


def _kill_driver(group: int) -> bool:
    os.killpg(group, 9)  # Python and its JVM, as one machine
    return True


def _excluded(truth: pd.DataFrame) -> frozenset[str]:
    return frozenset(truth.loc[truth["excluded"], "image_id"])


def without_isolation(folder: Path) -> dict[str, Any]:
    """One crashing image among 40, not isolated: Spark tries its task four times, the job dies."""
    with served() as site:
        contents = hostile.contents(40, 0)
        contents[random.Random(3).choice(list(contents))] = (
            poison.MARK + b"segfault" + poison.PICTURE
        )
        catalog = Catalog(site, folder, contents)
        catalog.show(len(contents))
        (folder / "planted").mkdir()
        (folder / "planted" / "sitecustomize.py").write_text(_PLANTED)
        # there is no head
        sets = [text for text in catalog.sets() if not text.startswith("score.head=")]
        words = [sys.executable, "-m", "toiletspark.jobs.cli", "embed", "--conf", "conf/local.toml"]
        words += [f"--set={text}" for text in [*sets, "decode.isolated=false"]]
        path = os.pathsep.join([str(folder / "planted"), str(ROOT)])
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=environment(PYTHONPATH=path),
            capture_output=True,
            text=True,
            check=False,
        )
    kept = sum(run.rows for run in Store(str(catalog.root)).runs(tables.IMAGE_LEDGER))
    return {
        "exit_code": done.returncode,
        "crashed": "crashed" in done.stderr + done.stdout,
        "rows_kept": kept,
    }


def main(images: Annotated[int, typer.Option(help="a tenth of them hostile")] = IMAGES) -> None:
    """Measures, and prints one JSON line."""
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as folder:
        told = run(Path(folder), images, images // 10)
        print(json.dumps(told), file=sys.stderr, flush=True)
        (Path(folder) / "bare").mkdir()
        told["without_isolation"] = without_isolation(Path(folder) / "bare")
    print(json.dumps({**told, "machine": machine()}))


if __name__ == "__main__":
    typer.run(main)

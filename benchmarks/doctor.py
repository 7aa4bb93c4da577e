"""Eight faults planted in a standalone cluster, and the cluster without them: `make bench-doctor`.

A master and two workers run on this machine. `toiletspark doctor` is started once for each fault
and must find it by its name; without a fault it must find nothing. pip fetches the old Pillow
(`--no-old-pillow` leaves that fault out where there is no package index).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import typer

from benchmarks.measure import ROOT, machine
from tests.support import clusters, thin_pythons
from toiletspark.demo.catalog import DemoCatalog, draw_catalog

OLD_PILLOW = "pillow==12.0.0"
LISTINGS = 30


@dataclass(frozen=True)
class Fault:
    """A fault to plant."""

    check: str  # the check that must find it
    python: str = "sound"  # the name of the workers' Python; "" = PYSPARK_PYTHON is not set
    settings: dict[str, str] = field(default_factory=dict)  # of Spark
    sets: dict[str, str] = field(default_factory=dict)  # of toiletspark


FAULTS = {
    "no_pyspark_python": Fault("python_named", python=""),
    "torch_missing": Fault("packages", python="torchless"),
    "oversubscribed_threads": Fault("threads", settings={"spark.executorEnv.OMP_NUM_THREADS": "8"}),
    "huge_arrow_batches": Fault(
        "arrow_batches", settings={"spark.sql.execution.arrow.maxRecordsPerBatch": "100000"}
    ),
    "little_overhead": Fault("memory_overhead", settings={"spark.executor.memoryOverhead": "384m"}),
    "unwritable_output": Fault("output", sets={"output.root": "{folder}/a_file/output"}),
    "unreachable_host": Fault("hosts", sets={"images.path": "{folder}/unreachable.parquet"}),
    "old_pillow": Fault("floors", python="old_pillow"),
}
MORE = {"python_not_there": Fault("python", python="nowhere")}


@dataclass(frozen=True)
class Ward:
    """The cluster, its catalog, and its Pythons by name."""

    folder: Path
    cluster: clusters.Cluster
    drawn: DemoCatalog
    pythons: dict[str, Path]

    def examine(self, fault: Fault, name: str) -> dict[str, Any]:
        """Returns the report of `toiletspark doctor --json`, with its exit code as `returned`."""
        settings = {**_application(self.cluster), **fault.settings}
        sets = {
            "spark.master": self.cluster.url,
            "images.path": self.drawn.images,
            "listings.path": self.drawn.listings,
            "output.root": self.folder / f"output-{name}",
            "fetch.allow": json.dumps([f"{self.folder}/", "http://photos.invalid/"]),
            **{f'spark.settings."{key}"': json.dumps(value) for key, value in settings.items()},
            **{key: value.format(folder=self.folder) for key, value in fault.sets.items()},
        }
        command = [sys.executable, "-m", "toiletspark.jobs.cli", "doctor", "--json"]
        command += [f"--set={key}={value}" for key, value in sets.items()]
        environment = {
            name: value for name, value in os.environ.items() if name != "PYSPARK_PYTHON"
        }
        environment["PYTHONPATH"] = str(ROOT)
        if fault.python:
            environment["PYSPARK_PYTHON"] = str(self.pythons[fault.python])
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        if not done.stdout.strip():
            raise SystemExit(
                f"{name}: the doctor ended with {done.returncode}\n{done.stderr[-3000:]}"
            )
        return {**json.loads(done.stdout.splitlines()[-1]), "returned": done.returncode}


@contextmanager
def opened(folder: Path, old_pillow: bool) -> Iterator[Ward]:
    """A cluster of two workers in a new folder, with all that is planted lying ready."""
    drawn = draw_catalog(folder / "catalog", listings=LISTINGS)
    (folder / "a_file").write_text("where a folder is wanted\n")
    images = pd.read_parquet(drawn.images)
    images["image_url"] = [f"http://photos.invalid/{number}.jpg" for number in range(len(images))]
    images.to_parquet(folder / "unreachable.parquet", index=False)
    sound = thin_pythons.made(folder / "sound")
    others = {
        "torchless": thin_pythons.made(folder / "torchless", without=("torch", "torchvision"))
    }
    if old_pillow:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        install += ["--target", str(folder / "old"), OLD_PILLOW]
        subprocess.run(install, check=True)
        others["old_pillow"] = thin_pythons.made(folder / "with_old", instead=folder / "old")
    pythons = {
        name: thin_pythons.by_worker(folder / f"python-{name}", {"1": sound, "2": python})
        for name, python in {"sound": sound, **others}.items()
    }
    of_worker = {number: {thin_pythons.WORKER: str(number)} for number in (1, 2)}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with clusters.started(
        folder / "cluster", environment=environment, of_worker=of_worker
    ) as cluster:
        yield Ward(folder, cluster, drawn, {**pythons, "nowhere": folder / "nowhere" / "python"})


def alarms(report: dict[str, Any]) -> list[str]:
    """The checks with a finding that is not a mere note."""
    return [finding["check"] for finding in report["findings"] if finding["level"] != "note"]


def _application(cluster: clusters.Cluster) -> dict[str, str]:
    """Spark's settings of a small application with one executor on each worker."""
    words = cluster.options()[3::2]
    return dict(word.split("=", 1) for word in words)


def main(sound_runs: int = 2, old_pillow: bool = True) -> None:
    """Measures, and prints one JSON line."""
    started = time.monotonic()
    names = [name for name in FAULTS if old_pillow or name != "old_pillow"]
    planted = {**{name: FAULTS[name] for name in names}, **MORE}
    with (
        tempfile.TemporaryDirectory(prefix="toiletspark-bench-") as folder,
        opened(Path(folder), old_pillow) as ward,
    ):
        runs = range(sound_runs)
        sound = [ward.examine(Fault(""), f"sound-{number}") for number in runs]
        reports = {name: ward.examine(fault, name) for name, fault in planted.items()}
    found = {name: fault.check in alarms(reports[name]) for name, fault in planted.items()}
    others = {name: sorted({*alarms(reports[name])} - {planted[name].check}) for name in planted}
    seconds = sorted(round(report["seconds"], 1) for report in (*sound, *reports.values()))
    result = {
        "found": sum(found[name] for name in names),
        "of": len(names),
        "false_alarms": sum(len(alarms(report)) for report in sound),
        "sound_runs": len(sound),
        "exit_codes": {
            **{name: report["returned"] for name, report in reports.items()},
            "sound": sound[0]["returned"],
        },
        "more_found": {name: found[name] for name in MORE},
        "also_reported": {name: checks for name, checks in others.items() if checks},
        "alarms": [alarms(report) for report in sound],
        "executors": [len(report["executors"]) for report in sound],
        "doctor_seconds_most": seconds[-1],
        "doctor_seconds_median": seconds[len(seconds) // 2],
        "seconds": round(time.monotonic() - started, 1),
        "machine": machine(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)

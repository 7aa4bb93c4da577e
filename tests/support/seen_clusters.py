"""Observations of a sound cluster, written by hand, for tests that change one thing in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from toiletspark.config import loading as conf_files
from toiletspark.launch.doctor.observed import (
    PACKAGES,
    Executor,
    FetchedImages,
    ImageHost,
    Observed,
    OutputTrial,
    Package,
    StartedPython,
)

VERSIONS = {
    **dict.fromkeys(PACKAGES, "1.0"),
    **{"PIL": "13.0.0", "torch": "2.12.1", "pyarrow": "14.0.2"},
    **{"toiletspark": "0.1.0", "pyspark": "3.5.9"},
}
GB = 1_000_000_000


def executor(name: str = "executor 0", host: str = "a", **changes: Any) -> Executor:
    """An executor of two cores on a machine of eight, with room for all."""
    sound = Executor(
        name=name,
        host=host,
        python="/env/bin/python",
        python_version="3.11.7",
        packages={name: Package(version) for name, version in VERSIONS.items()},
        cpus=8,
        cpu_flags=frozenset({"avx2"}),
        cores=2,
        threads=1,
        memory_bytes=64 * GB,
        free_bytes={"/spark/local": 100 * GB},
    )
    return replace(sound, **changes)


def with_package(name: str, version: str, error: str = "", at: Executor | None = None) -> Executor:
    """An executor in which one package differs."""
    changed = at or executor("executor 1", "b")
    return replace(changed, packages={**changed.packages, name: Package(version, error)})


def sound(
    sets: Mapping[str, Any] | None = None, settings: Mapping[str, str] | None = None, **changes: Any
) -> Observed:
    """Two executors on two machines that work, of a standalone master, with images of 200 kB."""
    values = {"images.path": "/i", **(sets or {})}
    config = conf_files.load([], [f"{key}={value}" for key, value in values.items()])
    answers = {("ok", ""): 8}
    usual = {
        "spark.executor.memory": "2g",
        "spark.executor.cores": "2",
        "spark.submit.deployMode": "client",
    }
    cluster = Observed(
        config=config,
        settings={**usual, **(settings or {})},
        master="spark://m:7077",
        python_asked="/env/bin/python",
        python_named=True,
        driver=executor("driver", "d", cores=0, threads=None),
        executors=(executor(), executor("executor 1", "b")),
        known=2,
        pythons=(StartedPython("a", "3.11.7"), StartedPython("b", "3.11.7")),
        runtime="torch",
        images=FetchedImages(
            median_bytes=200_000, hosts=(ImageHost("photos.example.com", 8, answers),)
        ),
        output=OutputTrial(winners=(1, 1, 1)),
    )
    return replace(cluster, **changes)

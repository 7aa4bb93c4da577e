"""Publishers that are killed at five points, for `benchmarks/publish.py` and the tests.

As a program it is the publisher that dies: `python -m benchmarks.kills ROOT POINT`. SIGKILL leaves
nobody the time to tidy up, and its JVM dies with it, as with a machine that loses power.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from benchmarks import readers
from benchmarks.measure import ROOT
from toiletspark.config import Config, loading
from toiletspark.jobs import publish_exclusions
from toiletspark.launch import session
from toiletspark.publishing import decisions
from toiletspark.publishing.audits import checks as audits
from toiletspark.publishing.versions import log
from toiletspark.tables import arrow_io, runs, schemas, spark_io
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Store
from toiletspark.tables.workspace import Workspace

POINTS = (
    "before the write",
    "mid-stage",
    "after the write",
    "during the audit",
    "between commit and pointer",
)
SMALL = (
    'spark.settings={ "spark.driver.memory" = "1g", "spark.sql.shuffle.partitions" = "4", '
    '"spark.driver.extraJavaOptions" = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC" }'
)
LISTINGS, PER_LISTING = 30, 6
_CHILD_S = 600
_SLEEP_MS = 60_000  # of the row that a killed stage waits for


def configuration(root: str) -> Config:
    """One machine, a small JVM, and conf/base.toml for the rest."""
    return loading.load(
        [ROOT / "conf" / "local.toml"],
        ["images.path=none", f"output.root={root}", "publish.policy.name=fixed", SMALL],
    )


def prepare(root: str, *, more: int = 0) -> None:
    """A catalog of 180 images and its scores, all far from the threshold, as `score` leaves them.

    Args:
        root: of the store.
        more: of each listing the last image is excluded; of so many listings the first one too.
    """
    store = Store.open(root)
    catalog = runs.new_run_id()
    head_id = f"H{more}"  # other scores of the same pictures are another head's
    inputs = {"catalog": catalog, "head_id": head_id, "backbone_id": "B"}
    images = [
        {
            "image_id": f"i{number:04d}",
            "listing_id": f"L{number // PER_LISTING:02d}",
            "stratum": "S",
            "image_version": "v1",
            "status": "ok",
            "detail": "",
            "content_digest": f"{number:064x}",
            "head_id": head_id,
            "exclusion_score": _score(*divmod(number, PER_LISTING), more),
        }
        for number in range(LISTINGS * PER_LISTING)
    ]
    arrow_io.write(store, schemas.CATALOG, catalog, images, config={}, inputs=Inputs(**inputs))
    arrow_io.write(
        store, schemas.SCORES, runs.new_run_id(), images, config={}, inputs=Inputs(**inputs)
    )


def _score(listing: int, place: int, more: int) -> float:
    is_excluded = place == PER_LISTING - 1 or (place == 0 and listing < more)
    return (0.9 if is_excluded else 0.1) + listing / 1000


def first_version(spark: SparkSession, root: str) -> None:
    """A store with one version, and with scores for the next one, which lists more."""
    prepare(root)
    publish_exclusions.step(Workspace.open(spark, configuration(root)))
    prepare(root, more=2)


def undisturbed(spark: SparkSession, first: str, root: str) -> pd.DataFrame:
    """The list of the second version if nobody is killed, made at `root` from a copy of `first`."""
    shutil.copytree(first, root)
    publish_exclusions.step(Workspace.open(spark, configuration(root)))
    return listed(root)


def bytes_seen(root: str) -> dict[str, bytes]:
    """All that a reader may open: the pointer, and the files that it names."""
    pointer = Path(root) / "exclusion_list" / log.POINTER
    folder = Path(log.current(root).folder)
    return {str(path): path.read_bytes() for path in [pointer, *sorted(folder.iterdir())]}


def listed(root: str) -> pd.DataFrame:
    """The rows of the pandas reader of docs/readers.md, without their run_id."""
    names: dict[str, Any] = {}
    exec(readers.code("pandas", root), names)
    return names["excluded"].drop(columns="run_id").sort_values("image_id").reset_index(drop=True)


def kill(root: str, point: str) -> dict[str, Any]:
    """Kills a publisher at a point of a prepared store with a version; says what readers see.

    Raises:
        RuntimeError: it did not die, or not there.
    """
    before = bytes_seen(root)
    shown = listed(root)
    before_kill = len(log.read_all(Store(root)))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", root, point],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=_CHILD_S,
        check=False,
    )
    if done.returncode != -signal.SIGKILL or f"dies {point}" not in done.stderr:
        raise RuntimeError(f"{point}: ended with {done.returncode}\n{done.stderr[-3000:]}")
    return {
        "point": point,
        "unchanged": bytes_seen(root) == before and listed(root).equals(shown),
        "versions_more": len(log.read_all(Store(root))) - before_kill,
    }


def publish_again(spark: SparkSession, root: str, expected: pd.DataFrame) -> bool:
    """Returns True if the next run is live, and lists the same as an undisturbed one."""
    told = publish_exclusions.step(Workspace.open(spark, configuration(root)))
    live = log.live(Store(root))
    return bool(live and live.number == told["version"] and listed(root).equals(expected))


# The publisher that dies


def main() -> None:
    root, point = sys.argv[1:]
    config = configuration(root)
    spark = session.start(config.spark)
    machine = spark.sparkContext._gateway.proc.pid

    def die() -> None:
        print(f"dies {point}", file=sys.stderr, flush=True)
        os.kill(machine, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    _let_die_at(point, Path(root), die)
    publish_exclusions.step(Workspace.open(spark, config))


def _let_die_at(point: str, root: Path, die: Callable[[], None]) -> None:
    write_files, require = spark_io.write_files, audits.require

    def dying(*_: Any, **__: Any) -> None:
        die()

    def after_the_list(frame: DataFrame, store: Store, table: schemas.Table, run_id: str) -> str:
        folder = write_files(frame, store, table, run_id)
        if table is schemas.EXCLUSION_LIST:
            die()
        return folder

    def slowly(frame: DataFrame, store: Store, table: schemas.Table, run_id: str) -> str:
        if table is schemas.DECISIONS:
            threading.Thread(
                target=_when_half_written, args=(root / table.name / run_id, die), daemon=True
            ).start()
            slept = F.expr(f"java_method('java.lang.Thread', 'sleep', {_SLEEP_MS}L)").isNotNull()
            frame = frame.repartition(4).where((F.col("image_id") != "i0000") | slept)
        return write_files(frame, store, table, run_id)

    def at_the_audit(checks: Any, *, doing: str) -> None:
        # there are audits of what it is made from too, before
        if doing.startswith("auditing the exclusion list"):
            die()
        require(checks, doing=doing)

    if point == "before the write":
        decisions.decide = dying
    elif point == "mid-stage":
        spark_io.write_files = slowly
    elif point == "after the write":
        spark_io.write_files = after_the_list
    elif point == "during the audit":
        audits.require = at_the_audit
    elif point == "between commit and pointer":
        log.point = dying
    else:
        raise SystemExit(f"no such point: {point}")


def _when_half_written(folder: Path, die: Callable[[], None]) -> None:
    """Waits until some tasks of the stage have ended and another one is writing."""
    while True:
        committed = list(folder.glob("_temporary/0/task_*/part-*.parquet"))
        writing = list(folder.glob("_temporary/0/_temporary/*/part-*.parquet"))
        if committed and writing:
            die()
        time.sleep(0.01)


if __name__ == "__main__":
    main()

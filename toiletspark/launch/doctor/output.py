"""The output root, tried out: written from both sides, names raced for, contents replaced. It is left as it was."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession

from toiletspark.launch.doctor import executors as rounds
from toiletspark.launch.doctor import probe
from toiletspark.launch.doctor.observed import Output
from toiletspark.tables import storage
from toiletspark.tables.runs import MARKER, WORK, new_run_id

_RACERS, _RACES = 8, 6
_REPLACEMENTS = 5
_PER_EXECUTOR = 2


def tried(spark: SparkSession, root: str, on_executors: bool) -> Output:
    """Writes below <root>/_work, as a job does, and removes it.

    Args:
        spark: the session; Spark itself writes files too.
        root: of the output; made if there is none, and then removed.
        on_executors: whether they have toiletspark and can race for names.
    """
    try:
        if foreign := _foreign(root):
            return Output(foreign=foreign)
        with _tidied(root) as folder:
            seen = _from_driver(folder)
            error, unseen = _from_executors(spark, folder)
            workers_error = ""
            if not error and on_executors:
                workers_error, winners = _from_workers(spark.sparkContext, f"{folder}/far")
                seen["winners"] += winners
            return Output(
                executors_error=error, workers_error=workers_error, unseen_files=unseen, **seen
            )
    except Exception as error:  # noqa: BLE001 - every store's client raises its own kinds
        return Output(driver_error=rounds.first_line(error))


def _foreign(root: str) -> str:
    """Something in the folder that is not toiletspark's."""
    if storage.exists(f"{root}/{MARKER}"):
        return ""
    return next((name for name in storage.entries(root) if name != WORK), "")


@contextlib.contextmanager
def _tidied(root: str) -> Iterator[str]:
    """A work folder, named as a run's are, so that the next job removes it if this program is killed."""
    made = _not_there(Path(f"{root}/{WORK}")) if storage.is_local(root) else []
    folder = f"{root}/{WORK}/{new_run_id()}"
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            storage.remove_folder(folder)
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()  # only where it is empty


def _not_there(path: Path) -> list[Path]:
    """The folders that writing to `path` will make, the innermost first."""
    return [one for one in (path, *path.parents) if not one.exists()]


def _from_driver(folder: str) -> dict[str, Any]:
    """Races for names, replacements and listings; raises whatever the store's client does."""
    stale = 0
    for number in range(_REPLACEMENTS):
        storage.replace_json(f"{folder}/near/replaced.json", {"number": number})
        stale += storage.read_json(f"{folder}/near/replaced.json") != {"number": number}
    winners = tuple(_raced(f"{folder}/near/race-{number}.json") for number in range(_RACES))
    wanted = {"replaced.json", *(f"race-{number}.json" for number in range(_RACES))}
    unlisted = len(wanted - set(storage.entries(f"{folder}/near")))
    return {"winners": winners, "stale_reads": stale, "unlisted": unlisted}


def _raced(location: str) -> int:
    """How many of several threads are told that they have put a file there first."""
    with ThreadPoolExecutor(_RACERS) as threads:
        return sum(
            threads.map(
                lambda number: storage.create_json(location, {"racer": number}), range(_RACERS)
            )
        )


def _from_executors(spark: SparkSession, folder: str) -> tuple[str, int]:
    """Why Spark cannot write; and how many of its files are not seen from here."""
    tasks = max(2, rounds.known_executors(spark.sparkContext) * _PER_EXECUTOR)
    try:
        spark.range(0, tasks, 1, tasks).write.parquet(storage.spark_path(f"{folder}/written"))
    except Exception as error:  # noqa: BLE001 - Py4J's, Spark's, and those of stores
        return rounds.first_line(error), 0
    names = storage.entries(f"{folder}/written")
    return "", tasks - sum(name.endswith(".parquet") for name in names)


def _from_workers(context: SparkContext, folder: str) -> tuple[str, tuple[int, ...]]:
    """Why Python cannot write there; and the winners of `_raced_on_executors`."""
    try:
        return "", _raced_on_executors(context, folder)
    except Exception as error:  # noqa: BLE001 - as above
        return rounds.first_line(error), ()


def _raced_on_executors(context: SparkContext, folder: str) -> tuple[int, ...]:
    """As `_raced`, among all executors at once, as well as tasks start at once."""

    def race(task: int, _: Any) -> Iterator[int]:
        racer = f"{probe.host()}-{os.getpid()}-{task}"
        return (
            number
            for number in range(_RACES)
            if storage.create_json(f"{folder}/{number}.json", {"racer": racer})
        )

    tasks = max(_RACERS, rounds.known_executors(context))
    won = Counter(context.parallelize(range(tasks), tasks).mapPartitionsWithIndex(race).collect())
    return tuple(won[number] for number in range(_RACES))

"""Tries what jobs will use: fetches a few images on the executors, writes to the output root."""

import contextlib
import functools
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config, Fetch
from toiletspark.images.fetching import Fetcher
from toiletspark.images.fetching.host_limits import host_of
from toiletspark.launch.doctor import probe
from toiletspark.launch.doctor.executors import ask, count_executors, first_line
from toiletspark.launch.doctor.observed import FetchedImages, ImageHost, OutputTrial
from toiletspark.launch.doctor.probe import Answer
from toiletspark.tables import storage, table_reader, user_tables
from toiletspark.tables.runs import MARKER, WORK, new_run_id

ROWS = 20_000  # the first of the table: reading all would take minutes
MAX_HOSTS = 20
URLS_PER_HOST = 4
_RACERS, _RACES = 8, 6
_REPLACEMENTS = 5


# Images


@dataclass(frozen=True)
class ChosenImages:
    """Some URLs of each host, and the sizes of inline images."""

    urls: tuple[str, ...] = ()
    inline_sizes: tuple[int, ...] = ()


def choose_images(spark: SparkSession, config: Config) -> ChosenImages:
    """Chooses images of the most frequent hosts of the first rows, by hash.

    Raises TableError if there is no such table, or it lacks a column.
    """
    config = table_reader.pin_versions(spark, config)
    table = user_tables.read_images(spark, config).limit(ROWS)
    columns = table.select("image_url", F.length("content").alias("bytes"))
    rows = columns.orderBy(F.xxhash64("image_id")).limit(ROWS // 4).collect()
    inline_sizes = tuple(row["bytes"] for row in rows if row["bytes"] is not None)
    by_host = defaultdict[str, list[str]](list)
    for row in rows:
        if row["image_url"] and row["bytes"] is None:
            by_host[host_of(row["image_url"])].append(row["image_url"])
    largest = sorted(by_host.values(), key=len, reverse=True)[:MAX_HOSTS]
    urls = tuple(url for of_host in largest for url in of_host[:URLS_PER_HOST])
    return ChosenImages(urls, inline_sizes)


def try_images(
    context: SparkContext, chosen: ChosenImages, limits: Fetch, on_executors: bool
) -> FetchedImages:
    """Fetches images from each executor, or from the driver if executors lack toiletspark."""
    most_s = {"timeout_s": 10.0, "shard_timeout_s": 30.0}
    timeouts = {name: min(getattr(limits, name), most) for name, most in most_s.items()}
    fetch = functools.partial(fetch_all, chosen.urls, limits.model_copy(update=timeouts))
    answers: list[Answer] = []
    if chosen.urls:
        answers = ask(context, fetch) if on_executors else [{**fetch(), "host": "driver"}]
    sizes = list(chosen.inline_sizes)
    statuses = defaultdict[str, Counter[tuple[str, str]]](Counter)
    failed_at = defaultdict[str, set[str]](set)
    for answer in answers:
        for host, status, detail, size in answer["fetched"]:
            statuses[host][status, detail] += 1
            if status != "ok":
                failed_at[host].add(f"asked from {answer['host']}")
            if size and not chosen.inline_sizes:
                sizes.append(size)
    hosts = [
        ImageHost(name, counts.total(), dict(counts), tuple(sorted(failed_at[name])))
        for name, counts in sorted(statuses.items())
    ]
    median = int(statistics.median(sizes)) if sizes else None
    return FetchedImages(bool(chosen.inline_sizes), median, tuple(hosts), on_executors)


def fetch_all(urls: tuple[str, ...], limits: Fetch) -> Answer:
    """Returns host, status, detail and bytes of each URL; no URL, because URLs carry secrets."""
    fetched = []
    for url, result in zip(urls, Fetcher(limits).fetch(list(urls)), strict=True):
        size = len(result.content or b"")
        fetched.append((host_of(url), result.status, result.detail, size))
    return {"host": probe.host(), "fetched": fetched}


# The output root


def try_output(spark: SparkSession, root: str, on_executors: bool) -> OutputTrial:
    """Writes below <root>/_work as jobs do, and removes it again, with the root if it made it.

    `on_executors`: they have toiletspark and can race for names.
    """
    trial = OutputTrial()
    try:
        trial.foreign = _foreign(root)
        if trial.foreign:
            return trial
        with _temporary_folder(root) as folder:
            _try_from_driver(f"{folder}/near", trial)
            _try_from_spark(spark, f"{folder}/written", trial)
            if on_executors and not trial.executors_error:
                _try_from_workers(spark.sparkContext, f"{folder}/far", trial)
    except Exception as error:  # noqa: BLE001 - each store's client raises its own classes
        trial.driver_error = first_line(error)
    return trial


def _foreign(root: str) -> str:
    """The name of a file in the folder that is not toiletspark's; "" if there is none."""
    if storage.exists(f"{root}/{MARKER}"):
        return ""
    return next((name for name in storage.entries(root) if name != WORK), "")


@contextlib.contextmanager
def _temporary_folder(root: str) -> Iterator[str]:
    """Yields a work folder with the name of a run, which the next job removes if this is killed."""
    work = Path(f"{root}/{WORK}")
    above = (work, *work.parents) if storage.is_local(root) else ()
    parents = [path for path in above if not path.exists()]
    folder = f"{root}/{WORK}/{new_run_id()}"
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            storage.remove_folder(folder)
        for path in parents:
            with contextlib.suppress(OSError):
                path.rmdir()  # only if it is empty


def _try_from_driver(folder: str, trial: OutputTrial) -> None:
    for number in range(_REPLACEMENTS):
        storage.replace_json(f"{folder}/replaced.json", {"number": number})
        trial.stale_reads += storage.read_json(f"{folder}/replaced.json") != {"number": number}
    races = [f"race-{number}.json" for number in range(_RACES)]
    trial.winners = tuple(_race(f"{folder}/{name}") for name in races)
    trial.unlisted = len({"replaced.json", *races} - set(storage.entries(folder)))


def _race(location: str) -> int:
    """Has several threads create the same file; returns how many succeeded."""

    def create(racer: int) -> bool:
        return storage.create_json(location, {"racer": racer})

    with ThreadPoolExecutor(_RACERS) as threads:
        return sum(threads.map(create, range(_RACERS)))


def _try_from_spark(spark: SparkSession, folder: str, trial: OutputTrial) -> None:
    tasks = max(2, 2 * count_executors(spark.sparkContext))
    try:
        spark.range(0, tasks, 1, tasks).write.parquet(storage.spark_path(folder))
    except Exception as error:  # noqa: BLE001 - of Py4J, Spark and stores
        trial.executors_error = first_line(error)
        return
    trial.unseen_files = tasks - sum(name.endswith(".parquet") for name in storage.entries(folder))


def _try_from_workers(context: SparkContext, folder: str, trial: OutputTrial) -> None:
    """Has the tasks of one stage create the same files; needs Python access to the store there."""

    def race(task: int, _: Any) -> Iterator[int]:
        racer = {"racer": f"{probe.host()}-{os.getpid()}-{task}"}
        for number in range(_RACES):
            if storage.create_json(f"{folder}/{number}.json", racer):
                yield number

    tasks = max(_RACERS, count_executors(context))
    rows = context.parallelize(range(tasks), tasks)
    try:
        wins = Counter(rows.mapPartitionsWithIndex(race).collect())
    except Py4JJavaError:  # no job needs this access, so there is no finding
        return
    trial.winners += tuple(wins[number] for number in range(_RACES))

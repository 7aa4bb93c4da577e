"""A few images of the catalog, fetched from where jobs will fetch them: on the executors, by the same fetcher."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyspark import SparkContext
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import Config, Fetch
from toiletspark.images.fetching import Fetcher
from toiletspark.images.fetching.host_limits import host_of
from toiletspark.launch.doctor import executors as rounds
from toiletspark.launch.doctor import probe
from toiletspark.launch.doctor.observed import Host, Images
from toiletspark.tables import user_tables as catalog

ROWS = 20_000  # the first of the table: a look at all of them would take minutes
MOST_HOSTS = 20
URLS_PER_HOST = 4
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Few:
    """Of the first rows: some URLs of each host, and the bytes of those that are inline."""

    urls: tuple[str, ...] = ()
    inline_sizes: tuple[int, ...] = ()


def few(spark: SparkSession, config: Config) -> Few:
    """Some images of the hosts that have the most, chosen by hash.

    Raises:
        TableError: there is no such table, or it lacks a column.
    """
    rows = catalog.read_images(spark, config).limit(ROWS)
    inline = F.length("content").alias("bytes")
    found = (
        rows.select("image_url", inline).orderBy(F.xxhash64("image_id")).limit(ROWS // 4).collect()
    )
    sizes = tuple(row["bytes"] for row in found if row["bytes"] is not None)
    by_host: dict[str, list[str]] = defaultdict(list)
    for row in found:
        if row["image_url"] and row["bytes"] is None:
            by_host[host_of(row["image_url"])].append(row["image_url"])
    largest = sorted(by_host.values(), key=len, reverse=True)[:MOST_HOSTS]
    return Few(tuple(url for urls in largest for url in urls[:URLS_PER_HOST]), sizes)


def looked_at(context: SparkContext, chosen: Few, limits: Fetch, on_executors: bool) -> Images:
    """Fetches them from each executor, or from the driver where executors lack toiletspark."""
    urls = list(chosen.urls)
    quick = limits.model_copy(
        update={
            "timeout_s": min(limits.timeout_s, _TIMEOUT_S),
            "shard_timeout_s": min(limits.shard_timeout_s, 30.0),
        }
    )
    answers: list[dict[str, Any]] = []
    if urls and on_executors:
        answers = rounds.ask(context, _fetching(urls, quick), lambda told, _before, _after: told)
    elif urls:
        answers = [{"host": "driver", "fetched": fetched(urls, quick)}]
    sizes = [size for answer in answers for *_, size in answer["fetched"] if size]
    inline = bool(chosen.inline_sizes)
    sizes = list(chosen.inline_sizes) if inline else sizes
    median = int(statistics.median(sizes)) if sizes else None
    return Images(True, "", inline, median, tuple(hosts_of(answers)), on_executors)


def hosts_of(answers: Iterable[dict[str, Any]]) -> list[Host]:
    """The hosts with their statuses over all who asked, by name."""
    statuses: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    failed_at: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        for host, status, detail, _ in answer["fetched"]:
            statuses[host][status, detail] += 1
            if status != "ok":
                failed_at[host].add(f"asked from {answer['host']}")
    return [
        Host(name, count.total(), dict(count), tuple(sorted(failed_at[name])))
        for name, count in sorted(statuses.items())
    ]


def fetched(urls: list[str], limits: Fetch) -> list[tuple[str, str, str, int]]:
    """Host, status, detail and bytes of each; no URL comes back, because URLs carry secrets."""
    outcomes = Fetcher(limits).fetch(urls)
    return [
        (host_of(url), one.status, one.detail, len(one.content or b""))
        for url, one in zip(urls, outcomes, strict=True)
    ]


def _fetching(urls: list[str], limits: Fetch) -> Any:
    def fetch(name: str) -> list[dict[str, Any] | None]:
        if not probe.claimed(name):
            return [None]
        jvm_pid, _ = probe.executor_process()
        return [{"host": probe.host(), "jvm_pid": jvm_pid, "fetched": fetched(urls, limits)}]

    return fetch

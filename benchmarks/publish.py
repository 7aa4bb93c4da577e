"""Readers while versions are published, publishers at once, lost answers, killed publishers.

`make bench-publish`. Versions are written by pyarrow and published by `log.publish`. Each row says
of which run it is and how many rows its version has, so that a mixed, a partial and an empty read
show in what was read, whatever the reader itself has checked.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import typer

from benchmarks import kills, readers
from benchmarks.measure import TemporaryIn, machine
from toiletspark.feed import readers as exclusions
from toiletspark.launch import session
from toiletspark.publishing.versions import log
from toiletspark.tables import arrow_io, runs, storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.tables.schemas import EXCLUSION_LIST

LEAST_ROWS, MORE_ROWS = 5, 40
# between reads, or on two cores the publisher would hardly get a turn
PAUSE_S = {"pandas": 0.001, "spark": 0.05}
Told = dict[str, Any]


def main(
    publishes: int = 1000,
    seconds: Annotated[float, typer.Option(help="over which they are spread")] = 55.0,
    versions: Annotated[int, typer.Option(help="of each of the four publishers")] = 100,
    folder: TemporaryIn = None,
) -> None:
    """Measures, and prints one JSON line."""
    with tempfile.TemporaryDirectory(prefix="toiletspark-bench-", dir=folder) as made:
        told: Told = while_reading(f"{made}/reading", publishes, seconds)
        print(json.dumps(told), file=sys.stderr, flush=True)
        told["publishers"] = publishers_at_once(f"{made}/at-once", 4, versions)
        told["lost_answers"] = lost_answers(f"{made}/answers", 20)
        print(json.dumps(told), file=sys.stderr, flush=True)
        told["kills"] = killed(made)
    print(json.dumps({**told, "machine": machine()}))


# Readers


def write(store: Store, number: int) -> Run:
    """An exclusion list that nobody sees yet; its length follows from `number`."""
    run_id = runs.new_run_id()
    count = LEAST_ROWS + number * 7 % MORE_ROWS
    excluded = [
        {
            "image_id": f"{run_id}/{place}",
            "listing_id": f"{count}",
            "reason": "model",
            "run_id": run_id,
        }
        for place in range(count)
    ]
    return arrow_io.write(store, EXCLUSION_LIST, run_id, excluded, config={}, inputs=Inputs())


def while_reading(
    root: str, publishes: int, seconds: float, kinds: Iterable[str] = ("pandas", "spark")
) -> Told:
    """Publishes evenly over some seconds, while each reader reads in a process of its own."""
    store = Store.open(root)
    log.publish(store, write(store, 0))
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Semaphore(0)
    ended = spawn.Event()
    heard = spawn.Queue()
    started = [
        spawn.Process(target=_read, args=(kind, root, ready, ended, heard)) for kind in kinds
    ]
    for reader in started:
        reader.start()
    for _ in started:
        if not ready.acquire(timeout=180):
            raise SystemExit("a reader did not start")
    begun = time.monotonic()
    for number in range(1, publishes + 1):
        log.publish(store, write(store, number))
        time.sleep(max(0.0, begun + number * seconds / publishes - time.monotonic()))
    took = time.monotonic() - begun
    ended.set()
    said = dict(heard.get(timeout=60) for _ in started)
    for reader in started:
        reader.join(60)
    bad = list(itertools.chain.from_iterable(one["bad"] for one in said.values()))
    return {
        "publishes": publishes,
        "reads": sum(one["reads"] for one in said.values()),
        "bad_reads": len(bad),
        "seconds": round(took, 1),
        "reads_by": {kind: one["reads"] for kind, one in said.items()},
        "versions_seen_by": {kind: one["versions"] for kind, one in said.items()},
        "first_bad": bad[:3],
    }


def _read(kind: str, root: str, ready: Any, ended: Any, heard: Any) -> None:
    read = _pandas_reader(root) if kind == "pandas" else _spark_reader(root)
    read()
    ready.release()
    reads = 0
    bad: list[str] = []
    seen: set[str] = set()
    while not ended.is_set():
        try:
            count, run_ids, lengths = read()
            if not count or len(run_ids) != 1 or lengths != {str(count)}:
                bad.append(
                    f"{kind}: {count} rows of {sorted(run_ids)}, "
                    f"which are of versions of {sorted(lengths)} rows"
                )
            seen |= run_ids
        except Exception as error:  # noqa: BLE001 - whatever a reader meets is what is counted here
            bad.append(f"{kind}: {error!r}"[:300])
        reads += 1
        time.sleep(PAUSE_S[kind])
    heard.put((kind, {"reads": reads, "bad": bad, "versions": len(seen)}))


Found = tuple[int, set[str], set[str]]


def _pandas_reader(root: str) -> Callable[[], Found]:
    code = readers.code("pandas", root)

    def read() -> Found:
        names: dict[str, Any] = {}
        exec(code, names)
        excluded = names["excluded"]
        return len(excluded), set(excluded["run_id"]), set(excluded["listing_id"])

    return read


def _spark_reader(root: str) -> Callable[[], Found]:
    spark = session.start(kills.configuration(root).spark)

    def read() -> Found:
        list_ = exclusions.read_current(spark, root)
        found = list_.selectExpr(
            "count(*)", "collect_set(run_id)", "collect_set(listing_id)"
        ).head()
        return found[0], set(found[1]), set(found[2])

    return read


# Publishers


def publishers_at_once(root: str, publishers: int, each: int) -> Told:
    """Processes that publish as fast as they can, while one more polls the pointer."""
    store = Store.open(root)
    fork = multiprocessing.get_context("fork")
    together = fork.Barrier(publishers)
    heard = fork.Queue()
    started = [
        fork.Process(target=_publish, args=(root, each, together, heard)) for _ in range(publishers)
    ]
    begun = time.monotonic()
    for publisher in started:
        publisher.start()
    pointers: list[int] = []
    ended = threading.Event()
    poller = threading.Thread(target=_poll, args=(store, pointers, ended))
    poller.start()
    published = list(itertools.chain.from_iterable(heard.get(timeout=300) for _ in started))
    took = time.monotonic() - begun
    ended.set()
    poller.join()
    for publisher in started:
        publisher.join(60)
    entries = log.read_all(store)
    live = log.live(store)
    return {
        "versions": len(entries),
        "of": publishers * each,
        "contiguous": [version.number for version in entries]
        == list(range(1, publishers * each + 1)),
        "lost": len(set(published) - {version.run_id for version in entries}),
        "doubled": len(entries) - len({version.run_id for version in entries}),
        "newest_is_live": bool(live and entries and live.number == entries[-1].number),
        "polls": len(pointers),
        "moved_back": sum(after < before for before, after in itertools.pairwise(pointers)),
        "seconds": round(took, 1),
    }


def _publish(root: str, each: int, together: Any, heard: Any) -> None:
    store = Store(root)
    together.wait()
    heard.put([log.publish(store, write(store, number)).run_id for number in range(each)])


def _poll(store: Store, pointers: list[int], ended: threading.Event) -> None:
    while not ended.is_set():
        live = log.live(store)
        pointers.append(live.number if live else 0)
        time.sleep(0.001)


def lost_answers(root: str, times: int) -> Told:
    """Each number is taken, and then the store says that it failed."""
    store = Store.open(root)
    failures: list[int] = []
    link = os.link

    def linked(source: Any, place: Any) -> None:
        link(source, place)
        failures.append(1)
        raise OSError(5, "the answer was lost")

    with mock.patch.object(os, "link", linked):
        published = [log.publish(store, write(store, number)).run_id for number in range(times)]
    run_ids = [version.run_id for version in log.read_all(store)]
    return {
        "injected": len(failures),
        "lost": len(set(published) - set(run_ids)),
        "doubled": len(run_ids) - len(set(run_ids)),
        "live": storage.read_json(f"{root}/exclusion_list/{log.POINTER}")["run_id"]
        == published[-1],
    }


# Killed publishers


def killed(folder: str) -> Told:
    """Each point on a store of its own: what readers see, and what the next run makes of it."""
    spark = session.start(kills.configuration(folder).spark)
    kills.first_version(spark, f"{folder}/first")
    expected = kills.undisturbed(spark, f"{folder}/first", f"{folder}/undisturbed")
    points = list(_killed(spark, folder, expected))
    return {
        "points": len(points),
        "unchanged": sum(point["unchanged"] for point in points),
        "published_after": sum(point["published_after"] for point in points),
        "each": points,
    }


def _killed(spark: Any, folder: str, expected: Any) -> Iterator[Told]:
    for number, point in enumerate(kills.POINTS):
        root = str(Path(folder) / f"killed-{number}")
        shutil.copytree(f"{folder}/first", root)
        told = kills.kill(root, point)
        yield {**told, "published_after": kills.publish_again(spark, root, expected)}


if __name__ == "__main__":
    typer.run(main)

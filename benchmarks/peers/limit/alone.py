"""Decoders alone and runtimes alone, one process a core, one thread a process: parts of the limit.

Runs in its own environment: `alone.py --table FOLDER --state FILE --workers N`. Prints one JSON
line with images/s of all processes together: {"decoding": {...}, "forward": {...}, "versions":
{...}}.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow.parquet as pq
from decoders import DECODERS
from runtimes import RUNTIMES, write_programs

IMAGES = 64  # in turn, over and over: all fit into memory, none into a core's cache
SECONDS = 4.0  # of every measurement
BATCHES = (1, 4, 16)  # images of one forward pass; the best counts

_barrier: Barrier


def main() -> None:
    """Measures everything in turn."""
    parser = argparse.ArgumentParser()
    for name in ("--table", "--state"):
        parser.add_argument(name, required=True)
    parser.add_argument("--workers", type=int, required=True)
    given = parser.parse_args()
    urls = pq.read_table(given.table, columns=["image_url"])["image_url"].to_pylist()[:IMAGES]
    contents = [Path(url).read_bytes() for url in urls]
    with tempfile.TemporaryDirectory(prefix="toiletspark-limit-") as folder:
        write_programs(given.state, contents, BATCHES, folder)
        decoding = {name: _together(given.workers, _decode, name, contents) for name in DECODERS}
        forward = {
            name: max(
                _together(given.workers, _forward, name, folder, contents, size) for size in BATCHES
            )
            for name in RUNTIMES
        }
    names = ("torch", "torchvision", "openvino", "nncf", "simplejpeg", "pillow")
    versions = {name: metadata.version(name) for name in names}
    print(json.dumps({"decoding": decoding, "forward": forward, "versions": versions}), flush=True)


def _together(workers: int, measure: Callable[..., float], *args: object) -> float:
    """Images/s of as many processes as workers, each on a core of its own, started together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    cores = sorted(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, context, _prepare, (barrier,)) as pool:
        rates = [
            pool.submit(_pinned, cores[number % len(cores)], measure, *args)
            for number in range(workers)
        ]
        return round(sum(rate.result() for rate in rates), 2)


def _prepare(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _pinned(core: int, measure: Callable[..., float], *args: object) -> float:
    os.sched_setaffinity(0, {core})
    return measure(*args)


def _decode(name: str, contents: list[bytes]) -> float:
    decode = DECODERS[name]
    return _rate(lambda turn: decode(contents[turn % len(contents)]), images=1)


def _forward(name: str, folder: str, contents: list[bytes], size: int) -> float:
    import numpy as np

    batches = [contents[start : start + size] for start in range(0, len(contents) - size + 1, size)]
    embed = RUNTIMES[name](folder, size)
    pixels = [np.stack([DECODERS["pillow"](content) for content in batch]) for batch in batches]
    return _rate(lambda turn: embed(pixels[turn % len(pixels)]), images=size)


def _rate(work: Callable[[int], object], images: int) -> float:
    """Images/s of this process from the moment that all are ready; the first call warms up."""
    work(0)
    _barrier.wait()
    started = time.monotonic()
    turns = 0
    while (took := time.monotonic() - started) < SECONDS:
        work(turns)
        turns += 1
    return turns * images / took


if __name__ == "__main__":
    main()

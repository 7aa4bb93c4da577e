"""Throughput of one GPU: decoding, forward pass, both, and the chip's limits: `make bench-gpu`.

No Spark. Photos of the shared folder, with its weights; without them, drawn rooms and weights by
chance. Together means what a task does with local files, `pipeline.attempt_all`: fetched, told
apart, decoded, embedded; several tasks share the GPU. Medians of the rounds, images/s. Ends in one
JSON line.
"""

from __future__ import annotations

import io
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torchvision
import typer
from numpy.typing import NDArray

from benchmarks.measure import SHARED, machine
from toiletspark.config import Config, loading
from toiletspark.demo.rooms import draw_room
from toiletspark.embedding import pipeline
from toiletspark.images import decoding, sandbox
from toiletspark.images.decoding import Pixels
from toiletspark.images.fetching import Fetcher
from toiletspark.model.backbone import Backbone
from toiletspark.model.runtimes import nvjpeg, torch_runtime
from toiletspark.model.weights import load_spec

PHOTOS = 200
IMAGES = 2000  # of a measurement, the photos over and over
BATCHES = (16, 64, 256, 1024)
TASKS = (1, 4, 16)  # that share the GPU
_FLOP = 3.63e9  # of ResNet18 at 224 px, a multiplication and an addition counted as two
_SIDE = 8192  # of the matrices whose product tells what the chip computes

_barrier: Barrier


def main(rounds: Annotated[int, typer.Option(min=1, help="the medians count")] = 3) -> None:
    """Measures everything in turn."""
    if not torch.cuda.is_available():
        raise SystemExit("bench-gpu: torch sees no GPU here")
    device = torch.device("cuda")
    with tempfile.TemporaryDirectory(prefix="toiletspark-gpu-") as folder:
        paths = _paths(Path(folder))
        contents = [path.read_bytes() for path in paths]
        decoded = decoding.decode(
            contents, _config().decode, load_spec(_config().backbone).preprocessing
        )
        pixels = np.stack([one.pixels for one in decoded if one.pixels is not None])
        summary: dict[str, Any] = {"gpu": torch.cuda.get_device_name(device), "images": len(paths)}
        summary["mean_kb"] = round(sum(map(len, contents)) / len(contents) / 1e3, 1)
        for name, measured in {
            "decoding": lambda: _decoding(contents, device, rounds),
            "forward": lambda: _forward(pixels, rounds),
            "chip": lambda: _chip(pixels, device, rounds),
            "agreement": lambda: _agreement(contents, pixels),
            "together": lambda: _together(paths),
        }.items():
            summary[name] = measured()
            print(name, json.dumps(summary[name]), file=sys.stderr, flush=True)
    print(json.dumps({**summary, "machine": machine()}))


def _config(**backbone: object) -> Config:
    real = SHARED / "weights" / "resnet18-imagenet-compressed-fp16.pth"
    sets = {"weights": real if real.exists() else "random", "runtime": "torch", **backbone}
    allowed = f"fetch.allow={json.dumps([str(SHARED.resolve()), tempfile.gettempdir()])}"
    return loading.load([], [*(f"backbone.{key}={value}" for key, value in sets.items()), allowed])


def _paths(folder: Path) -> list[Path]:
    different = {
        path.read_bytes(): path.resolve() for path in sorted((SHARED / "photos").rglob("*.jpg"))
    }
    if different:
        return list(different.values())[:PHOTOS]
    for seed in range(PHOTOS):
        file = io.BytesIO()
        draw_room("kitchen", seed).resize((1024, 683)).save(file, "JPEG", quality=90)
        (folder / f"{seed}.jpg").write_bytes(file.getvalue())
    return sorted(folder.iterdir())


def _rate(work: Callable[[], int], rounds: int) -> float:
    """Images/s in the median, after one round that warms up."""
    work()
    return round(statistics.median(_once(work) for _ in range(rounds)), 1)


def _once(work: Callable[[], int]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    done = work()
    torch.cuda.synchronize()
    return done / (time.perf_counter() - started)


def _batches(contents: list[bytes], size: int) -> Iterator[list[bytes]]:
    images_in_turn = itertools.islice(itertools.cycle(contents), IMAGES)
    while batch := list(itertools.islice(images_in_turn, size)):
        yield batch


def _decoding(contents: list[bytes], device: torch.device, rounds: int) -> dict[str, float]:
    """Pillow in the decode child, ours on the GPU, and nvJPEG alone, without resize and copies."""
    limits, pre = _config().decode, load_spec(_config().backbone).preprocessing
    tensors = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]

    def alone() -> int:
        return len(torchvision.io.decode_jpeg(tensors, torchvision.io.ImageReadMode.RGB, device))

    def ours(size: int) -> Callable[[], int]:
        return lambda: sum(
            len(nvjpeg.decode(one, limits, pre, device)) for one in _batches(contents, size)
        )

    return {
        "pillow": _rate(lambda: len(sandbox.decode(contents, limits, pre)), rounds),
        **{f"nvjpeg {size}": _rate(ours(size), rounds) for size in BATCHES},
        "nvjpeg alone": _rate(alone, rounds),
        "headers alone": _rate(
            lambda: sum(nvjpeg.plain_size(one, limits) is not None for one in contents), rounds
        ),
    }


def _forward(pixels: Pixels, rounds: int) -> dict[str, float]:
    """Pixels in main memory to embeddings in main memory, by precision and batch."""
    result = {}
    for precision in ("fp32", "bf16"):
        backbone = Backbone(load_spec(_config(precision=precision).backbone))
        for size in BATCHES:
            batch = np.resize(pixels, (size, *pixels.shape[1:]))
            result[f"{precision} {size}"] = _rate(partial(_embeddings, backbone, batch), rounds)
    return result


def _embeddings(backbone: Backbone, batch: Pixels) -> int:
    return sum(len(backbone.embed(batch)) for _ in range(max(1, 2 * IMAGES // len(batch))))


def _chip(pixels: Pixels, device: torch.device, rounds: int) -> dict[str, float]:
    """The network on a batch in GPU memory, as a graph; matrix products; copies to the GPU."""
    spec = load_spec(_config().backbone)
    batch = torch_runtime.normalised(np.resize(pixels, (256, *pixels.shape[1:])), device)
    result = {}
    for name, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        network = torch_runtime.network(spec.architecture, spec.weights).to(device, kind)
        placed = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        result[f"resident {name} 256"] = _rate(_graph(placed, batch.to(kind)), rounds)
    left, right = (torch.randn(_SIDE, _SIDE, device=device, dtype=torch.bfloat16) for _ in range(2))
    products = _rate(lambda: sum(len(left @ right) for _ in range(10)) // _SIDE, rounds)
    pageable = torch.from_numpy(np.resize(pixels, (1024, *pixels.shape[1:])))
    return {
        **result,
        "bf16 TFLOP/s": round(products * 2 * _SIDE**3 / 1e12, 1),
        "bf16 arithmetic": round(products * 2 * _SIDE**3 / _FLOP, 1),
        "copies to the GPU": _rate(lambda: len(pageable.to(device)), rounds),
    }


def _graph(network: torch.nn.Module, batch: torch.Tensor, times: int = 20) -> Callable[[], int]:
    with torch.inference_mode():
        beside = torch.cuda.Stream()
        with torch.cuda.stream(beside):
            for _ in range(3):
                network(batch)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            network(batch)

    def replay() -> int:
        for _ in range(times):
            graph.replay()
        return times * len(batch)

    return replay


def _agreement(contents: list[bytes], pixels: Pixels) -> dict[str, float]:
    """Embeddings of the same pictures: fp32 on GPU and CPU, and the change by bf16 and nvJPEG."""
    cpu = Backbone(load_spec(_config().backbone), os.cpu_count() or 1, "cpu").embed(pixels)
    gpu = Backbone(load_spec(_config().backbone)).embed(pixels)
    bf16 = Backbone(load_spec(_config(precision="bf16").backbone)).embed(pixels)
    other = Backbone(load_spec(_config(jpeg_decoder="nvjpeg", jpeg_scaling=False).backbone))
    by_nvjpeg = [
        one.pixels for one in other.decode(contents, _config().decode) if one.pixels is not None
    ]
    unscaled = load_spec(_config(jpeg_scaling=False).backbone).preprocessing
    by_pillow = [
        one.pixels
        for one in decoding.decode(contents, _config().decode, unscaled)
        if one.pixels is not None
    ]
    return {
        "fp32 largest difference, relative": float(np.abs(gpu - cpu).max() / np.abs(cpu).max()),
        "bf16 least cosine": _least_cosine(bf16, gpu),
        "nvjpeg least cosine": _least_cosine(
            other.embed(np.stack(by_nvjpeg)), other.embed(np.stack(by_pillow))
        ),
    }


def _least_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return round(float(((one * other).sum(axis=1) / lengths).min()), 6)


def _together(paths: list[Path]) -> dict[str, float]:
    """Images/s of whole tasks together, by decoder and number of tasks that share the GPU."""
    result = {}
    for decoder, tasks in itertools.product(("pillow", "nvjpeg"), TASKS):
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(tasks)
        with ProcessPoolExecutor(tasks, context, _prepare, (barrier,)) as pool:
            rates = [pool.submit(_task, decoder, paths) for _ in range(tasks)]
            result[f"{decoder}, {tasks} tasks"] = round(sum(rate.result() for rate in rates), 1)
        print(decoder, tasks, result[f"{decoder}, {tasks} tasks"], file=sys.stderr, flush=True)
    return result


def _prepare(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _task(decoder: str, paths: list[Path]) -> float:
    """One task's images/s over its own copies of the photos, once it is warm and all others are."""
    config = _config(precision="bf16", jpeg_decoder=decoder, jpeg_scaling=decoder == "pillow")
    work = pipeline.Pipeline(
        Backbone(load_spec(config.backbone)),
        Fetcher(config.fetch),
        config.decode,
        256,
        config.embed.bytes_per_batch,
    )
    with tempfile.TemporaryDirectory(prefix="toiletspark-gpu-") as folder:
        copies = [Path(folder, f"{number}.jpg") for number in range(IMAGES)]
        for number, copy in enumerate(copies):
            # bytes behind a JPEG's end make another content, not another picture
            again, place = divmod(number, len(paths))
            copy.write_bytes(paths[place].read_bytes() + b"\0" * (1 + again))
        sources = [pipeline.Source(str(copy)) for copy in copies]
        _embedded(sources[:256], work)
        _barrier.wait()
        started = time.perf_counter()
        done = _embedded(sources, work)
        took = time.perf_counter() - started
    if done != IMAGES:
        raise RuntimeError(f"{done} of {IMAGES} images were embedded")
    return done / took


def _embedded(sources: list[pipeline.Source], work: pipeline.Pipeline) -> int:
    attempts = itertools.chain.from_iterable(pipeline.attempt_all(sources, work))
    return sum(one.embedding is not None for one in attempts)


if __name__ == "__main__":
    typer.run(main)

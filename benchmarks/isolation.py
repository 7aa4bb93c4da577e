"""What decoding in a child process costs: 500 photos, here and in a child, in turns: `make bench-isolation`.

They are the 500 largest of the shared folder, about 150 kB each; without them, drawn rooms of 1024 x 683 stand in for
them. Times are medians of the rounds; the forward pass is ResNet18's, on one thread as in a task.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks import odd_kinds
from benchmarks.measure import SHARED, machine
from toiletspark.config import loading
from toiletspark.images import decoding, sandbox
from toiletspark.images.decoding import Decoded, Preprocessing
from toiletspark.model.backbone import Backbone
from toiletspark.model.runtimes import conversion
from toiletspark.model.weights import load_spec

PHOTOS, BATCH = 500, 16


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    config = loading.load([], ["backbone.weights=random"])
    files, limits, pre = (
        _files(),
        config.decode,
        Preprocessing(256, 224, config.backbone.jpeg_scaling),
    )
    backbone = Backbone(conversion.compiled(load_spec(config.backbone)))
    ways: dict[str, Callable[..., list[Decoded]]] = {
        "here": decoding.decode,
        "child": sandbox.decode,
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    pixels: dict[str, list[Decoded]] = {}
    sandbox.decode(files[:8], limits, pre)
    for _ in range(rounds):
        for name, decode in ways.items():
            started = time.perf_counter()
            pixels[name] = decode(files, limits, pre)
            took[name].append(1e3 * (time.perf_counter() - started) / len(files))
    forward = _forward_ms(
        backbone, [one.pixels for one in pixels["here"] if one.pixels is not None]
    )
    here, child = (statistics.median(took[name]) for name in ways)
    pairs = zip(pixels["here"], pixels["child"], strict=True)
    extra = statistics.median(b - a for a, b in zip(took["here"], took["child"], strict=True))
    print(
        json.dumps(
            {
                "images": len(files),
                "mean_kb": round(sum(map(len, files)) / len(files) / 1e3, 1),
                "ms_per_image": round(extra, 3),
                "share": round(extra / (here + forward), 4),
                "identical": sum(
                    a.pixels is not None and np.array_equal(a.pixels, b.pixels) for a, b in pairs
                ),
                "decode_here_ms": round(here, 3),
                "decode_child_ms": round(child, 3),
                "forward_ms": round(forward, 3),
                "runtime": backbone.spec.runtime,
                "rounds": rounds,
                "machine": machine(),
            }
        )
    )


def _files() -> list[bytes]:
    found = sorted((SHARED / "photos").rglob("*.jpg"), key=lambda path: path.stat().st_size)
    paths = sorted(found[-PHOTOS:])
    if len(paths) == PHOTOS:
        return [path.read_bytes() for path in paths]
    return [
        odd_kinds.encoded(odd_kinds.drawn(number, (1024, 683)), "JPEG", quality=95)
        for number in range(PHOTOS)
    ]


def _forward_ms(backbone: Backbone, pictures: list[np.ndarray]) -> float:
    batches = [
        np.stack(pictures[start : start + BATCH]) for start in range(0, len(pictures), BATCH)
    ]
    backbone.embed(batches[0])
    started = time.perf_counter()
    for batch in batches:
        backbone.embed(batch)
    return 1e3 * (time.perf_counter() - started) / len(pictures)


if __name__ == "__main__":
    main()

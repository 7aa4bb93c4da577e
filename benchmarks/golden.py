"""How far embeddings of one and the same JPEG lie apart: what is the same backbone elsewhere, and what is another one.

`python -m benchmarks.golden`: the figures behind `golden.MOST_DISTANCE`. 48 real photos, reduced to JPEGs as golden
images are. No Spark. Other CPUs are stood for by the kernels that OpenVINO has for them (ONEDNN_MAX_CPU_ISA).
"""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from benchmarks.measure import ROOT, SHARED, machine
from toiletspark.config import Config, loading
from toiletspark.images.decoding import Pixels, decode, preprocess, thumbnail
from toiletspark.model import quantisation, weights
from toiletspark.model.backbone import Backbone
from toiletspark.model.golden import side_px
from toiletspark.model.runtimes import conversion, torch_runtime
from toiletspark.model.spec import BackboneSpec

PHOTOS, CALIBRATION = 48, 100
KERNELS = (
    "AVX512_CORE_VNNI",
    "AVX512_CORE",
    "AVX2_VNNI",
    "AVX2",
)  # without BF16 and AMX; without VNNI; ...
A_HALF = (0.5, 0.5, 0.5)
Rows = NDArray[np.float32]


def main() -> None:
    config = loading.load([ROOT / "tests" / "conf" / "photos.toml"], ["backbone.runtime=openvino"])
    jpegs, spec = _jpegs(config), weights.load_spec(config.backbone)
    fp32 = conversion.compiled(spec)
    by_torch = replace(spec, runtime="torch")
    pixels = _pixels(jpegs, spec, config)
    wanted, whole = _embedded(fp32, pixels), _pixels(jpegs, spec, config, jpeg_scaling=False)
    others: dict[str, Callable[[], Rows]] = {
        "torch": lambda: _embedded(by_torch, pixels),
        "alone": lambda: np.concatenate([_embedded(fp32, one[None]) for one in pixels]),
        "bf16": lambda: _embedded(replace(fp32, precision="bf16"), pixels),
        "bgr": lambda: _embedded(fp32, np.ascontiguousarray(pixels[..., ::-1])),
        "mean_and_std_of_a_half": lambda: _normalised_otherwise(by_torch, pixels),
    }
    told = {f"fp32_{name}": _apart(found(), wanted) for name, found in others.items()}
    told["fp32_torchvisions_libjpeg"] = _apart(
        _embedded(fp32, _by_torchvision(jpegs, spec)), _embedded(fp32, whole)
    )
    bf16 = replace(fp32, precision="bf16")
    told["bf16_torch"] = _apart(
        _embedded(replace(by_torch, precision="bf16"), pixels), _embedded(bf16, pixels)
    )
    calibration = _pixels(_jpegs(config, PHOTOS, CALIBRATION), spec, config)
    int8 = quantisation.quantise(
        spec, calibration[::2], calibration[1::2], config.backbone.int8, None, 0.5
    )[0]
    told["int8_fp32"] = _apart(wanted, _embedded(int8, pixels))
    changed = {
        name: _pixels(jpegs, spec, config, resize_px=int(name[-3:]))
        for name in ("resize_232", "resize_257")
    }
    changed |= {"jpeg_scaling_off": whole, "pixels_1_apart": _shaken(pixels)}
    for name, one in (("fp32", fp32), ("bf16", bf16), ("int8", int8)):
        right = _embedded(one, pixels)
        told |= {f"{name}_{isa}": _as_on(isa, one, pixels, right) for isa in KERNELS}
        told |= {
            f"{name}_{how}": _apart(_embedded(one, other), right) for how, other in changed.items()
        }
    print(
        json.dumps(
            {"photos": len(pixels), **told, "check_ms": _check_ms(fp32, jpegs, config), **machine()}
        )
    )


def _jpegs(config: Config, first: int = 0, count: int = PHOTOS) -> list[bytes]:
    """Real photos as golden images: reduced, made anew."""
    with (SHARED / "photos" / "photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    step = len(rows) // (PHOTOS + CALIBRATION)
    files = [
        SHARED / "photos" / rows[step * number]["file"] for number in range(first, first + count)
    ]
    made = [
        thumbnail(Path(file).read_bytes(), config.decode, side_px(config.backbone.resize_px))
        for file in files
    ]
    return [jpeg for jpeg in made if jpeg is not None]


def _pixels(jpegs: list[bytes], spec: BackboneSpec, config: Config, **changes: Any) -> Pixels:
    found = decode(jpegs, config.decode, replace(spec.preprocessing, **changes))
    return np.stack([one.pixels for one in found if one.pixels is not None])


def _shaken(pixels: Pixels) -> Pixels:
    """Each value one more, one less or the same, by chance: more than two builds of libjpeg differ."""
    shift = np.random.default_rng(1).integers(-1, 2, pixels.shape)
    return np.clip(pixels.astype(np.int64) + shift, 0, 255).astype(np.uint8)


def _embedded(spec: BackboneSpec, pixels: Pixels) -> Rows:
    """float32 (n, 512), of float16."""
    backbone = Backbone(spec, 2)
    found = [backbone.embed(pixels[start : start + 16]) for start in range(0, len(pixels), 16)]
    return np.concatenate(found).astype("<f2").astype(np.float32)


def _as_on(isa: str, spec: BackboneSpec, pixels: Pixels, right: Rows) -> dict[str, float] | str:
    """In a process of its own, whose OpenVINO takes the kernels of a lesser CPU; or that it has none of them."""
    with (
        mock.patch.dict(os.environ, {"ONEDNN_MAX_CPU_ISA": isa}),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other,
    ):
        try:
            return _apart(other.submit(_embedded, spec, pixels).result(), right)
        except RuntimeError:
            return "no such kernels"


def _by_torchvision(jpegs: list[bytes], spec: BackboneSpec) -> Pixels:
    """Decoded whole by another build of libjpeg."""
    read = [
        torchvision.io.decode_jpeg(torch.frombuffer(bytearray(jpeg), dtype=torch.uint8))
        for jpeg in jpegs
    ]
    pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in read]
    return np.stack(
        [preprocess(picture.convert("RGB"), spec.preprocessing) for picture in pictures]
    )


def _normalised_otherwise(by_torch: BackboneSpec, pixels: Pixels) -> Rows:
    with (
        mock.patch.object(torch_runtime, "IMAGENET_MEAN", A_HALF),
        mock.patch.object(torch_runtime, "IMAGENET_STD", A_HALF),
    ):
        return _embedded(by_torch, pixels)


def _apart(found: Rows, wanted: Rows) -> dict[str, float]:
    """Distance over the length of what is wanted: least, median and most over the photos where there is any."""
    shares = np.linalg.norm(found - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    some = shares[shares > 0] if shares.any() else shares
    told = {
        "least": _short(some.min()),
        "median": _short(np.median(some)),
        "most": _short(some.max()),
    }
    return {**told, "photos": len(some)} if len(some) < len(shares) else told


def _short(value: np.floating[Any]) -> float:
    return float(f"{value:.3g}")


def _check_ms(spec: BackboneSpec, jpegs: list[bytes], config: Config) -> float:
    """What the check costs a worker: one decode and one forward pass, on one thread, median of 16."""
    backbone, took = Backbone(spec, 1), []
    for jpeg in jpegs[:16]:
        started = time.perf_counter()
        backbone.embed(_pixels([jpeg], spec, config))
        took.append(time.perf_counter() - started)
    return round(1000 * float(np.median(took)), 1)


if __name__ == "__main__":
    main()

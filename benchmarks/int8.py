"""What int8 costs in accuracy, on real photos with labels: `make bench-int8`. No Spark.

800 photos of 200 houses, embedded in fp32 and in int8 (calibrated on 300 of them, as `toiletspark embed` does it);
then heads for both on the same halves of the listings, each judged on the other half.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import ROOT, SHARED, machine
from toiletspark.config import Config, loading
from toiletspark.embedding import int8 as int8_backbones
from toiletspark.hashing import content_digest, hash_fraction
from toiletspark.images.decoding import Pixels
from toiletspark.images.decoding import decode as decode_images
from toiletspark.model import quantisation, weights
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import from_stored, to_stored
from toiletspark.model.head import Head
from toiletspark.model.runtimes import conversion
from toiletspark.model.spec import BackboneSpec
from toiletspark.progress import Progress
from toiletspark.training.evaluation.evaluate import naive
from toiletspark.training.fit import fit, steps
from toiletspark.training.splits import held_out

HALVES = 10
THRESHOLD = 0.5
_BATCH = 16
Rows = list[dict[str, str]]


def main() -> None:
    config = loading.load([ROOT / "tests" / "conf" / "photos.toml"], ["backbone.runtime=openvino"])
    with (SHARED / "photos" / "photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    contents = [(SHARED / "photos" / row["file"]).read_bytes() for row in rows]
    spec = weights.load_spec(config.backbone)
    pixels = [one.pixels for one in decode_images(contents, config.decode, spec.preprocessing)]
    images = np.stack([one for one in pixels if one is not None])
    if len(images) < len(rows):
        raise SystemExit(f"{len(rows) - len(images)} photos cannot be decoded")
    int8, facts = quantisation.quantise(
        spec, *_drawn(rows, contents, images, config), config.backbone.int8, None, THRESHOLD
    )
    told = {
        name: _judged(_embedded(one, images), one.backbone_id, rows, config)
        for name, one in (("fp32", conversion.compiled(spec)), ("int8", int8))
    }
    lost = {
        kind: round(100 * (told["fp32"][kind] - told["int8"][kind]), 2) for kind in told["fp32"]
    }
    print(
        json.dumps({**told, "points_lost": lost, "halves": HALVES, **facts, "machine": machine()})
    )


def _drawn(
    rows: Rows, contents: list[bytes], images: Pixels, config: Config
) -> tuple[Pixels, Pixels]:
    """Images to calibrate on, and others to compare."""
    limits = config.backbone.int8
    order = sorted(
        range(len(rows)), key=lambda place: hash_fraction(limits.seed, rows[place]["photo_id"])
    )
    chosen = order[: limits.calibration_images]
    return int8_backbones.split(
        {content_digest(contents[place]): images[place] for place in chosen}, limits
    )


def _embedded(spec: BackboneSpec, images: Pixels) -> NDArray[np.float32]:
    """Embeddings as they come back from the store: float32 (n, 512), of float16."""
    backbone = Backbone(spec, 2)
    batches = (images[start : start + _BATCH] for start in range(0, len(images), _BATCH))
    stored = [one for batch in batches for one in to_stored(backbone.embed(batch))]
    return from_stored(b"".join(stored), len(stored))


def _judged(
    embeddings: NDArray[np.float32], backbone_id: str, rows: Rows, config: Config
) -> dict[str, float]:
    """Mean accuracy over the halves: bathroom or not at the threshold, and of the four rooms the most probable."""
    figures = list(_halves(embeddings, backbone_id, rows, config))
    return {
        kind: round(statistics.mean(one[kind] for one in figures), 5)
        for kind in ("accuracy", "class_accuracy")
    }


def _halves(
    embeddings: NDArray[np.float32], backbone_id: str, rows: Rows, config: Config
) -> Iterator[dict[str, float]]:
    classes, silent = tuple(config.labels.classes), io.StringIO()
    labels = np.array([classes.index(row["room"]) for row in rows], dtype=np.int64)
    for seed in range(HALVES):
        held = held_out([row["listing_id"] for row in rows], 0.5, seed)
        progress = Progress("fitting", *steps(config.train), 1e9, silent)
        layer = fit(embeddings[~held], labels[~held], len(classes), config.train, progress)
        head = Head(
            classes, tuple(config.labels.exclude_classes), backbone_id, layer.weight, layer.bias
        )
        yield naive(head, embeddings[held], labels[held], THRESHOLD)


if __name__ == "__main__":
    main()

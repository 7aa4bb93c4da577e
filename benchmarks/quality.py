"""The worth of heads on other listings and on another source: `make bench-quality`. No Spark.

800 photos of 200 houses (four room types), five folds by listing; and a head fitted to 800 rooms of
another source, five classes, put on the photos. The project's own decoding, backbone and fit with
the defaults of conf/base.toml. The figures are those of images whose listing no head has seen,
their intervals clustered by listing; `ways` has the means over several ways to fold, and each
way's. The heads know the four room types; `two_classes` has the figures of heads that know only
bathrooms and the rest. Ends in one JSON line; `larger` holds the same with `conf/larger.toml`.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_auc_score

from benchmarks.measure import ROOT, SHARED, machine
from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.model import weights
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import from_stored, to_stored
from toiletspark.model.head import Head
from toiletspark.model.runtimes import conversion as convert
from toiletspark.sampling.estimates import Bootstrap
from toiletspark.training.fit import fit
from toiletspark.training.splits import folds_of

FOLDS = 5
SEED = 2026
RECALL = 0.95
REPLICATES = 1000
WAYS = 20  # to fold: a figure moves by two or three images of 800 with the way
BATHROOM = "bathroom"
THRESHOLD = 0.5
PHOTOS = ROOT / "tests" / "conf" / "photos.toml"
LARGER = ROOT / "conf" / "larger.toml"
_BATCH = 16
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """Labelled images of one source; all of length n."""

    embeddings: Floats
    room: NDArray[np.str_]
    listing: list[str]

    @property
    def bathroom(self) -> NDArray[np.bool_]:
        """bool, (n,)."""
        return self.room == BATHROOM

    def where(self, rows: NDArray[np.bool_]) -> Source:
        """Some of its images."""
        listing = [one for one, kept in zip(self.listing, rows, strict=True) if kept]
        return Source(self.embeddings[rows], self.room[rows], listing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-larger", action="store_true", help="leaves the larger input out")
    asked = parser.parse_args()
    told = judged(PHOTOS)
    if not asked.no_larger:
        told["larger"] = judged(PHOTOS, LARGER)
    print(json.dumps({**told, "folds": FOLDS, "seed": SEED, "machine": machine()}))


def judged(*conf: Path) -> dict[str, Any]:
    """All figures, each {value, low, high}, of one way to embed."""
    config = conf_files.load(conf, ["backbone.runtime=openvino"])
    backbone = Backbone(convert.compiled(weights.load_spec(config.backbone)), 2)
    photos = _photos(backbone, config)
    rooms = _rooms(backbone, config)
    ways = [_folded(photos, config, SEED + way) for way in range(WAYS)]
    scores, right = ways[0]
    elsewhere, _ = _put(_head(rooms, config), photos)
    bootstrap = Bootstrap(
        np.zeros(len(right)), photos.listing, np.ones(len(right)), replicates=REPLICATES
    )
    everything = np.ones(len(right), bool)
    of = {
        "accuracy": (scores >= THRESHOLD) == photos.bathroom,
        "rooms_accuracy": right,
        "other_source_accuracy": (elsewhere >= THRESHOLD) == photos.bathroom,
    }
    shares = {name: bootstrap.share(part, everything) for name, part in of.items()}
    told: dict[str, Any] = {
        name: {"value": share.value, "low": share.low, "high": share.high}
        for name, share in shares.items()
    }
    return {
        **told,
        **_ranked(photos.bathroom, scores, photos.listing),
        "ways": _of_ways(photos, ways),
        "two_classes": _two_classes(photos, config),
    }


def _two_classes(photos: Source, config: Config) -> dict[str, Any]:
    """Accuracy and rank figures of heads to which all rooms but one are the same."""
    two = replace(photos, room=np.where(photos.bathroom, BATHROOM, "other"))
    scores, right = _folded(two, config, SEED)
    return {"accuracy": float(right.mean()), **_ranked(photos.bathroom, scores, photos.listing)}


def _folded(photos: Source, config: Config, seed: int) -> tuple[Floats, NDArray[np.bool_]]:
    """The figures of `_put`, each image by a head that has not seen its listing."""
    scores, right = np.zeros(len(photos.room), np.float32), np.zeros(len(photos.room), bool)
    folds = folds_of(photos.listing, FOLDS, seed)
    for fold in range(FOLDS):
        held = folds == fold
        scores[held], right[held] = _put(_head(photos.where(~held), config), photos.where(held))
    return scores, right


def _of_ways(photos: Source, ways: list[tuple[Floats, NDArray[np.bool_]]]) -> dict[str, Any]:
    """Each figure of each way to fold, and its mean."""
    names = ("accuracy", "roc_auc", "precision_at_recall_95", "rooms_accuracy")
    bathroom = photos.bathroom
    rows = [
        (
            float(((scores >= THRESHOLD) == bathroom).mean()),
            *_rank_figures(bathroom, scores),
            float(right.mean()),
        )
        for scores, right in ways
    ]
    return {
        name: {"mean": float(np.mean(each)), "each": each}
        for name, each in zip(names, zip(*rows, strict=True), strict=True)
    }


def _head(source: Source, config: Config) -> Head:
    classes = sorted(set(source.room.tolist()))
    labels = np.array([classes.index(room) for room in source.room], dtype=np.int64)
    layer = fit(source.embeddings, labels, len(classes), config.train, groups=source.listing)
    return Head(tuple(classes), (BATHROOM,), "", layer.weight, layer.bias)


def _put(head: Head, source: Source) -> tuple[Floats, NDArray[np.bool_]]:
    """Exclusion scores, and whether the most probable class is the room."""
    probabilities = head.probabilities(source.embeddings)
    return head.exclusion_scores(probabilities), np.array(head.classes)[
        probabilities.argmax(axis=1)
    ] == source.room


def _ranked(bathroom: NDArray[np.bool_], scores: Floats, listing: list[str]) -> dict[str, Any]:
    """ROC AUC, and precision where recall first reaches RECALL; percentiles over drawn listings."""
    _, of = np.unique(listing, return_inverse=True)
    rows = [np.flatnonzero(of == one) for one in range(of.max() + 1)]
    rng = np.random.default_rng(SEED)
    found = []
    for _ in range(REPLICATES):
        drawn = np.concatenate([rows[one] for one in rng.integers(0, len(rows), len(rows))])
        found.append(_rank_figures(bathroom[drawn], scores[drawn]))
    low, high = np.percentile(np.array(found), [2.5, 97.5], axis=0)
    values = _rank_figures(bathroom, scores)
    names = ("roc_auc", "precision_at_recall_95")
    return {
        name: {"value": values[at], "low": low[at], "high": high[at]}
        for at, name in enumerate(names)
    }


def _rank_figures(bathroom: NDArray[np.bool_], scores: Floats) -> tuple[float, float]:
    precision, recall, _ = precision_recall_curve(bathroom, scores)
    return float(roc_auc_score(bathroom, scores)), float(precision[recall >= RECALL].max())


def _photos(backbone: Backbone, config: Config) -> Source:
    with (SHARED / "photos" / "photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    embeddings = _embedded(backbone, [SHARED / "photos" / row["file"] for row in rows], config)
    return Source(
        embeddings, np.array([row["room"] for row in rows]), [row["listing_id"] for row in rows]
    )


def _rooms(backbone: Backbone, config: Config) -> Source:
    """Each picture is a listing of its own there; dining rooms are a class, as they stand."""
    files = sorted((SHARED / "rooms").glob("*/*.jpg"))
    return Source(
        _embedded(backbone, files, config),
        np.array([file.parent.name for file in files]),
        [one.stem for one in files],
    )


def _embedded(backbone: Backbone, files: list[Path], config: Config) -> Floats:
    """Embeddings as they come back from the store: float32 (n, 512), of float16."""
    stored: list[bytes] = []
    for start in range(0, len(files), _BATCH):
        contents = [file.read_bytes() for file in files[start : start + _BATCH]]
        pixels = [one.pixels for one in backbone.decode(contents, config.decode)]
        stored += to_stored(backbone.embed(np.stack([one for one in pixels if one is not None])))
    return from_stored(b"".join(stored), len(files))


if __name__ == "__main__":
    main()

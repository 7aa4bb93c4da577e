"""From which cosine on two embeddings are one photo: `make bench-lookalikes`. No Spark.

Copies of real photos as portals have them (recompressed, smaller, cropped a little, brighter or darker) against
different photos of one house, of the same room of other houses, and of anything else. Some photos occur twice among
them; pairs above SAME are taken for those, and counted apart.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from benchmarks.measure import ROOT, SHARED, machine
from toiletspark.config import Config
from toiletspark.config import loading as conf_files
from toiletspark.model import weights
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import from_stored, to_stored
from toiletspark.model.runtimes import conversion as convert
from toiletspark.sampling import near_duplicates

ROWS = 50_000
SAME = 0.99
_BATCH = 16
Floats = NDArray[np.float32]


def _cropped(photo: Image.Image, share: float) -> Image.Image:
    """Without `share` of each side at every edge."""
    width, height = photo.size
    left, top = round(width * share), round(height * share)
    return photo.crop((left, top, width - left, height - top))


def _jpeg(photo: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return file.getvalue()


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "quality 60": lambda photo: _jpeg(photo, 60),
    "quality 30": lambda photo: _jpeg(photo, 30),
    "3/4 size": lambda photo: _jpeg(photo.resize((photo.width * 3 // 4, photo.height * 3 // 4))),
    "1/2 size": lambda photo: _jpeg(photo.resize((photo.width // 2, photo.height // 2))),
    "cropped 1 %": lambda photo: _jpeg(_cropped(photo, 0.01)),
    "cropped 3 %": lambda photo: _jpeg(_cropped(photo, 0.03)),
    "brighter 10 %": lambda photo: _jpeg(ImageEnhance.Brightness(photo).enhance(1.1)),
    "darker 20 %": lambda photo: _jpeg(ImageEnhance.Brightness(photo).enhance(0.8)),
}


def copied(content: bytes, make: Callable[[Image.Image], bytes]) -> bytes:
    """A copy of a photo, as a file."""
    return make(Image.open(io.BytesIO(content)).convert("RGB"))


def main() -> None:
    config = conf_files.load(
        [ROOT / "tests" / "conf" / "photos.toml"], ["backbone.runtime=openvino"]
    )
    with (SHARED / "photos" / "photos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    contents = [(SHARED / "photos" / row["file"]).read_bytes() for row in rows]
    backbone = Backbone(convert.compiled(weights.load_spec(config.backbone)), 2)
    photos = _embedded(backbone, contents, config)
    copies = {
        name: _cosines(backbone, contents, photos, make, config) for name, make in COPIES.items()
    }
    print(
        json.dumps(
            {
                "copies": {name: _low(found) for name, found in copies.items()},
                "different": {
                    name: _high(found) for name, found in _different(photos, rows).items()
                },
                "at": {
                    str(least): _at(least, copies, photos, rows)
                    for least in (0.91, 0.93, 0.95, 0.97, 0.99)
                },
                "groups_s": _groups_s(photos, config.lookalikes.min_cosine),
                "rows": ROWS,
                "machine": machine(),
            }
        )
    )


def _embedded(backbone: Backbone, contents: list[bytes], config: Config) -> Floats:
    """Embeddings as they come back from the store: float32 (n, 512), of float16."""
    stored: list[bytes] = []
    for start in range(0, len(contents), _BATCH):
        pixels = [
            one.pixels for one in backbone.decode(contents[start : start + _BATCH], config.decode)
        ]
        stored += to_stored(backbone.embed(np.stack([one for one in pixels if one is not None])))
    return from_stored(b"".join(stored), len(contents))


def _cosines(
    backbone: Backbone,
    contents: list[bytes],
    photos: Floats,
    make: Callable[[Image.Image], bytes],
    config: Config,
) -> Floats:
    """The cosine of every photo and its copy."""
    made = [copied(content, make) for content in contents]
    return np.einsum(
        "nd,nd->n",
        near_duplicates._unit(photos),
        near_duplicates._unit(_embedded(backbone, made, config)),
    )


def _different(photos: Floats, rows: list[dict[str, str]]) -> dict[str, Floats]:
    """Cosines of pairs of different photos."""
    unit = near_duplicates._unit(photos)
    cosines, (left, right) = unit @ unit.T, np.triu_indices(len(rows), 1)
    house, room = (np.array([row[name] for row in rows]) for name in ("listing_id", "room"))
    one_house, one_room = house[left] == house[right], room[left] == room[right]
    pairs = cosines[left, right]
    differ = pairs < SAME
    return {
        "one house": pairs[one_house & differ],
        "one kind of room, other houses": pairs[one_room & ~one_house & differ],
        "anything else": pairs[~one_room & ~one_house & differ],
        "the same photo twice": pairs[~differ],
    }


def _low(cosines: Floats) -> dict[str, float]:
    """The low end of what should be alike."""
    at = {"least": 0, "1 %": 1, "5 %": 5, "median": 50}
    return {name: round(float(np.percentile(cosines, percent)), 4) for name, percent in at.items()}


def _high(cosines: Floats) -> dict[str, float]:
    """The high end of what should not."""
    at = {"median": 50, "99 %": 99, "99.9 %": 99.9, "most": 100}
    return {
        "pairs": len(cosines),
        **{name: round(float(np.percentile(cosines, p)), 4) for name, p in at.items()},
    }


def _at(
    least: float, copies: dict[str, Floats], photos: Floats, rows: list[dict[str, str]]
) -> dict[str, object]:
    """What a threshold finds, and what it takes for one photo that is not."""
    wrong = {name: int((found >= least).sum()) for name, found in _different(photos, rows).items()}
    group = near_duplicates.groups(photos, least)
    return {
        "copies_found": {
            name: round(float((found >= least).mean()), 4) for name, found in copies.items()
        },
        "different_pairs_joined": wrong,
        "largest_group": int(np.bincount(group).max()),
    }


def _groups_s(photos: Floats, min_cosine: float) -> float:
    """Seconds for ROWS embeddings: the photos again and again, moved a little."""
    rng = np.random.default_rng(1)
    many = np.tile(photos, (-(-ROWS // len(photos)), 1))[:ROWS]
    many += rng.normal(scale=0.3, size=many.shape).astype(np.float32)
    started = time.monotonic()
    near_duplicates.groups(many, min_cosine)
    return round(time.monotonic() - started, 1)


if __name__ == "__main__":
    main()

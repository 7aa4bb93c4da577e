"""Sound and hostile images for `benchmarks/chaos.py`, and their outcomes, found without Spark."""

from __future__ import annotations

import dataclasses
import io
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.measure import SHARED
from tests.conftest import picture
from tests.support import poison
from toiletspark.config import Config
from toiletspark.embedding.pipeline import Pipeline, Source, attempt_all
from toiletspark.images import statuses
from toiletspark.images.fetching import Fetcher
from toiletspark.images.sandbox import fork_server as nursery
from toiletspark.model import bundle, embedding_codec, weights
from toiletspark.model.backbone import Backbone
from toiletspark.model.head import Head
from toiletspark.model.runtimes import conversion as convert
from toiletspark.publishing.versions import log as versions
from toiletspark.tables import schemas as tables
from toiletspark.tables.runs import Store

SEED = 11
TOLERANCE = 2e-3  # of scores and stored embeddings: neighbours in a batch change float16's last bit
_CRASHES = (b"segfault", b"segfault", b"abort")
_POISONS = (*_CRASHES, b"allocate", *_CRASHES, b"loop")


def contents(images: int, bad: int) -> dict[str, bytes | None]:
    """Contents by image_id in random order, None: missing; two images show every fourth sound."""
    sound = [_sound(number - number % 4 // 3) for number in range(images - bad)]
    mixed = [*sound, *(_bad(number, sound) for number in range(bad))]
    random.Random(SEED).shuffle(mixed)
    first = next(
        place for place, content in enumerate(mixed) if content and content[:2] == b"\xff\xd8"
    )
    mixed[0], mixed[first] = mixed[first], mixed[0]  # the one that is held back is sound
    return {f"i{number:05d}": content for number, content in enumerate(mixed)}


def _sound(number: int) -> bytes:
    photos = sorted((SHARED / "photos" / "files").glob("*.jpg"))
    if not photos:
        return picture("kitchen", number, (200, 150))
    # another content, the same picture
    return photos[number % len(photos)].read_bytes() + number.to_bytes(4, "big")


def _bad(number: int, sound: list[bytes]) -> bytes | None:
    """Poison, truncated, junk, from a collection of broken files, bombs or missing, evenly."""
    kind = number % 5
    name = str(number).encode()
    if kind == 0:
        return poison.MARK + _POISONS[number // 5 % len(_POISONS)] + poison.PICTURE + name
    if kind == 1:
        whole = sound[number % len(sound)]
        return whole[: len(whole) // 2]
    if kind == 2:
        return b"no image " + name
    if kind == 3:
        broken = sorted(
            path for path in (SHARED / "badimages").glob("*") if path.name != "SOURCES.tsv"
        )
        return broken[number // 5 % len(broken)].read_bytes() if broken else b"GIF89a" + name
    return None if number % 2 else _bomb() + name


def _bomb() -> bytes:
    """12,000 x 12,000 grey pixels in 140 kB or less."""
    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def oracle(shown: dict[str, bytes | None], config: Config, folder: Path) -> pd.DataFrame:
    """Finds each image's outcome; writes a random head that excludes a fifth of the sound ones.

    Returns:
        image_id, status, digest, score (null without), excluded; `attrs` has the threshold, which
        no score is near.
    """
    os.environ[nursery.HOOK] = poison.__file__
    spec = weights.load_spec(config.backbone)
    weight = np.random.default_rng(1).normal(size=(2, 512)).astype(np.float32)
    chosen = Head(
        ("toilet", "other"), ("toilet",), spec.backbone_id, weight, np.zeros(2, np.float32)
    )
    found = _attempted(shown, config, Backbone(convert.compiled(spec)))
    has_one = found["embedding"].notna()
    vectors = embedding_codec.from_stored(
        b"".join(found.loc[has_one, "embedding"]), int(has_one.sum())
    )
    logits = chosen.logits(vectors)
    middle = np.float32(np.quantile(logits[:, 0] - logits[:, 1], 0.8))
    chosen = dataclasses.replace(chosen, bias=np.array([-middle, 0], np.float32))
    bundle.write(str(folder), chosen)
    found.loc[has_one, "score"] = chosen.exclusion_scores(chosen.probabilities(vectors))
    found.attrs["threshold"] = _far_from_all(found["score"].dropna())
    failed = found["status"].map(statuses.FAILURE_CLASSES).isin(["content", "policy"])
    found["excluded"] = failed | (found["score"] >= found.attrs["threshold"])
    return found


def _attempted(shown: dict[str, bytes | None], config: Config, backbone: Backbone) -> pd.DataFrame:
    work = Pipeline(
        backbone, Fetcher(config.fetch), config.decode, 16, config.embed.bytes_per_batch
    )
    there = {
        Source(None, content, len(content)): image
        for image, content in shown.items()
        if content is not None
    }
    rows = {image: (image, "missing", None, None) for image in shown}
    of_content: dict[str, bytes] = {}
    for batch in attempt_all(there, work):
        for one in batch:
            image = there[one.source]
            if one.embedding is not None and one.digest is not None:
                of_content[one.digest] = one.embedding
            rows[image] = (image, one.decoded.status, one.digest, None)
    frame = pd.DataFrame(
        [rows[image] for image in shown], columns=["image_id", "status", "digest", "score"]
    )
    frame["embedding"] = frame["digest"].map(of_content)
    return frame.astype({"score": "float64"})


def _far_from_all(scores: pd.Series) -> float:
    """The middle of the widest gap among the scores around 0.5."""
    near = np.sort(scores[(scores > 0.3) & (scores < 0.7)].to_numpy())
    around = np.concatenate([[0.3], near, [0.7]])
    widest = int(np.argmax(np.diff(around)))
    return float(around[widest : widest + 2].mean())


def compared(store: Store, truth: pd.DataFrame) -> dict[str, Any]:
    """The newest catalog, its embeddings, its scores and the published list against the truth."""
    seen, scored = (_read(store, table) for table in (tables.CATALOG, tables.SCORES))
    kept = pd.concat(
        [pq.read_table(run.folder).to_pandas() for run in store.runs(tables.EMBEDDINGS)]
    )
    listed = versions.current(store.root)
    excluded = pd.concat(
        [pq.read_table(f"{listed.folder}/{file.name}").to_pandas() for file in listed.files]
    )
    wanted = truth.set_index("image_id").sort_index()
    got = seen.set_index("image_id").sort_index()
    vectors = dict(zip(kept["content_digest"], kept["embedding"], strict=True))
    right = wanted.dropna(subset=["embedding"])
    scores = scored.set_index("image_id")["exclusion_score"].dropna().sort_index()
    same = {
        "rows": len(seen) == seen["image_id"].nunique() == len(truth),
        "statuses": got["status"].to_dict() == wanted["status"].to_dict(),
        "contents": got["content_digest"].dropna().to_dict() == wanted["digest"].dropna().to_dict(),
        "embedded_once": not kept["content_digest"].duplicated().any(),
        "embeddings": all(
            _near(vectors.get(one.digest), one.embedding) for one in right.itertuples()
        ),
        "scores": list(scores.index) == list(right.index)
        and bool(np.allclose(scores, right["score"], rtol=0, atol=TOLERANCE * 5)),
        "excluded": sorted(excluded["image_id"])
        == sorted(truth.loc[truth["excluded"], "image_id"]),
    }
    return {
        "equal": all(same.values()),
        "unequal": [name for name, is_same in same.items() if not is_same],
    }


def _near(found: bytes | None, wanted: bytes) -> bool:
    if found is None:
        return False
    one, other = (np.frombuffer(packed, "<f2").astype("f4") for packed in (found, wanted))
    return bool(np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE))


def _read(store: Store, table: tables.Table) -> pd.DataFrame:
    newest = store.newest(table)
    assert newest
    return pq.read_table(newest.folder).to_pandas()

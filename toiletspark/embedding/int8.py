"""The catalog's own images for int8: drawn by hash, decoded on the cluster, and the program kept for later runs.

    <root>/backbones/<fp32 backbone_id>/int8-<program digest>/program.xml, program.bin
    <root>/backbones/<fp32 backbone_id>/int8-<program digest>/quantisation.json    written last: facts and digest

The calibration decides int8 embeddings, so a program is made once and then used for ever; another one would be another
backbone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812
from pyspark.sql.pandas.functions import pandas_udf

from toiletspark.config import BackboneSettings, Config, Decode, Fetch, Int8
from toiletspark.embedding.worker_errors import Refusals
from toiletspark.errors import BackboneError
from toiletspark.hashing import content_digest, hash_fraction
from toiletspark.images.decoding import Pixels, Preprocessing, decode
from toiletspark.images.fetching import Fetcher
from toiletspark.model import compiled_cache as prepared
from toiletspark.model import head as heads
from toiletspark.model import quantisation
from toiletspark.model.head import Head
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import storage
from toiletspark.tables.runs import Store

_PROGRAM, _CONSTANTS, _JSON = "program.xml", "program.bin", "quantisation.json"
_LEAST_IMAGES = 2  # with one, nothing is left once the mean is taken off


def begin(config: Config) -> None:
    """Begins, beside whatever comes next, to make ready what `current` and `settled` will be asked for.

    Raises:
        OutputError: the output folder is not ours; nothing is kept there then.
    """
    prepared.start_loading(Store.open(config.output.root).root, config.backbone)


def current(store: Store, section: BackboneSettings) -> BackboneSpec:
    """The backbone of the configuration, ready for its runtime; in int8 only if an earlier run has made its program.

    Raises:
        BackboneError: see `prepared.backbone` and `known`.
    """
    spec = prepared.backbone(store.root, section)
    return (known(store, spec) or spec) if spec.precision == "int8" else spec


def settled(store: Store, config: Config, images: DataFrame) -> BackboneSpec:
    """As `current`, but int8 without a program is calibrated on the catalog's own images, once for all runs.

    Args:
        store: where the program is, or will be.
        config: see `calibrate`.
        images: see `calibrate`; not looked at where there is nothing to calibrate.

    Raises:
        BackboneError: see `current` and `calibrate`.
    """
    spec = current(store, config.backbone)
    if spec.precision == "int8" and not spec.program:
        return calibrate(store, config, images, spec, heads.newest_for(store, spec.fp32_id))
    return spec


def known(store: Store, spec: BackboneSpec) -> BackboneSpec | None:
    """The int8 backbone that an earlier run made, found without one image; None if there is none.

    Args:
        store: where.
        spec: the backbone, in any precision.

    Raises:
        BackboneError: its files are not those that were written.
    """
    folder = f"{store.root}/backbones/{spec.fp32_id}"
    described = {
        name: facts
        for name in storage.entries(folder)
        if name.startswith("int8-") and (facts := storage.read_json(f"{folder}/{name}/{_JSON}"))
    }
    if not described:
        return None
    first = min(
        described, key=lambda name: (described[name]["made_at"], name)
    )  # of runs that met by accident
    program, constants = (_read(f"{folder}/{first}/{file}") for file in (_PROGRAM, _CONSTANTS))
    found = replace(spec, runtime="openvino", precision="int8", program=program, weights=constants)
    if found.program_digest != described[first]["program_digest"]:
        raise BackboneError(
            doing=f"reading the int8 program {folder}/{first}",
            expected=f"files with the digest {described[first]['program_digest'][:12]}",
            found=found.program_digest[:12],
            todo="take the folder from its backup, or remove it: the catalog is then calibrated and embedded anew",
        )
    return found


def calibrate(
    store: Store, config: Config, images: DataFrame, spec: BackboneSpec, head: Head | None = None
) -> BackboneSpec:
    """Quantises the backbone on images of the catalog and keeps the program.

    Args:
        store: where it is kept.
        config: limits of fetching, decoding and of the gate.
        images: image_id, image_url, content (binary, wins over the URL if not null).
        spec: from `weights.load_spec`.
        head: of the fp32 backbone, if there is one.

    Returns:
        The spec in int8, ready for workers.

    Raises:
        BackboneError: too few sound images, or the program does not agree with fp32.

    Cost: two passes over the ids; 0.15 MB of the driver's memory an image; see `quantisation.quantise`.
    """
    section = config.backbone.int8
    drawn = draw(images, section.calibration_images, section.seed)
    calibration, held_out = split(
        pixels(drawn, config.fetch, config.decode, spec.preprocessing), section
    )
    int8, facts = quantisation.quantise(
        spec, calibration, held_out, section, head, config.publish.operating_threshold
    )
    _keep(store, int8, facts)
    return int8


def draw(images: DataFrame, count: int, seed: int) -> DataFrame:
    """The first `count` images by hash(seed, image_id), the same whatever the partitioning; all columns stay."""
    first = (
        images.select("image_id")
        .orderBy(F.xxhash64(F.lit(seed), "image_id"), "image_id")
        .limit(count)
    )
    return images.join(F.broadcast(first), on="image_id", how="left_semi")


def pixels(
    images: DataFrame, fetch: Fetch, limits: Decode, preprocessing: Preprocessing
) -> dict[str, Pixels]:
    """Fetches and decodes images on the cluster and brings their pixels to the driver.

    Args:
        images: image_id, image_url, content; a few hundred, since this once pixels travel through the JVM.
        fetch: what one fetch may cost.
        limits: what is decoded.
        preprocessing: resize and crop.

    Returns:
        uint8, (crop_px, crop_px, 3), by content digest, in its order; unsound images are left out.

    Raises:
        UserError: a worker's packages must not be used.
    """
    refusals = Refusals(images.sparkSession.sparkContext)

    @pandas_udf("content_digest string, pixels binary")  # type: ignore[call-overload, untyped-decorator]
    def decoded(batches: Iterator[tuple[pd.Series, pd.Series]]) -> Iterator[pd.DataFrame]:
        fetcher = Fetcher(fetch)
        accepted = refusals.accepts()
        for urls, contents in batches:
            fetched = (
                [one.content for one in fetcher.fetch_all(urls.tolist(), contents.tolist())]
                if accepted
                else []
            )
            fetched += [None] * (
                len(urls) - len(fetched)
            )  # of a worker that refuses: a UDF must answer all rows
            sound = [content for content in fetched if content is not None]
            outcomes = iter(decode(sound, limits, preprocessing))
            rows = [
                _row(content, next(outcomes).pixels) if content is not None else (None, None)
                for content in fetched
            ]
            yield pd.DataFrame(rows, columns=["content_digest", "pixels"])

    once = decoded.asNondeterministic()  # see embedding.attempt_images
    tasks = max(images.sparkSession.sparkContext.defaultParallelism, 1)
    rows = (
        images.repartition(tasks)
        .select(once("image_url", "content").alias("seen"))
        .select("seen.*")
        .collect()
    )
    shape = (preprocessing.crop_px, preprocessing.crop_px, 3)
    refusals.require_none()
    found = {
        row[0]: np.frombuffer(row[1], dtype=np.uint8).reshape(shape)
        for row in rows
        if row[1] is not None
    }
    return dict(sorted(found.items()))


def split(found: dict[str, Pixels], section: Int8) -> tuple[Pixels, Pixels]:
    """Calibration and held-out images, each uint8 (n, crop_px, crop_px, 3); by hash of the content.

    Raises:
        BackboneError: too few of either.
    """
    held = {
        digest: hash_fraction(section.seed, digest) < section.held_out_share for digest in found
    }
    parts = [
        [image for digest, image in found.items() if held[digest] == side] for side in (False, True)
    ]
    if min(len(part) for part in parts) < _LEAST_IMAGES:
        raise BackboneError(
            doing="drawing images for the calibration of int8",
            expected=f"at least {_LEAST_IMAGES} to calibrate on and {_LEAST_IMAGES} others to compare",
            found=f"{len(parts[0])} and {len(parts[1])}, of those that could be fetched and decoded",
            todo="set backbone.precision=fp32, or see why images fail with `toiletspark embed`",
        )
    return np.stack(parts[0]), np.stack(parts[1])


def _row(content: bytes, found: Pixels | None) -> tuple[str, bytes | None]:
    return content_digest(content), found.tobytes() if found is not None else None


def _keep(store: Store, int8: BackboneSpec, facts: dict[str, Any]) -> None:
    """Writes the files; quantisation.json last, so that its existence means that the program is whole."""
    folder = f"{store.root}/backbones/{int8.fp32_id}/int8-{int8.program_digest[:12]}"
    storage.replace_bytes(f"{folder}/{_PROGRAM}", int8.program)
    storage.replace_bytes(f"{folder}/{_CONSTANTS}", int8.weights)
    made = {
        "program_digest": int8.program_digest,
        "made_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    storage.replace_json(f"{folder}/{_JSON}", {"backbone_id": int8.backbone_id, **made, **facts})


def _read(location: str) -> bytes:
    filesystem, path = storage.open_filesystem(location)
    content: bytes = filesystem.cat_file(path)
    return content

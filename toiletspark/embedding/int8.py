"""Int8 backbones: calibrated on images of the catalog, once, and kept for later runs.

    <root>/backbones/<fp32 backbone_id>/int8-<program digest>/program.xml, program.bin
    <root>/backbones/<fp32 backbone_id>/int8-<program digest>/quantisation.json   written last

A program is made once: another calibration would give another backbone.
"""

from collections.abc import Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812

from toiletspark.config import BackboneSettings, Config, Decode, Fetch, Int8
from toiletspark.embedding.worker_errors import WorkerErrors
from toiletspark.errors import BackboneError
from toiletspark.hashing import content_digest, hash_fraction
from toiletspark.images import sandbox
from toiletspark.images.decoding import Pixels, Preprocessing
from toiletspark.images.fetching import Fetcher
from toiletspark.model import compiled_cache, quantisation, registry
from toiletspark.model.spec import BackboneSpec
from toiletspark.tables import storage
from toiletspark.tables.runs import Store

_PROGRAM, _CONSTANTS, _JSON = "program.xml", "program.bin", "quantisation.json"
_LEAST_IMAGES = 2  # the mean is subtracted: of a single image nothing would be left


def start_loading(config: Config) -> None:
    """Starts loading the backbone in a thread; `load` and `load_or_calibrate` wait for it.

    Raises OutputError if the output folder is not ours; nothing is kept there then.
    """
    compiled_cache.start_loading(Store.open(config.output.root).root, config.backbone)


def load(store: Store, section: BackboneSettings) -> BackboneSpec:
    """The configured backbone; in int8 only if an earlier run has made the program.

    Raises BackboneError, see `compiled_cache.backbone` and `read_program`.
    """
    spec = compiled_cache.backbone(store.root, section)
    return (read_program(store, spec) or spec) if spec.precision == "int8" else spec


def load_or_calibrate(store: Store, config: Config, images: DataFrame) -> BackboneSpec:
    """Like `load`, but calibrates int8 (`calibrate`) if there is no program yet."""
    spec = load(store, config.backbone)
    if spec.precision == "int8" and not spec.program:
        return calibrate(store, config, images, spec)
    return spec


def read_program(store: Store, spec: BackboneSpec) -> BackboneSpec | None:
    """The int8 backbone that an earlier run made of `spec`; None if there is none.

    Raises BackboneError if its files are not those that were written.
    """
    folder = f"{store.root}/backbones/{spec.fp32_id}"
    made: dict[str, dict[str, Any]] = {}
    for name in storage.entries(folder):
        if name.startswith("int8-") and (facts := storage.read_json(f"{folder}/{name}/{_JSON}")):
            made[name] = facts
    if not made:
        return None
    first = min(made, key=lambda name: (made[name]["made_at"], name))  # two runs may each make one
    program, constants = storage.read_files(
        [f"{folder}/{first}/{_PROGRAM}", f"{folder}/{first}/{_CONSTANTS}"]
    )
    int8 = replace(spec, runtime="openvino", precision="int8", program=program, weights=constants)
    expected = made[first]["program_digest"]
    if int8.program_digest != expected:
        raise BackboneError(
            doing=f"reading the int8 program {folder}/{first}",
            expected=f"files with the digest {expected[:12]}",
            found=int8.program_digest[:12],
            todo="restore the folder from its backup, or remove it: the catalog is then calibrated "
            "and embedded anew",
        )
    return int8


def calibrate(store: Store, config: Config, images: DataFrame, spec: BackboneSpec) -> BackboneSpec:
    """Quantises the backbone on images of the catalog, keeps the program, returns the int8 spec.

    `images` has image_id, image_url, content (binary, used instead of the URL if not null). Raises
    BackboneError if too few are sound, or the program does not agree with fp32. Cost: two passes
    over the ids; 0.15 MB of the driver's memory an image; see `quantisation.quantise`.
    """
    section = config.backbone.int8
    chosen = choose_images(images, section.calibration_images, section.seed)
    pixels = decode_images(chosen, config.fetch, config.decode, spec.preprocessing)
    calibration, held_out = split(pixels, section)
    fp32_head = registry.newest_for(store, spec.fp32_id)
    threshold = config.publish.operating_threshold
    if fp32_head:
        threshold = fp32_head.facts.get("operating_threshold", threshold)
    int8, report = quantisation.quantise(spec, calibration, held_out, section, fp32_head, threshold)
    _keep(store, int8, report)
    return int8


def choose_images(images: DataFrame, count: int, seed: int) -> DataFrame:
    """The first `count` images by hash(seed, image_id), with all columns."""
    order = F.xxhash64(F.lit(seed), "image_id")
    first = images.select("image_id").orderBy(order, "image_id").limit(count)
    return images.join(F.broadcast(first), "image_id", "left_semi")


def decode_images(
    images: DataFrame, fetch: Fetch, limits: Decode, preprocessing: Preprocessing
) -> dict[str, Pixels]:
    """Fetches and decodes images on the cluster and collects their pixels to the driver.

    Takes image_id, image_url, content; a few hundred, since their pixels travel through the JVM.
    Returns uint8, (crop_px, crop_px, 3), by content digest, in its order; bad images are left out.
    Raises UserError if a worker's packages must not be used.
    """
    context = images.sparkSession.sparkContext
    errors = WorkerErrors(context)
    schema = pa.schema([("content_digest", pa.string()), ("pixels", pa.binary())])

    def decode(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        if not errors.run_check(lambda: sandbox.require_children(limits)):
            return
        fetcher = Fetcher(fetch)
        for batch in batches:
            urls, contents = (column.to_pylist() for column in batch.columns)
            fetched = [image.content for image in fetcher.fetch_all(urls, contents)]
            readable = [content for content in fetched if content is not None]
            decoded = sandbox.decode(readable, limits, preprocessing)
            rows = [
                {"content_digest": content_digest(content), "pixels": image.pixels.tobytes()}
                for content, image in zip(readable, decoded, strict=True)
                if image.pixels is not None
            ]
            yield pa.RecordBatch.from_pylist(rows, schema=schema)

    chosen = images.repartition(max(context.defaultParallelism, 1)).select("image_url", "content")
    rows = chosen.mapInArrow(decode, "content_digest string, pixels binary").collect()
    errors.raise_first()
    shape = (preprocessing.crop_px, preprocessing.crop_px, 3)
    return {
        row["content_digest"]: np.frombuffer(row["pixels"], dtype=np.uint8).reshape(shape)
        for row in sorted(rows, key=lambda row: row["content_digest"])
    }


def split(images: dict[str, Pixels], section: Int8) -> tuple[Pixels, Pixels]:
    """Calibration and held-out images, each uint8 (n, crop_px, crop_px, 3); by hash of the content.

    Raises BackboneError if there are too few of either.
    """
    parts: tuple[list[Pixels], list[Pixels]] = ([], [])
    for digest, pixels in images.items():
        is_held_out = hash_fraction(section.seed, digest) < section.held_out_share
        parts[is_held_out].append(pixels)
    calibration, held_out = parts
    if min(len(calibration), len(held_out)) < _LEAST_IMAGES:
        raise BackboneError(
            doing="drawing images for the calibration of int8",
            expected=f"at least {_LEAST_IMAGES} to calibrate on and {_LEAST_IMAGES} others to "
            "compare",
            found=f"{len(calibration)} and {len(held_out)} that could be fetched and decoded",
            todo="set backbone.precision=fp32, or see why images fail with `toiletspark embed`",
        )
    return np.stack(calibration), np.stack(held_out)


def _keep(store: Store, int8: BackboneSpec, report: quantisation.Int8Report) -> None:
    """Writes the files; quantisation.json last, as a sign that the others are complete."""
    folder = f"{store.root}/backbones/{int8.fp32_id}/int8-{int8.program_digest[:12]}"
    storage.replace_bytes(f"{folder}/{_PROGRAM}", int8.program)
    storage.replace_bytes(f"{folder}/{_CONSTANTS}", int8.weights)
    made_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    ids = {"backbone_id": int8.backbone_id, "program_digest": int8.program_digest}
    storage.replace_json(f"{folder}/{_JSON}", {**ids, "made_at": made_at, **asdict(report)})

"""Fine-tunes a backbone on the labelled images, saves it, and embeds the training set with it.

    <root>/backbones/finetuned-<first 12 of the weights' digest>/weights.safetensors
    <root>/backbones/finetuned-<first 12 of the weights' digest>/finetuned.json    written last

It is another backbone: set `backbone.weights` to its file, and the catalog is embedded anew. The
json names the listings that it has seen; no head on it is judged by them.
"""

import tempfile
from datetime import UTC, datetime
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch

from toiletspark import __version__
from toiletspark.config import Config
from toiletspark.errors import BackboneError, LabelsError
from toiletspark.images.decoding import Pixels
from toiletspark.model import golden
from toiletspark.model.backbone import Backbone
from toiletspark.model.embedding_codec import to_stored
from toiletspark.model.runtimes import torch_runtime
from toiletspark.model.spec import BackboneSpec
from toiletspark.model.weights import digest_of, load_spec
from toiletspark.progress import Progress
from toiletspark.sampling import evaluation_sample
from toiletspark.tables import arrow_io, schemas, storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store
from toiletspark.training import splits
from toiletspark.training.arrays import Bools, Ints
from toiletspark.training.dataset import TrainingSet, read, read_images
from toiletspark.training.finetune_loop import Pictures, Tuned, tune
from toiletspark.training.fit import fit
from toiletspark.training.logbook import Logbook

DOING = "fine-tuning the backbone"


class Finetuned(NamedTuple):
    """The training set that a head is fitted to, and facts for the summary."""

    run: Run
    facts: dict[str, Any]


class _Decoded(NamedTuple):
    """The labelled images with their pixels, which lie in a file."""

    examples: TrainingSet
    pixels: Pixels  # uint8, (n, crop_px, crop_px, 3); black for files that cannot be decoded
    sound: Bools  # (n,); False for those
    corrupt: int  # files that cannot be decoded, or belong to no example


def finetune(config: Config, store: Store, book: Logbook) -> Finetuned:
    """Fine-tunes on the images that are not held out, and embeds all labelled images anew.

    If no epoch improves on the backbone, the training set stays as it is.

    Raises:
        BackboneError: int8, or another backbone than the catalog's.
        OutputError: no images were gathered.
        LabelsError: too few to fine-tune on.

    Cost: see `tune`; decoded pictures lie in a temporary file, 0.15 MB each at 224 px.
    """
    step = f"train --set train.finetune={config.train.finetune}"
    images = store.require(schemas.TRAINING_IMAGES, doing=DOING, step=step)
    source = store.run(schemas.TRAINING_SET, images.inputs.training_set)
    source = source or store.require(schemas.TRAINING_SET, doing=DOING, step="train")
    spec = _spec(config, source.inputs.backbone_id)
    with tempfile.TemporaryDirectory(prefix="toiletspark-finetune-") as folder:
        backbone = Backbone(spec, torch.get_num_threads())
        decoded = _decoded(images, read(source), backbone, config, Path(folder) / "pixels")
        tuned, seen_listings = _tuned(config, store, spec, decoded, book)
        facts: dict[str, Any] = {"images": int(decoded.sound.sum()), "corrupt": decoded.corrupt}
        facts["inner_losses"] = tuned.losses
        if not tuned.best:
            facts |= {"backbone": None, "todo": "no epoch was better: the backbone stays"}
            return Finetuned(source, facts)
        origin = {"made_from": spec.backbone_id, "training_images": images.run_id, **facts}
        weights, new = _keep(config, store, tuned, {**origin, "seen_listings": seen_listings})
        run = _embed(config, store, source, decoded, new)
    _golden(config, store, source, run, new)
    todo = f"set backbone.weights={weights}, then run `toiletspark embed` and `toiletspark train`: "
    todo += "the catalog is embedded anew"
    return Finetuned(run, {**facts, "best_epoch": tuned.best, "backbone": weights, "todo": todo})


def _spec(config: Config, backbone_id: str) -> BackboneSpec:
    """The configured backbone, which must be the labelled images' own."""
    if config.backbone.precision == "int8":
        raise BackboneError(
            doing=DOING,
            expected="backbone.precision fp32 or bf16",
            found="int8, whose weights cannot be moved by small steps",
            todo="fine-tune in fp32, embed, and quantise the new backbone by "
            "backbone.precision=int8 afterwards",
        )
    spec = load_spec(config.backbone.model_copy(update={"runtime": "torch"}))
    spec.require_id(backbone_id, doing=DOING)
    return spec


def _decoded(
    run: Run, examples: TrainingSet, backbone: Backbone, config: Config, file: Path
) -> _Decoded:
    """Decodes every file once, into pixels on disk in the order of the training set."""
    row_of = {name: row for row, name in enumerate(examples.image_id)}
    crop, corrupt = backbone.spec.preprocessing.crop_px, 0
    pixels = np.memmap(file, np.uint8, "w+", shape=(len(row_of), crop, crop, 3))
    sound = np.zeros(len(row_of), dtype=bool)
    for batch in read_images(run, config.finetune.images_per_batch):
        corrupt += batch.corrupt
        outcomes = backbone.decode(batch.content, config.decode)
        for name, outcome in zip(batch.image_id, outcomes, strict=True):
            if outcome.pixels is None or name not in row_of:
                corrupt += 1
                continue
            pixels[row_of[name]] = outcome.pixels
            sound[row_of[name]] = True
    return _Decoded(examples, pixels, sound, corrupt)


def _tuned(
    config: Config, store: Store, spec: BackboneSpec, decoded: _Decoded, book: Logbook
) -> tuple[Tuned, list[str]]:
    """Fine-tunes on images that are not held out; returns also the listings seen by then."""
    examples, settings, seed = decoded.examples, config.finetune, config.train.seed
    groups = splits.groups(examples, config.lookalikes.min_cosine)
    seen = splits.seen_by_backbone(store, spec.backbone_id, examples.listing_id)
    before = splits.whole_groups(seen, groups)
    held = splits.held_out(groups, config.train.validation_share, seed) & ~before
    # another seed than the split's, under which no remaining group would be below the share
    inner = splits.held_out(groups, settings.inner_share, seed + 1) & ~held & decoded.sound
    steps = ~held & ~inner & decoded.sound
    classes = config.labels.classes
    labels = np.array([classes.index(label) for label in examples.label], dtype=np.int64)
    _check(labels[steps], int(inner.sum()), config)
    start = fit(examples.embeddings[steps], labels[steps], len(classes), config.train)
    pictures = Pictures(decoded.pixels, labels, np.flatnonzero(steps), np.flatnonzero(inner))
    total = settings.epochs * int(steps.sum())
    progress = Progress("fine-tuning", total, "images", config.progress.line_every_s)
    network = torch_runtime.network(spec.architecture, spec.weights)
    device = torch_runtime.default_device()
    whole = config.train.finetune == "all"
    tuned = tune(network, start, pictures, whole, settings, seed, device, progress, book.loss)
    progress.close()
    return tuned, sorted(set(compress(examples.listing_id, ~held | before)))


def _check(labels: Ints, inner: int, config: Config) -> None:
    """Raises a LabelsError unless every class can be trained, and there are images to stop by."""
    counts = np.bincount(labels, minlength=len(config.labels.classes)).tolist()
    if not inner or not all(counts):
        named = zip(config.labels.classes, counts, strict=True)
        by_class = ", ".join(f"{name}: {count}" for name, count in named)
        raise LabelsError(
            doing=DOING,
            expected="images of every class to fine-tune on, and others of the same side to stop "
            "by",
            found=f"{by_class}; {inner} to stop by",
            todo="label more images, from more listings; or set train.finetune=none",
        )


def _keep(
    config: Config, store: Store, tuned: Tuned, origin: dict[str, Any]
) -> tuple[str, BackboneSpec]:
    """Writes the backbone; its json last, which shows that the weights are complete."""
    folder = splits.finetuned_folder(store, digest_of(tuned.state))
    weights = f"{folder}/{splits.WEIGHTS}"
    storage.replace_bytes(weights, safetensors.torch.save(tuned.state))
    spec = load_spec(config.backbone.model_copy(update={"runtime": "torch", "weights": weights}))
    facts = {
        "backbone_id": spec.backbone_id,
        "weights_digest": spec.weights_digest,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "finetune": config.train.finetune,
        "best_epoch": tuned.best,
        "settings": config.finetune.model_dump(),
        "seed": config.train.seed,
        "validation_share": config.train.validation_share,
        "versions": {"toiletspark": __version__, "torch": torch.__version__},
    }
    storage.replace_json(f"{folder}/{splits.DESCRIPTION}", {**facts, **origin})
    return weights, spec


def _embed(config: Config, store: Store, source: Run, decoded: _Decoded, spec: BackboneSpec) -> Run:
    """Writes the training set again, with the new backbone's embeddings."""
    backbone = Backbone(spec, torch.get_num_threads())
    examples, sound = decoded.examples.where(decoded.sound), np.flatnonzero(decoded.sound)
    size = config.finetune.images_per_batch
    columns: dict[str, list[Any]] = {name: getattr(examples, name) for name in schemas.LABELLED}
    columns["embedding"] = []
    for batch in np.split(sound, range(size, len(sound), size)):
        columns["embedding"] += to_stored(backbone.embed(decoded.pixels[batch]))
    return arrow_io.write(
        store,
        schemas.TRAINING_SET,
        store.new_run_id(),
        [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
        config=config.recorded(),
        inputs=source.inputs.updated(backbone_id=spec.backbone_id, finetuned_from=source.run_id),
        counts=evaluation_sample.labelled_counts(source, examples.draw),
    )


def _golden(config: Config, store: Store, source: Run, run: Run, spec: BackboneSpec) -> None:
    """Writes the golden images of the training set again, embedded by the new backbone."""
    golden_run = store.run(schemas.GOLDEN_IMAGES, source.run_id)
    if golden_run is None or not golden_run.rows:
        return
    images = arrow_io.read(golden_run)
    backbone = Backbone(spec, torch.get_num_threads())
    vectors = golden.embeddings(backbone, [image["jpeg"] for image in images], config.decode)
    pairs = zip(images, vectors, strict=True)
    rows = [{**image, "embedding": vector} for image, vector in pairs if vector is not None]
    run_id = run.run_id
    recorded = config.recorded()
    inputs = Inputs(training_set=run_id, backbone_id=spec.backbone_id, backbone=spec.description)
    arrow_io.write(store, schemas.GOLDEN_IMAGES, run_id, rows, config=recorded, inputs=inputs)

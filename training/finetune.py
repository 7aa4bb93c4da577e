"""A backbone of one's own: fine-tuned on the labelled images, named, kept, and the training set embedded with it.

    <root>/backbones/finetuned-<first 12 of the weights' digest>/weights.safetensors
    <root>/backbones/finetuned-<first 12 of the weights' digest>/finetuned.json    written last: how it was made

It is another backbone: `backbone.weights` is then set to its file, and the catalog is embedded anew. The json names the
listings that it has seen; no head on it is judged by them.
"""

from __future__ import annotations

import io
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

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
from toiletspark.tables import arrow_io as rows
from toiletspark.tables import schemas as tables
from toiletspark.tables import storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import Run, Store, new_run_id
from toiletspark.training import splits
from toiletspark.training import tuned as tuned_ones
from toiletspark.training.dataset import TrainingSet, read, read_images
from toiletspark.training.finetune_loop import Pictures, Tuned, tune
from toiletspark.training.fit import FinalLayer, fit
from toiletspark.training.logbook import Logbook

DOING = "fine-tuning the backbone"


class Finetuned(NamedTuple):
    """The training set that a head is fitted to, and what to tell of how it came about."""

    run: Run
    facts: dict[str, Any]


class _Decoded(NamedTuple):
    """The labelled images with their pixels.

    Attributes:
        examples: all n of the training set.
        pixels: uint8, (n, crop_px, crop_px, 3), in a file; black where there is no sound one.
        sound: bool, (n,).
        corrupt: files that are none.
    """

    examples: TrainingSet
    pixels: Pixels
    sound: NDArray[np.bool_]
    corrupt: int


def finetune(config: Config, store: Store, book: Logbook) -> Finetuned:
    """Fine-tunes on the side of the split that a head is fitted to, and embeds all labelled images anew.

    Where no epoch was better than the backbone as it is, the training set stays as it is, too.

    Raises:
        BackboneError: int8, or another backbone than the catalog's.
        OutputError: no images were gathered.
        LabelsError: too few to fine-tune on.

    Cost: see `tuner.tune`; decoded pictures lie in a temporary file, 0.15 MB each at 224 px.
    """
    images = store.require(
        tables.TRAINING_IMAGES,
        doing=DOING,
        step=f"train --set train.finetune={config.train.finetune}",
    )
    source = store.run(tables.TRAINING_SET, images.inputs.training_set) or store.require(
        tables.TRAINING_SET, doing=DOING, step="train"
    )
    spec = _spec(config, source.inputs.backbone_id)
    with tempfile.TemporaryDirectory(prefix="toiletspark-finetune-") as folder:
        given = _decoded(
            images,
            read(source),
            Backbone(spec, torch.get_num_threads()),
            config,
            Path(folder) / "pixels",
        )
        tuned, seen_now = _tuned(config, store, spec, given, book)
        facts = {
            "images": int(given.sound.sum()),
            "corrupt": given.corrupt,
            "inner_losses": tuned.losses,
        }
        if not tuned.best:
            return Finetuned(
                source,
                {**facts, "backbone": None, "todo": "no epoch was better: the backbone stays"},
            )
        made = {
            "made_from": spec.backbone_id,
            "training_images": images.run_id,
            "seen_listings": seen_now,
            **facts,
        }
        weights, new = _keep(config, store, tuned, made)
        run = _embed(config, store, source, given, new)
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
            todo="fine-tune in fp32, embed, and quantise the new backbone by backbone.precision=int8 afterwards",
        )
    spec = load_spec(config.backbone.model_copy(update={"runtime": "torch"}))
    if spec.backbone_id != backbone_id:
        raise BackboneError(
            doing=DOING,
            expected=f"the backbone {backbone_id}, with which the labelled images are embedded",
            found=f"the configured one, {spec.backbone_id}",
            todo="run `toiletspark embed` with this configuration first, or set [backbone] to what the catalog has",
        )
    return spec


def _decoded(
    run: Run, examples: TrainingSet, backbone: Backbone, config: Config, file: Path
) -> _Decoded:
    """Decodes every file once, into pixels on disk in the order of the training set."""
    row = {name: place for place, name in enumerate(examples.image_id)}
    crop, corrupt = backbone.spec.preprocessing.crop_px, 0
    pixels = np.memmap(file, np.uint8, "w+", shape=(len(row), crop, crop, 3))
    sound = np.zeros(len(row), dtype=bool)
    for batch in read_images(run, config.finetune.images_per_batch):
        corrupt += batch.corrupt
        for name, outcome in zip(
            batch.image_id, backbone.decode(batch.content, config.decode), strict=True
        ):
            if outcome.pixels is None or name not in row:
                corrupt += 1
                continue
            pixels[row[name]], sound[row[name]] = outcome.pixels, True
    return _Decoded(examples, pixels, sound, corrupt)


def _tuned(
    config: Config, store: Store, spec: BackboneSpec, given: _Decoded, book: Logbook
) -> tuple[Tuned, list[str]]:
    """Fine-tunes on what is not held out; returns also the listings that the new backbone has seen by then."""
    settings, listings, seed = config.finetune, given.examples.listing_id, config.train.seed
    groups = splits.groups(given.examples, config.lookalikes.min_cosine)
    before = splits.whole_groups(tuned_ones.seen(store, spec.backbone_id, listings), groups)
    held = splits.held_out(groups, config.train.validation_share, seed) & ~before
    # another seed than the split's, under which no group that is left would be below the share
    inner = splits.held_out(groups, settings.inner_share, seed + 1) & ~held & given.sound
    steps = ~held & ~inner & given.sound
    labels = np.array(
        [config.labels.classes.index(label) for label in given.examples.label], dtype=np.int64
    )
    _check(labels[steps], int(inner.sum()), config)
    start = _start(given.examples.embeddings[steps], labels[steps], config)
    pictures = Pictures(given.pixels, labels, np.flatnonzero(steps), np.flatnonzero(inner))
    progress = Progress(
        "fine-tuning", settings.epochs * int(steps.sum()), "images", config.progress.line_every_s
    )
    network, place = (
        torch_runtime.network(spec.architecture, spec.weights),
        torch_runtime.default_device(),
    )
    whole = config.train.finetune == "all"
    tuned = tune(network, start, pictures, whole, settings, seed, place, progress, book.loss)
    progress.close()
    return tuned, sorted({one for one, used in zip(listings, ~held | before, strict=True) if used})


def _start(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], config: Config
) -> FinalLayer:
    silent = Progress("fitting", config.train.epochs, "epochs", 1e9, io.StringIO())
    return fit(embeddings, labels, len(config.labels.classes), config.train, silent)


def _check(labels: NDArray[np.int64], inner: int, config: Config) -> None:
    """Each class must be there to be learnt, and something must be there to stop by."""
    counts = {
        name: int((labels == place).sum()) for place, name in enumerate(config.labels.classes)
    }
    if not inner or not all(counts.values()):
        raise LabelsError(
            doing=DOING,
            expected="images of every class to fine-tune on, and others of the same side to stop by",
            found=", ".join(f"{name}: {count}" for name, count in counts.items())
            + f"; {inner} to stop by",
            todo="label more images, from more listings; or set train.finetune=none",
        )


def _keep(
    config: Config, store: Store, tuned: Tuned, made: dict[str, Any]
) -> tuple[str, BackboneSpec]:
    """Writes the backbone; its json last, so that its existence means that the weights are whole."""
    folder = tuned_ones.folder(store, digest_of(tuned.state))
    weights = f"{folder}/{tuned_ones.WEIGHTS}"
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
    storage.replace_json(f"{folder}/{tuned_ones.DESCRIPTION}", {**facts, **made})
    return weights, spec


def _embed(config: Config, store: Store, source: Run, given: _Decoded, spec: BackboneSpec) -> Run:
    """A training set like the one that was fine-tuned on, with the new backbone's embeddings."""
    backbone, size = Backbone(spec, torch.get_num_threads()), config.finetune.images_per_batch
    kept = given.examples.where(given.sound)
    parts = np.split(places := np.flatnonzero(given.sound), range(size, len(places), size))
    vectors = [vector for part in parts for vector in to_stored(backbone.embed(given.pixels[part]))]
    columns = zip(*(getattr(kept, name) for name in tables.LABELLED), strict=True)
    embedded = [
        {**dict(zip(tables.LABELLED, values, strict=True)), "embedding": vector}
        for values, vector in zip(columns, vectors, strict=True)
    ]
    inputs = source.inputs.updated(backbone_id=spec.backbone_id, finetuned_from=source.run_id)
    counts = evaluation_sample.labelled_counts(source, [row["draw"] for row in embedded])
    return rows.write(
        store,
        tables.TRAINING_SET,
        new_run_id(),
        embedded,
        config=config.recorded(),
        inputs=inputs,
        counts=counts,
    )


def _golden(config: Config, store: Store, source: Run, run: Run, spec: BackboneSpec) -> None:
    """The golden images of the training set, as the new backbone embeds them: a head on it has its own proof."""
    made = store.run(tables.GOLDEN_IMAGES, source.run_id)
    if made is None or not made.rows:
        return
    images, backbone = rows.read(made), Backbone(spec, torch.get_num_threads())
    decoded = backbone.decode(
        [image["jpeg"] for image in images], golden.decode_limits(config.decode)
    )
    sound = [
        (image, one.pixels)
        for image, one in zip(images, decoded, strict=True)
        if one.pixels is not None
    ]
    vectors = to_stored(backbone.embed(np.stack([pixels for _, pixels in sound])))
    anew = [
        {**image, "embedding": vector} for (image, _), vector in zip(sound, vectors, strict=True)
    ]
    inputs = Inputs(
        training_set=run.run_id, backbone_id=spec.backbone_id, backbone=spec.description
    )
    rows.write(
        store, tables.GOLDEN_IMAGES, run.run_id, anew, config=config.recorded(), inputs=inputs
    )

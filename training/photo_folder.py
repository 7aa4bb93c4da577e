"""Trains a head on a plain folder of class folders: no Spark, no catalog, no output root.

    python -m training.train --images rooms --exclude bathroom --out heads/rooms

    <out>/                        the bundle: name it in `score.head`, or in `functions.scorer`
    <out>.html                    the head's page
    <out>-backbone.safetensors    only if fine-tuned: name it in `backbone.weights`

Photos are embedded here as a catalog's are on the cluster, and gathered in a temporary store, from
which `heads.train` goes on as always. So no head of an output root is compared with or replaced.
"""

import json
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from toiletspark.config import Config, loading
from toiletspark.embedding.pipeline import Attempt, Pipeline, Source, attempt_all
from toiletspark.errors import LabelsError, OutputError, shown
from toiletspark.images import sandbox
from toiletspark.images.fetching import Fetcher
from toiletspark.labels import image_folder
from toiletspark.labels.image_folder import FolderLabels, LabelledFile
from toiletspark.model import golden
from toiletspark.model.backbone import Backbone
from toiletspark.model.golden import GoldenImage
from toiletspark.model.runtimes.conversion import compiled
from toiletspark.model.weights import load_spec
from toiletspark.progress import Progress
from toiletspark.reports import html
from toiletspark.reports.head_page import page
from toiletspark.sampling import evaluation
from toiletspark.sampling.evaluation import Evaluation
from toiletspark.tables import arrow_io, schemas, storage
from toiletspark.tables.manifest import Inputs
from toiletspark.tables.runs import MANIFEST, Store, new_run_id
from toiletspark.training import heads

LEAST_PER_CLASS = 20  # of these about four are held out; fewer would say nothing of a class
_BACKBONE = "-backbone.safetensors"  # beside the bundle
_PAGE_PX = 224  # pictures of mistakes
_FILES_AT_ONCE = 256  # in one Parquet file of training_images
_log = logging.getLogger("toiletspark")


class _Embedded(NamedTuple):
    """A labelled photo with its stored embedding."""

    file: LabelledFile
    embedding: bytes


def train(
    folder: Path, out: str, exclude: Sequence[str], conf: Sequence[Path], sets: Sequence[str]
) -> dict[str, Any]:
    """Embeds the photos, and fits, evaluates and keeps a head.

    Each photo is a home of its own; near-duplicates (`lookalikes.min_cosine`) stay on one side of
    the split. A photo that cannot be read is counted and named. Nothing is promoted.

    Args:
        folder: see `image_folder.read`; its classes replace `labels.classes`.
        out: a new location for the bundle.
        exclude: classes that the feed must not show; () takes those of `labels.exclude_classes`.
        conf: configuration files; `sets` are single keys, as in `loading.load`.

    Raises:
        LabelsError: fewer than two classes or LEAST_PER_CLASS photos of one; an unknown class.
        OutputError: there is something at `out`.

    Cost: a decode and a forward pass for each photo, 1 kB of memory, and seconds for the fit.
    """
    _require_new(out)
    labels = image_folder.read(folder)
    for note in labels.notes():
        _log.info(note)
    config = _configured(labels, exclude, conf, sets)
    _require_enough(labels.classes, [file.label for file in labels.files], folder)
    backbone = Backbone(compiled(load_spec(config.backbone)), torch.get_num_threads())
    unreadable: dict[str, str] = {}
    photos = list(_embedded(labels, backbone, config, unreadable))
    if unreadable:
        _log.warning(f"{len(unreadable)} photos cannot be read: {shown(unreadable.items())}")
    _require_enough(labels.classes, [photo.file.label for photo in photos], folder)
    with tempfile.TemporaryDirectory(prefix="toiletspark-images-") as root:
        output = config.output.model_copy(update={"root": root})
        config = config.model_copy(update={"output": output})
        _gather(config, folder, photos, backbone)
        summary = heads.train(config)
        figures = evaluation.read(summary["head"])
        kept = _keep(summary, Store(root), out)
    pictures = _pictures(figures, folder, config)
    html.write(f"{out}.html", page.render(figures, pictures))
    return {
        "head": out,
        **{name: summary[name] for name in ("head_id", "bundle_digest")},
        "head_report": f"{out}.html",
        "photos": len(photos),
        "unreadable": unreadable,
        "trained_on": summary["trained_on"],
        "held_out": figures.n,
        "accuracy": str(figures.shares["accuracy"]),
        "class_accuracy": str(figures.shares["class_accuracy"]),
        **{name: summary[name] for name in ("validation", "operating_threshold")},
        **kept,
    }


def _require_new(out: str) -> None:
    """Raises an OutputError if something is there: nothing is overwritten."""
    there = [name for name in (out, f"{out}.html", f"{out}{_BACKBONE}") if storage.exists(name)]
    if there:
        raise OutputError(
            doing="training on a folder of photos",
            expected="a new location for the bundle, with nothing of its name beside it",
            found=shown(there),
            todo="give another --out, or remove what is there",
        )


def _configured(
    labels: FolderLabels, exclude: Sequence[str], conf: Sequence[Path], sets: Sequence[str]
) -> Config:
    """The configuration with the folder's classes, and with those to exclude."""
    wanted = list(exclude) or loading.load(conf, sets).labels.exclude_classes
    excluded = [name for name in labels.classes if name in wanted]
    if not excluded or (exclude and set(exclude) - set(excluded)):
        raise LabelsError(
            doing=f"training on {labels.folder}",
            expected="among the class folders those that the feed must not show",
            found=f"the folders {', '.join(labels.classes)}; to exclude {', '.join(wanted)}",
            todo="name them by --exclude NAME (repeatable), or in labels.exclude_classes",
        )
    classes = {"classes": labels.classes, "exclude_classes": excluded, "reviewed": []}
    keys = [f"labels.{name}={json.dumps(names)}" for name, names in classes.items()]
    config = loading.load(conf, [*sets, *keys])
    if config.publish.policy.name != "cost_ratio":
        return config
    # costs are of a catalog, and a folder's shares are not a catalog's
    return loading.load(conf, [*sets, *keys, "publish.policy.name=fixed"])


def _require_enough(classes: Sequence[str], labels: Sequence[str], folder: Path) -> None:
    """Raises a LabelsError if a class has fewer than LEAST_PER_CLASS photos."""
    counts = Counter(labels)
    if any(counts[name] < LEAST_PER_CLASS for name in classes):
        raise LabelsError(
            doing=f"training on {folder}",
            expected=f"at least {LEAST_PER_CLASS} photos of each class that can be read",
            found=", ".join(f"{name}: {counts[name]}" for name in classes),
            todo="add photos of the classes that lack them, or move their folders elsewhere",
        )


def _embedded(
    labels: FolderLabels, backbone: Backbone, config: Config, unreadable: dict[str, str]
) -> Iterator[_Embedded]:
    """Embeds the photos by the pipeline of a catalog's tasks; adds others to `unreadable`."""
    progress = Progress("embedding", len(labels.files), "images", config.progress.line_every_s)
    waiting: dict[Source, LabelledFile] = {}
    limits = config.embed.images_per_batch, config.embed.bytes_per_batch
    pipeline = Pipeline(backbone, Fetcher(config.fetch), config.decode, *limits)
    done = 0
    for batch in attempt_all(_sources(labels, config.fetch.max_image_bytes, waiting), pipeline):
        for attempt in batch:
            file = waiting.pop(attempt.source)
            if reason := _unusable(attempt, file):
                unreadable[file.path] = reason
            else:
                yield _Embedded(file, attempt.embedding or b"")
        done += len(batch)
        progress.at(done)
    progress.close()


def _sources(
    labels: FolderLabels, max_bytes: int, waiting: dict[Source, LabelledFile]
) -> Iterator[Source]:
    """Yields the files' bytes, one at a time, and adds each to `waiting`."""
    for file in labels.files:
        path = labels.folder / file.path
        try:
            size = path.stat().st_size
            content = path.read_bytes() if size <= max_bytes else None
        except OSError:  # gone since it was read for its digest
            size = 0
            content = b""
        source = Source(None, content, size)
        waiting[source] = file
        yield source


def _unusable(attempt: Attempt, file: LabelledFile) -> str:
    """The reason why a photo has no embedding; "" if it has."""
    if attempt.digest not in (None, file.content_digest):
        return "changed since it was listed"
    return "" if attempt.embedding else attempt.decoded.status


def _gather(config: Config, folder: Path, photos: Sequence[_Embedded], backbone: Backbone) -> None:
    """Writes the inputs of `heads.train`: training set, golden images, and files to fine-tune."""
    store = Store.open(config.output.root)
    run_id = new_run_id()
    recorded = config.recorded()
    spec = backbone.spec
    inputs = Inputs(backbone_id=spec.backbone_id)
    rows = [{**_row(photo.file), "embedding": photo.embedding} for photo in photos]
    arrow_io.write(store, schemas.TRAINING_SET, run_id, rows, config=recorded, inputs=inputs)
    images = map(vars, _golden(config, folder, photos, backbone))
    inputs = Inputs(training_set=run_id, backbone_id=spec.backbone_id, backbone=spec.description)
    arrow_io.write(store, schemas.GOLDEN_IMAGES, run_id, images, config=recorded, inputs=inputs)
    if config.train.finetune == "none":
        return
    for part, start in enumerate(range(0, len(photos), _FILES_AT_ONCE)):
        some = [photo.file for photo in photos[start : start + _FILES_AT_ONCE]]
        files = [{**_row(file), "content": (folder / file.path).read_bytes()} for file in some]
        arrow_io.write_file(store, schemas.TRAINING_IMAGES, run_id, files, part)
    store.commit(schemas.TRAINING_IMAGES, run_id, config=recorded, inputs=inputs)


def _row(file: LabelledFile) -> dict[str, Any]:
    """The columns of `schemas.LABELLED`: each photo is its own listing."""
    return {
        "image_id": file.path,
        "listing_id": file.path,
        "stratum": "all",
        "content_digest": file.content_digest,
        "label": file.label,
        "weight": 1.0,
        "draw": None,
    }


def _golden(
    config: Config, folder: Path, photos: Sequence[_Embedded], backbone: Backbone
) -> Iterator[GoldenImage]:
    """The golden images, made from the photos as the cluster makes them."""
    rows = [(photo.file.path, photo.file.content_digest, photo.file.label) for photo in photos]
    chosen = golden.choose(rows, config.train.golden_images, config.train.seed)
    side_px = golden.side_px(config.backbone.resize_px)
    jpegs = [_thumbnail(folder / row[0], config, side_px, golden.JPEG_QUALITY) for row in chosen]
    embeddings = golden.embeddings(backbone, jpegs, config.decode)
    for row, jpeg, embedding in zip(chosen, jpegs, embeddings, strict=True):
        if embedding is not None:
            yield GoldenImage(*row, jpeg, embedding)


def _keep(summary: dict[str, Any], store: Store, out: str) -> dict[str, Any]:
    """Copies the bundle, its manifest last, and the fine-tuned backbone; returns its facts."""
    head = store.require(schemas.HEADS, doing=heads.DOING, step="train")
    names = [name for name in storage.entries(head.folder) if name != MANIFEST]
    contents = storage.read_files([f"{head.folder}/{name}" for name in names])
    facts = summary.get("finetuned", {})
    if facts.get("backbone"):
        weights = f"{out}{_BACKBONE}"
        storage.replace_bytes(weights, storage.read_files([facts["backbone"]])[0])
        todo = f"set backbone.weights={weights} wherever this head scores"
        facts = {**facts, "backbone": weights, "todo": todo}
    for name, content in zip(names, contents, strict=True):
        storage.replace_bytes(f"{out}/{name}", content)
    # a head that lies in the heads of an output root does not score by that alone
    kept = head.model_copy(update={"inputs": head.inputs.updated(promoted=False)})
    storage.replace_json(f"{out}/{MANIFEST}", kept.as_json())
    return {"finetuned": facts} if facts else {}


def _pictures(figures: Evaluation, folder: Path, config: Config) -> dict[str, bytes]:
    """The pictures of the mistakes, by image_id."""
    names = {mistake.image_id for mistake in figures.mistakes}
    return {name: _thumbnail(folder / name, config, _PAGE_PX, 85) for name in sorted(names)}


def _thumbnail(file: Path, config: Config, side_px: int, quality: int) -> bytes:
    """A reduced JPEG of a photo; b"" if it cannot be made."""
    return sandbox.thumbnail(file.read_bytes(), config.decode, side_px, quality) or b""
